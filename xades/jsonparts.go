package xades

import (
	"bytes"
	"fmt"
	"strings"
)

// parts reads the signature block out of the members that were taken out of
// Invoice[0]. Those are validated and minified already.
//
// What is missing is an empty text. What has another shape than the official
// samples', or stands twice where one is meant, is [ErrMalformed].
func (d *jsonDocument) parts() (*parts, error) {
	if len(d.extensions)+len(d.signature) > maxBlocks {
		return nil, fmt.Errorf("%w: UBLExtensions and Signature of over %d bytes; a signature has some 6,000", ErrMalformed, maxBlocks)
	}
	var r jsonReader
	p := &parts{}
	extensions := treeOf("Invoice[0].UBLExtensions", d.extensions)
	extension, signature := r.find(extensions, p)
	p.extensionURI = r.text(extension, "ExtensionURI")
	r.readSignature(signature, p)
	p.twice = p.propsID != "" && extensions.countIDs(p.propsID) > 1
	if blocks := r.elements(treeOf("Invoice[0].Signature", d.signature)); len(blocks) > 0 {
		p.signatureMethod = r.text(blocks[0], "SignatureMethod")
	}
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

// find counts the signatures in all extensions, and returns the first one and
// the extension it stands in; without any, the first extension. Once there is one,
// whatever is called so within the extensions counts, wherever it stands: it may be
// the one that another reader takes.
func (r *jsonReader) find(extensions jsonNode, p *parts) (extension, signature jsonNode) {
	for _, list := range r.elements(extensions) {
		for _, e := range r.list(list, "UBLExtension") {
			if extension.jsonTree == nil {
				extension = e
			}
			for _, s := range r.signatures(e) {
				if p.signatures++; p.signatures == 1 {
					extension, signature = e, s
				}
			}
		}
	}
	if p.signatures > 0 {
		p.signatures = max(p.signatures, extensions.count("Signature"))
	}
	return extension, signature
}

// signatures returns all signatures in one extension.
func (r *jsonReader) signatures(extension jsonNode) []jsonNode {
	found := []jsonNode{extension}
	for _, name := range []string{"ExtensionContent", "UBLDocumentSignatures", "SignatureInformation", "Signature"} {
		var next []jsonNode
		for _, n := range found {
			next = append(next, r.list(n, name)...)
		}
		found = next
	}
	return found
}

func (r *jsonReader) readSignature(signature jsonNode, p *parts) {
	p.signatureValue = r.text(signature, "SignatureValue")
	p.certificate = r.text(r.one(r.one(signature, "KeyInfo"), "X509Data"), "X509Certificate")
	r.readSignedInfo(r.one(signature, "SignedInfo"), p)

	qualifying := r.one(r.one(signature, "Object"), "QualifyingProperties")
	p.props = qualifying.raw()
	signed := r.one(qualifying, "SignedProperties")
	p.propsID = r.attribute(signed, "Id")
	props := r.one(signed, "SignedSignatureProperties")
	p.signingTime = r.text(props, "SigningTime")
	cert := r.one(r.one(props, "SigningCertificate"), "Cert")
	digest := r.one(cert, "CertDigest")
	p.certDigest = r.text(digest, "DigestValue")
	p.certDigestMethod = r.attribute(r.one(digest, "DigestMethod"), "Algorithm")
	issuer := r.one(cert, "IssuerSerial")
	p.issuer = r.text(issuer, "X509IssuerName")
	p.serial = r.text(issuer, "X509SerialNumber")
}

// readSignedInfo tells the two References apart by what they say they are: the
// order differs between the SDKs in use.
func (r *jsonReader) readSignedInfo(info jsonNode, p *parts) {
	p.signedInfo = info.raw()
	p.signatureAlgorithm = r.attribute(r.one(info, "SignatureMethod"), "Algorithm")
	var ofDocument, ofProps bool
	for _, ref := range r.list(info, "Reference") {
		kind, uri := r.attribute(ref, "Type"), r.attribute(ref, "URI")
		digest := r.text(ref, "DigestValue")
		method := r.attribute(r.one(ref, "DigestMethod"), "Algorithm")
		switch {
		case kind == jsonTypeProps || uri == "#"+idProps:
			r.once(&ofProps, ref)
			p.propsDigest, p.propsDigestMethod, p.propsURI = digest, method, uri
		case kind == "" || uri == "":
			r.once(&ofDocument, ref)
			p.docDigest, p.docDigestMethod = digest, method
		}
	}
}

// once refuses a second Reference of one kind.
func (r *jsonReader) once(seen *bool, ref jsonNode) {
	if *seen {
		r.fail("%s refers to the same as one before it, and readers disagree on which of the two counts", ref.where())
	}
	*seen = true
}

// jsonReader reads members of nodes and keeps the first error.
type jsonReader struct{ err error }

func (r *jsonReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
}

// begins tells whether a node is there, and refuses one that does not begin with
// the brace or bracket of what it has to be. Null is nothing.
func (r *jsonReader) begins(n jsonNode, open byte, what string) bool {
	raw := n.raw()
	if raw == nil || isNull(raw) || r.err != nil {
		return false
	}
	if raw[0] != open {
		r.fail("%s is not %s, as it is in MyInvois signatures", n.where(), what)
		return false
	}
	return true
}

func isNull(raw []byte) bool { return string(raw) == "null" }

// member returns the value of a member, or the zero node.
func (r *jsonReader) member(n jsonNode, name string) jsonNode {
	if !r.begins(n, '{', "an object") {
		return jsonNode{}
	}
	for value := range n.children() {
		if string(value.name()) == name {
			return value
		}
	}
	r.prefixed(n, name)
	return jsonNode{}
}

// prefixed refuses a member that has a prefix before the name that is looked for:
// LHDN cannot parse XadesQualifyingProperties, which some signers write.
func (r *jsonReader) prefixed(n jsonNode, name string) {
	for value := range n.children() {
		member := value.name()
		at := len(member) - len(name)
		if at <= 0 || !bytes.EqualFold(member[at:], []byte(name)) {
			continue
		}
		switch strings.TrimRight(strings.ToLower(string(member[:at])), ":_") {
		case "xades", "ds", "ext", "sig", "sac", "sbc", "cac", "cbc":
			r.fail("%s has the member %s; LHDN reads %s, and cannot parse this", n.where(), shorten(member), name)
			return
		}
	}
}

// elements returns the elements of an array.
func (r *jsonReader) elements(n jsonNode) []jsonNode {
	if !r.begins(n, '[', "an array") {
		return nil
	}
	var nodes []jsonNode
	for element := range n.children() {
		nodes = append(nodes, element)
	}
	return nodes
}

func (r *jsonReader) list(n jsonNode, name string) []jsonNode {
	return r.elements(r.member(n, name))
}

// one returns the only element of a member, or the zero node.
func (r *jsonReader) one(n jsonNode, name string) jsonNode {
	nodes := r.list(n, name)
	switch len(nodes) {
	case 0:
		return jsonNode{}
	case 1:
		return nodes[0]
	}
	r.fail("%s.%s has %d elements where one is meant, and readers disagree on which of them counts", n.where(), name, len(nodes))
	return jsonNode{}
}

// text returns the text of a member, which in UBL's JSON is [{"_":"..."}].
func (r *jsonReader) text(n jsonNode, name string) string {
	return r.attribute(r.one(n, name), "_")
}

// attribute returns a member that is a string, or a number as it is written.
func (r *jsonReader) attribute(n jsonNode, name string) string {
	value := r.member(n, name)
	raw := value.raw()
	if raw == nil || isNull(raw) {
		return ""
	}
	switch c := raw[0]; {
	case c == '-' || isDigit(c):
		return string(raw)
	case c == '"':
		return string(appendDecoded(nil, raw[1:len(raw)-1]))
	}
	r.fail("%s is neither a string nor a number", value.where())
	return ""
}
