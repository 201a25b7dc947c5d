package xades

import (
	"bytes"
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
	s.attrs, s.sorted, s.apart = s.attrs[:0], s.sorted[:0], false
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
	if int(top.mark) < len(s.ns.bound) {
		s.ns.leave(int(top.mark))
	}
	s.open = s.open[:len(s.open)-1]
}
