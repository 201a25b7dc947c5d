package xades

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// A wrong digest says nothing of why. Signers go wrong in a few known ways, each
// of which can be tried: the one that gives the stored digest is what happened.
// Nothing here makes a document valid.

// form is a way of taking a digest that signers are known to slip into.
type form struct {
	happened string // in words, after "it fits if "
	bytes    func() []byte
}

// slip names the form whose digest is the stored one, or gives "".
func slip(stored string, forms []form) string {
	for _, f := range forms {
		if text := f.bytes(); text != nil && digestText(text) == stored {
			return f.happened
		}
	}
	return ""
}

// documentSlip explains a DocDigest that is not the document's.
func (v *verification) documentSlip(stored string) string {
	if happened := encodingSlip(v.doc.canonical, stored); happened != "" {
		return happened
	}
	if v.doc.names > maxTried || v.Format == JSON && bytes.Count(v.doc.canonical, []byte{','}) > maxTried {
		return ""
	}
	if v.Format == XML {
		return slip(stored, v.doc.xmlForms())
	}
	return cmp.Or(slip(stored, v.doc.jsonForms()), v.doc.unsafeLiteral())
}

// unsafeLiteral names a literal that servers and libraries are known to write
// otherwise than it stands, as the likely cause of a digest that nothing fits.
func (d *reading) unsafeLiteral() string {
	doc, err := scanJSON(d.source, jsonOptions{literals: literalsKept})
	if err != nil || len(doc.warnings) == 0 {
		return ""
	}
	return "it was changed after it was signed, or its literals were written otherwise when the digest was taken; the first that does not survive: " + doc.warnings[0]
}

// encodingSlip finds digests of the right bytes, written the wrong way.
func encodingSlip(text []byte, stored string) string {
	digest := sha256.Sum256(text)
	again := sha256.Sum256(digest[:])
	asHex := hex.EncodeToString(digest[:])
	switch stored {
	case asHex, strings.ToUpper(asHex):
		return "the digest was written in hex; it must be the base64 of its 32 bytes"
	case base64.StdEncoding.EncodeToString([]byte(asHex)), base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(asHex))):
		return "the base64 was made of the digest's hex text; it must be made of its 32 bytes"
	case base64.StdEncoding.EncodeToString(again[:]):
		return "the digest was hashed a second time"
	}
	return ""
}

// maxTried bounds the documents that slips are tried on, by their elements and
// attributes, or in JSON their values: an invoice of LHDN's 300 KB has some
// 15,000, and each form is another reading.
const maxTried = 25_000

// versions are those that listVersionID has had.
var versions = []string{"1.0", "1.1", "1.2", "1.3"}

// xmlForms are the known slips with XML.
func (d *reading) xmlForms() []form {
	scanned := func(o xmlOptions) func() []byte {
		return func() []byte {
			doc, err := scanXML(d.source, o)
			if err != nil {
				return nil
			}
			return doc.canonical
		}
	}
	forms := []form{
		{"blanks between elements were not removed before hashing", scanned(xmlOptions{keepBlanks: true})},
		{"cac:Signature was not removed before hashing", scanned(xmlOptions{keepPointer: true})},
		{"empty elements were hashed as <a/>; canonical XML writes <a></a>", func() []byte { return selfClosed(d.canonical, "/>") }},
		{"empty elements were hashed as <a />; canonical XML writes <a></a>", func() []byte { return selfClosed(d.canonical, " />") }},
		{"the XML declaration was hashed, too", func() []byte { return join(`<?xml version="1.0" encoding="UTF-8"?>`, d.canonical) }},
		{"the XML declaration was hashed, too", func() []byte { return join(`<?xml version="1.0" encoding="UTF-8"?>`+"\n", d.canonical) }},
		{"a line feed after the document was hashed, too", func() []byte { return append(bytes.Clone(d.canonical), '\n') }},
		{"the root did not declare xmlns:ext yet when the digest was taken", func() []byte { return d.withoutRootDeclaration() }},
	}
	for _, version := range d.otherVersions() {
		forms = append(forms,
			form{versionChanged(version), scanned(xmlOptions{setVersion: version})},
			form{versionChanged(version) + ", and blanks between elements were not removed", scanned(xmlOptions{setVersion: version, keepBlanks: true})})
	}
	return forms
}

func versionChanged(was string) string {
	return "listVersionID was " + was + " when the digest was taken, and was changed after that"
}

func (d *reading) otherVersions() (others []string) {
	for _, version := range versions {
		if version != d.header.version {
			others = append(others, version)
		}
	}
	return others
}

func join(prefix string, text []byte) []byte { return append([]byte(prefix), text...) }

// withoutRootDeclaration drops xmlns:ext from the root, or gives nil.
func (d *reading) withoutRootDeclaration() []byte {
	declaration := []byte(` xmlns:ext="` + nsExt + `"`)
	before, after, found := bytes.Cut(d.canonical, declaration)
	if !found || bytes.IndexByte(before, '>') >= 0 {
		return nil
	}
	return append(bytes.Clone(before), after...)
}

// selfClosed rewrites the empty elements of canonical XML.
func selfClosed(canonical []byte, how string) []byte {
	s := xmlScanner{src: canonical}
	out := make([]byte, 0, len(canonical))
	opened, from := false, 0
	for {
		at := s.pos
		if s.next() != nil {
			return nil
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

// jsonForms are the known slips with JSON.
func (d *reading) jsonForms() []form {
	forms := []form{
		{"the member Signature was not removed before hashing", d.withPointer},
		{"numbers and strings were rewritten after the digest was taken, or before it: it is the digest of their safe form", func() []byte {
			doc, err := scanJSON(d.source, jsonOptions{literals: literalsSafe})
			if err != nil {
				return nil
			}
			return doc.canonical
		}},
	}
	for _, version := range d.otherVersions() {
		forms = append(forms, form{versionChanged(version), func() []byte {
			doc, err := scanJSON(d.source, jsonOptions{setVersion: version})
			if err != nil {
				return nil
			}
			return doc.canonical
		}})
	}
	for _, numbers := range jsonNumberStyles {
		for _, strings := range jsonStringStyles {
			if happened := both(numbers.happened, strings.happened); happened != "" {
				forms = append(forms, form{happened, func() []byte { return restyle(d.canonical, numbers, strings) }})
			}
		}
	}
	return forms
}

func both(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", and " + b
}

// withPointer is the canonical JSON with the member Signature left in, last.
func (d *reading) withPointer() []byte {
	if d.pointer == nil {
		return nil
	}
	out := bytes.Clone(d.canonical[:d.spliceAt])
	out = append(append(out, `,"Signature":`...), d.pointer...)
	return append(out, d.canonical[d.spliceAt:]...)
}

// propsSlip explains a PropsDigest that is not that of the signed properties.
func (v *verification) propsSlip() string {
	p := v.parts
	if happened := encodingSlip(p.props, p.propsDigest); happened != "" {
		return happened
	}
	if v.Format == JSON {
		_, inner, _ := bytes.Cut(p.props, []byte(`"SignedProperties":`))
		inner = bytes.TrimSuffix(inner, []byte("}"))
		return slip(p.propsDigest, []form{
			{"it was taken over SignedProperties alone; it belongs over QualifyingProperties, with \"Target\"", func() []byte {
				return bytes.TrimSuffix(bytes.TrimPrefix(inner, []byte("[")), []byte("]"))
			}},
			{"it was taken over the list in SignedProperties; it belongs over QualifyingProperties, with \"Target\"", func() []byte { return inner }},
		})
	}
	replaced := func(old, new string) func() []byte {
		return func() []byte { return bytes.ReplaceAll(p.props, []byte(old), []byte(new)) }
	}
	declared := ` xmlns:ds="` + nsDS + `"`
	return slip(p.propsDigest, []form{
		{"it was taken with <ds:DigestMethod .../>; .NET writes a blank before the slash", replaced(` />`, `/>`)},
		{"it was taken with <ds:DigestMethod ...></ds:DigestMethod>, and the file has it self-closed", replaced(` />`, `></ds:DigestMethod>`)},
		{"it was taken with a self-closed <ds:DigestMethod ... />, and the file has it expanded", replaced(`></ds:DigestMethod>`, ` />`)},
		{"it was taken without xmlns:ds on the ds: elements, which .NET's OuterXml repeats", replaced(declared, ``)},
		{"it was taken over the canonical form (C14N); LHDN takes it over .NET's OuterXml", func() []byte { return v.doc.canonicalProps() }},
	})
}

// canonicalProps is the exclusive canonical form of SignedProperties, or nil.
func (d *reading) canonicalProps() []byte {
	for _, block := range d.blocks {
		if from := bytes.Index(block.canonical, []byte("<xades:SignedProperties ")); from >= 0 {
			const ends = "</xades:SignedProperties>"
			to := bytes.Index(block.canonical[from:], []byte(ends))
			if to < 0 {
				return nil
			}
			text := string(block.canonical[from : from+to+len(ends)])
			text = strings.Replace(text, "<xades:SignedProperties ", `<xades:SignedProperties xmlns:xades="`+nsXAdES+`" `, 1)
			for _, tag := range []string{"DigestMethod", "DigestValue", "X509IssuerName", "X509SerialNumber"} {
				text = strings.Replace(text, "<ds:"+tag, "<ds:"+tag+` xmlns:ds="`+nsDS+`"`, 1)
			}
			return []byte(text)
		}
	}
	return nil
}

// signatureSlip explains a signature that is not over the digest in the file.
func (v *verification) signatureSlip(signature, digest []byte) string {
	over := func(d [sha256.Size]byte) bool {
		return rsa.VerifyPKCS1v15(v.key, crypto.SHA256, d[:], signature) == nil
	}
	switch {
	case over(v.Digest):
		return "it is over the document as it stands: the DocDigest in the file is wrong"
	case over(sha256.Sum256(digest)):
		return "the digest was hashed a second time before it was signed: sign the 32 bytes themselves"
	case over(sha256.Sum256([]byte(v.parts.docDigest))):
		return "the base64 text of the digest was hashed and signed: sign the 32 bytes themselves"
	case over(sha256.Sum256([]byte(hex.EncodeToString(digest)))):
		return "the hex text of the digest was hashed and signed: sign the 32 bytes themselves"
	case over(sha256.Sum256(v.parts.signedInfo)):
		return "SignedInfo was signed, as XMLDSig has it: LHDN wants the signature over the document's digest"
	}
	return ""
}
