package xades

import (
	"fmt"
	"strings"

	"github.com/beevik/etree"
)

// parts reads the signature block from the canonical bytes that the scanner
// left out of the digest.
//
// What is missing is an empty text. What stands twice where one is meant is
// [ErrMalformed].
func (d *xmlDocument) parts() (*parts, error) {
	p := &parts{}
	r := &blockReader{parts: p}
	for i := range d.blocks {
		block := &d.blocks[i]
		tree := etree.NewDocument()
		if err := tree.ReadFromBytes(block.canonical); err != nil {
			return nil, fmt.Errorf("%w: reading the signature block: %w", ErrMalformed, err)
		}
		r.found += len(descendants(tree.Root(), nsDS, "Signature"))
		if block.extensions {
			r.readExtensions(tree.Root())
		} else if p.signatureMethod == "" {
			p.signatureMethod = textOf(r.one(tree.Root(), nsCBC, "SignatureMethod"))
		}
	}
	if p.signatures > 0 { // then whatever is called so counts, for another reader may take it
		p.signatures = r.found
	}
	if len(d.props) == 1 { // of two, none is the one
		p.props = d.props[0]
	}
	if r.err != nil && p.signatures == 1 { // of two, DS302 says enough
		return nil, r.err
	}
	return p, nil
}

// blockReader reads elements of a signature block and keeps the first error.
type blockReader struct {
	*parts
	found int // elements ds:Signature, wherever they stand
	err   error
}

// readExtensions reads the first ds:Signature in an extension, which is the one
// that is judged.
func (r *blockReader) readExtensions(extensions *etree.Element) {
	for _, extension := range children(extensions, nsExt, "UBLExtension") {
		for _, signature := range descendants(extension, nsDS, "Signature") {
			if r.signatures++; r.signatures > 1 {
				return
			}
			r.extensionURI = textOf(r.one(extension, nsExt, "ExtensionURI"))
			r.misplaced = !inItsPlace(signature, extension)
			r.readSignature(signature)
			r.twice = r.propsID != "" && countIDs(extensions, r.propsID) > 1
		}
	}
}

// inItsPlace tells whether a signature stands in an extension where UBL has it.
func inItsPlace(signature, extension *etree.Element) bool {
	e := signature
	for _, parent := range []struct{ uri, tag string }{
		{nsSAC, "SignatureInformation"}, {nsSig, "UBLDocumentSignatures"}, {nsExt, "ExtensionContent"},
	} {
		if e = e.Parent(); e.Tag != parent.tag || e.NamespaceURI() != parent.uri {
			return false
		}
	}
	return e.Parent() == extension
}

// countIDs counts the elements from e on that have this Id, whatever its case.
func countIDs(e *etree.Element, id string) (count int) {
	for _, a := range e.Attr {
		if strings.EqualFold(a.Key, "Id") && a.Value == id {
			count++
		}
	}
	for _, c := range e.ChildElements() {
		count += countIDs(c, id)
	}
	return count
}

func (r *blockReader) readSignature(signature *etree.Element) {
	r.signatureValue = textOf(r.one(signature, nsDS, "SignatureValue"))
	r.certificate = textOf(r.path(signature, nsDS, "KeyInfo", "X509Data", "X509Certificate"))
	r.readSignedInfo(r.one(signature, nsDS, "SignedInfo"))

	qualifying := r.one(r.one(signature, nsDS, "Object"), nsXAdES, "QualifyingProperties")
	signed := r.one(qualifying, nsXAdES, "SignedProperties")
	r.propsID = attrOf(signed, "Id")
	properties := r.one(signed, nsXAdES, "SignedSignatureProperties")
	r.signingTime = textOf(r.one(properties, nsXAdES, "SigningTime"))
	cert := r.path(properties, nsXAdES, "SigningCertificate", "Cert")
	r.certDigest, r.certDigestMethod = r.digestOf(r.one(cert, nsXAdES, "CertDigest"))
	issuer := r.one(cert, nsXAdES, "IssuerSerial")
	r.issuer = textOf(r.one(issuer, nsDS, "X509IssuerName"))
	r.serial = textOf(r.one(issuer, nsDS, "X509SerialNumber"))
}

func (r *blockReader) readSignedInfo(info *etree.Element) {
	if info == nil {
		return
	}
	r.signatureAlgorithm = attrOf(r.one(info, nsDS, "SignatureMethod"), "Algorithm")
	var documents, properties int
	for _, reference := range children(info, nsDS, "Reference") {
		switch {
		case attrOf(reference, "URI") == "":
			documents++
			r.docDigest, r.docDigestMethod = r.digestOf(reference)
		default:
			properties++
			r.propsURI = attrOf(reference, "URI")
			r.propsDigest, r.propsDigestMethod = r.digestOf(reference)
		}
	}
	if documents > 1 || properties > 1 {
		r.ambiguous(info, "Reference", max(documents, properties))
	}
}

func (r *blockReader) digestOf(e *etree.Element) (value, method string) {
	return textOf(r.one(e, nsDS, "DigestValue")), attrOf(r.one(e, nsDS, "DigestMethod"), "Algorithm")
}

// one gives the only child element of a namespace and name, or nil; so do path,
// down a chain of names in one namespace, and both of nil.
func (r *blockReader) one(e *etree.Element, uri, tag string) *etree.Element {
	found := children(e, uri, tag)
	switch len(found) {
	case 0:
		return nil
	case 1:
	default:
		r.ambiguous(e, tag, len(found))
	}
	return found[0]
}

func (r *blockReader) path(e *etree.Element, uri string, tags ...string) *etree.Element {
	for _, tag := range tags {
		e = r.one(e, uri, tag)
	}
	return e
}

func (r *blockReader) ambiguous(e *etree.Element, tag string, count int) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: <%s> has %d elements %s where one is meant, and readers disagree on which of them counts",
			ErrMalformed, e.FullTag(), count, tag)
	}
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

// descendants gives all elements of a namespace and name below e, in the
// document's order. What is in scope goes down with the walk: to ask each element
// for its namespace takes a walk up, through all that is declared there.
func descendants(e *etree.Element, uri, tag string) (found []*etree.Element) {
	var walk func(e *etree.Element, scope []etree.Attr)
	walk = func(e *etree.Element, scope []etree.Attr) {
		for _, token := range e.Child {
			c, ok := token.(*etree.Element)
			if !ok {
				continue
			}
			own := appendDeclarations(scope, c)
			if c.Tag == tag && namespaceIn(own, c.Space) == uri {
				found = append(found, c)
			}
			walk(c, own)
		}
	}
	var scope []etree.Attr
	for at := e; at != nil; at = at.Parent() {
		scope = append(appendDeclarations(nil, at), scope...)
	}
	walk(e, scope)
	return found
}

// appendDeclarations appends the namespaces that an element declares.
func appendDeclarations(scope []etree.Attr, e *etree.Element) []etree.Attr {
	for i := range e.Attr {
		if a := &e.Attr[i]; a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns" {
			scope = append(scope, *a)
		}
	}
	return scope
}

// namespaceIn gives the namespace of a prefix, the innermost declaration of which
// is the last; the default namespace's is the one without a prefix.
func namespaceIn(scope []etree.Attr, prefix string) string {
	for i := len(scope) - 1; i >= 0; i-- {
		if a := &scope[i]; a.Space == "xmlns" && a.Key == prefix || a.Space == "" && prefix == "" {
			return a.Value
		}
	}
	return ""
}

// textOf gives all text in an element, without the blanks around it.
func textOf(e *etree.Element) string {
	if e == nil {
		return ""
	}
	return trimBlanks(appendText(nil, e))
}

func appendText(text []byte, e *etree.Element) []byte {
	for _, token := range e.Child {
		switch token := token.(type) {
		case *etree.CharData:
			text = append(text, token.Data...)
		case *etree.Element:
			text = appendText(text, token)
		}
	}
	return text
}

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
