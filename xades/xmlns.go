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

// vocabulary is a namespace that elements are told by, so that they need not be
// compared with its whole name each.
type vocabulary uint8

const (
	otherVocabulary vocabulary = iota
	invoiceVocabulary
	cacVocabulary
	cbcVocabulary
	extVocabulary
	xadesVocabulary
)

func vocabularyOf(uri []byte) vocabulary {
	switch string(uri) {
	case nsInvoice:
		return invoiceVocabulary
	case nsCAC:
		return cacVocabulary
	case nsCBC:
		return cbcVocabulary
	case nsExt:
		return extVocabulary
	case nsXAdES:
		return xadesVocabulary
	}
	return otherVocabulary
}

// binding is one prefix bound to one namespace; the empty prefix is the
// default namespace.
type binding struct {
	prefix, uri []byte
	known       vocabulary
}

// Namespaces that nothing in a document binds, where others are the number of a
// binding.
const (
	noNamespace  = -1
	xmlNamespace = -2
)

// namespaces are the bindings in scope, the innermost last. They are few
// (maxNamespaces), so that looking one up is a walk.
type namespaces struct {
	bound []binding
}

func (n *namespaces) bind(prefix, uri []byte) int32 {
	n.bound = append(n.bound, binding{prefix, uri, vocabularyOf(uri)})
	return int32(len(n.bound) - 1)
}

// uri is the name of a namespace in scope.
func (n *namespaces) uri(space int32) []byte {
	switch {
	case space >= 0:
		return n.bound[space].uri
	case space == xmlNamespace:
		return []byte(nsXML)
	}
	return nil
}

func (n *namespaces) known(space int32) vocabulary {
	if space < 0 {
		return otherVocabulary
	}
	return n.bound[space].known
}

// lookup finds the namespace of a prefix; the default namespace is always
// found, and empty where none is declared.
func (n *namespaces) lookup(prefix []byte) (int32, bool) {
	return n.lookupBelow(len(n.bound), prefix)
}

// lookupBelow looks only at the first mark bindings: those of an ancestor.
func (n *namespaces) lookupBelow(mark int, prefix []byte) (int32, bool) {
	for i := mark - 1; i >= 0; i-- {
		if string(n.bound[i].prefix) == string(prefix) {
			return int32(i), true
		}
	}
	switch string(prefix) {
	case "":
		return noNamespace, true
	case "xml":
		return xmlNamespace, true
	}
	return noNamespace, false
}
