package policy

import (
	"fmt"
	"slices"

	"github.com/roamsign/roamsign/internal/strict"
	"go.yaml.in/yaml/v3"
)

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
//	    rights: [submit, cancel] # optional: submit alone
//	  - tin: C20880050090
//	    brn: "202001234590"
//	    intermediary: true       # optional, for one: who holds the certificate
//	groups:                      # optional: names for lists of taxpayers
//	  retail: [C20880050010]
//	callers:
//	  - name: spiffe://example.com/erp  # or a DNS name
//	    taxpayers: [retail]             # TINs and groups, or the word all
//	    methods: [SignDigest, GetCertificate, ListTaxpayers]
//	    certificate: 5d0c...            # optional: whichever is current
//	    limits: {rate: 50, burst: 100, daily: 20000, concurrent: 64, weight: 3} # optional
//	    method_limits: {SignDigest: {daily: 500}}                               # optional; blind: both blind methods
//	    reads: [retail]                 # optional: others' signatures of these
//	    auditor: true                   # optional: everybody's signatures
//
// A date is a day in Malaysia (UTC+8): from its first instant, to its last. An
// RFC 3339 instant ("2029-12-31T10:00:00+08:00") is exact, and as to the first
// one that no longer counts.
//
// It is strict. A key it does not know, a name given twice, a TIN that is not
// among the taxpayers, a form that cannot be right: each is a fault, and the
// error ([Faults]) names all of them, each with its line. What denies more than
// it seems is none: [Policy.Warnings] tells.
func Parse(file []byte) (*Policy, error) {
	root, faults := strict.Read(file)
	if root == nil && faults == nil {
		faults = Faults{{Message: "the file is empty: it needs the keys taxpayers and callers (a list may be empty: [])"}}
	}
	if root == nil {
		return nil, faults
	}
	r := reading{
		groups: map[string]*group{}, faults: faults,
		policy: &Policy{places: map[TIN]int{}, callers: map[Caller]*caller{}},
	}
	r.file(root)
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b Fault) int { return a.Line - b.Line })
		return nil, r.faults
	}
	r.policy.warnings = r.warnings
	return r.policy, nil
}

// reading is a file on its way to a policy.
type reading struct {
	policy   *Policy
	groups   map[string]*group
	faults   Faults
	warnings Faults
}

func (r *reading) fault(at *yaml.Node, format string, args ...any) {
	r.faults = append(r.faults, Fault{Line: at.Line, Message: fmt.Sprintf(format, args...)})
}

func (r *reading) warn(line int, format string, args ...any) {
	r.warnings = append(r.warnings, Fault{Line: line, Message: fmt.Sprintf(format, args...)})
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
	r.unusedGroups()
	r.unreached()
}
