package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatDeniesMoreThanItSeemsIsWarnedOf(t *testing.T) {
	const odd = `taxpayers:
  - {tin: C20880050010, brn: 202001234567a, to: 2020-12-31}
  - {tin: C20880050020, brn: 202001234567A}
  - {tin: C20880050030, rights: []}
  - {tin: "IG12345678912:201901234567", brn: "202001234561"}
  - {tin: SG12345678912}
  - {tin: C02088005001}
  - {tin: D2088005001}
  - {tin: E2088005001}
  - {tin: IG12345678911, to: 2025-12-31}
groups:
  empty: []
  unused: [C20880050010]
  read: [C20880050010]
  used: [C20880050010, C20880050030, "IG12345678912:201901234567", SG12345678912, C02088005001, D2088005001, E2088005001]
callers:
  - name: a.example.com
    taxpayers: [used, IG12345678911]
    methods: [SignDigest]
    method_limits: {SignDocument: {rate: 1}}
    reads: [read]
  - name: b.example.com
    taxpayers: all
    methods: [ListTaxpayers]
    auditor: true
  - name: c.example.com
    taxpayers: [empty]
    methods: [SignDocument, GetReceipt]
    auditor: true
  - {name: d.example.com, taxpayers: [], methods: []}
`
	const readers = "GetReceipt, ListSignatures, FindSignature"
	want := []string{
		"line 2: the representation of taxpayer C20880050010 ended at 2021-01-01T00:00:00+08:00: nothing is signed for it any more",
		"line 3: no caller may sign for taxpayer C20880050020",
		"line 3: taxpayer C20880050020 has the brn of taxpayer C20880050010",
		"line 4: taxpayer C20880050030 has not given the right to submit: nothing is signed for it",
		"line 5: taxpayer IG12345678912:201901234567 has another brn, 202001234561",
		"line 6: taxpayer SG12345678912: individuals have the prefix IG now, before the same digits",
		"line 7: taxpayer C02088005001: LHDN leaves out zeros after the prefix",
		"line 8: taxpayer D2088005001: all TINs but individuals' end with a zero",
		"line 9: taxpayer E2088005001: an employer's number (E) issues no invoices; it has a TIN of its own kind",
		"line 12: group empty has no taxpayers",
		"line 13: no caller has group unused",
		"line 20: method SignDocument is not granted, so its limits are for nothing",
		"line 21: caller a.example.com may read others' signatures, but by none of the methods " + readers,
		"line 23: caller b.example.com has taxpayers, but no method that signs for them",
		"line 25: caller b.example.com is an auditor, but has none of the methods " + readers,
		"line 27: caller c.example.com may sign, but for no taxpayer",
		"line 30: caller d.example.com has no methods: it may do nothing",
	}
	p, err := Parse([]byte(odd))
	if err != nil {
		t.Fatalf("a file that only warrants warnings is refused: %v", err)
	}
	for range 2 { // asking changes nothing
		if diff := cmp.Diff(want, strings.Split(p.Warnings([32]byte{}, last).Error(), "\n")); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
	}
	if got := len(p.Warnings([32]byte{}, after)); got != len(want)+1 {
		t.Errorf("after another representation's end: got %d warnings, want %d", got, len(want)+1)
	}
}

func TestAFileAsItShouldBeHasNoWarnings(t *testing.T) {
	const plain = `taxpayers:
  - {tin: C20880050010, brn: "202001234567", from: 2025-01-01, to: 2025-12-31}
  - {tin: "IG12345678912:201901234567", brn: "201901234567", from: 2026-01-01}
  - {tin: C20880050090, brn: "202001234590", intermediary: true}
groups:
  retail: [C20880050010]
  read: ["IG12345678912:201901234567"]
callers:
  - {name: a.example.com, taxpayers: all, methods: [SignDigest], method_limits: {SignDigest: {rate: 1}}}
  - {name: b.example.com, taxpayers: [retail], methods: [SignDigest, FindSignature], reads: [read]}
  - {name: c.example.com, taxpayers: [], methods: [GetReceipt], auditor: true}
  - {name: d.example.com, taxpayers: [], methods: [GetCertificate]}
`
	p, err := Parse([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Warnings(some, last); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	if got, ok := p.Intermediary(); !ok || got.TIN != itself || got.BRN != "202001234590" {
		t.Errorf("intermediary: got %+v", got)
	}
	for name, p := range map[string]*Policy{"nil": nil, "zero": {}} {
		if _, ok := p.Intermediary(); ok || len(p.Warnings(some, last)) > 0 {
			t.Errorf("the %s policy has an intermediary or warnings", name)
		}
	}
}

func TestTheCertificateIsCheckedAgainstThePolicy(t *testing.T) {
	p := parsed(t)
	for _, row := range []struct {
		name        string
		certificate [32]byte
		want        []string
	}{
		{"one that all may use", other, nil},
		{"one that some may use", some, []string{
			"line 21: caller portal.example.com may not use signing certificate 0700000000000000000000000000000000000000000000000000000000000000"}},
		{"none", [32]byte{}, nil},
	} {
		var got []string
		for _, w := range p.Warnings(row.certificate, before) {
			if strings.Contains(w.Message, "certificate") {
				got = append(got, w.Error())
			}
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
	const told = `line 11: the intermediary is C20880050090, brn 202001234590, but the signing certificate is that of `
	for _, row := range []struct{ name, tin, brn, want string }{
		{"the intermediary's", "C20880050090", "202001234590", ""},
		{"a client's", "C20880050010", "202001234590", told + `"C20880050010", brn "202001234590"`},
		{"another number", "C20880050090", "202001234591", told + `"C20880050090", brn "202001234591"`},
		{"nobody's", "", "", told + `"", brn ""`},
	} {
		got := ""
		if err := p.CheckHolder(row.tin, row.brn); err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
	if err := (&Policy{}).CheckHolder("", ""); err != nil {
		t.Errorf("a policy that names no intermediary: got %v", err)
	}
}
