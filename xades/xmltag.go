package xades

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// qualified reads a qualified name at i and gives the offset after it.
func (s *xmlScanner) qualified(i int) (name qname, end int, err error) {
	src, end, colon := s.src, i, 0
	if end < len(src) && xmlClass[src[end]]&atStart != 0 {
		end = s.asciiName(end + 1)
		if end+1 < len(src) && src[end] == ':' && xmlClass[src[end+1]]&atStart != 0 {
			colon = end - i
			end = s.asciiName(end + 2)
		}
		if end < len(src) && src[end] < utf8.RuneSelf && (src[end] != ':' || colon > 0) && end-i <= maxName {
			return qname{spanOf(i, end), int32(colon)}, end, nil
		}
	}
	return s.anyName(i)
}

// asciiName goes over what may stand in a part of a name and is ASCII.
func (s *xmlScanner) asciiName(i int) int {
	src := s.src
	i = letters(src, i)
	for i < len(src) && xmlClass[src[i]]&inName != 0 {
		i++
	}
	return i
}

// anyName is qualified, for names of any characters and for what is none.
func (s *xmlScanner) anyName(i int) (name qname, end int, err error) {
	if end, err = s.part(i); err != nil {
		return qname{}, 0, err
	}
	if end < len(s.src) && s.src[end] == ':' {
		name.colon = int32(end - i)
		if end, err = s.part(end + 1); err != nil {
			return qname{}, 0, err
		}
	}
	if end-i > maxName {
		return qname{}, 0, s.fault(i, "a name of over %d bytes", maxName)
	}
	name.span = spanOf(i, end)
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
	mark, start := len(s.ns.bound), s.pos
	s.attrs, s.apart = s.attrs[:0], false
	exact := true
	if i < len(s.src) && s.src[i] == '>' {
		s.selfClosed = false
		i++
	} else if i, exact, err = s.attributes(i); err != nil {
		return err
	}
	if err := s.resolve(name); err != nil {
		return err
	}
	s.rootSeen = true
	s.kind, s.name, s.endFollow, s.exact, s.tag = tokStart, name, s.selfClosed, exact, spanOf(start, i)
	preserves := len(s.open) > 0 && s.innermost().preserves
	if s.apart {
		preserves = s.preserves(preserves)
	}
	s.open = append(s.open, openElement{name: name, mark: int32(mark), preserves: preserves})
	s.pos = i
	return nil
}

// preserves tells whether xml:space="preserve" is in force in the element that
// starts, if it is around it (XML 1.0, section 2.10).
func (s *xmlScanner) preserves(around bool) bool {
	for i := range s.attrs {
		if a := &s.attrs[i]; string(s.text(a.name.span)) == "xml:space" {
			return string(s.value(a)) == "preserve"
		}
	}
	return around
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
		written := int(a.name.to-a.name.from) + len(`=""`) + int(a.raw.to-a.raw.from)
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
	s.sorted = s.sorted[:0]
	for i := range s.attrs {
		s.sorted = append(s.sorted, &s.attrs[i])
	}
	slices.SortFunc(s.sorted, s.byKindThenName)
	for i, a := range s.sorted[1:] {
		if s.same(a, s.sorted[i]) {
			return a
		}
	}
	return nil
}

// byKindThenName orders declarations by prefix, before the other attributes.
func (s *xmlScanner) byKindThenName(a, b *attribute) int {
	switch {
	case a.declares && b.declares:
		return bytes.Compare(s.declared(a), s.declared(b))
	case a.declares:
		return -1
	case b.declares:
		return 1
	}
	return s.byNamespaceThenName(a, b)
}

func (s *xmlScanner) byNamespaceThenName(a, b *attribute) int {
	if a.space != b.space {
		if order := bytes.Compare(s.ns.uri(a.space), s.ns.uri(b.space)); order != 0 {
			return order
		}
	}
	return bytes.Compare(s.local(a.name), s.local(b.name))
}

// same tells whether two attributes have one name, or declare one prefix.
func (s *xmlScanner) same(a, b *attribute) bool {
	if a.declares || b.declares {
		return a.declares && b.declares && bytes.Equal(s.declared(a), s.declared(b))
	}
	return bytes.Equal(s.local(a.name), s.local(b.name)) && (a.space == b.space || bytes.Equal(s.ns.uri(a.space), s.ns.uri(b.space)))
}

func (s *xmlScanner) endTag() error {
	start := s.pos
	if len(s.open) > 0 && s.endsExactly(start) {
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
		return s.fault(i, "the end tag of %s does not close", s.text(name.span))
	}
	if len(s.open) == 0 {
		return s.fault(start, "</%s> ends nothing", s.text(name.span))
	}
	if got, want := s.text(name.span), s.text(s.innermost().name.span); !bytes.Equal(got, want) {
		return s.fault(start, "</%s> where </%s> is expected", got, want)
	}
	s.kind, s.pos, s.exact, s.tag = tokEnd, i+1, false, spanOf(start, i+1)
	s.close()
	return nil
}

// endsExactly reads the end tag of the innermost element at i, if it stands there
// without blanks in it.
func (s *xmlScanner) endsExactly(i int) bool {
	name := s.text(s.innermost().name.span)
	end := i + len("</") + len(name)
	if end >= len(s.src) || s.src[end] != '>' || string(s.src[i+2:end]) != string(name) {
		return false
	}
	s.kind, s.pos, s.exact, s.tag = tokEnd, end+1, true, spanOf(i, end+1)
	s.close()
	return true
}

// leaf reads on to the end of the element that has just started, if there is
// nothing in it but a text that is its own canonical form and begins with ink, or
// nothing at all. The text is then raw. Else nothing is read.
func (s *xmlScanner) leaf() bool {
	src, start := s.src, s.pos
	if s.selfClosed || start >= len(src) || xmlClass[src[start]]&inBlank != 0 {
		return false
	}
	end := s.plainText(start)
	if end+1 >= len(src) || src[end] != '<' || src[end+1] != '/' || !s.endsExactly(end) {
		return false
	}
	s.raw = spanOf(start, end)
	return true
}

// close leaves the innermost element.
func (s *xmlScanner) close() {
	top := s.innermost()
	s.name = top.name
	s.ns.bound = s.ns.bound[:top.mark]
	s.open = s.open[:len(s.open)-1]
}
