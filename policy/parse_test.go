package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAllFaultsAreReportedWithTheirLines(t *testing.T) {
	const bad = `taxpayers:
  - tin: Supplier's TIN
    brn: "2020 01"
    from: 01/02/2025
  - tin: C20880050010
    to: 2024-01-01
    from: 2025-01-01
    names: Typo Sdn. Bhd.
  - name: Without Sdn. Bhd.
  - C25845632020
  - tin: C20880050010
  - {tin: D4800990020, to: 0001-01-01}
  - {tin: D4800990021, name: "bell\a"}
  - {tin: D4800990022, name: }
groups:
  Retail: [C20880050010]
  all: [C20880050010]
  shops: [C2088005001O, C99999999990]
  shops: []
callers:
  - name: spiffe://example.com/erp
    taxpayers: [retail, all, C20880050010]
    methods: [Signdigest, SignDocument, SignDocument]
  - name: spiffe://example.com/erp
    taxpayers: everything
    methods: SignDigest
  - methods: []
  - name: "*.example.com"
    taxpayers: &anchor [C20880050010]
    methods: []
  - name: a.example.com
    taxpayers: *anchor
    methods: [[SignDigest]]
quotas: {}
`
	want := []string{
		`line 2: "Supplier's TIN" is not a TIN: it must be a prefix (C, CS, D, E, F, FA, PT, TA, TC, TN, TR, TP, J, LE, IG, SG, OG) and digits, such as C20880050010`,
		`line 3: "2020 01" is not a business registration number: letters, digits and hyphens, at most 20`,
		`line 4: from must be a date (2025-01-31) or an instant (2025-01-31T09:00:00+08:00), not "01/02/2025"`,
		`line 6: the representation ends before it begins`,
		`line 8: unknown key "names" in a taxpayer: the keys are tin, brn, name, intermediary, from, to, rights`,
		`line 9: the taxpayer has no tin`,
		`line 10: a taxpayer must be a mapping with the keys tin, brn, name, intermediary, from, to, rights`,
		`line 11: taxpayer C20880050010 stands in the list twice`,
		`line 12: to lies before the year 2000`,
		`line 13: the name must be printable and at most 300 characters`,
		`line 14: name is empty`,
		`line 16: "Retail" is not a group's name: lower-case letters, digits and hyphens, and not the word all`,
		`line 17: "all" is not a group's name: lower-case letters, digits and hyphens, and not the word all`,
		`line 18: "C2088005001O" is not a TIN: it must be a prefix (C, CS, D, E, F, FA, PT, TA, TC, TN, TR, TP, J, LE, IG, SG, OG) and digits, such as C20880050010`,
		`line 18: taxpayer C99999999990 is not in the list of taxpayers`,
		`line 19: the key "shops" stands here twice`,
		`line 22: there is no group "retail"`,
		`line 22: the word all stands by itself, not in a list`,
		`line 23: "Signdigest" is not a method: the methods are SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers, GetReceipt, ListSignatures, FindSignature`,
		`line 23: method SignDocument is granted twice`,
		`line 24: caller spiffe://example.com/erp stands in the list twice`,
		`line 25: taxpayers must be a list of TINs and groups, or the word all`,
		`line 26: methods must be a list`,
		`line 27: the caller has no name`,
		`line 27: the caller has no taxpayers`,
		`line 28: "*.example.com" is not a caller's name: neither a URI such as spiffe://example.com/erp nor a DNS name such as erp.example.com`,
		`line 29: anchors and aliases are not allowed here`,
		`line 32: anchors and aliases are not allowed here`,
		`line 33: the method must be a single value`,
		`line 34: unknown key "quotas" in the file: the keys are taxpayers, groups, callers`,
	}
	p, err := Parse([]byte(bad))
	if p != nil {
		t.Error("a faulty file gave a policy")
	}
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("got %v, want Faults", err)
	}
	if diff := cmp.Diff(want, strings.Split(faults.Error(), "\n")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestFaultsOfRightsListsAndCertificates(t *testing.T) {
	const bad = `taxpayers:
  - {tin: C20880050010, intermediary: true}
  - {tin: C20880050020, brn: "1", intermediary: true}
  - {tin: C20880050030, brn: "2", intermediary: true}
  - {tin: C20880050040, intermediary: yes}
  - {tin: C20880050050, rights: [submit, sign, submit]}
  - {tin: C20880050060, rights: all}
  - tin: !!str C20880050070
groups:
  shops: [C20880050010, C20880050020, C20880050010]
callers:
  - name: a.example.com
    taxpayers: [shops, C20880050010, shops, C20880050010]
    methods: [SignDigest]
    reads: [towns]
    auditor: 1
  - name: b.example.com
    taxpayers: all
    methods: [SignDigest]
    certificate: []
  - name: c.example.com
    taxpayers: all
    methods: [SignDigest]
    certificate: 5d0c
  - name: d.example.com
    taxpayers: all
    methods: [SignDigest]
    certificate:
      - 0000000000000000000000000000000000000000000000000000000000000000
      - 0700000000000000000000000000000000000000000000000000000000000000
      - 07:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00
`
	want := `line 2: the intermediary needs its brn: its certificate carries it
line 3: there is an intermediary already, C20880050010: one holds the certificate
line 4: there is an intermediary already, C20880050010: one holds the certificate
line 5: intermediary must be true or false, not "yes"
line 6: "sign" is not a right: the rights are submit, cancel, reject, view
line 6: right submit is given twice
line 7: rights must be a list
line 8: tags such as "!!str" are not allowed here
line 10: taxpayer C20880050010 stands in this list twice
line 13: group shops stands in this list twice
line 13: taxpayer C20880050010 stands in this list twice
line 15: there is no group "towns"
line 16: auditor must be true or false, not "1"
line 20: the list of certificates is empty: name one, or leave the key out
line 24: "5d0c" is not the SHA-256 fingerprint of a certificate: 64 hexadecimal digits
line 29: "0000000000000000000000000000000000000000"... is not the SHA-256 fingerprint of a certificate: 64 hexadecimal digits
line 31: certificate "07:00:00:00:00:00:00:00:00:00:00:00:00:0"... stands in this list twice`
	_, err := Parse([]byte(bad))
	if err == nil {
		t.Fatal("got no faults")
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestFilesThatAreNoPolicy(t *testing.T) {
	for _, row := range []struct{ name, file, want string }{
		{"empty", "", "the file is empty"},
		{"comments only", "# nothing\n", "the file is empty"},
		{"a null document", "---\n", "the file must be a mapping"},
		{"a list", "- tin: C20880050010\n", "line 1: the file must be a mapping"},
		{"no callers", "taxpayers: []\n", "line 1: the key callers is missing"},
		{"callers without a value", "taxpayers: []\ncallers:\n", "line 2: callers must be a list"},
		{"two documents", "taxpayers: []\ncallers: []\n---\ntaxpayers: []\n", "line 3: a second document begins here"},
		{"no YAML", "taxpayers: [\ncallers: []\n", "line 2: not YAML: "},
		{"no YAML after it", "taxpayers: []\ncallers: []\n---\n[", "not YAML: "},
		{"a tab", "taxpayers:\n\t- tin: C20880050010\n", "line 2: not YAML: found character that cannot start any token (a tab?"},
		{"bytes", "\x00\x01\xff", "not YAML"},
		{"a merge key", "taxpayers: []\ncallers: []\n<<: {groups: {}}\n", `line 3: unknown key "<<"`},
	} {
		if _, err := Parse([]byte(row.file)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q in it", row.name, err, row.want)
		}
	}
}

func TestWindowsAreDaysInMalaysiaOrInstants(t *testing.T) {
	at := func(s string) time.Time {
		parsed, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for _, row := range []struct {
		name, window string
		from, to     time.Time
	}{
		{"dates: the last day counts", "from: 2025-03-01, to: 2025-03-01", at("2025-02-28T16:00:00Z"), at("2025-03-01T16:00:00Z")},
		{"quoted dates", `from: "2025-03-01", to: "2025-03-31"`, at("2025-02-28T16:00:00Z"), at("2025-03-31T16:00:00Z")},
		{"instants: exact", "from: 2025-03-01T09:00:00+08:00, to: 2025-03-01T10:00:00Z", at("2025-03-01T01:00:00Z"), at("2025-03-01T10:00:00Z")},
		{"the last day there is", "to: 9999-12-31", time.Time{}, at("9999-12-31T16:00:00Z")},
		{"only from", "from: 2025-03-01", at("2025-02-28T16:00:00Z"), time.Time{}},
		{"only to", "to: 2025-03-01", time.Time{}, at("2025-03-01T16:00:00Z")},
	} {
		p, err := Parse([]byte("taxpayers: [{tin: C20880050010, " + row.window + "}]\ncallers: []\n"))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		got := p.taxpayers[p.places["C20880050010"]]
		if !got.From.Equal(row.from) || !got.To.Equal(row.to) {
			t.Errorf("%s: got %v to %v, want %v to %v", row.name, got.From, got.To, row.from, row.to)
		}
	}
}

func TestTINs(t *testing.T) {
	for _, good := range []string{
		"C20880050010", "C2584563200", "C25845632020", "CS1234567890", "D4800990020", "E12345678912", "F1234567890", "FA1234567890",
		"PT1234567890", "TA1234567890", "TC1234567890", "TN1234567890", "TR1234567890", "TP1234567890", "J1234567890",
		"LE1234567890", "IG12345678912", "SG12345678910", "OG12345678910", "IG12345678912:201901234567", "IG12345678912:SA0123456-X",
	} {
		tin, err := ParseTIN(good)
		if err != nil || string(tin) != good {
			t.Errorf("ParseTIN(%q): got %q, %v", good, tin, err)
		}
	}
	for _, row := range []struct{ name, tin, want string }{
		{"empty", "", "it is empty"},
		{"the samples' words", "Supplier's TIN", "prefix"},
		{"lower case", "c20880050010", "prefix"},
		{"no prefix", "20880050010", "prefix"},
		{"no digits", "C", "0 digits"},
		{"unknown prefix", "X20880050010", "prefix"},
		{"the letter O for a zero", "C2O880050010", "prefix"},
		{"blank before", " C20880050010", "prefix"},
		{"blank after", "C20880050010 ", "prefix"},
		{"newline after", "C20880050010\n", "prefix"},
		{"cut in half", "C208800", "6 digits"},
		{"two in one", "C20880050010C20880050010", "prefix"},
		{"too many digits", "C2088005001012", "13 digits"},
		{"digits of another script", "C٢٠٨٨٠٠٥٠٠١٠", "prefix"},
		{"general public", "EI00000000010", "general"},
		{"foreign buyer", "EI00000000020", "general"},
		{"a company with a registration number", "C20880050010:201901234567", "only an individual's"},
		{"nothing after the colon", "IG12345678912:", "5 to 20"},
		{"two colons", "IG12345678912:2019:01234", "5 to 20"},
		{"words after the colon", "IG12345678912:number", "5 to 20"},
		{"endless", "C" + strings.Repeat("1", 1000), "1000 digits"},
	} {
		tin, err := ParseTIN(row.tin)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: ParseTIN(%q): got %v, want %q in it", row.name, row.tin, err, row.want)
		}
		if tin != "" {
			t.Errorf("%s: a refused TIN came back as %q", row.name, tin)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("%s: the error repeats %d bytes", row.name, len(err.Error()))
		}
	}
}

func TestPartsOfASoleProprietorsTIN(t *testing.T) {
	for _, row := range []struct {
		tin         TIN
		number, rob string
	}{
		{"IG12345678912:201901234567", "IG12345678912", "201901234567"},
		{"C20880050010", "C20880050010", ""},
		{"", "", ""},
	} {
		if row.tin.Number() != row.number || row.tin.ROB() != row.rob {
			t.Errorf("%q: got %q and %q, want %q and %q", row.tin, row.tin.Number(), row.tin.ROB(), row.number, row.rob)
		}
	}
}

func TestCallerNames(t *testing.T) {
	for _, row := range []struct {
		name string
		want Caller
	}{
		{"spiffe://example.com/erp", "spiffe://example.com/erp"},
		{"urn:example:erp", "urn:example:erp"},
		{"https://erp.example.com", "https://erp.example.com"},
		{"erp.example.com", "erp.example.com"},
		{"ERP.Example.com", "erp.example.com"},
		{"localhost", "localhost"},
	} {
		if got, err := ParseCaller(row.name); err != nil || got != row.want {
			t.Errorf("ParseCaller(%q): got %q, %v, want %q", row.name, got, err, row.want)
		}
	}
	for _, bad := range []string{
		"", ".", "a..b", "*.example.com", "-a.example.com", "a-.example.com", "erp example", "erp.example.com.",
		"spiffe:", "://example.com", "SPIFFE://example.com/erp", "spiffe://example.com/a b", "ERP@example.com",
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "aa", "spiffe://" + strings.Repeat("a", 3000),
	} {
		if got, err := ParseCaller(bad); err == nil || got != "" {
			t.Errorf("ParseCaller(%q): got %q, %v, want an error", bad, got, err)
		}
	}
}
