package xades

import (
	"bytes"
	"strings"
)

// The texts of the blocks in XML, as the official sample has them on one line,
// between the values that go into them.
const (
	xmlDigest    = `<ds:DigestMethod Algorithm="` + algDigest + `" /><ds:DigestValue>`
	xmlDigestEnd = `</ds:DigestValue>`
	xmlXPath     = `<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>`

	xmlSignedInfo = `<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="` + algDeclaredC14N + `" /><ds:SignatureMethod Algorithm="` + algSignature +
		`" /><ds:Reference Id="id-doc-signed-data" URI=""><ds:Transforms>` +
		xmlXPath + `not(//ancestor-or-self::ext:UBLExtensions)</ds:XPath></ds:Transform>` +
		xmlXPath + `not(//ancestor-or-self::cac:Signature)</ds:XPath></ds:Transform>` +
		`<ds:Transform Algorithm="` + algDeclaredC14N + `" /></ds:Transforms>` + xmlDigest
	xmlSecondReference = xmlDigestEnd + `</ds:Reference><ds:Reference Type="http://www.w3.org/2000/09/xmldsig#SignatureProperties" URI="#` + idProps + `">` + xmlDigest
	xmlSignatureValue  = `<ds:SignatureValue>`
	xmlInformation     = `><UBLExtension><ExtensionURI>` + uriEnveloped + `</ExtensionURI><ExtensionContent><sig:UBLDocumentSignatures xmlns:sig="` + nsSig +
		`" xmlns:sac="` + nsSAC + `" xmlns:sbc="` + nsSBC + `"><sac:SignatureInformation><cbc:ID>` + idSigInfo +
		`</cbc:ID><sbc:ReferencedSignatureID>` + idSignature + `</sbc:ReferencedSignatureID>`
	xmlObject = `<ds:Object><xades:QualifyingProperties xmlns:xades="` + nsXAdES + `" Target="signature">`
	xmlEnds   = `</xades:QualifyingProperties></ds:Object></ds:Signature></sac:SignatureInformation></sig:UBLDocumentSignatures></ExtensionContent></UBLExtension></UBLExtensions>`
	xmlCBC    = ` xmlns:cbc="` + nsCBC + `"`
)

// xmlWriter appends fixed text and escaped values.
type xmlWriter []byte

// put appends fixed, then a value that stands in text as it is: base64, a time or
// a number.
func (w *xmlWriter) put(fixed, value string) {
	*w = append(append(*w, fixed...), value...)
}

// escape appends a value as it stands in text.
func (w *xmlWriter) escape(value string) {
	if !strings.ContainsAny(value, "&<>\r") {
		*w = append(*w, value...)
		return
	}
	for _, r := range value {
		*w = appendTextRune(*w, r)
	}
}

// xmlProps returns the OuterXml of SignedProperties in the official sample's
// form: the bytes that PropsDigest is taken over.
func xmlProps(v *values) []byte {
	const ds = ` xmlns:ds="` + nsDS + `"`
	w := make(xmlWriter, 0, 1200)
	w.properties(v, ` xmlns:xades="`+nsXAdES+`"`, ds)
	if !strings.Contains(v.issuer, "\r") {
		return w
	}
	return bytes.ReplaceAll(w, []byte("&#xD;"), []byte("\r")) // OuterXml leaves carriage returns alone
}

// properties appends SignedProperties with these declarations: what the
// prefixes need where it stands.
func (w *xmlWriter) properties(v *values, xades, ds string) {
	w.put(`<xades:SignedProperties Id="`+idProps+`"`, xades)
	w.put(`><xades:SignedSignatureProperties><xades:SigningTime>`, v.signingTime)
	w.put(`</xades:SigningTime><xades:SigningCertificate><xades:Cert><xades:CertDigest><ds:DigestMethod Algorithm="`+algDigest+`"`, ds)
	w.put(` /><ds:DigestValue`, ds)
	w.put(`>`, v.certDigest)
	w.put(`</ds:DigestValue></xades:CertDigest><xades:IssuerSerial><ds:X509IssuerName`, ds)
	w.put(`>`, "")
	w.escape(v.issuer)
	w.put(`</ds:X509IssuerName><ds:X509SerialNumber`, ds)
	w.put(`>`, v.serial)
	w.put(`</ds:X509SerialNumber></xades:IssuerSerial></xades:Cert></xades:SigningCertificate></xades:SignedSignatureProperties></xades:SignedProperties>`, "")
}

// extensions appends the element UBLExtensions, which declares cbc if told so.
func (w *xmlWriter) extensions(v *values, cbc string) {
	w.put(`<UBLExtensions xmlns="`+nsExt+`"`, cbc)
	w.put(xmlInformation+`<ds:Signature xmlns:ds="`+nsDS+`" Id="signature">`+xmlSignedInfo, v.docDigest)
	w.put(xmlSecondReference, v.propsDigest)
	w.put(xmlDigestEnd+`</ds:Reference></ds:SignedInfo>`+xmlSignatureValue, v.signature)
	w.put(`</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>`, v.certificate)
	w.put(`</ds:X509Certificate></ds:X509Data></ds:KeyInfo>`+xmlObject, "")
	w.properties(v, "", "")
	w.put(xmlEnds, "")
}

// pointer appends the element cac:Signature, which declares cac and cbc if told
// so.
func (w *xmlWriter) pointer(cac, cbc string) {
	w.put(`<cac:Signature`, cac)
	w.put("", cbc)
	w.put(`><cbc:ID>`+idSignature+`</cbc:ID><cbc:SignatureMethod>`+uriEnveloped+`</cbc:SignatureMethod></cac:Signature>`, "")
}

// assemble returns the pieces of the signed document: the canonical form with the
// two blocks spliced in, UBLExtensions as the root's first child and cac:Signature
// where UBL's schema wants it. They declare the prefixes cac and cbc themselves
// where the root does not bind them as UBL does. It tells whether they can stand
// there.
func (d *xmlDocument) assemble(v *values) (pieces [][]byte, whole bool) {
	cac, cbc := ` xmlns:cac="`+nsCAC+`"`, xmlCBC
	if d.bindsCAC {
		cac = ""
	}
	if d.bindsCBC {
		cbc = ""
	}
	const blocks = 5000 // and the certificate
	w := make(xmlWriter, 0, d.rootEnd+len(v.certificate)+blocks)
	w = append(w, d.canonical[:d.rootEnd]...)
	w.extensions(v, cbc)
	middle := len(w)
	w.pointer(cac, cbc)
	return [][]byte{w[:middle], d.canonical[d.rootEnd:d.supplierAt], w[middle:], d.canonical[d.supplierAt:]},
		readsBack(w, d.rootEnd, middle, len(v.issuer))
}

// readsBack tells whether the root's start tag and two whole elements follow each
// other that are well-formed below it, within the bounds: those of a scanner, and
// those on what the digest leaves out, in which every block declares all that the
// root does. That they do not is for a root that declares too much, or would be a
// fault of this package.
//
// What stands between the two in the document, and after them, need not be read
// again. It is taken from the canonical form, where it stands below the same start
// tag, and whole elements before it leave nothing behind: neither a namespace in
// scope nor an element open.
func readsBack(blocks []byte, rootEnd, middle, issuer int) bool {
	const properties = 2 << 10 // less the issuer; and what else is longer when it is read
	if rootEnd+len(blocks)+issuer+properties > maxBlocks {
		return false
	}
	s := xmlScanner{src: blocks}
	s.expect(usualDepth)
	return s.next() == nil && s.pos == rootEnd && s.element() && s.pos == middle && s.element() && s.pos == len(blocks)
}

// element reads an element that begins here, to its end.
func (s *xmlScanner) element() bool {
	depth := len(s.open)
	for {
		if err := s.next(); err != nil || s.kind == tokEOF {
			return false
		}
		if s.kind == tokStart {
			s.leaf()
		}
		if s.kind == tokEnd && len(s.open) == depth {
			return true
		}
		if len(s.open) <= depth {
			return false
		}
	}
}
