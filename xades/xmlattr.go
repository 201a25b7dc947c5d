package xades

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// attributes reads up to and with the > that ends the tag. The tag is exact if
// there is nothing in it that canonical XML writes otherwise.
func (s *xmlScanner) attributes(i int) (end int, exact bool, err error) {
	exact = true
	for {
		before := i
		i = s.skipBlanks(i)
		if i >= len(s.src) {
			return 0, false, s.fault(i, "the document ends within a tag; it is truncated")
		}
		switch s.src[i] {
		case '>':
			s.selfClosed = false
			return i + 1, exact && i == before, nil
		case '/':
			if i+1 >= len(s.src) || s.src[i+1] != '>' {
				return 0, false, s.fault(i, "/ in a tag without the > after it")
			}
			s.selfClosed = true
			return i + 2, false, nil
		}
		if before == i {
			return 0, false, s.fault(i, "a blank is missing before this attribute")
		}
		if len(s.attrs) >= maxAttributes {
			return 0, false, s.fault(i, "an element with over %d attributes", maxAttributes)
		}
		start := i
		if i, err = s.attribute(i); err != nil {
			return 0, false, err
		}
		a := &s.attrs[len(s.attrs)-1]
		written := int(a.name.to-a.name.from) + len(`=""`) + int(a.raw.to-a.raw.from)
		exact = exact && a.plain && start == before+1 && s.src[before] == ' ' && i == start+written && s.src[i-1] == '"'
	}
}

// attribute reads name="value" at i, and binds what it declares.
func (s *xmlScanner) attribute(i int) (int, error) {
	s.steps++
	name, i, err := s.qualified(i)
	if err != nil {
		return 0, err
	}
	i = s.skipBlanks(i)
	if i >= len(s.src) || s.src[i] != '=' {
		return 0, s.fault(i, "attribute %s has no value", s.text(name.span))
	}
	i = s.skipBlanks(i + 1)
	if i >= len(s.src) || s.src[i] != '"' && s.src[i] != '\'' {
		return 0, s.fault(i, "the value of attribute %s is not quoted", s.text(name.span))
	}
	end, plain, err := s.quoted(i)
	if err != nil {
		return 0, err
	}
	s.attrs = append(s.attrs, attribute{name: name, raw: spanOf(i+1, end), plain: plain, space: noNamespace})
	if name.colon > 0 || string(s.text(name.span)) == "xmlns" {
		s.apart = true
		if name.colon == 0 || string(s.prefix(name)) == "xmlns" {
			return end + 1, s.declare(&s.attrs[len(s.attrs)-1], i)
		}
	}
	return end + 1, nil
}

// quoted finds the end of the attribute value whose opening quote stands at i.
func (s *xmlScanner) quoted(i int) (end int, plain bool, err error) {
	quote := s.src[i]
	plain = true
	i++
	for quote == '"' && i < len(s.src) && xmlClass[s.src[i]]&inValue != 0 {
		i++
	}
	for i < len(s.src) {
		c := s.src[i]
		switch {
		case c == quote:
			return i, plain, nil
		case xmlClass[c]&inValue != 0:
			i++
		case c == '&':
			if i, err = s.reference(i); err != nil {
				return 0, false, err
			}
			plain = false
		case c == '<':
			return 0, false, s.fault(i, "< in an attribute value; write &lt;")
		case c == '"' || blank(c):
			plain = false
			i++
		default:
			size, err := s.char(i)
			if err != nil {
				return 0, false, err
			}
			i += size
		}
	}
	return 0, false, s.fault(i, "the document ends within an attribute value; it is truncated")
}

// declare binds the namespace that the attribute at i declares.
func (s *xmlScanner) declare(a *attribute, i int) error {
	a.declares = true
	uri, prefix := s.value(a), s.declared(a)
	switch {
	case string(prefix) == "xmlns":
		return s.fault(i, "the prefix xmlns is reserved")
	case string(prefix) == "xml" != (string(uri) == nsXML):
		return s.fault(i, "the prefix xml and the namespace %s belong to each other only", nsXML)
	case string(uri) == nsXMLNS:
		return s.fault(i, "the namespace %s is reserved", nsXMLNS)
	case len(prefix) > 0 && len(uri) == 0:
		return s.fault(i, "xmlns:%s=\"\" undeclares a prefix, which XML 1.0 does not know", prefix)
	case len(uri) > maxName:
		return s.fault(i, "a namespace URI of over %d bytes", maxName)
	case len(uri) > 0 && !absolute(uri):
		return s.fault(i, "namespace %q is a relative URI, which canonical XML refuses", uri)
	case len(s.ns.bound) >= maxNamespaces:
		return s.fault(i, "over %d namespace declarations in scope", maxNamespaces)
	}
	a.space = s.ns.bind(prefix, uri)
	return nil
}

// absolute tells whether uri has a scheme (RFC 3986, section 3.1).
func absolute(uri []byte) bool {
	for i, c := range uri {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		switch {
		case c == ':':
			return i > 0
		case !letter && (i == 0 || strings.IndexByte("0123456789+-.", c) < 0):
			return false
		}
	}
	return false
}

// resolve gives the element and its attributes their namespaces, and refuses
// two attributes of one name.
func (s *xmlScanner) resolve(name qname) error {
	var ok bool
	if s.space, ok = s.ns.lookup(s.prefix(name)); !ok {
		return s.fault(s.pos, "the prefix %s of <%s> is not declared", s.prefix(name), s.text(name.span))
	}
	if len(s.attrs) == 0 {
		return nil
	}
	for i := 0; s.apart && i < len(s.attrs); i++ {
		a := &s.attrs[i]
		if !a.declares && a.name.colon > 0 {
			if a.space, ok = s.ns.lookup(s.prefix(a.name)); !ok {
				return s.fault(s.pos, "the prefix %s of attribute %s is not declared", s.prefix(a.name), s.text(a.name.span))
			}
		}
	}
	if len(s.attrs) < 2 {
		return nil
	}
	if twice := s.twice(); twice != nil {
		return s.fault(s.pos, "<%s> has attribute %s twice", s.text(name.span), s.text(twice.name.span))
	}
	return nil
}

// twice finds an attribute of a name that an earlier one has, or nil. Few are
// compared with each other; many are sorted, so that they do not cost the square
// of their number.
func (s *xmlScanner) twice() *attribute {
	const few = 12
	if len(s.attrs) <= few {
		for i := range s.attrs {
			for j := range i {
				if s.same(&s.attrs[i], &s.attrs[j]) {
					return &s.attrs[i]
				}
			}
		}
		return nil
	}
	sorted := s.inCanonicalOrder()
	for i := range sorted[1:] {
		if s.same(sorted[i].attribute, sorted[i+1].attribute) {
			return sorted[i+1].attribute
		}
	}
	return nil
}

// sortable is an attribute with what decides most comparisons.
type sortable struct {
	*attribute
	start uint64 // the first bytes of the local name, or of the prefix declared
}

// inCanonicalOrder gives the attributes in the order of canonical XML: the
// declarations by prefix, then the others by namespace and name.
func (s *xmlScanner) inCanonicalOrder() []sortable {
	if len(s.sorted) == len(s.attrs) {
		return s.sorted
	}
	inOrder := true
	for i := range s.attrs {
		a := &s.attrs[i]
		s.sorted = append(s.sorted, sortable{a, startOf(s.sortedBy(a))})
		inOrder = inOrder && (i == 0 || s.byNamespaceThenName(s.sorted[i-1], s.sorted[i]) < 0)
	}
	if !inOrder {
		slices.SortFunc(s.sorted, s.byNamespaceThenName)
	}
	return s.sorted
}

// startOf gives the first eight bytes of a text as a number that has their order.
func startOf(text []byte) uint64 {
	var start [8]byte
	copy(start[:], text)
	return binary.BigEndian.Uint64(start[:])
}

func (s *xmlScanner) byNamespaceThenName(a, b sortable) int {
	switch {
	case a.declares && !b.declares:
		return -1
	case b.declares && !a.declares:
		return 1
	case !a.declares && a.space != b.space:
		if order := bytes.Compare(s.ns.uri(a.space), s.ns.uri(b.space)); order != 0 {
			return order
		}
	}
	if a.start != b.start {
		return cmp.Compare(a.start, b.start)
	}
	return bytes.Compare(s.sortedBy(a.attribute), s.sortedBy(b.attribute))
}

// sortedBy is what an attribute is sorted by among those of its namespace.
func (s *xmlScanner) sortedBy(a *attribute) []byte {
	if a.declares {
		return s.declared(a)
	}
	return s.local(a.name)
}

// same tells whether two attributes have one name, or declare one prefix.
func (s *xmlScanner) same(a, b *attribute) bool {
	if a.declares || b.declares {
		return a.declares && b.declares && bytes.Equal(s.declared(a), s.declared(b))
	}
	return bytes.Equal(s.local(a.name), s.local(b.name)) && (a.space == b.space || bytes.Equal(s.ns.uri(a.space), s.ns.uri(b.space)))
}
