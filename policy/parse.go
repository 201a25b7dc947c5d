package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/roamsign/roamsign/internal/strict"
	"go.yaml.in/yaml/v3"
)

// everybody is the word that grants every taxpayer of the file.
const everybody = "all"

// Fault is one thing wrong with a policy file, on its line.
type Fault = strict.Fault

// Faults is everything wrong with a policy file, by line.
type Faults = strict.Faults

// Parse reads a policy file:
//
//	taxpayers:
//	  - tin: C20880050010
//	    brn: "202001234567"      # optional
//	    name: Example Sdn. Bhd.  # optional
//	    from: 2025-01-01         # optional: since ever
//	    to: 2029-12-31           # optional: without end; this day still counts
//	groups:                      # optional: names for lists of taxpayers
//	  retail: [C20880050010]
//	callers:
//	  - name: spiffe://example.com/erp  # or a DNS name
//	    taxpayers: [retail]             # TINs and groups, or the word all
//	    methods: [SignDigest, GetCertificate, ListTaxpayers]
//
// A date is a day in Malaysia (UTC+8): from its first instant, to its last. An
// RFC 3339 instant ("2029-12-31T10:00:00+08:00") is exact, and as to the first
// one that no longer counts.
//
// It is strict. A key it does not know, a name given twice, a TIN that is not
// among the taxpayers, a form that cannot be right: each is a fault, and the
// error ([Faults]) names all of them, each with its line.
func Parse(file []byte) (*Policy, error) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(file))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, Faults{{Message: "the file is empty: it needs the keys taxpayers and callers (a list may be empty: [])"}}
	} else if err != nil {
		return nil, syntax(err)
	}
	if err := decoder.Decode(new(yaml.Node)); err == nil {
		return nil, Faults{{Message: "the file holds more than one YAML document"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntax(err)
	}
	r := reading{groups: map[string][]TIN{}, policy: &Policy{taxpayers: map[TIN]Taxpayer{}, callers: map[Caller]caller{}}}
	r.file(doc.Content[0])
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b Fault) int { return a.Line - b.Line })
		return nil, r.faults
	}
	slices.Sort(r.policy.sorted)
	return r.policy, nil
}

// syntax turns the YAML reader's error, which names a line in its text, into a
// fault.
func syntax(err error) Faults {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d: ", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	return Faults{{Line: line, Message: "not YAML: " + text}}
}

// reading is a file on its way to a policy.
type reading struct {
	policy *Policy
	groups map[string][]TIN
	faults Faults
}

func (r *reading) fault(at *yaml.Node, format string, args ...any) {
	r.faults = append(r.faults, Fault{Line: at.Line, Message: fmt.Sprintf(format, args...)})
}

func (r *reading) file(top *yaml.Node) {
	keys := r.mapping(top, "the file", []string{"taxpayers", "groups", "callers"})
	if keys == nil {
		return
	}
	for _, needed := range []string{"taxpayers", "callers"} {
		if keys[needed] == nil {
			r.fault(top, "the key %s is missing (its list may be empty: [])", needed)
		}
	}
	for _, item := range r.sequence(keys["taxpayers"], "taxpayers") {
		r.taxpayer(item)
	}
	r.namedGroups(keys["groups"])
	for _, item := range r.sequence(keys["callers"], "callers") {
		r.caller(item)
	}
}

func (r *reading) taxpayer(item *yaml.Node) {
	keys := r.mapping(item, "a taxpayer", []string{"tin", "brn", "name", "from", "to"})
	if keys == nil {
		return
	}
	var t Taxpayer
	if number, ok := r.text(keys["brn"], "brn"); ok {
		t.BRN = number
		if !brn.MatchString(number) {
			r.fault(keys["brn"], "%s is not a business registration number: letters, digits and hyphens, at most 20", quoted(number))
		}
	}
	if name, ok := r.text(keys["name"], "name"); ok {
		t.Name = name
		if !printable(name) {
			r.fault(keys["name"], "the name must be printable and at most %d characters", maxName)
		}
	}
	t.From = r.instant(keys["from"], "from", firstOf)
	t.To = r.instant(keys["to"], "to", lastOf)
	if !t.From.IsZero() && !t.To.IsZero() && !t.From.Before(t.To) {
		r.fault(keys["to"], "the representation ends before it begins")
	}
	r.list(item, keys["tin"], t)
}

// list adds a taxpayer under its TIN.
func (r *reading) list(item, node *yaml.Node, t Taxpayer) {
	if node == nil {
		r.fault(item, "the taxpayer has no tin")
		return
	}
	tin, ok := r.tin(node)
	if !ok {
		return
	}
	if _, twice := r.policy.taxpayers[tin]; twice {
		r.fault(node, "taxpayer %s stands in the list twice", tin)
		return
	}
	t.TIN = tin
	r.policy.taxpayers[tin] = t
	r.policy.sorted = append(r.policy.sorted, tin)
}

func (r *reading) tin(node *yaml.Node) (TIN, bool) {
	text, ok := r.text(node, "the taxpayer")
	if !ok {
		return "", false
	}
	tin, err := ParseTIN(text)
	if err != nil {
		r.fault(node, "%v", err)
	}
	return tin, err == nil
}

// maxName bounds a taxpayer's name, in characters (the platform's own bound).
const maxName = 300

var brn = regexp.MustCompile(`^[0-9A-Za-z-]{1,20}$`)

func printable(s string) bool {
	return utf8.RuneCountInString(s) <= maxName &&
		strings.IndexFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) < 0
}

// groupName keeps groups apart from TINs, which are capitals and digits.
var groupName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

func (r *reading) namedGroups(node *yaml.Node) {
	if node == nil || !r.is(node, yaml.MappingNode, "groups", "named lists") {
		return
	}
	for key, value := range r.pairs(node) {
		name := key.Value
		if !groupName.MatchString(name) || name == everybody {
			r.fault(key, "%s is not a group's name: lower-case letters, digits and hyphens, and not the word %s", quoted(name), everybody)
			continue
		}
		r.groups[name] = []TIN{}
		for _, item := range r.sequence(value, "group "+name) {
			if tin, ok := r.known(item); ok {
				r.groups[name] = append(r.groups[name], tin)
			}
		}
	}
}

// known reads the TIN of a taxpayer of this file.
func (r *reading) known(item *yaml.Node) (TIN, bool) {
	tin, ok := r.tin(item)
	if !ok {
		return "", false
	}
	if _, ok = r.policy.taxpayers[tin]; !ok {
		r.fault(item, "taxpayer %s is not in the list of taxpayers", tin)
	}
	return tin, ok
}

func (r *reading) caller(item *yaml.Node) {
	keys := r.mapping(item, "a caller", []string{"name", "taxpayers", "methods", "limits", "method_limits"})
	if keys == nil {
		return
	}
	for _, needed := range []string{"name", "taxpayers", "methods"} {
		if keys[needed] == nil {
			r.fault(item, "the caller has no %s", needed)
		}
	}
	c := caller{methods: map[Method]Limits{}, taxpayers: map[TIN]bool{}}
	r.callerTaxpayers(keys["taxpayers"], &c)
	r.callerMethods(keys["methods"], &c)
	c.limits = r.limits(keys["limits"], "limits", []string{"rate", "burst", "daily", "concurrent", "weight"})
	c.limits.Weight = max(c.limits.Weight, 1)
	r.methodLimits(keys["method_limits"], &c)
	text, ok := r.text(keys["name"], "name")
	if !ok {
		return
	}
	name, err := ParseCaller(text)
	if err != nil {
		r.fault(keys["name"], "%v", err)
		return
	}
	if _, twice := r.policy.callers[name]; twice {
		r.fault(keys["name"], "caller %s stands in the list twice", name)
	}
	r.policy.callers[name] = c
}

func (r *reading) callerTaxpayers(node *yaml.Node, c *caller) {
	if node != nil && node.Kind == yaml.ScalarNode && node.Value == everybody {
		c.everybody = true
		return
	}
	for _, item := range r.sequence(node, "taxpayers (unless the word "+everybody+")") {
		if item.Kind == yaml.ScalarNode && groupName.MatchString(item.Value) {
			r.callerGroup(item, c)
		} else if tin, ok := r.known(item); ok {
			c.taxpayers[tin] = true
		}
	}
}

func (r *reading) callerGroup(item *yaml.Node, c *caller) {
	members, ok := r.groups[item.Value]
	if !ok {
		r.fault(item, "there is no group %s", item.Value)
	}
	for _, tin := range members {
		c.taxpayers[tin] = true
	}
}

func (r *reading) callerMethods(node *yaml.Node, c *caller) {
	for _, item := range r.sequence(node, "methods") {
		name, ok := r.text(item, "the method")
		if !ok {
			continue
		}
		method, err := ParseMethod(name)
		if err != nil {
			r.fault(item, "%v", err)
			continue
		}
		if c.may(method) {
			r.fault(item, "method %s is granted twice", method)
		}
		c.methods[method] = Limits{}
	}
}
