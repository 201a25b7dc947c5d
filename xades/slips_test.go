package xades

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// What is derived from the canonical form to name slips is what another reading
// of the document gives.
func TestFormsDerivedFromTheCanonicalFormAreWhatAnotherReadingGives(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(7, 2026)), blanks: true, comments: true, blocks: true}
	typeCodes := []string{
		"", `<c:InvoiceTypeCode xmlns:c="` + nsCBC + `" listVersionID="1.0" name="x" zone='>'>01</c:InvoiceTypeCode>`,
		`<InvoiceTypeCode xmlns="` + nsCBC + `" z="1" cac:a="2" xmlns:cac="` + nsCAC + `"/>`,
	}
	pointers := []string{"", `<cac:Signature xmlns:cac="` + nsCAC + `" Id="é"><cac:X/></cac:Signature>`, `<q:Signature xmlns:q="` + nsCAC + `"/>`}
	var emptied, versioned, pointed, withBlanks int
	for range generated / 2 {
		source := g.source(g.document())
		if at := strings.LastIndex(source, "</"); at >= 0 {
			source = source[:at] + pick(g, typeCodes) + pick(g, pointers) + source[at:]
		}
		d, err := parse([]byte(source))
		if err != nil {
			t.Fatalf("%v\n%s", err, source)
		}
		a := &attempts{left: 1 << 30}
		for _, how := range []string{"/>", " />"} {
			if text := d.selfClosed(a, how); text != nil {
				emptied++
				sameBytes(t, "with empty elements as "+how, bytes.Join(text, nil), slowlySelfClosed(t, d.canonical, how))
			}
		}
		if strings.Count(source, "InvoiceTypeCode") > 0 && d.header.typeCode != "" {
			versioned++
			doc, err := scanXML([]byte(source), xmlOptions{setVersion: "1.2"})
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, "with another version", bytes.Join(a.withVersion(d.canonical, d.typeCodeAt, "1.2"), nil), doc.canonical)
		}
		for _, with := range []func(*attempts) ([]byte, int){d.withBlanks, d.withBlanksBut} {
			if text, at := with(a); text != nil && d.typeCodeAt >= 0 {
				withBlanks++
				if name := nameIn(startTag(text[at:])); !strings.Contains(name, "InvoiceTypeCode") {
					t.Fatalf("with blanks, %s stands where InvoiceTypeCode should", name)
				}
			}
		}
		if strings.Count(source, "Signature") == 2 && len(d.blocks) == 1 && d.blocks[0].atRoot {
			pointed++
			kept := scannedXML(t, []byte(strings.ReplaceAll(source, "Signature", "Signaturz"))).canonical
			sameBytes(t, "with cac:Signature", bytes.Join(d.withXMLPointer(), nil), bytes.ReplaceAll(kept, []byte("Signaturz"), []byte("Signature")))
		}
	}
	if emptied == 0 || versioned == 0 || pointed == 0 || withBlanks == 0 {
		t.Errorf("%d forms with empty elements, %d with versions, %d with pointers, %d with blanks: the generator shows too little", emptied, versioned, pointed, withBlanks)
	}
}

// slowlySelfClosed rewrites the empty elements of canonical XML by reading it.
func slowlySelfClosed(t *testing.T, canonical []byte, how string) []byte {
	t.Helper()
	s := xmlScanner{src: canonical}
	var out []byte
	opened, from := false, 0
	for {
		at := s.pos
		if err := s.next(); err != nil {
			t.Fatal(err)
		}
		switch s.kind {
		case tokEOF:
			return append(out, canonical[from:]...)
		case tokEnd:
			if opened {
				out = append(append(out, canonical[from:at-1]...), how...)
				from = s.pos
			}
		}
		opened = s.kind == tokStart
	}
}

func TestAVersionSplicedIntoJSONIsWhatAnotherReadingGives(t *testing.T) {
	for _, invoice := range []string{
		`"InvoiceTypeCode":[{"_":"01","listVersionID":"1.1"}]`,
		`"InvoiceTypeCode":[ { "listVersionID" : 1.1 , "_":"01"}, {"listVersionID":"x"}],"a":1`,
		`"Signature":[ {} ],"a":1,"InvoiceTypeCode":[{"_":"01","listVersionID":"1.1"}],"UBLExtensions":[1,2]`,
		`"InvoiceTypeCode":[{"_":"01","listVersionID":"1.1"}],"Signature":[]`,
		`"UBLExtensions":[1, 2],"InvoiceTypeCode":[{"_":"01" }]`,
		`"InvoiceTypeCode":[{}]`,
		`"InvoiceTypeCode":[]`,
	} {
		source := []byte(in(invoice))
		d, err := scanJSON(source, jsonOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := bytes.Join(d.withVersion("1.2"), nil)
		want, err := scanJSON(source, jsonOptions{setVersion: "1.2"})
		if err != nil {
			if len(got) > 0 {
				t.Errorf("%s: got %s, want none: %v", invoice, got, err)
			}
			continue
		}
		sameBytes(t, invoice, got, want.canonical)
	}
}

func TestOneElementIsToldFromSeveral(t *testing.T) {
	for value, want := range map[string]bool{
		"": false, `[]`: false, `[1]`: false, `[{"a":[1,2],"b":"],["}]`: false, `{"a":1,"b":2}`: false, `"a,b"`: false, `1`: false,
		`[1,2]`: true, `[[],[]]`: true, `["\"",1]`: true,
	} {
		if got := severalElements([]byte(value)); got != want {
			t.Errorf("%s: got %v, want %v", value, got, want)
		}
	}
}
