package xades

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"crypto/rsa"
	"crypto/x509"
)

// mostMemory is how many bytes may be allocated, in all and not at a time, in
// reading a document of 300 KB of whatever shape.
const mostMemory = 16 << 20

// filled repeats units, each with its number for {n} in it, until a document of LHDN's
// size is full.
func filled(open, unit, end string) string {
	var b strings.Builder
	b.WriteString(open)
	for i := 0; b.Len() < MaxSigned-len(end)-2*len(unit)-16; i++ {
		b.WriteString(strings.ReplaceAll(unit, "{n}", fmt.Sprint(i)))
	}
	return b.String() + end
}

// filledAfter fills a document with units after the text given.
func filledAfter(document, text, unit string) string {
	before, after, _ := strings.Cut(document, text)
	return filled(before+text, unit, after)
}

// twoBytePrefixes declares prefixes that differ in the second of two bytes.
func twoBytePrefixes(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, ` xmlns:%c="urn:x"`, rune(0x100+i))
	}
	return b.String()
}

// shuffled are attributes that stand in no order.
func shuffled(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, ` a%03d=""`, (i*77)%count)
	}
	return b.String()
}

// hostileShapes are documents of LHDN's size that cost the most to read, each in
// its own way. What they want is what Verify says of them first.
func hostileShapes(t testing.TB) map[string]string {
	t.Helper()
	const root = `<Invoice xmlns="` + nsInvoice + `" xmlns:cac="` + nsCAC + `" xmlns:cbc="` + nsCBC + `"`
	const end = `</Invoice>`
	declared := func(n int, uri string) string { return numbered(n, ` xmlns:p%d="`+uri+`"`) }
	longURI := "urn:" + strings.Repeat("u", 500)
	properties := `<e:UBLExtensions xmlns:e="` + nsExt + `" xmlns:x="` + nsXAdES + `"`
	ended := func(document string) string { return document }
	attributes := numbered(maxAttributes, ` a%d=""`)
	changed := func(unit string) string { // signed, and filled after that
		document := string(signed(t, []byte(minimal("<cbc:Note></cbc:Note>")), Options{}))
		return filledAfter(document, "<cbc:Note>", unit)
	}
	changedLate := func(unit string) string { // and with InvoiceTypeCode after all that
		before, after, _ := strings.Cut(minimal("<cbc:Note></cbc:Note>"), "<cbc:InvoiceTypeCode")
		typeCode, after, _ := strings.Cut(after, "</cbc:InvoiceTypeCode>")
		moved := before + strings.Replace(after, end, "<cbc:InvoiceTypeCode"+typeCode+"</cbc:InvoiceTypeCode>"+end, 1)
		return filledAfter(string(signed(t, []byte(moved), Options{})), "<cbc:Note>", unit)
	}
	changedWith := func(unit string) string { // and with the signed properties and the signature changed, too
		document := string(signed(t, []byte(minimal("<cbc:Note></cbc:Note>")), Options{}))
		document = strings.Replace(document, "<xades:SignedSignatureProperties>", unit+"<xades:SignedSignatureProperties>", 1)
		before, after, _ := strings.Cut(document, "<ds:SignatureValue>")
		return filledAfter(before+"<ds:SignatureValue>AAAA"+after[4:], "<cbc:Note>", `<cbc:Line x=""/>   `)
	}
	changedJSONWith := func(inBlock, unit string) string { // with that as deep as the block goes
		document := string(signed(t, []byte(`{"Invoice":[{"InvoiceTypeCode":[{"_":"01","listVersionID":"1.1"}],"x":[1.0]}]}`), Options{}))
		document = strings.Replace(document, `"CertDigest":[{`, `"CertDigest":[{`+inBlock, 1)
		return filledAfter(document, `"x":[1.0`, unit)
	}
	changedJSON := func(unit string) string { return changedJSONWith("", unit) }
	prefixed := strings.NewReplacer("a", "p0:a").Replace(attributes[:strings.LastIndex(attributes, " ")])
	return map[string]string{
		"many tiny elements":                filled(root+">", "<a/>", end),
		"many tiny elements with a prefix":  filled(root+declared(120, "urn:x")+">", "<p0:a/>", end),
		"many prefixes on many elements":    filled(root+">", "<a"+declared(100, "urn:x")+"/>", end),
		"many long namespaces":              filled(root+">", "<a"+declared(100, longURI)+"/>", end),
		"many elements in a wide scope":     filled(root+declared(120, longURI)+">", `<p0:a p119:b=""/>`, end),
		"redeclared over and over":          filled(root+">", `<a xmlns="urn:{n}"/>`, end),
		"nested as deep as may be":          filled(root+">", strings.Repeat("<a>", 120)+strings.Repeat("</a>", 120), end),
		"nested deeper":                     filled(root+">", "<a>", ""),
		"nested, each declaring":            filled(root+">", strings.Repeat(`<a xmlns:x="urn:x">`, 100)+strings.Repeat("</a>", 100), end),
		"many attributes":                   filled(root+">", "<a"+attributes+"/>", end),
		"many attributes with prefixes":     filled(root+declared(100, "urn:x")+">", "<a"+prefixed+"/>", end),
		"too many attributes":               filled(root+"><a", ` a{n}=""`, "/>"+end),
		"attributes of one length":          filled(root+">", "<a"+numbered(100, ` a%03d="{n}"`)+"/>", end),
		"the same attribute last":           filled(root+">", "<a"+numbered(100, ` a%03d=""`)+` b=""/>`, `<a b="" b=""/>`+end),
		"huge names":                        filled(root+">", "<"+strings.Repeat("n", maxName)+"/>", end),
		"a name without end":                root + "><" + strings.Repeat("n", MaxSigned-300),
		"a long text":                       root + ">" + strings.Repeat("x", MaxSigned-300) + end,
		"many references":                   filled(root+">", "&#x1F600;&gt;", end),
		"many > and CR":                     filled(root+">", ">\r", end),
		"quotes in an attribute":            filled(root+"><a b='", `"`, "'/>"+end),
		"many CDATA sections":               filled(root+">", "<![CDATA[&]]>", end),
		"CDATA of escapes":                  filled(root+"><![CDATA[", "&<>", "]]>"+end),
		"blanks by reference":               filled(root+">", "<a>&#32;</a>", end),
		"many comments":                     filled(root+">", "<!---->", end),
		"comments that do not end":          filled(root+">", "<!-- -", ""),
		"many instructions":                 filled(root+">", "<?a?>", end),
		"an instruction that does not end":  filled(root+">", "<?a ?", ""),
		"many blocks":                       filled(root+" xmlns:e='"+nsExt+"'>", "<e:UBLExtensions/>", end),
		"many blocks in a wide scope":       filled(root+" xmlns:e='"+nsExt+"'"+declared(100, longURI)+">", "<e:UBLExtensions/>", end),
		"many pointers":                     filled(root+">", "<cac:Signature/>", end),
		"many strays":                       filled(root+">", "<Signature/>", end),
		"many strays of other names":        filled(root+declared(100, "urn:x")+">", numbered(100, "<p%d:Signature/>"), end),
		"a block of tiny elements":          ended(filled(root+">"+properties+">", "<a/>", "</e:UBLExtensions>"+end)),
		"a small block of tiny elements":    root + ">" + properties + ">" + strings.Repeat("<a/>", 9000) + "</e:UBLExtensions>" + end,
		"a small block of signatures":       root + ">" + properties + ` xmlns:d="` + nsDS + `"><e:UBLExtension>` + strings.Repeat("<d:Signature/>", 2000) + "</e:UBLExtension></e:UBLExtensions>" + end,
		"a deep block of signatures":        root + ">" + properties + ` xmlns:d="` + nsDS + `"><e:UBLExtension>` + strings.Repeat(strings.Repeat("<d:Signature>", 100)+strings.Repeat("</d:Signature>", 100), 20) + "</e:UBLExtension></e:UBLExtensions>" + end,
		"signatures below attributes":       root + ">" + properties + ` xmlns:d="` + nsDS + `"><e:UBLExtension>` + strings.Repeat("<q"+numbered(100, ` a%d=""`)+">", 45) + strings.Repeat("<d:Signature/>", 800) + strings.Repeat("</q>", 45) + "</e:UBLExtension></e:UBLExtensions>" + end,
		"many SignedProperties":             root + ">" + properties + ">" + strings.Repeat("<x:SignedProperties/>", 900) + "</e:UBLExtensions>" + end,
		"SignedProperties in a wide scope":  filled(root+declared(100, longURI)+">"+properties+"><x:SignedProperties>", "<p0:a/>", "</x:SignedProperties></e:UBLExtensions>"+end),
		"SignedProperties of attributes":    filled(root+declared(100, longURI)+">"+properties+"><x:SignedProperties>", "<a"+numbered(100, ` p%d:b=""`)+"/>", "</x:SignedProperties></e:UBLExtensions>"+end),
		"many suppliers":                    filled(root+">", "<cac:AccountingSupplierParty/>", end),
		"many TINs":                         filled(root+"><cac:AccountingSupplierParty><cac:Party>", `<cac:PartyIdentification><cbc:ID schemeID="TIN">C{n}</cbc:ID></cac:PartyIdentification>`, "</cac:Party></cac:AccountingSupplierParty>"+end),
		"prefixes of one length":            filled(root+numbered(100, ` xmlns:p%03d="urn:x"`)+">", "<a"+numbered(100, ` p000:a%d=""`)+"/>", end),
		"prefixes far from their names":     filled(`<i:Invoice xmlns:é="urn:x" xmlns:i="`+nsInvoice+`"`+twoBytePrefixes(120)+">", "<é:b/>", "</i:Invoice>"),
		"the default namespace, far away":   filled(`<i:Invoice xmlns:i="`+nsInvoice+`"`+declared(120, "urn:x")+">", "<a/>", "</i:Invoice>"),
		"attributes in no order":            filled(root+">", "<a"+shuffled(maxAttributes)+"/>", end),
		"a long declaration":                `<?xml version="1.0"` + strings.Repeat(" ", MaxSigned-300) + "?>" + root + ">" + end,
		"names of rare characters":          filled(root+">", "<\U00010000\U00010000/>", end),
		"text of accents":                   filled(root+">", "é", end),
		"texts that are no leaves":          filled(root+">", "<a>"+strings.Repeat("y", 40)+"<b/></a>", end),
		"preserved blanks":                  filled(root+">", `<a xml:space="preserve"> </a>`, end),
		"a block of attributes":             root + ">" + properties + ">" + strings.Repeat("<a"+attributes+"/>", 60) + "</e:UBLExtensions>" + end,
		"a number of references":            filled(root+"><cbc:ID>", "&amp;", "</cbc:ID>"+end),
		"JSON, deep":                        filled(`{"Invoice":[`, `[`, ``),
		"JSON, many members":                filled(`{"Invoice":[{`, `"m{n}":1,`, `"z":1}]}`),
		"JSON, many strings":                filled(`{"Invoice":[{"a":[`, `"\u0041",`, `1]}]}`),
		"JSON, a block of many members":     filled(`{"Invoice":[{"UBLExtensions":[{`, `"m{n}":1,`, `"z":1}]}]}`),
		"JSON, a block of many extensions":  filled(`{"Invoice":[{"UBLExtensions":[{"UBLExtension":[`, `{"ExtensionContent":[]},`, `{}]}]}]}`),
		"JSON, a block of many empty lists": filled(`{"Invoice":[{"UBLExtensions":[`, `[],`, `[]]}]}`),
		"JSON, many signatures": filled(`{"Invoice":[{"UBLExtensions":[{"UBLExtension":[{"ExtensionContent":[{"UBLDocumentSignatures":[{"SignatureInformation":[{"Signature":[`,
			`{},`, `{}]}]}]}]}]}]}]}`),
		"changed to many tiny elements":            changed("<a/>"),
		"changed to many attributes":               changed("<a" + attributes + "/>"),
		"changed to many references":               changed("&#x3E;"),
		"changed to CDATA":                         changed("<![CDATA[<]]>"),
		"changed to tiny elements before the type": changedLate("<a/>"),
		"changed to elements and blanks":           changedLate("<a/>  "),
		"changed to quotes":                        changedLate("<a b='" + strings.Repeat(`"`, 2000) + "'/> "),
		"changed to CDATA of escapes":              changedLate("<a><![CDATA[" + strings.Repeat("&", 1000) + "]]></a> "),
		"changed to a long text":                   changed("x"),
		"changed to many lines":                    changed("<cac:InvoiceLine>\n  <cbc:ID>{n}</cbc:ID>\n</cac:InvoiceLine>\n"),
		"changed to as many elements as are tried": changed(`<cbc:Line x=""/>   `),
		"changed to as many as are tried, wide":    changed(`<cbc:Line cac:xyz=""/>    `),
		"changed to as many attributes":            changed("<a" + numbered(12, ` p%d="0123456789"`) + "/>"),
		"changed, with a block of declarations":    changedWith("<b" + declared(100, "a:") + ">" + strings.Repeat("<a"+declared(14, "b:")+"/>", 100) + "</b>"),
		"changed, with a block of attributes":      changedWith("<b" + declared(100, "a:") + ">" + strings.Repeat("<a"+prefixed+"/>", 20) + "</b>"),
		"JSON, changed to many short numbers":      changedJSON(",1"),
		"JSON, changed to many short strings":      changedJSON(`,"\u0041"`),
		"JSON, changed to as many numbers":         changedJSON(",1.2000000000"),
		"JSON, changed to as many strings":         changedJSON(`,"/é&<'10.00>"`),
		"JSON, changed to texts beyond ASCII":      changedJSON(`,"` + strings.Repeat("é", 2000) + `"`),
		"JSON, changed to slashes":                 changedJSON(`,"` + strings.Repeat("/", 4000) + `"`),
		"JSON, changed to escapes":                 changedJSON(`,"` + strings.Repeat(`\"`, 2000) + `"`),
		"JSON, changed to quotes by number":        changedJSON(`,"` + strings.Repeat(`\u0026`, 1000) + `"`),
		"JSON, changed, a block of objects":        changedJSONWith(`"a":[`+strings.Repeat("{},", 18_000)+`1],`, ",1.2000000000"),
		"JSON, changed, a block of members":        changedJSONWith(numbered(5000, `"a%d":1,`), ",1.2000000000"),
		"JSON, objects of many members":            filled(`{"Invoice":[{"a":[`, "{"+numbered(manyNames+1, `"%d":1,`)+`"a":1},`, `1]}]}`),
		"JSON, many short numbers":                 filled(`{"Invoice":[{"a":[`, `1,`, `1]}]}`),
	}
}

// Time is not judged here: BenchmarkHostile shows it. What costs the square of
// its size in time does so in memory, too, or in the rows of either.
func TestNoShapeOfDocumentTakesMuchMemory(t *testing.T) {
	for name, document := range hostileShapes(t) {
		t.Run(name, func(t *testing.T) {
			if len(document) > MaxSigned {
				t.Fatalf("%d bytes, at most %d", len(document), MaxSigned)
			}
			var r *Report
			for what, read := range map[string]func(){
				"Verify":  func() { r = Verify([]byte(document), VerifyOptions{}) },
				"Prepare": func() { _, _ = DigestAsSigned([]byte(document), Options{SetVersion: "1.1", ReplaceSignature: true}) },
			} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				read()
				runtime.ReadMemStats(&after)
				if took := after.TotalAlloc - before.TotalAlloc; took > mostMemory {
					t.Errorf("%s allocates %d KB", what, took>>10)
				}
			}
			if r.Valid() || len(r.Findings) > 40 {
				t.Errorf("%d findings, valid: %v", len(r.Findings), r.Valid())
			}
		})
	}
}

// BenchmarkHostile shows how long the worst documents of LHDN's size take. The
// goal is 50 ms for each.
func BenchmarkHostile(b *testing.B) {
	for name, document := range hostileShapes(b) {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			start := processorTime(b)
			for b.Loop() {
				Verify([]byte(document), VerifyOptions{})
			}
			b.ReportMetric(float64(processorTime(b)-start)/float64(b.N), "cpu-ns/op")
		})
	}
}

// A certificate is input like the rest: its key is judged before it is used.
func TestNoCertificateIsWorkedWithBeforeItIsJudged(t *testing.T) {
	for _, bits := range []uint{8192, 65536, 100_000} {
		key := &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(105)), E: 65537}
		out := signedWith(t, minimal(""), issue(t, key, nil))
		r := Verify(out, VerifyOptions{})
		if got := errorCodes(r); got != "DS334" {
			t.Errorf("%d bits: got the codes %q, want DS334", bits, got)
		}
	}
	// Over 16 KB it is not even parsed.
	key := &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 262_144), big.NewInt(105)), E: 65537}
	cert := issue(t, key, nil)
	if _, err := embedded(base64.StdEncoding.EncodeToString(cert.Raw)); err == nil || !strings.Contains(err.Error(), "over 16384 bytes") {
		t.Errorf("got the error %v, want one of over 16384 bytes", err)
	}
	if _, err := x509.ParseCertificate(cert.Raw); err != nil {
		t.Errorf("it should be a certificate otherwise: %v", err)
	}
}
