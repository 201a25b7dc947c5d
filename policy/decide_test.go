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
  - {tin: C20880050030, rights: [view, cancel]}
  - {tin: C20880050090, brn: "202001234590", intermediary: true}
groups:
  retail: [C20880050010, "IG12345678912:201901234567"]
callers:
  - name: spiffe://example.com/erp
    taxpayers: [C20880050010]
    methods: [SignDigest, GetCertificate, GetReceipt]
  - name: portal.example.com
    taxpayers: [retail, D4800990020, C20880050030]
    methods: [SignDigests, SignDocument, ListTaxpayers, ListSignatures, FindSignature]
    certificate: 0900000000000000000000000000000000000000000000000000000000000000
    reads: [retail]
  - name: head.example.com
    taxpayers: all
    methods: [SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers]
    certificate:
      - 0900000000000000000000000000000000000000000000000000000000000000
      - 07:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00
    reads: all
    auditor: true
  - name: auditor.example.com
    taxpayers: []
    methods: [GetReceipt, ListSignatures]
    auditor: true
  - name: reader.example.com
    taxpayers: []
    methods: [FindSignature]
    reads: all
  - name: nobody.example.com
    taxpayers: []
    methods: [SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers, GetReceipt, ListSignatures, FindSignature]
  - name: nothing.example.com
    taxpayers: all
    methods: []
    reads: all
    auditor: true
  - name: shop.example.com
    taxpayers: ["IG12345678912:201901234567"]
    methods: [SignDigest, FindSignature]
    reads: all
  - name: keeper.example.com
    taxpayers: [D4800990020]
    methods: [SignDocument, GetReceipt]
    auditor: true
`

const (
	erp, portal, head = Caller("spiffe://example.com/erp"), Caller("portal.example.com"), Caller("head.example.com")
	auditor, reader   = Caller("auditor.example.com"), Caller("reader.example.com")
	nobody, nothing   = Caller("nobody.example.com"), Caller("nothing.example.com")
	shop, keeper      = Caller("shop.example.com"), Caller("keeper.example.com") // who read more than they sign for
	stranger          = Caller("stranger.example.com")

	windowed, unbounded, ended = TIN("C20880050010"), TIN("IG12345678912:201901234567"), TIN("D4800990020")
	rightless, itself          = TIN("C20880050030"), TIN("C20880050090")
)

var (
	some, other, foreign = [32]byte{7}, [32]byte{9}, [32]byte{11}

	past   = time.Date(2020, 12, 31, 0, 0, 0, 0, time.UTC)
	before = time.Date(2024, 12, 31, 15, 59, 59, 999, time.UTC)
	first  = time.Date(2024, 12, 31, 16, 0, 0, 0, time.UTC)
	last   = time.Date(2025, 12, 31, 15, 59, 59, 999, time.UTC)
	after  = time.Date(2025, 12, 31, 16, 0, 0, 0, time.UTC)

	everyCaller = []Caller{
		erp, portal, head, auditor, reader, nobody, nothing, shop, keeper,
		stranger, "spiffe://example.com/ERP", "spiffe://example.com/erp/", "all", "",
	}
	everyMethod   = append(Methods(), "Sign", "signdigest", "")
	everyTaxpayer = []TIN{
		windowed, unbounded, ended, rightless, itself,
		"C99999999990", "IG12345678912", "all", "retail", "",
	}
	everyTime        = []time.Time{{}, past, before, first, last, after}
	everyCertificate = [][32]byte{{}, some, other, foreign}
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
		SignDigest:   {windowed, unbounded, ended, itself},
		SignDigests:  {windowed, unbounded, ended, itself},
		SignDocument: {windowed, unbounded, ended, itself},
	},
	shop:   {SignDigest: {unbounded}},
	keeper: {SignDocument: {ended}},
}

// under which certificates.
var certified = map[Caller][][32]byte{
	erp:    {some, other, foreign},
	portal: {other},
	head:   {some, other},
	shop:   {some, other, foreign},
	keeper: {some, other, foreign},
}

// when each taxpayer is represented, of the instants that are tried.
var represented = map[TIN][]time.Time{
	windowed:  {first, last},
	unbounded: {past, before, first, last, after},
	ended:     {past},
	itself:    {past, before, first, last, after},
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
	all = cross(all, everyCaller, func(c *cell, v Caller) { c.caller = v })
	all = cross(all, everyMethod, func(c *cell, v Method) { c.method = v })
	all = cross(all, everyTaxpayer, func(c *cell, v TIN) { c.tin = v })
	all = cross(all, everyTime, func(c *cell, v time.Time) { c.now = v })
	return cross(all, everyCertificate, func(c *cell, v [32]byte) { c.certificate = v })
}

func cross[C, T any](cells []C, values []T, set func(*C, T)) []C {
	var all []C
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
	case !slices.Contains(granted[c.caller][c.method], c.tin), !slices.Contains(certified[c.caller], c.certificate):
		return "NOT_ALLOWED"
	case !slices.ContainsFunc(represented[c.tin], c.now.Equal):
		return "REPRESENTATION_ENDED"
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
	// Methods times taxpayers' instants times certificates, caller by caller.
	if want := 1*2*3 + 2*(2+5+1)*1 + 3*(2+5+1+5)*2 + 1*5*3 + 1*1*3; answers["granted"] != want {
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
	for _, caller := range everyCaller {
		for _, method := range everyMethod {
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

func TestWhoStandsInThePolicyIsKnown(t *testing.T) {
	p := parsed(t)
	known := []Caller{erp, portal, head, auditor, reader, nobody, nothing, shop, keeper}
	for _, caller := range everyCaller {
		if got, want := p.Knows(caller), slices.Contains(known, caller); got != want {
			t.Errorf("%q: got known: %v, want %v", caller, got, want)
		}
		if (*Policy)(nil).Knows(caller) || (&Policy{}).Knows(caller) {
			t.Errorf("%q is known to no policy, or to an empty one", caller)
		}
	}
}

func TestZeroValuesDeny(t *testing.T) {
	if (Grant{}).Valid() || (ReadGrant{}).Valid() {
		t.Error("a zero grant is valid")
	}
	if err := (Grant{}).Covers(first); fault.Of(err) != fault.NotAllowed {
		t.Errorf("the zero Grant covers a document: %v", err)
	}
	for _, at := range everyTime {
		if (Grant{}).Window().Contains(at) {
			t.Errorf("the zero Grant's window contains %v", at)
		}
	}
	if (reach{}).has(0) || !(reach{}).empty() || (&caller{}).uses([32]byte{}) || answer(0) == allowed {
		t.Error("a zero value allows")
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
		taxpayers: []Taxpayer{{Rights: rights}, {TIN: windowed, Rights: rights}},
		places:    map[TIN]int{"": 0, windowed: 1},
		callers: map[Caller]*caller{
			"":   {methods: map[Method]Limits{SignDigest: {}, GetReceipt: {}, "": {}}, signs: reach{everybody: true}, auditor: true},
			erp:  {},
			head: nil,
		},
	}
	nameless := &Policy{
		taxpayers: []Taxpayer{{Rights: rights}}, places: map[TIN]int{"": 0},
		callers: map[Caller]*caller{erp: {methods: map[Method]Limits{SignDigest: {}}, signs: reach{everybody: true}}},
	}
	if grant, err := nameless.Decide(erp, SignDigest, "", some, first); fault.Of(err) != fault.NotAllowed || grant.Valid() {
		t.Errorf("the taxpayer without a TIN: got %v, %v, want NOT_ALLOWED", grant, err)
	}
	for name, p := range policies {
		for _, c := range cells() {
			if grant, err := p.Decide(c.caller, c.method, c.tin, c.certificate, c.now); fault.Of(err) != fault.NotAllowed || grant.Valid() {
				t.Errorf("%s policy: %+v: got %v, %v, want NOT_ALLOWED", name, c, grant, err)
			}
		}
		for _, who := range everyCaller {
			for _, method := range everyMethod {
				if err := p.Permit(who, method); fault.Of(err) != fault.NotAllowed {
					t.Errorf("%s policy: Permit(%q, %q): got %v, want NOT_ALLOWED", name, who, method, err)
				}
			}
			if list := p.Taxpayers(who, some, first); len(list) != 0 {
				t.Errorf("%s policy: Taxpayers(%q): got %v, want none", name, who, list)
			}
		}
		for _, c := range cross(readCells(), everyTaxpayer, func(c *readCell, v TIN) { c.tin = v }) {
			if grant, err := p.DecideRead(c.caller, c.method, c.owner, c.tin); fault.Of(err) != fault.NotAllowed || grant.Valid() {
				t.Errorf("%s policy: %+v: got %v, %v, want NOT_ALLOWED", name, c, grant, err)
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
		{"a taxpayer that lets nothing be submitted", head, SignDigest, rightless, `taxpayer "C20880050030" has not given the right to submit (caller "head.example.com")`},
		{"a method for reading", erp, GetReceipt, windowed, `method "GetReceipt" is not judged by this question`},
		{"a certificate not granted", portal, SignDocument, windowed, `caller "portal.example.com" is not granted the certificate that it names (taxpayer "C20880050010")`},
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

func TestAGrantCoversDocumentsOfItsWindow(t *testing.T) {
	p := parsed(t)
	for tin, covered := range represented {
		grant, err := p.Decide(head, SignDocument, tin, some, covered[len(covered)-1])
		if err != nil {
			t.Errorf("%s: %v", tin, err)
			continue
		}
		for _, issued := range everyTime {
			err, want := grant.Covers(issued), slices.ContainsFunc(covered, issued.Equal)
			if (err == nil) != want || grant.Window().Contains(issued) != want {
				t.Errorf("%s: Covers(%v): got %v, want covered: %v", tin, issued, err, want)
			}
			if e, ok := errors.AsType[*fault.Error](err); !want && (!ok || e.Kind != fault.RepresentationEnded ||
				e.Metadata["tin"] != string(tin) || e.Metadata["issued"] != issued.UTC().Format(time.RFC3339)) {
				t.Errorf("%s: Covers(%v): got %#v, want REPRESENTATION_ENDED with the window and the time", tin, issued, err)
			}
		}
	}
}

func TestTaxpayersAreThoseThatDecideGrants(t *testing.T) {
	p := parsed(t)
	listed := cross([]cell{{}}, everyCaller, func(c *cell, v Caller) { c.caller = v })
	listed = cross(listed, everyTime, func(c *cell, v time.Time) { c.now = v })
	for _, c := range cross(listed, everyCertificate, func(c *cell, v [32]byte) { c.certificate = v }) {
		got := map[TIN][]Method{}
		for _, taxpayer := range p.Taxpayers(c.caller, c.certificate, c.now) {
			got[taxpayer.TIN] = taxpayer.Methods
		}
		want := map[TIN][]Method{}
		for _, tin := range everyTaxpayer {
			for _, method := range everyMethod {
				if _, err := p.Decide(c.caller, method, tin, c.certificate, c.now); err == nil {
					want[tin] = append(want[tin], method)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v: Taxpayers (-want +got):\n%s", c, diff)
		}
	}
}

func TestTaxpayersAreSortedAndWhole(t *testing.T) {
	from := time.Date(2025, 1, 1, 0, 0, 0, 0, malaysia)
	want := []Taxpayer{
		{TIN: windowed, BRN: "202001234567", Name: "Windowed Sdn. Bhd.", Window: Window{From: from, To: from.AddDate(1, 0, 0)},
			Rights: []Right{Submit}, Methods: signing},
		{TIN: itself, BRN: "202001234590", Rights: Rights(), Intermediary: true, Methods: signing},
		{TIN: unbounded, Name: "Kedai Tanpa Had", Rights: []Right{Submit}, Methods: signing},
	}
	p := parsed(t)
	got := p.Taxpayers(head, some, first)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Taxpayers (-want +got):\n%s", diff)
	}
	got[0].Rights[0], got[0].Methods[0] = View, GetReceipt
	if diff := cmp.Diff(want, p.Taxpayers(head, some, first)); diff != "" {
		t.Errorf("the policy changed with a list that it gave (-want +got):\n%s", diff)
	}
}
