package xades

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// signingTime is when the tests sign; their certificates are valid around it.
var signingTime = time.Date(2026, 10, 3, 4, 5, 6, 0, time.UTC)

// rsaKeys makes each size of key once: that is slow with the race detector on.
var rsaKeys sync.Map

func testKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	made, _ := rsaKeys.LoadOrStore(bits, sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }))
	key, err := made.(func() (*rsa.PrivateKey, error))()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// nameValue is one attribute of a distinguished name.
type nameValue struct{ oid, value string }

// distinguishedName encodes a name in just this order.
func distinguishedName(t testing.TB, elements ...nameValue) []byte {
	t.Helper()
	var name pkix.RDNSequence
	for _, e := range elements {
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: objectIdentifier(t, e.oid), Value: e.value}})
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// multiValued encodes a name of one element with several values, in just this
// order, which DER would sort.
func multiValued(t testing.TB, values ...nameValue) []byte {
	t.Helper()
	var set []byte
	for _, v := range values {
		der, err := asn1.Marshal(pkix.AttributeTypeAndValue{Type: objectIdentifier(t, v.oid), Value: v.value})
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, der...)
	}
	set, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: set})
	if err != nil {
		t.Fatal(err)
	}
	name, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: set})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func objectIdentifier(t testing.TB, dotted string) asn1.ObjectIdentifier {
	t.Helper()
	oid, err := x509.ParseOID(dotted)
	if err != nil {
		t.Fatal(err)
	}
	var plain asn1.ObjectIdentifier
	for part := range strings.SplitSeq(oid.String(), ".") {
		n, ok := new(big.Int).SetString(part, 10)
		if !ok {
			t.Fatalf("no number: %s", part)
		}
		plain = append(plain, int(n.Int64()))
	}
	return plain
}

// testSubject and testIssuer are names in the order of LHDN's profile.
func testSubject(t testing.TB) []byte {
	t.Helper()
	return distinguishedName(t,
		nameValue{"2.5.4.6", "MY"}, nameValue{"2.5.4.10", "Syarikat Seri Melur Sdn. Bhd."},
		nameValue{"2.5.4.97", "C20880050010"}, nameValue{"2.5.4.3", "Syarikat Seri Melur Sdn. Bhd."},
		nameValue{"2.5.4.5", "201901054321"})
}

func testIssuer(t testing.TB) []byte {
	t.Helper()
	return distinguishedName(t,
		nameValue{"2.5.4.6", "MY"}, nameValue{"2.5.4.10", "Contoh & Anak"},
		nameValue{"2.5.4.11", "Terms of use at http://ca.example"}, nameValue{"2.5.4.3", "Contoh Sub CA"})
}

// issue signs a certificate with the issuer's key. Nil changes take none.
func issue(t testing.TB, public any, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x6c1ff0c5d0b0337),
		RawSubject:   testSubject(t),
		NotBefore:    signingTime.AddDate(0, -3, 0),
		NotAfter:     signingTime.AddDate(0, 9, 0),
		KeyUsage:     x509.KeyUsageContentCommitment,
	}
	if change != nil {
		change(template)
	}
	parent := &x509.Certificate{RawSubject: testIssuer(t)}
	if len(template.RawIssuer) > 0 {
		parent.RawSubject = template.RawIssuer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, testKey(t, 2048))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func testCertificate(t testing.TB) *x509.Certificate {
	t.Helper()
	return issue(t, &testKey(t, 2048).PublicKey, nil)
}

// signed prepares and completes a document.
func signed(t testing.TB, document []byte, options Options) []byte {
	t.Helper()
	draft, err := Prepare(document, testCertificate(t), signingTime, options)
	if err != nil {
		t.Fatal(err)
	}
	return completed(t, draft)
}

func completed(t testing.TB, draft *Draft) []byte {
	t.Helper()
	out, err := draft.Complete(signatureOf(t, draft))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func signatureOf(t testing.TB, draft *Draft) []byte {
	t.Helper()
	digest := draft.DocDigest()
	signature, err := rsa.SignPKCS1v15(nil, testKey(t, 2048), crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// errorCodes gives the codes of a report's errors, sorted, each once. A finding
// without a code of LHDN's is "-".
func errorCodes(r *Report) string {
	var codes []string
	for _, f := range r.Findings {
		code := f.Code
		if code == "" {
			code = "-"
		}
		if f.Severity == SeverityError && !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	slices.Sort(codes)
	return strings.Join(codes, " ")
}

// judged asserts that Verify reports just these codes as errors.
func judged(t testing.TB, document []byte, want string) *Report {
	t.Helper()
	r := Verify(document, VerifyOptions{})
	if got := errorCodes(r); got != want {
		t.Errorf("got the codes %q, want %q", got, want)
		for _, f := range r.Findings {
			t.Logf("%s %s: %s", f.Code, f.Severity, f.Message)
		}
	}
	if r.Valid() != (want == "") {
		t.Errorf("valid is %v", r.Valid())
	}
	return r
}

// ownInvoices gives this project's own invoices, by file name.
func ownInvoices(t testing.TB, pattern string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents like %s (%v)", pattern, err)
	}
	documents := map[string][]byte{}
	for _, file := range files {
		documents[filepath.Base(file)] = read(t, file)
	}
	return documents
}

// minimal is a small document that can be signed; members stand before the
// supplier.
func minimal(members string) string {
	return `<Invoice xmlns="` + nsInvoice + `" xmlns:cac="` + nsCAC + `" xmlns:cbc="` + nsCBC + `"><cbc:ID>1</cbc:ID>` +
		`<cbc:InvoiceTypeCode listVersionID="1.1">01</cbc:InvoiceTypeCode>` + members +
		`<cac:AccountingSupplierParty></cac:AccountingSupplierParty></Invoice>`
}
