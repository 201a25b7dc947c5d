package policy

import (
	"slices"
	"testing"

	"github.com/roamsign/roamsign/internal/fault"
)

// who may read whose signatures of which taxpayers, beside their own.
func readable(who, owner Caller, tin TIN) bool {
	switch who {
	case erp, nobody:
		return owner == who
	case portal:
		return owner == who || tin == windowed || tin == unbounded
	case reader, shop:
		return owner == who || slices.Contains([]TIN{windowed, unbounded, ended, rightless, itself}, tin)
	case auditor, keeper:
		return true
	}
	return false
}

func TestEveryReadingIsDeniedUnlessGranted(t *testing.T) {
	p := parsed(t)
	by := map[Caller][]Method{
		erp: {GetReceipt}, portal: {ListSignatures, FindSignature}, reader: {FindSignature},
		auditor: {GetReceipt, ListSignatures}, nobody: {GetReceipt, ListSignatures, FindSignature},
		shop: {FindSignature}, keeper: {GetReceipt},
	}
	answers := map[bool]int{}
	for _, c := range cross(readCells(), everyTaxpayer, func(c *readCell, v TIN) { c.tin = v }) {
		grant, err := p.DecideRead(c.caller, c.method, c.owner, c.tin)
		want := slices.Contains(by[c.caller], c.method) && c.owner != "" && c.tin != "" && readable(c.caller, c.owner, c.tin)
		if (err == nil) != want || grant.Valid() != want {
			t.Errorf("%+v: got %+v, %v, want allowed: %v", c, grant, err, want)
		}
		if err != nil && (fault.Of(err) != fault.NotAllowed || grant != ReadGrant{}) {
			t.Errorf("%+v: got %+v with %v, want NOT_ALLOWED alone", c, grant, err)
		}
		if got := (readCell{grant.Caller(), grant.Method(), grant.Owner(), grant.Taxpayer()}); err == nil && got != c {
			t.Errorf("grant: got %+v, want %+v", got, c)
		}
		answers[want]++
	}
	if answers[true] == 0 || answers[false] == 0 {
		t.Errorf("answers: got %v, want both", answers)
	}
}

// A search may be narrowed by ReadsAll or ReadsOthers, or refused by PermitRead, only where each
// of its finds would be denied.
func TestSearchesAreNarrowedToWhatMayBeRead(t *testing.T) {
	p := parsed(t)
	answers, narrowed := map[bool]int{}, map[bool]bool{}
	for _, c := range cross(readCells(), everyTaxpayer, func(c *readCell, v TIN) { c.tin = v }) {
		if c.owner == c.caller || c.owner == "" {
			continue
		}
		_, err := p.DecideRead(c.caller, c.method, c.owner, c.tin)
		all := p.ReadsAll(c.caller, c.method, c.tin)
		if all != (err == nil) {
			t.Errorf("%+v: ReadsAll says %v, DecideRead %v", c, all, err)
		}
		others := p.ReadsOthers(c.caller, c.method)
		if all && !others {
			t.Errorf("%+v: ReadsOthers says %v, ReadsAll %v", c, others, all)
		}
		narrowed[others] = true
		if refused := p.PermitRead(c.caller, c.method); refused != nil && (err == nil || fault.Of(refused) != fault.NotAllowed) {
			t.Errorf("%+v: PermitRead says %v, DecideRead %v", c, refused, err)
		}
		answers[all]++
	}
	for _, who := range everyCaller {
		for _, method := range everyMethod {
			_, err := p.DecideRead(who, method, who, unbounded)
			if refused := p.PermitRead(who, method); (refused == nil) != (err == nil) {
				t.Errorf("%q, %q: PermitRead says %v, DecideRead of its own %v", who, method, refused, err)
			}
		}
	}
	if answers[true] == 0 || answers[false] == 0 || len(narrowed) != 2 {
		t.Errorf("answers: got %v and %v, want both of each", answers, narrowed)
	}
}

// readCell is one question about reading.
type readCell struct {
	caller Caller
	method Method
	owner  Caller
	tin    TIN
}

func readCells() []readCell {
	all := cross([]readCell{{}}, everyCaller, func(c *readCell, v Caller) { c.caller = v })
	all = cross(all, everyMethod, func(c *readCell, v Method) { c.method = v })
	return cross(all, everyCaller, func(c *readCell, v Caller) { c.owner = v })
}

func TestAuditorsAreThoseThatMayRead(t *testing.T) {
	p := parsed(t)
	for _, who := range everyCaller {
		if got, want := p.Audits(who), who == auditor || who == keeper; got != want {
			t.Errorf("%s audits: got %t, want %t", who, got, want)
		}
	}
	for name, none := range map[string]*Policy{"no policy": nil, "an empty policy": {}} {
		if none.Audits(auditor) {
			t.Errorf("%s has an auditor", name)
		}
	}
}
