package xades

import (
	"fmt"

	"github.com/beevik/etree"
)

// parts reads the signature block from the canonical bytes that the scanner
// left out of the digest.
func (d *xmlDocument) parts() (*parts, error) {
	p := &parts{}
	for i := range d.blocks {
		block := &d.blocks[i]
		tree := etree.NewDocument()
		if err := tree.ReadFromBytes(block.canonical); err != nil {
			return nil, fmt.Errorf("%w: reading the signature block: %w", ErrMalformed, err)
		}
		if !block.extensions {
			if p.signatureMethod == "" {
				p.signatureMethod = textOf(child(tree.Root(), nsCBC, "SignatureMethod"))
			}
			continue
		}
		p.readExtensions(tree.Root())
	}
	if len(d.props) == 1 { // of two, none is the one
		p.props = d.props[0]
	}
	return p, nil
}

// readExtensions reads each ds:Signature below UBLExtensions; the first one is
// the one that is judged.
func (p *parts) readExtensions(extensions *etree.Element) {
	for _, extension := range children(extensions, nsExt, "UBLExtension") {
		content := child(extension, nsExt, "ExtensionContent")
		for _, signature := range descendants(content, nsDS, "Signature") {
			if p.signatures++; p.signatures == 1 {
				p.extensionURI = textOf(child(extension, nsExt, "ExtensionURI"))
				p.readSignature(signature)
			}
		}
	}
}

func (p *parts) readSignature(signature *etree.Element) {
	p.signatureValue = textOf(child(signature, nsDS, "SignatureValue"))
	p.certificate = textOf(path(signature, nsDS, "KeyInfo", "X509Data", "X509Certificate"))
	p.readSignedInfo(child(signature, nsDS, "SignedInfo"))

	qualifying := child(child(signature, nsDS, "Object"), nsXAdES, "QualifyingProperties")
	properties := path(qualifying, nsXAdES, "SignedProperties", "SignedSignatureProperties")
	p.signingTime = textOf(child(properties, nsXAdES, "SigningTime"))
	cert := path(properties, nsXAdES, "SigningCertificate", "Cert")
	p.certDigest, p.certDigestMethod = digestOf(child(cert, nsXAdES, "CertDigest"))
	issuer := child(cert, nsXAdES, "IssuerSerial")
	p.issuer = textOf(child(issuer, nsDS, "X509IssuerName"))
	p.serial = textOf(child(issuer, nsDS, "X509SerialNumber"))
}

func (p *parts) readSignedInfo(info *etree.Element) {
	if info == nil {
		return
	}
	p.signatureAlgorithm = algorithmOf(child(info, nsDS, "SignatureMethod"))
	if text, err := serialize(info.Copy()); err == nil {
		p.signedInfo = text
	}
	var documents, properties int
	for _, reference := range children(info, nsDS, "Reference") {
		switch {
		case attrOf(reference, "URI") == "":
			if documents++; documents == 1 {
				p.docDigest, p.docDigestMethod = digestOf(reference)
			}
		default:
			if properties++; properties == 1 {
				p.propsDigest, p.propsDigestMethod = digestOf(reference)
			}
		}
	}
}

// child gives the first child element of a namespace and name, or nil; so do
// path, down a chain of names in one namespace, and both of nil.
func child(e *etree.Element, uri, tag string) *etree.Element {
	for _, found := range children(e, uri, tag) {
		return found
	}
	return nil
}

func path(e *etree.Element, uri string, tags ...string) *etree.Element {
	for _, tag := range tags {
		e = child(e, uri, tag)
	}
	return e
}

func children(e *etree.Element, uri, tag string) (found []*etree.Element) {
	if e == nil {
		return nil
	}
	for _, c := range e.ChildElements() {
		if c.Tag == tag && c.NamespaceURI() == uri {
			found = append(found, c)
		}
	}
	return found
}

// descendants gives the outermost elements of a namespace and name below e.
func descendants(e *etree.Element, uri, tag string) (found []*etree.Element) {
	if e == nil {
		return nil
	}
	for _, c := range e.ChildElements() {
		if c.Tag == tag && c.NamespaceURI() == uri {
			found = append(found, c)
			continue
		}
		found = append(found, descendants(c, uri, tag)...)
	}
	return found
}

// textOf gives an element's text without the blanks around it.
func textOf(e *etree.Element) string {
	if e == nil {
		return ""
	}
	return trimBlanks([]byte(e.Text()))
}

func algorithmOf(e *etree.Element) string { return attrOf(e, "Algorithm") }

// attrOf gives the value of an attribute without a prefix; etree's own look-up
// would take one with any.
func attrOf(e *etree.Element, name string) string {
	if e == nil {
		return ""
	}
	for _, a := range e.Attr {
		if a.Space == "" && a.Key == name {
			return a.Value
		}
	}
	return ""
}

func digestOf(e *etree.Element) (value, method string) {
	return textOf(child(e, nsDS, "DigestValue")), algorithmOf(child(e, nsDS, "DigestMethod"))
}
