package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Warnings tells what in the file is likely not what its author thinks, though it
// stands: it denies more than it seems to, or LHDN will not take what is signed
// for it. That is the difference from a fault: a file with warnings can be put
// in force without risk, so that a representation that ends on its day, or a
// customer that leaves, breaks no reload. By line, as of now, and under the
// signing certificate of that fingerprint, if any is given.
func (p *Policy) Warnings(certificate [32]byte, now time.Time) Faults {
	if p == nil {
		return nil
	}
	all := slices.Clone(p.warnings)
	for name, c := range p.callers {
		if c.pinned && certificate != [32]byte{} && !c.uses(certificate) {
			all = append(all, Fault{Line: c.pinLine, Message: fmt.Sprintf(
				"caller %s may not use signing certificate %x", name, certificate)})
		}
	}
	for i, t := range p.taxpayers {
		if !t.To.IsZero() && !now.Before(t.To) {
			all = append(all, Fault{Line: p.lines[i], Message: fmt.Sprintf(
				"the representation of taxpayer %s ended at %s: nothing is signed for it any more", t.TIN, t.To.Format(time.RFC3339))})
		}
	}
	slices.SortFunc(all, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Message, b.Message))
	})
	return all
}

// CheckHolder tells whether a signing certificate with that TIN and BRN (its
// organizationIdentifier and serialNumber) is the intermediary's, where the
// policy says who that is: LHDN refuses what anybody else's signs (DS311, DS312).
// The error is [Faults].
func (p *Policy) CheckHolder(tin, brn string) error {
	if p == nil {
		return nil
	}
	place := slices.IndexFunc(p.taxpayers, func(t Taxpayer) bool { return t.Intermediary })
	if place < 0 {
		return nil
	}
	t := p.taxpayers[place]
	if t.TIN.Number() == tin && t.BRN == brn {
		return nil
	}
	return Faults{{Line: p.lines[place], Message: fmt.Sprintf(
		"the intermediary is %s, brn %s, but the signing certificate is that of %s, brn %s", t.TIN, t.BRN, quoted(tin), quoted(brn))}}
}

// idle warns of what is granted to a caller and opens nothing.
func (r *reading) idle(keys map[string]*yaml.Node, name Caller, c *caller) {
	signs, reads := c.mayAny(signing), c.mayAny(readings)
	for _, w := range []struct {
		is   bool
		at   *yaml.Node
		text string
	}{
		{len(c.methods) == 0, keys["methods"], "has no methods: it may do nothing"},
		{signs && c.signs.empty(), keys["taxpayers"], "may sign, but for no taxpayer"},
		{len(c.methods) > 0 && !signs && !c.signs.empty(), keys["taxpayers"], "has taxpayers, but no method that signs for them"},
		{!reads && !c.reads.empty(), keys["reads"], "may read others' signatures, but by none of the methods " + listed(readings)},
		{!reads && c.auditor, keys["auditor"], "is an auditor, but has none of the methods " + listed(readings)},
	} {
		if w.is && w.at != nil {
			r.warn(w.at.Line, "caller %s %s", name, w.text)
		}
	}
}

// unusedGroups warns of groups that are empty, or granted to nobody.
func (r *reading) unusedGroups() {
	for _, name := range slices.Sorted(maps.Keys(r.groups)) {
		g := r.groups[name]
		switch {
		case len(g.members) == 0:
			r.warn(g.line, "group %s has no taxpayers", name)
		case !g.used:
			r.warn(g.line, "no caller has group %s", name)
		}
	}
}

// unreached warns of taxpayers that nobody can have anything signed for, and of
// numbers that LHDN would not know.
func (r *reading) unreached() {
	var signed reach
	for _, c := range r.policy.callers {
		if c.mayAny(signing) {
			signed.everybody = signed.everybody || c.signs.everybody
			signed.some = signed.some.union(c.signs.some)
		}
	}
	owners := map[string]TIN{}
	for i, t := range r.policy.taxpayers {
		line := r.policy.lines[i]
		if !slices.Contains(t.Rights, Submit) {
			r.warn(line, "taxpayer %s has not given the right to %s: nothing is signed for it", t.TIN, Submit)
		} else if !signed.has(i) {
			r.warn(line, "no caller may sign for taxpayer %s", t.TIN)
		}
		if doubt := t.TIN.doubt(); doubt != "" {
			r.warn(line, "taxpayer %s: %s", t.TIN, doubt)
		}
		if t.BRN == "" {
			continue
		}
		if rob := t.TIN.ROB(); rob != "" && rob != t.BRN {
			r.warn(line, "taxpayer %s has another brn, %s", t.TIN, t.BRN)
		}
		key := strings.ToUpper(t.BRN)
		if other, twice := owners[key]; twice {
			r.warn(line, "taxpayer %s has the brn of taxpayer %s", t.TIN, other)
		} else {
			owners[key] = t.TIN
		}
	}
}
