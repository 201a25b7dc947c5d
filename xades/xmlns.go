package xades

// Namespaces of UBL 2.1, XML-DSig and XAdES.
const (
	nsInvoice = "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
	nsCAC     = "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
	nsCBC     = "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"
	nsExt     = "urn:oasis:names:specification:ubl:schema:xsd:CommonExtensionComponents-2"
	nsSig     = "urn:oasis:names:specification:ubl:schema:xsd:CommonSignatureComponents-2"
	nsSAC     = "urn:oasis:names:specification:ubl:schema:xsd:SignatureAggregateComponents-2"
	nsSBC     = "urn:oasis:names:specification:ubl:schema:xsd:SignatureBasicComponents-2"
	nsDS      = "http://www.w3.org/2000/09/xmldsig#"
	nsXAdES   = "http://uri.etsi.org/01903/v1.3.2#"

	nsXML   = "http://www.w3.org/XML/1998/namespace"
	nsXMLNS = "http://www.w3.org/2000/xmlns/"
)

// binding is one prefix bound to one namespace; the empty prefix is the
// default namespace.
type binding struct {
	prefix, uri []byte
}

// namespaces are the bindings in scope, the innermost last. They are few
// (maxNamespaces), so that looking one up is a walk.
type namespaces struct {
	bound []binding
}

func (n *namespaces) mark() int { return len(n.bound) }

func (n *namespaces) release(mark int) { n.bound = n.bound[:mark] }

func (n *namespaces) bind(prefix, uri []byte) {
	n.bound = append(n.bound, binding{prefix, uri})
}

// lookup finds the namespace of a prefix; the default namespace is always
// found, and empty where none is declared.
func (n *namespaces) lookup(prefix []byte) ([]byte, bool) {
	return n.lookupBelow(len(n.bound), prefix)
}

// lookupBelow looks only at the first mark bindings: those of an ancestor.
func (n *namespaces) lookupBelow(mark int, prefix []byte) ([]byte, bool) {
	for i := mark - 1; i >= 0; i-- {
		if b := &n.bound[i]; string(b.prefix) == string(prefix) {
			return b.uri, true
		}
	}
	switch string(prefix) {
	case "":
		return nil, true
	case "xml":
		return []byte(nsXML), true
	}
	return nil, false
}
