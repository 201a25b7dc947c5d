package xades

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/beevik/etree"
)

// xmlProps is the OuterXml of SignedProperties in the official sample's form:
// the bytes that PropsDigest is taken over.
func xmlProps(v *values) []byte {
	const ds = ` xmlns:ds="` + nsDS + `"`
	var b bytes.Buffer
	b.WriteString(`<xades:SignedProperties Id="` + idProps + `" xmlns:xades="` + nsXAdES + `"><xades:SignedSignatureProperties><xades:SigningTime>`)
	b.WriteString(v.signingTime)
	b.WriteString(`</xades:SigningTime><xades:SigningCertificate><xades:Cert><xades:CertDigest><ds:DigestMethod Algorithm="` + algDigest + `"` + ds + ` /><ds:DigestValue` + ds + `>`)
	b.WriteString(v.certDigest)
	b.WriteString(`</ds:DigestValue></xades:CertDigest><xades:IssuerSerial><ds:X509IssuerName` + ds + `>`)
	outerEscaper.WriteString(&b, v.issuer) //nolint:errcheck // a bytes.Buffer takes everything
	b.WriteString(`</ds:X509IssuerName><ds:X509SerialNumber` + ds + `>`)
	b.WriteString(v.serial)
	b.WriteString(`</ds:X509SerialNumber></xades:IssuerSerial></xades:Cert></xades:SigningCertificate></xades:SignedSignatureProperties></xades:SignedProperties>`)
	return b.Bytes()
}

var outerEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// assemble gives the signed document: the canonical form with the two blocks
// spliced in, UBLExtensions as the root's first child and cac:Signature where
// UBL's schema wants it.
func (d *xmlDocument) assemble(v *values) ([]byte, error) {
	extensions, signature, err := xmlBlocks(v, d.bindsCAC, d.bindsCBC)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(d.canonical)+len(extensions)+len(signature))
	out = append(out, d.canonical[:d.rootEnd]...)
	out = append(out, extensions...)
	out = append(out, d.canonical[d.rootEnd:d.supplierAt]...)
	out = append(out, signature...)
	return append(out, d.canonical[d.supplierAt:]...), nil
}

// xmlBlocks builds the two blocks in the official sample's form. They declare
// the prefixes cac and cbc themselves where the root does not bind them so.
func xmlBlocks(v *values, bindsCAC, bindsCBC bool) (extensions, signature []byte, err error) {
	root := etree.NewElement("UBLExtensions")
	root.CreateAttr("xmlns", nsExt)
	declareUnless(root, bindsCBC, "cbc", nsCBC)
	extension := root.CreateElement("UBLExtension")
	extension.CreateElement("ExtensionURI").SetText(uriEnveloped)
	signatures := extension.CreateElement("ExtensionContent").CreateElement("sig:UBLDocumentSignatures")
	signatures.CreateAttr("xmlns:sig", nsSig)
	signatures.CreateAttr("xmlns:sac", nsSAC)
	signatures.CreateAttr("xmlns:sbc", nsSBC)
	information := signatures.CreateElement("sac:SignatureInformation")
	information.CreateElement("cbc:ID").SetText(idSigInfo)
	information.CreateElement("sbc:ReferencedSignatureID").SetText(idSignature)
	addSignature(information, v)
	if extensions, err = serialize(root); err != nil {
		return nil, nil, err
	}

	pointer := etree.NewElement("cac:Signature")
	declareUnless(pointer, bindsCAC, "cac", nsCAC)
	declareUnless(pointer, bindsCBC, "cbc", nsCBC)
	pointer.CreateElement("cbc:ID").SetText(idSignature)
	pointer.CreateElement("cbc:SignatureMethod").SetText(uriEnveloped)
	signature, err = serialize(pointer)
	return extensions, signature, err
}

func declareUnless(e *etree.Element, bound bool, prefix, uri string) { //nolint:revive // the flag is a fact, not a mode
	if !bound {
		e.CreateAttr("xmlns:"+prefix, uri)
	}
}

// addSignature appends ds:Signature.
func addSignature(parent *etree.Element, v *values) {
	signature := parent.CreateElement("ds:Signature")
	signature.CreateAttr("xmlns:ds", nsDS)
	signature.CreateAttr("Id", "signature")
	addSignedInfo(signature, v)
	signature.CreateElement("ds:SignatureValue").SetText(v.signature)
	signature.CreateElement("ds:KeyInfo").CreateElement("ds:X509Data").CreateElement("ds:X509Certificate").SetText(v.certificate)

	qualifying := signature.CreateElement("ds:Object").CreateElement("xades:QualifyingProperties")
	qualifying.CreateAttr("xmlns:xades", nsXAdES)
	qualifying.CreateAttr("Target", "signature")
	signed := qualifying.CreateElement("xades:SignedProperties")
	signed.CreateAttr("Id", idProps)
	properties := signed.CreateElement("xades:SignedSignatureProperties")
	properties.CreateElement("xades:SigningTime").SetText(v.signingTime)
	cert := properties.CreateElement("xades:SigningCertificate").CreateElement("xades:Cert")
	addDigest(cert.CreateElement("xades:CertDigest"), v.certDigest)
	issuer := cert.CreateElement("xades:IssuerSerial")
	issuer.CreateElement("ds:X509IssuerName").SetText(v.issuer)
	issuer.CreateElement("ds:X509SerialNumber").SetText(v.serial)
}

func addSignedInfo(signature *etree.Element, v *values) {
	const xpath = "http://www.w3.org/TR/1999/REC-xpath-19991116"
	info := signature.CreateElement("ds:SignedInfo")
	addAlgorithm(info, "ds:CanonicalizationMethod", algDeclaredC14N)
	addAlgorithm(info, "ds:SignatureMethod", algSignature)
	document := info.CreateElement("ds:Reference")
	document.CreateAttr("Id", "id-doc-signed-data")
	document.CreateAttr("URI", "")
	transforms := document.CreateElement("ds:Transforms")
	for _, path := range []string{"not(//ancestor-or-self::ext:UBLExtensions)", "not(//ancestor-or-self::cac:Signature)"} {
		addAlgorithm(transforms, "ds:Transform", xpath).CreateElement("ds:XPath").SetText(path)
	}
	addAlgorithm(transforms, "ds:Transform", algDeclaredC14N)
	addDigest(document, v.docDigest)
	properties := info.CreateElement("ds:Reference")
	properties.CreateAttr("Type", "http://www.w3.org/2000/09/xmldsig#SignatureProperties")
	properties.CreateAttr("URI", "#"+idProps)
	addDigest(properties, v.propsDigest)
}

func addDigest(parent *etree.Element, value string) {
	addAlgorithm(parent, "ds:DigestMethod", algDigest)
	parent.CreateElement("ds:DigestValue").SetText(value)
}

func addAlgorithm(parent *etree.Element, tag, algorithm string) *etree.Element {
	e := parent.CreateElement(tag)
	e.CreateAttr("Algorithm", algorithm)
	return e
}

// serialize writes an element as the official samples have it, with a blank
// before the slash of an empty one. etree writes none; since it escapes every
// > and every quote in values, "/> is the end of a tag and nothing else.
func serialize(e *etree.Element) ([]byte, error) {
	document := etree.NewDocumentWithRoot(e)
	document.WriteSettings = etree.WriteSettings{CanonicalText: true, CanonicalAttrVal: true}
	text, err := document.WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("writing the signature block: %w", err)
	}
	return bytes.ReplaceAll(text, []byte(`"/>`), []byte(`" />`)), nil
}
