package xades

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// qualified reads a qualified name at i and gives the offset after it.
func (s *xmlScanner) qualified(i int) (name qname, end int, err error) {
	if end, err = s.part(i); err != nil {
		return qname{}, 0, err
	}
	if end < len(s.src) && s.src[end] == ':' {
		name.colon = end - i
		if end, err = s.part(end + 1); err != nil {
			return qname{}, 0, err
		}
	}
	if end-i > maxName {
		return qname{}, 0, s.fault(i, "a name of over %d bytes", maxName)
	}
	name.full = s.src[i:end]
	return name, end, nil
}

// part reads a part of a qualified name: what has no colon in it.
func (s *xmlScanner) part(i int) (end int, err error) {
	src, start := s.src, i
	if i < len(src) && xmlClass[src[i]]&atStart != 0 {
		i++
	}
	for {
		for i > start && i < len(src) && xmlClass[src[i]]&inName != 0 {
			i++
		}
		if i == len(src) || src[i] < utf8.RuneSelf {
			break
		}
		size, err := s.char(i)
		if err != nil {
			return 0, err
		}
		if r, _ := utf8.DecodeRune(src[i:]); i == start && !nameStart(r) || !nameChar(r) {
			return 0, s.fault(i, "U+%04X where a name is expected", r)
		}
		i += size
	}
	if i == start {
		return 0, s.fault(i, "a name is expected here")
	}
	return i, nil
}

// skipBlanks gives the offset of the next byte that is no blank.
func (s *xmlScanner) skipBlanks(i int) int {
	for i < len(s.src) && blank(s.src[i]) {
		i++
	}
	return i
}

func (s *xmlScanner) startTag() error {
	if len(s.open) == 0 && s.rootSeen {
		return s.fault(s.pos, "a second root element; a document has one")
	}
	if len(s.open) >= maxDepth {
		return s.fault(s.pos, "elements nested over %d deep", maxDepth)
	}
	name, i, err := s.qualified(s.pos + 1)
	if err != nil {
		return err
	}
	mark, start := s.ns.mark(), s.pos
	s.attrs = s.attrs[:0]
	i, exact, err := s.attributes(i)
	if err != nil {
		return err
	}
	if err := s.resolve(name); err != nil {
		return err
	}
	s.rootSeen = true
	s.kind, s.name, s.pos, s.endFollow, s.tag = tokStart, name, i, s.selfClosed, nil
	if exact {
		s.tag = s.src[start:i]
	}
	s.open = append(s.open, openElement{name: name, uri: s.uri, mark: mark, preserves: s.preserves()})
	return nil
}

// preserves tells whether xml:space="preserve" is in force in the element that
// starts (XML 1.0, section 2.10).
func (s *xmlScanner) preserves() bool {
	for i := range s.attrs {
		if a := &s.attrs[i]; string(a.name.full) == "xml:space" {
			return string(a.value()) == "preserve"
		}
	}
	return len(s.open) > 0 && s.open[len(s.open)-1].preserves
}

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
		written := len(a.name.full) + len(`=""`) + len(a.raw)
		exact = exact && a.plain && start == before+1 && s.src[before] == ' ' && i == start+written && s.src[i-1] == '"'
	}
}

// attribute reads name="value" at i, and binds what it declares.
func (s *xmlScanner) attribute(i int) (int, error) {
	name, i, err := s.qualified(i)
	if err != nil {
		return 0, err
	}
	i = s.skipBlanks(i)
	if i >= len(s.src) || s.src[i] != '=' {
		return 0, s.fault(i, "attribute %s has no value", name.full)
	}
	i = s.skipBlanks(i + 1)
	if i >= len(s.src) || s.src[i] != '"' && s.src[i] != '\'' {
		return 0, s.fault(i, "the value of attribute %s is not quoted", name.full)
	}
	a := attribute{name: name}
	end, plain, err := s.value(i)
	if err != nil {
		return 0, err
	}
	a.raw, a.plain = s.src[i+1:end], plain
	if string(name.full) == "xmlns" || string(name.prefix()) == "xmlns" {
		if err := s.declare(&a, i); err != nil {
			return 0, err
		}
	}
	s.attrs = append(s.attrs, a)
	return end + 1, nil
}

// value finds the end of the attribute value whose opening quote stands at i.
func (s *xmlScanner) value(i int) (end int, plain bool, err error) {
	quote := s.src[i]
	plain = true
	for i++; i < len(s.src); {
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
	a.uri = a.value()
	prefix := a.declared()
	switch {
	case string(prefix) == "xmlns":
		return s.fault(i, "the prefix xmlns is reserved")
	case string(prefix) == "xml" != (string(a.uri) == nsXML):
		return s.fault(i, "the prefix xml and the namespace %s belong to each other only", nsXML)
	case string(a.uri) == nsXMLNS:
		return s.fault(i, "the namespace %s is reserved", nsXMLNS)
	case len(prefix) > 0 && len(a.uri) == 0:
		return s.fault(i, "xmlns:%s=\"\" undeclares a prefix, which XML 1.0 does not know", prefix)
	case len(a.uri) > maxName:
		return s.fault(i, "a namespace URI of over %d bytes", maxName)
	case len(a.uri) > 0 && !absolute(a.uri):
		return s.fault(i, "namespace %q is a relative URI, which canonical XML refuses", a.uri)
	case s.ns.mark() >= maxNamespaces:
		return s.fault(i, "over %d namespace declarations in scope", maxNamespaces)
	}
	s.ns.bind(prefix, a.uri)
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
	if s.uri, ok = s.ns.lookup(name.prefix()); !ok {
		return s.fault(s.pos, "the prefix %s of <%s> is not declared", name.prefix(), name.full)
	}
	for i := range s.attrs {
		a := &s.attrs[i]
		if !a.declares && a.name.colon > 0 {
			if a.uri, ok = s.ns.lookup(a.name.prefix()); !ok {
				return s.fault(s.pos, "the prefix %s of attribute %s is not declared", a.name.prefix(), a.name.full)
			}
		}
	}
	if twice := s.twice(); twice != nil {
		return s.fault(s.pos, "<%s> has attribute %s twice", name.full, twice.name.full)
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
				if sameAttribute(&s.attrs[i], &s.attrs[j]) {
					return &s.attrs[i]
				}
			}
		}
		return nil
	}
	s.sorted = s.sorted[:0]
	for i := range s.attrs {
		s.sorted = append(s.sorted, &s.attrs[i])
	}
	slices.SortFunc(s.sorted, byKindThenName)
	for i, a := range s.sorted[1:] {
		if sameAttribute(a, s.sorted[i]) {
			return a
		}
	}
	return nil
}

// byKindThenName orders declarations by prefix, before the other attributes.
func byKindThenName(a, b *attribute) int {
	switch {
	case a.declares && b.declares:
		return bytes.Compare(a.declared(), b.declared())
	case a.declares:
		return -1
	case b.declares:
		return 1
	}
	return byNamespaceThenName(a, b)
}

func sameAttribute(a, b *attribute) bool {
	if a.declares || b.declares {
		return a.declares && b.declares && bytes.Equal(a.declared(), b.declared())
	}
	return bytes.Equal(a.name.local(), b.name.local()) && bytes.Equal(a.uri, b.uri)
}

func (s *xmlScanner) endTag() error {
	start := s.pos
	if len(s.open) > 0 && s.endsExactly(s.open[len(s.open)-1].name.full) {
		return nil
	}
	name, i, err := s.qualified(start + 2)
	if err != nil {
		return err
	}
	i = s.skipBlanks(i)
	if i >= len(s.src) {
		return s.fault(i, "the document ends within a tag; it is truncated")
	}
	if s.src[i] != '>' {
		return s.fault(i, "the end tag of %s does not close", name.full)
	}
	if len(s.open) == 0 {
		return s.fault(start, "</%s> ends nothing", name.full)
	}
	if top := s.open[len(s.open)-1].name; !bytes.Equal(top.full, name.full) {
		return s.fault(start, "</%s> where </%s> is expected", name.full, top.full)
	}
	s.kind, s.pos, s.tag = tokEnd, i+1, nil
	s.close()
	return nil
}

// endsExactly reads the end tag of the innermost element, if it has no blanks.
func (s *xmlScanner) endsExactly(name []byte) bool {
	end := s.pos + len("</") + len(name)
	if end >= len(s.src) || s.src[end] != '>' || string(s.src[s.pos+2:end]) != string(name) {
		return false
	}
	s.tag = s.src[s.pos : end+1]
	s.kind, s.pos = tokEnd, end+1
	s.close()
	return true
}

// close leaves the innermost element.
func (s *xmlScanner) close() {
	top := s.open[len(s.open)-1]
	s.open = s.open[:len(s.open)-1]
	s.name, s.uri = top.name, top.uri
	s.ns.release(top.mark)
}
