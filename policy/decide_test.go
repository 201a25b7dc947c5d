package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roamsign/roamsign/internal/fault"
)

const file = `
taxpayers:
  - tin: C20880050010
    brn: "202001234567"
    name: Windowed Sdn. Bhd.
    from: 2025-01-01
    to: 2025-12-31
  - {tin: "IG12345678912:201901234567", name: Kedai Tanpa Had}
  - {tin: D4800990020, to: 2020-12-31}
groups:
  retail: [C20880050010, "IG12345678912:201901234567"]
callers:
  - name: spiffe://example.com/erp
    taxpayers: [C20880050010]
    methods: [SignDigest, GetCertificate]
  - name: portal.example.com
    taxpayers: [retail, D4800990020]
    methods: [SignDigests, SignDocument, ListTaxpayers]
  - name: head.example.com
    taxpayers: all
    methods: [SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers]
  - name: nobody.example.com
    taxpayers: []
    methods: [SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers]
  - name: nothing.example.com
    taxpayers: all
    methods: []
`

const (
	erp, portal, head = Caller("spiffe://example.com/erp"), Caller("portal.example.com"), Caller("head.example.com")
	nobody, nothing   = Caller("nobody.example.com"), Caller("nothing.example.com")

	windowed, unbounded, ended = TIN("C20880050010"), TIN("IG12345678912:201901234567"), TIN("D4800990020")
)

var (
	some = [32]byte{7}

	before = time.Date(2024, 12, 31, 15, 59, 59, 999, time.UTC)
	first  = time.Date(2024, 12, 31, 16, 0, 0, 0, time.UTC)
	last   = time.Date(2025, 12, 31, 15, 59, 59, 999, time.UTC)
	after  = time.Date(2025, 12, 31, 16, 0, 0, 0, time.UTC)
)

func parsed(t *testing.T) *Policy {
	t.Helper()
	p, err := Parse([]byte(file))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return p
}

// who may do what for whom: everything else is denied.
var granted = map[Caller]map[Method][]TIN{
	erp: {SignDigest: {windowed}},
	portal: {
		SignDigests:  {windowed, unbounded, ended},
		SignDocument: {windowed, unbounded, ended},
	},
	head: {
		SignDigest:   {windowed, unbounded, ended},
		SignDigests:  {windowed, unbounded, ended},
		SignDocument: {windowed, unbounded, ended},
	},
}

// when each taxpayer is represented, of the instants that are tried.
var represented = map[TIN][]time.Time{
	windowed:  {first, last},
	unbounded: {before, first, last, after},
	ended:     nil,
}

// cell is one question to the policy.
type cell struct {
	caller      Caller
	method      Method
	tin         TIN
	now         time.Time
	certificate [32]byte
}

// cells are all questions that the file's names, and some foreign ones, make.
func cells() []cell {
	all := []cell{{}}
	all = cross(all, []Caller{erp, portal, head, nobody, nothing, "stranger.example.com", "spiffe://example.com/ERP", ""},
		func(c *cell, v Caller) { c.caller = v })
	all = cross(all, append(Methods(), "Sign", ""), func(c *cell, v Method) { c.method = v })
	all = cross(all, []TIN{windowed, unbounded, ended, "C99999999990", "IG12345678912", "all", "retail", ""},
		func(c *cell, v TIN) { c.tin = v })
	all = cross(all, []time.Time{before, first, last, after}, func(c *cell, v time.Time) { c.now = v })
	return cross(all, [][32]byte{{}, some}, func(c *cell, v [32]byte) { c.certificate = v })
}

func cross[T any](cells []cell, values []T, set func(*cell, T)) []cell {
	var all []cell
	for _, c := range cells {
		for _, v := range values {
			set(&c, v)
			all = append(all, c)
		}
	}
	return all
}

// want is the answer by the tables above: the reason, or "granted".
func (c cell) want() string {
	switch {
	case !slices.Contains(granted[c.caller][c.method], c.tin):
		return "NOT_ALLOWED"
	case !slices.ContainsFunc(represented[c.tin], c.now.Equal):
		return "REPRESENTATION_ENDED"
	case c.certificate == [32]byte{}:
		return "NOT_ALLOWED"
	default:
		return "granted"
	}
}

func TestEveryCellIsDeniedUnlessGranted(t *testing.T) {
	p := parsed(t)
	answers := map[string]int{}
	for _, c := range cells() {
		grant, err := p.Decide(c.caller, c.method, c.tin, c.certificate, c.now)
		got := "granted"
		if err != nil {
			got = fault.Of(err).Reason()
		}
		if want := c.want(); got != want {
			t.Errorf("%+v: got %s (%v), want %s", c, got, err, want)
		}
		if err != nil && grant != (Grant{}) {
			t.Errorf("%+v: a denial came with the grant %+v", c, grant)
		}
		if err == nil {
			checkGrant(t, grant, c)
		}
		answers[got]++
	}
	// Callers times methods, for the windowed and the unbounded taxpayer.
	if want := 1*2 + 2*(2+4) + 3*(2+4); answers["granted"] != want {
		t.Errorf("granted cells: got %d, want %d", answers["granted"], want)
	}
	if answers["REPRESENTATION_ENDED"] == 0 || answers["NOT_ALLOWED"] == 0 {
		t.Errorf("answers: got %v, want each of the three", answers)
	}
}

func checkGrant(t *testing.T, g Grant, c cell) {
	t.Helper()
	if !g.Valid() {
		t.Errorf("%+v: the grant is not valid", c)
	}
	if got := (cell{g.Caller(), g.Method(), g.Taxpayer(), g.At(), g.Certificate()}); got != c {
		t.Errorf("grant: got %+v, want %+v", got, c)
	}
}

func TestPermitIsByNameAndNotForSigning(t *testing.T) {
	p := parsed(t)
	permitted := map[Caller][]Method{
		erp:    {GetCertificate},
		portal: {ListTaxpayers},
		head:   {GetCertificate, ListTaxpayers},
		nobody: {GetCertificate, ListTaxpayers},
	}
	for _, caller := range []Caller{erp, portal, head, nobody, nothing, "stranger.example.com", ""} {
		for _, method := range append(Methods(), "Sign", "") {
			err := p.Permit(caller, method)
			if want := slices.Contains(permitted[caller], method); (err == nil) != want {
				t.Errorf("Permit(%q, %s): got %v, want permitted: %v", caller, method, err, want)
			}
			if err != nil && fault.Of(err) != fault.NotAllowed {
				t.Errorf("Permit(%q, %s): got kind %v, want NOT_ALLOWED", caller, method, fault.Of(err))
			}
		}
	}
}

func TestZeroValuesDeny(t *testing.T) {
	if (Grant{}).Valid() {
		t.Error("the zero Grant is valid")
	}
	policies := map[string]*Policy{"nil": nil, "zero": {}}
	empty, err := Parse([]byte("taxpayers: []\ncallers: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	policies["empty"] = empty
	// Names that are empty are denied even where a policy, made wrongly, has
	// entries for them.
	policies["of zero entries"] = &Policy{
		taxpayers: map[TIN]Taxpayer{"": {}, windowed: {TIN: windowed}},
		callers: map[Caller]caller{
			"":  {methods: map[Method]Limits{SignDigest: {}, "": {}}, everybody: true},
			erp: {},
		},
	}
	for name, p := range policies {
		for _, c := range cells() {
			if grant, err := p.Decide(c.caller, c.method, c.tin, c.certificate, c.now); fault.Of(err) != fault.NotAllowed || grant.Valid() {
				t.Errorf("%s policy: %+v: got %v, %v, want NOT_ALLOWED", name, c, grant, err)
			}
			if err := p.Permit(c.caller, c.method); fault.Of(err) != fault.NotAllowed {
				t.Errorf("%s policy: Permit(%q, %q): got %v, want NOT_ALLOWED", name, c.caller, c.method, err)
			}
			if list := p.Taxpayers(c.caller, c.now); len(list) != 0 {
				t.Errorf("%s policy: Taxpayers(%q): got %v, want none", name, c.caller, list)
			}
		}
	}
}

func TestDenialsSayWhichItWasInTheLogOnly(t *testing.T) {
	p := parsed(t)
	for _, row := range []struct {
		name   string
		caller Caller
		method Method
		tin    TIN
		want   string
	}{
		{"unknown caller", "stranger.example.com", SignDigest, windowed, `caller "stranger.example.com" is not in the policy`},
		{"unknown taxpayer", head, SignDigest, "C99999999990", `taxpayer "C99999999990" is not in the policy (caller "head.example.com")`},
		{"foreign taxpayer", erp, SignDigest, unbounded, `caller "spiffe://example.com/erp" has no grant for taxpayer "IG12345678912:201901234567"`},
		{"method not granted", erp, SignDocument, windowed, `caller "spiffe://example.com/erp" is not granted method "SignDocument"`},
	} {
		_, err := p.Decide(row.caller, row.method, row.tin, some, first)
		if err == nil || err.Error() != row.want {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}

func TestEndedRepresentationTellsTheWindow(t *testing.T) {
	p := parsed(t)
	for _, row := range []struct {
		tin      TIN
		now      time.Time
		text     string
		metadata map[string]string
	}{
		{windowed, before, "has not begun", map[string]string{
			"tin": "C20880050010", "not_before": "2024-12-31T16:00:00Z", "not_after": "2025-12-31T16:00:00Z"}},
		{ended, first, "has ended", map[string]string{
			"tin": "D4800990020", "not_after": "2020-12-31T16:00:00Z"}},
	} {
		_, err := p.Decide(head, SignDigest, row.tin, some, row.now)
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || !strings.Contains(e.Error(), row.text) {
			t.Errorf("%s at %v: got %v, want %q in it", row.tin, row.now, err, row.text)
			continue
		}
		if diff := cmp.Diff(row.metadata, e.Metadata); diff != "" {
			t.Errorf("%s metadata (-want +got):\n%s", row.tin, diff)
		}
	}
}

func TestTaxpayersAreThoseThatDecideGrants(t *testing.T) {
	p := parsed(t)
	for _, caller := range []Caller{erp, portal, head, nobody, nothing, "stranger.example.com", ""} {
		for _, now := range []time.Time{before, first, last, after} {
			got := map[TIN][]Method{}
			for _, taxpayer := range p.Taxpayers(caller, now) {
				got[taxpayer.TIN] = taxpayer.Methods
			}
			want := map[TIN][]Method{}
			for _, tin := range []TIN{windowed, unbounded, ended} {
				for _, method := range Methods() {
					if _, err := p.Decide(caller, method, tin, some, now); err == nil {
						want[tin] = append(want[tin], method)
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Taxpayers(%q, %v) (-want +got):\n%s", caller, now, diff)
			}
		}
	}
}

func TestTaxpayersAreSortedAndWhole(t *testing.T) {
	from := time.Date(2025, 1, 1, 0, 0, 0, 0, malaysia)
	want := []Taxpayer{
		{TIN: windowed, BRN: "202001234567", Name: "Windowed Sdn. Bhd.", Window: Window{From: from, To: from.AddDate(1, 0, 0)},
			Methods: []Method{SignDigests, SignDocument}},
		{TIN: unbounded, Name: "Kedai Tanpa Had", Methods: []Method{SignDigests, SignDocument}},
	}
	if diff := cmp.Diff(want, parsed(t).Taxpayers(portal, first)); diff != "" {
		t.Errorf("Taxpayers (-want +got):\n%s", diff)
	}
}
