package xades

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestWhatCannotBeSignedIsRefusedWithASentence(t *testing.T) {
	const blankInvoice = `<Invoice xmlns="` + nsInvoice + `" xmlns:cac="` + nsCAC + `" xmlns:cbc="` + nsCBC + `">`
	const supplier = `<cac:AccountingSupplierParty></cac:AccountingSupplierParty>`
	typeCode := func(attributes, code string) string {
		return blankInvoice + `<cbc:InvoiceTypeCode` + attributes + `>` + code + `</cbc:InvoiceTypeCode>` + supplier + `</Invoice>`
	}
	id := func(scheme, value string) string {
		return `<cac:PartyIdentification><cbc:ID schemeID="` + scheme + `">` + value + `</cbc:ID></cac:PartyIdentification>`
	}
	parties := func(code, supplier, customer string) string {
		return blankInvoice + `<cbc:InvoiceTypeCode listVersionID="1.1">` + code + `</cbc:InvoiceTypeCode><cac:AccountingSupplierParty><cac:Party>` + supplier +
			`</cac:Party></cac:AccountingSupplierParty><cac:AccountingCustomerParty><cac:Party>` + customer + `</cac:Party></cac:AccountingCustomerParty></Invoice>`
	}
	whole := minimal("")
	for _, row := range []struct {
		name, document string
		kind           error
		want           string
	}{
		{"empty", "", ErrMalformed, "it is empty"},
		{"blanks", " \r\n", ErrMalformed, "it is empty"},
		{"a byte order mark", "\ufeff", ErrMalformed, "it is empty"},
		{"truncated", whole[:len(whole)-10], ErrMalformed, "the document ends within <Invoice>; it is truncated"},
		{"truncated in a tag", whole[:len(whole)-3], ErrMalformed, "the document ends within a tag; it is truncated"},
		{"a PDF", "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", ErrMalformed, "it is a PDF; MyInvois signs the UBL document in XML or JSON"},
		{"text", "INVOICE 17", ErrMalformed, "neither XML nor JSON"},
		{"JSON after a comment", "// ours\n" + smallJSON, ErrMalformed, "JSON has no comments, so take them out"},
		{"JSON after a long comment", " /* ours */" + smallJSON, ErrMalformed, "JSON has no comments, so take them out"},
		{"JSON after a shell's comment", "# ours\n" + smallJSON, ErrMalformed, "JSON has no comments, so take them out"},
		{"10 MB", strings.Repeat(" ", 10<<20) + whole, ErrTooLarge, "10486150 bytes; at most 2097152 are read"},
		{"over 300 KB once signed", minimal("<cbc:Note>" + strings.Repeat("x", MaxSigned) + "</cbc:Note>"), ErrTooLarge, "split the document"},
		{"a DOCTYPE", "<!DOCTYPE Invoice>" + whole, ErrMalformed, "a DOCTYPE is refused, since it can change what the document says; remove it"},
		{"an entity bomb", `<!DOCTYPE Invoice [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>` + whole, ErrMalformed, "a DOCTYPE is refused"},
		{"an undeclared entity", minimal("<cbc:Note>&nbsp;</cbc:Note>"), ErrMalformed, "&nbsp; is not a reference XML allows without a DTD"},
		{"a processing instruction", minimal("<?a b?>"), ErrUnsignable, "it has a processing instruction; remove it"},
		{"a processing instruction before the root", "<?a b?>" + whole, ErrUnsignable, "it has a processing instruction; remove it"},
		{"UTF-16 with a mark", "\xff\xfe<\x00", ErrMalformed, "it is in UTF-16; save it as UTF-8"},
		{"UTF-16 without one", "\x00<\x00I", ErrMalformed, "it is in UTF-16; save it as UTF-8"},
		{"UTF-32", "\x00\x00\xfe\xff", ErrMalformed, "it is in UTF-32; save it as UTF-8"},
		{"EBCDIC", "\x4c\x6f\xa7\x94\x93", ErrMalformed, "it is in EBCDIC; save it as UTF-8"},
		{"a declared ISO-8859-1", `<?xml version="1.0" encoding="ISO-8859-1"?>` + whole, ErrMalformed, "it declares the encoding ISO-8859-1; save it as UTF-8 and declare that"},
		{"a declared UTF-16", `<?xml version="1.0" encoding="UTF-16"?>` + whole, ErrMalformed, "it declares the encoding UTF-16"},
		{"XML 1.1", `<?xml version="1.1"?>` + whole, ErrMalformed, "XML version 1.1 is refused"},
		{"Latin-1 bytes", minimal("<cbc:Note>caf\xe9</cbc:Note>"), ErrMalformed, "invalid UTF-8 (byte 0xe9); save the document as UTF-8"},
		{"a declaration that is not first", "\n" + `<?xml version="1.0"?>` + whole, ErrMalformed, "<?xml stands at the very beginning"},

		{"another root", `<CreditNote xmlns="urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2"/>`, ErrMalformed, "MyInvois documents of every type have the root Invoice"},
		{"another namespace", `<Invoice xmlns="urn:other"/>`, ErrMalformed, `its root is <Invoice> in namespace "urn:other"`},
		{"no namespace", `<Invoice/>`, ErrMalformed, `in namespace ""`},
		{"a list of invoices", whole + whole, ErrMalformed, "a second root element; a document has one"},
		{"text after the root", whole + "x", ErrMalformed, "text outside the root element"},

		{"version 1.0", typeCode(` listVersionID="1.0"`, "01"), ErrVersion, "set it to 1.1 before signing"},
		{"version 1.2", typeCode(` listVersionID="1.2"`, "01"), ErrVersion, "set it to 1.3 before signing"},
		{"no version", typeCode("", "01"), ErrVersion, "has no listVersionID; set it to 1.1 before signing"},
		{"an unknown version", typeCode(` listVersionID="2.0"`, "01"), ErrVersion, `"2.0" is no version LHDN knows`},
		{"a version with a blank", typeCode(` listVersionID="1.1 "`, "01"), ErrVersion, `"1.1 " is no version LHDN knows`},
		{"a version in another namespace", typeCode(` xmlns:x="urn:x" x:listVersionID="1.1"`, "01"), ErrVersion, "has no listVersionID"},
		{"no type code", blankInvoice + supplier + `</Invoice>`, ErrUnsignable, "it has no InvoiceTypeCode"},
		{"a type code elsewhere", blankInvoice + `<cac:X><cbc:InvoiceTypeCode listVersionID="1.1">01</cbc:InvoiceTypeCode></cac:X>` + supplier + `</Invoice>`, ErrUnsignable, "it has no InvoiceTypeCode"},
		{"an unknown type code", typeCode(` listVersionID="1.1"`, "381"), ErrUnsignable, `its InvoiceTypeCode "381" is none of 01 to 04 and 11 to 14`},
		{"a type code with an element", typeCode(` listVersionID="1.1"`, "<cbc:X>0</cbc:X>1"), ErrUnsignable, "it has no InvoiceTypeCode"},
		{"two type codes", strings.Replace(typeCode(` listVersionID="1.1"`, "01"), supplier, `<cbc:InvoiceTypeCode listVersionID="1.1">01</cbc:InvoiceTypeCode>`+supplier, 1),
			ErrUnsignable, "it has <cbc:InvoiceTypeCode> more than once"},
		{"two numbers", minimal(`<cbc:ID>2</cbc:ID>`), ErrUnsignable, "it has <cbc:ID> more than once"},
		{"two numbers of two prefixes", minimal(`<x:ID xmlns:x="` + nsCBC + `">2</x:ID>`), ErrUnsignable, "it has <x:ID> more than once"},
		{"two suppliers", minimal(supplier), ErrUnsignable, "it has <cac:AccountingSupplierParty> more than once"},
		{"two parties in the supplier", parties("01", `</cac:Party><cac:Party>`, ""), ErrUnsignable, "it has <cac:Party> more than once"},
		{"no supplier", blankInvoice + `<cbc:InvoiceTypeCode listVersionID="1.1">01</cbc:InvoiceTypeCode></Invoice>`, ErrUnsignable, "it has no cac:AccountingSupplierParty, before which the signature goes"},
		{"a supplier in another namespace", minimal("")[:len(minimal(""))-len(supplier)-len("</Invoice>")] + `<AccountingSupplierParty/></Invoice>`, ErrUnsignable, "it has no cac:AccountingSupplierParty"},
		{"a supplier further down", blankInvoice + `<cbc:InvoiceTypeCode listVersionID="1.1">01</cbc:InvoiceTypeCode><cac:X>` + supplier + `</cac:X></Invoice>`, ErrUnsignable, "it has no cac:AccountingSupplierParty"},
		{"a supplier with two TINs", parties("01", id("TIN", "C1")+id("TIN", "C2"), ""), ErrUnsignable, "its taxpayer has 2 TINs; a party has one"},
		{"a self-billed buyer with two TINs", parties("11", "", id("TIN", "C1")+id("TIN", "C1")), ErrUnsignable, "its taxpayer has 2 TINs; a party has one"},

		{"a root that declares too much", strings.Replace(whole, "<Invoice", "<Invoice"+numbered(124, ` xmlns:p%d="urn:p"`), 1), ErrUnsignable, "the signature block cannot stand in it; declare fewer namespaces at the root"},
		{"a signature block", minimal(`<e:UBLExtensions xmlns:e="` + nsExt + `"/>`), ErrSigned, "sign the document it was made from, or ask to replace the signature"},
		{"a pointer to one", minimal(`<cac:Signature/>`), ErrSigned, "it has UBLExtensions or cac:Signature"},
		{"one further down", minimal(`<cac:X><y:Signature xmlns:y="` + nsCAC + `"/></cac:X>`), ErrSigned, "it has UBLExtensions or cac:Signature"},
		{"what is only called so", minimal(`<x:Signature xmlns:x="urn:x"/>`), ErrUnsignable, "its element <x:Signature> is in no UBL namespace, and LHDN drops what is called so; rename or remove it"},
		{"extensions that are only called so", minimal(`<UBLExtensions/>`), ErrUnsignable, "its element <UBLExtensions> is in no UBL namespace"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cert := testCertificate(t)
			draft, err := Prepare([]byte(row.document), cert, signingTime, Options{})
			if draft != nil {
				t.Error("got a draft with the error")
			}
			refused(t, err, row.kind, row.want)
			inPrepareOnly := errors.Is(row.kind, ErrTooLarge) || strings.Contains(row.want, "cannot stand in it")
			if _, err := DigestAsSigned([]byte(row.document), Options{}); !inPrepareOnly {
				refused(t, err, row.kind, row.want)
			}
		})
	}
}

func TestACertificateThatCannotSignIsRefused(t *testing.T) {
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := &testKey(t, 2048).PublicKey
	short := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 1024), big.NewInt(105))
	long := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 4097), big.NewInt(105))
	cert := testCertificate(t)
	for _, row := range []struct {
		name string
		cert *x509.Certificate
		at   time.Time
		want string
	}{
		{"none", nil, signingTime, "there is none"},
		{"a blank one", &x509.Certificate{}, signingTime, "there is none"},
		{"ECDSA", issue(t, &elliptical.PublicKey, nil), signingTime, "its key is ECDSA; MyInvois takes RSA only"},
		{"RSA-1024", issue(t, &rsa.PublicKey{N: short, E: 65537}, nil), signingTime, "its RSA modulus has 1024 bits; 2048 to 4096 are accepted"},
		{"RSA of over 4096 bits", issue(t, &rsa.PublicKey{N: long, E: 65537}, nil), signingTime, "its RSA modulus has 4097 bits"},
		{"an exponent of 3", issue(t, &rsa.PublicKey{N: public.N, E: 3}, nil), signingTime, "its RSA exponent is 3, not 65537"},
		{"not valid yet", cert, cert.NotBefore.Add(-time.Second), "check the clock, or renew the certificate"},
		{"not valid any more", cert, cert.NotAfter.Add(time.Second), "and the signing time is 2027-07-03T04:05:07Z"},
		{"an issuer that XML cannot hold", issue(t, public, func(c *x509.Certificate) {
			c.RawIssuer = distinguishedName(t, nameValue{"2.5.4.3", "bell\a"})
		}), signingTime, `its issuer "CN=bell\a" has a character that XML cannot hold`},
		{"an issuer of 33 elements", issue(t, public, func(c *x509.Certificate) {
			many := make([]nameValue, 33)
			for i := range many {
				many[i] = nameValue{"2.5.4.11", "x"}
			}
			c.RawIssuer = distinguishedName(t, many...)
		}), signingTime, "its issuer: a distinguished name of over 32 elements"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Prepare([]byte(minimal("")), row.cert, row.at, Options{})
			refused(t, err, ErrCertificate, row.want)
		})
	}
	for name, at := range map[string]time.Time{"the first second": cert.NotBefore, "the last": cert.NotAfter, "within the last": cert.NotAfter.Add(time.Second - 1)} {
		if _, err := Prepare([]byte(minimal("")), cert, at, Options{}); err != nil {
			t.Errorf("%s of its validity: %v", name, err)
		}
	}
}

func TestOnlyTheSignatureOfTheKeyOverTheDigestCompletes(t *testing.T) {
	for name, document := range map[string][]byte{"XML": []byte(minimal("")), "JSON": read(t, "testdata/json/invoice-1.1.json")} {
		draft, err := Prepare(document, testCertificate(t), signingTime, Options{})
		if err != nil {
			t.Fatal(err)
		}
		right, digest := signatureOf(t, draft), draft.DocDigest()
		flipped, short, props := bytes.Clone(right), right[1:], draft.PropsDigest()
		flipped[100] ^= 1
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		sign := func(key *rsa.PrivateKey, digest []byte) []byte {
			signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
			if err != nil {
				t.Fatal(err)
			}
			return signature
		}
		again := sha256.Sum256(digest[:])
		for what, wrong := range map[string][]byte{
			"nothing": nil, "zeros": make([]byte, 256), "a flipped bit": flipped, "a byte too few": short, "a byte too many": append([]byte{0}, right...),
			"another key": sign(other, digest[:]), "the digest of the properties": sign(testKey(t, 2048), props[:]),
			"the digest of the digest": sign(testKey(t, 2048), again[:]),
		} {
			out, err := draft.Complete(wrong)
			if out != nil {
				t.Errorf("%s, %s: got a document with the error", name, what)
			}
			refused(t, err, ErrSignature, "it was made with another key or over another digest")
		}
		first := completed(t, draft)
		sameBytes(t, name+": completed twice", completed(t, draft), first)
		judged(t, first, "")
	}
}

func TestAReplacedSignatureLeavesTheDocumentAsItWas(t *testing.T) {
	for name, document := range ownInvoices(t, "testdata/[jx]*/*1.1*") {
		once := signed(t, document, Options{})
		if _, err := Prepare(once, testCertificate(t), signingTime, Options{}); err == nil {
			t.Errorf("%s: signed a second time", name)
		} else {
			refused(t, err, ErrSigned, "ask to replace the signature")
		}
		sameBytes(t, name+": replaced", signed(t, once, Options{ReplaceSignature: true}), signed(t, once, Options{ReplaceSignature: true}))
		draft, err := Prepare(once, testCertificate(t), signingTime, Options{ReplaceSignature: true})
		if err != nil {
			t.Fatal(err)
		}
		asIs, err := DigestAsIs(once)
		if err != nil {
			t.Fatal(err)
		}
		if draft.DocDigest() != asIs {
			t.Errorf("%s: the digest to sign is %x; the signed document's was %x", name, draft.DocDigest(), asIs)
		}
		judged(t, completed(t, draft), "")
	}
}

// Each of the project's own invoices, whatever its prefixes and its syntax, is
// signed, read back, and stays a document that namespaces are right in.
func TestOwnInvoicesAreSignedAndReadBack(t *testing.T) {
	for name, document := range ownInvoices(t, "testdata/[jx]*/*[0-9].[0-9]*") {
		t.Run(name, func(t *testing.T) {
			before, err := Inspect(document)
			if err != nil {
				t.Fatal(err)
			}
			var options Options
			if before.Version == "1.0" {
				_, err := Prepare(document, testCertificate(t), signingTime, options)
				refused(t, err, ErrVersion, "set it to 1.1")
				options.SetVersion, before.Version = "1.1", "1.1"
			}
			cert := testCertificate(t)
			draft, err := Prepare(document, cert, signingTime, options)
			if err != nil {
				t.Fatal(err)
			}
			out := completed(t, draft)
			r := judged(t, out, "")
			if r.Facts != before || draft.Facts() != before || before.TIN != "C20880050010" {
				t.Errorf("the facts were %+v, of the draft %+v, of the signed document %+v", before, draft.Facts(), r.Facts)
			}
			if r.Digest != draft.DocDigest() || !r.SigningTime.Equal(signingTime) || !r.Certificate.Equal(cert) {
				t.Errorf("the report is %+v", r)
			}
			asSigned, err := DigestAsSigned(document, options)
			if err != nil || asSigned != r.Digest {
				t.Errorf("as signed the digest is %x (%v), want %x", asSigned, err, r.Digest)
			}
			if draft.Format() == XML {
				wellFormed(t, out)
			}
		})
	}
}

// Every block declares all that the root does when it is read by itself, and a
// verifier bounds that: what it would not read must not be signed.
func TestARootThatDeclaresMuchIsSignedOnlyIfItCanBeVerified(t *testing.T) {
	cert := testCertificate(t)
	for _, row := range []struct{ uri, from, to int }{{20, 116, 124}, {500, 50, 60}} {
		var signed, refusals int
		for n := row.from; n < row.to; n++ {
			declared := numbered(n, ` xmlns:p%d="urn:`+strings.Repeat("u", row.uri)+`"`)
			draft, err := Prepare([]byte(strings.Replace(minimal(""), "<Invoice", "<Invoice"+declared, 1)), cert, signingTime, Options{})
			if err != nil {
				refused(t, err, ErrUnsignable, "declare fewer namespaces at the root")
				refusals++
				continue
			}
			signed++
			judged(t, completed(t, draft), "")
		}
		if signed == 0 || refusals == 0 {
			t.Errorf("namespaces of %d bytes: %d were signed, %d refused", row.uri, signed, refusals)
		}
	}
}

// wellFormed lets encoding/xml read a document, and checks what it does not: that
// every prefix is bound.
func wellFormed(t *testing.T, document []byte) {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(document))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && !strings.Contains(start.Name.Space, ":") {
			t.Errorf("the namespace of <%s> is %q", start.Name.Local, start.Name.Space)
		}
	}
}

func TestTheBlocksDeclareThePrefixesThatTheRootDoesNot(t *testing.T) {
	for _, row := range []struct {
		name, root               string
		declaresCBC, declaresCAC bool
	}{
		{"the usual ones", `<Invoice xmlns="` + nsInvoice + `" xmlns:cac="` + nsCAC + `" xmlns:cbc="` + nsCBC + `">`, false, false},
		{"other prefixes", `<Invoice xmlns="` + nsInvoice + `" xmlns:ns2="` + nsCAC + `" xmlns:ns3="` + nsCBC + `">`, true, true},
		{"cac is something else", `<Invoice xmlns="` + nsInvoice + `" xmlns:cac="urn:cars" xmlns:ns2="` + nsCAC + `" xmlns:cbc="` + nsCBC + `">`, false, true},
		{"cbc is something else", `<Invoice xmlns="` + nsInvoice + `" xmlns:cbc="urn:cables" xmlns:cac="` + nsCAC + `" xmlns:ns3="` + nsCBC + `">`, true, false},
		{"they are swapped", `<Invoice xmlns="` + nsInvoice + `" xmlns:cbc="` + nsCAC + `" xmlns:cac="` + nsCBC + `">`, true, true},
		{"they are declared below", `<Invoice xmlns="` + nsInvoice + `">`, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			basic := func(tag, text string) string { return `<x:` + tag + ` xmlns:x="` + nsCBC + `"` + text }
			document := row.root + basic("ID", `>1</x:ID>`) + basic("InvoiceTypeCode", ` listVersionID="1.1">01</x:InvoiceTypeCode>`) +
				`<y:AccountingSupplierParty xmlns:y="` + nsCAC + `"/></Invoice>`
			out := signed(t, []byte(document), Options{})
			judged(t, out, "")
			wellFormed(t, out)
			text := string(out)
			if got := strings.Contains(text, `<UBLExtensions xmlns="`+nsExt+`" xmlns:cbc="`+nsCBC+`">`); got != row.declaresCBC {
				t.Errorf("UBLExtensions declares cbc: %v, want %v", got, row.declaresCBC)
			}
			if got := strings.Contains(text, `<cac:Signature xmlns:cac="`+nsCAC+`"`); got != row.declaresCAC {
				t.Errorf("cac:Signature declares cac: %v, want %v", got, row.declaresCAC)
			}
		})
	}
}

func TestTheVersionIsSetBeforeHashing(t *testing.T) {
	with := func(attributes string) []byte {
		return []byte(strings.Replace(minimal(""), ` listVersionID="1.1"`, attributes, 1))
	}
	want, err := DigestAsIs(with(` listVersionID="1.3"`))
	if err != nil {
		t.Fatal(err)
	}
	for _, attributes := range []string{"", ` listVersionID="1.0"`, ` listVersionID='1.&#x32;'`, ` listVersionID="1.1"`, ` listVersionID="x"`} {
		got, err := DigestAsSigned(with(attributes), Options{SetVersion: "1.3"})
		if err != nil || got != want {
			t.Errorf("with%s: got %x (%v), want %x", attributes, got, err, want)
		}
	}
	draft, err := Prepare(with(` xmlns:a="urn:a" z="1" a:listVersionID="7" listVersionID="1.0" b="2"`), testCertificate(t), signingTime, Options{SetVersion: "1.1"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `<cbc:InvoiceTypeCode xmlns:a="urn:a" b="2" listVersionID="1.1" z="1" a:listVersionID="7">01<`; !strings.Contains(string(draft.Canonical()), want) {
		t.Errorf("got %s, want %s in it", draft.Canonical(), want)
	}
	for _, version := range []string{"1.0", "1.2", "2.0", "x"} {
		_, err := Prepare(with(""), testCertificate(t), signingTime, Options{SetVersion: version})
		refused(t, err, ErrVersion, "1.1 and 1.3 are the signed versions")
	}
}

func TestWarningsOfWhatMayBeRefused(t *testing.T) {
	cert := testCertificate(t)
	for _, row := range []struct {
		name     string
		document string
		cert     *x509.Certificate
		want     string
	}{
		{"nothing", minimal(""), cert, ""},
		{"near 300 KB", minimal("<cbc:Note>" + strings.Repeat("x", MaxSurely-4000) + "</cbc:Note>"), cert, "is near LHDN's limit of 300 KB, which may mean 300,000"},
		{"an empty xml:lang", minimal(`<cbc:Note xml:lang=""></cbc:Note>`), cert, "LHDN may compute another digest (DS322), so give it a value or leave it out"},
		{"a long serial", minimal(""), issue(t, &testKey(t, 2048).PublicKey, func(c *x509.Certificate) {
			c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 150)
		}), "the certificate's serial number has 46 digits; LHDN's XML validation may fail over 28 (send JSON instead)"},
	} {
		draft, err := Prepare([]byte(row.document), row.cert, signingTime, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(draft.Warnings(), "; "); !strings.Contains(got, row.want) || (got == "") != (row.want == "") {
			t.Errorf("%s: got the warnings %q, want %q", row.name, got, row.want)
		}
	}
}
