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
	hides       int32 // the binding of the same prefix around it, once there are many
}

// Namespaces that nothing in a document binds, where others are the number of a
// binding.
const (
	noNamespace  = -1
	xmlNamespace = -2
)

// namespaces are the bindings in scope, the innermost last. Few are looked up by a
// walk. Once there were many, each prefix has its innermost binding in a map: a
// root that declares a hundred must not make each element cost a hundred steps.
type namespaces struct {
	bound     []binding
	innermost map[string]int32
}

const fewNamespaces = 16

func (n *namespaces) bind(prefix, uri []byte) int32 {
	n.bound = append(n.bound, binding{prefix, uri, vocabularyOf(uri), noNamespace})
	at := int32(len(n.bound) - 1)
	switch {
	case n.innermost != nil:
		n.index(at)
	case len(n.bound) > fewNamespaces:
		n.innermost = make(map[string]int32, maxNamespaces)
		for i := range n.bound {
			n.index(int32(i))
		}
	}
	return at
}

func (n *namespaces) index(at int32) {
	b := &n.bound[at]
	if hidden, ok := n.innermost[string(b.prefix)]; ok {
		b.hides = hidden
	}
	n.innermost[string(b.prefix)] = at
}

// leave takes all but the first mark bindings out of scope.
func (n *namespaces) leave(mark int) {
	for i := len(n.bound) - 1; i >= mark && n.innermost != nil; i-- {
		if b := &n.bound[i]; b.hides == noNamespace {
			delete(n.innermost, string(b.prefix))
		} else {
			n.innermost[string(b.prefix)] = b.hides
		}
	}
	n.bound = n.bound[:mark]
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
	if n.innermost != nil {
		at, ok := n.innermost[string(prefix)]
		for ok && int(at) >= mark {
			at = n.bound[at].hides
		}
		if ok && at >= 0 {
			return at, true
		}
		mark = 0
	}
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
