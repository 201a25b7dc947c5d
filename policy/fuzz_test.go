package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// plain is a policy file as package yaml reads it, by no code of ours.
type plain struct {
	Groups  map[string][]string
	Callers []struct {
		Name      string
		Taxpayers any
		Methods   []string
		Reads     any
		Auditor   bool
	}
}

// reaches tells whether a list, as the file has it, holds the taxpayer.
func (f plain) reaches(list any, tin TIN) bool {
	if list == "all" {
		return true
	}
	items, _ := list.([]any)
	return slices.ContainsFunc(items, func(item any) bool {
		name, _ := item.(string)
		return name == string(tin) || slices.Contains(f.Groups[name], string(tin))
	})
}

// says tells whether the file, read plainly, grants the method to the caller,
// with a list that holds the taxpayer.
func (f plain) says(who Caller, method Method, tin TIN, owner Caller) bool {
	for _, c := range f.Callers {
		// URIs are compared as they are, names in DNS without regard to case.
		if c.Name != string(who) && (strings.Contains(c.Name, ":") || strings.ToLower(c.Name) != string(who)) ||
			!slices.Contains(c.Methods, string(method)) {
			continue
		}
		if slices.Contains(signing, method) {
			return f.reaches(c.Taxpayers, tin)
		}
		return owner == who || c.Auditor || f.reaches(c.Reads, tin)
	}
	return false
}

// FuzzParse proves that no file makes the reader panic, that what it refuses
// has faults, and that what it takes grants nothing that the file does not say.
func FuzzParse(f *testing.F) {
	f.Add([]byte(file))
	f.Add([]byte("taxpayers: []\ncallers: []\n"))
	f.Add([]byte("taxpayers: &a [*a]\ncallers: !!map []\n"))
	f.Add([]byte("taxpayers: [{tin: C20880050010, to: 2020-01-01}]\ngroups: {g: [C20880050010]}\ncallers: [{name: A, taxpayers: [g], methods: [SignDigest], limits: {rate: 1e3}, method_limits: {SignDigest: {daily: 1}}}]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if (p == nil) == (err == nil) {
			t.Fatalf("got %v and %v, want one of them", p, err)
		}
		if err != nil {
			if faults, ok := errors.AsType[Faults](err); !ok || len(faults) == 0 {
				t.Errorf("got %v, want Faults", err)
			}
			return
		}
		_ = p.Warnings(some, first)
		var said plain
		if err := yaml.Unmarshal(text, &said); err != nil {
			t.Fatalf("what was read cannot be read: %v", err)
		}
		tins := append(slices.Clone(everyTaxpayer), "C1234567")
		for _, taxpayer := range p.taxpayers {
			tins = append(tins, taxpayer.TIN)
		}
		callers := slices.Clone(everyCaller)
		for name := range p.callers {
			if again, err := ParseCaller(string(name)); err != nil || again != name {
				t.Errorf("caller %q does not parse to itself: %q, %v", name, again, err)
			}
			callers = append(callers, name, name+"x", name[1:])
		}
		for _, who := range callers {
			compare(t, p, said, who, tins)
		}
	})
}

func compare(t *testing.T, p *Policy, said plain, who Caller, tins []TIN) {
	for _, method := range everyMethod {
		for _, tin := range tins {
			if _, err := p.Decide(who, method, tin, some, first); err == nil && !said.says(who, method, tin, "") {
				t.Errorf("%q is granted %s for %q, which the file does not say", who, method, tin)
			}
			for _, owner := range []Caller{who, stranger} {
				if _, err := p.DecideRead(who, method, owner, tin); err == nil && !said.says(who, method, tin, owner) {
					t.Errorf("%q may read by %s what %q had signed for %q, which the file does not say", who, method, owner, tin)
				}
			}
		}
	}
}

func FuzzParseTIN(f *testing.F) {
	for _, seed := range []string{"C20880050010", "IG12345678912:201901234567", "EI00000000010", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tin, err := ParseTIN(s)
		if err != nil {
			return
		}
		_ = tin.doubt()
		joined := tin.Number()
		if tin.ROB() != "" {
			joined += ":" + tin.ROB()
		}
		if joined != s || len(tin.Number()) > maxTIN || len(tin.ROB()) > maxROB {
			t.Errorf("ParseTIN(%q): parts %q and %q", s, tin.Number(), tin.ROB())
		}
	})
}
