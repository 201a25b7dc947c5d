package xades

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Bounds on a document's shape. Real invoices nest 17 deep at most, declare a
// dozen namespaces and carry three attributes an element.
const (
	maxDepth      = 128
	maxAttributes = 128 // of one element, namespace declarations included
	maxNamespaces = 128 // declarations in scope at one element
	maxName       = 512 // bytes of a qualified name or a namespace URI
)

type tokenKind uint8

const (
	tokEOF         tokenKind = iota
	tokStart                 // name, attrs, selfClosed
	tokEnd                   // name; also comes after a self-closed start
	tokText                  // raw: one literal run between markup, references in it
	tokCDATA                 // raw: the section's content
	tokPI                    // name, raw: the data
	tokComment               // raw: what stands between <!-- and -->
	tokDeclaration           // the XML declaration
)

// span is a part of the document by its offsets. Tokens have no pointers, so that
// the garbage collector has no work with them. [MaxInput] is far below what a span
// can tell.
type span struct{ from, to int32 }

func spanOf(from, to int) span { return span{int32(from), int32(to)} }

// qname is a qualified name as it stands in the document.
type qname struct {
	span
	colon int32 // length of the prefix; 0 where there is none
}

// attribute is one attribute of a start tag. A namespace declaration has
// declares set; its prefix is then what it declares.
type attribute struct {
	name     qname
	raw      span // between the quotes, as it stands
	plain    bool // raw is its own value and its own canonical form
	declares bool
	space    int32 // the name's namespace; for a declaration, the one declared
}

// xmlScanner reads a document token by token. It is strict: what it lets pass
// is well-formed XML 1.0 with namespaces, in UTF-8, without a DOCTYPE, within
// the bounds above. What a token says is valid until the next one.
type xmlScanner struct {
	src []byte
	pos int

	kind       tokenKind
	name       qname
	space      int32 // namespace of the element that starts
	attrs      []attribute
	apart      bool // one of attrs has a prefix or is a declaration
	selfClosed bool
	exact      bool // tag stands as canonical XML would have it but for the order of attributes
	tag        span // tokStart, tokEnd: all of it; empty for the end of what is self-closed
	raw        span
	plain      bool // tokText: raw is its own canonical form
	inked      bool // tokText, tokCDATA: raw has a character that is no literal blank

	passBlanks bool // blanks between tags are no token
	passed     bool // there were some before this token

	open      []openElement
	ns        namespaces
	sorted    []sortable // attrs in canonical order, once that is asked for
	steps     int        // tokens, attributes, and characters that were looked at twice: what reading takes
	rootSeen  bool
	endFollow bool // the start tag was self-closed: its end comes next
}

type openElement struct {
	name      qname
	mark      int32 // declarations in scope outside it
	preserves bool  // xml:space="preserve" is in force
}

func (s *xmlScanner) text(of span) []byte { return s.src[of.from:of.to] }

func (s *xmlScanner) prefix(n qname) []byte { return s.src[n.from : n.from+n.colon] }

func (s *xmlScanner) local(n qname) []byte {
	if n.colon == 0 {
		return s.src[n.from:n.to]
	}
	return s.src[n.from+n.colon+1 : n.to]
}

// value is an attribute's value, normalized.
func (s *xmlScanner) value(a *attribute) []byte {
	if a.plain {
		return s.text(a.raw)
	}
	return attributeValue(nil, s.text(a.raw))
}

// declared is the prefix that a declaration binds.
func (s *xmlScanner) declared(a *attribute) []byte {
	if a.name.colon == 0 {
		return nil
	}
	return s.local(a.name)
}

// syntaxError is a fault in the document at the scanner's position.
func (s *xmlScanner) fault(at int, format string, args ...any) error {
	return fmt.Errorf("%w: XML, %s: %s", ErrMalformed, position(s.src, at), fmt.Sprintf(format, args...))
}

// position names a place in a document for people.
func position(src []byte, at int) string {
	at = min(at, len(src))
	line := 1 + bytes.Count(src[:at], []byte{'\n'})
	column := at - bytes.LastIndexByte(src[:at], '\n')
	return fmt.Sprintf("line %d, column %d", line, column)
}

// expect makes room for a document of ordinary shape: so many elements deep.
func (s *xmlScanner) expect(depth int) {
	s.open, s.attrs = make([]openElement, 0, depth), make([]attribute, 0, depth/2)
	s.ns.bound = make([]binding, 0, depth/2)
}

// next reads one token into the scanner. After tokEOF the document was whole.
func (s *xmlScanner) next() error {
	s.steps++
	if s.endFollow {
		s.endFollow = false
		s.kind, s.exact, s.tag = tokEnd, false, span{}
		s.close()
		return nil
	}
	s.passed = false
	if s.pos < len(s.src) && s.src[s.pos] != '<' {
		if !s.passBlanks || !s.pass() {
			return s.run()
		}
	}
	if s.pos >= len(s.src) {
		return s.end()
	}
	if s.pos+1 >= len(s.src) {
		return s.fault(s.pos, "the document ends within a tag; it is truncated")
	}
	switch s.src[s.pos+1] {
	case '/':
		return s.endTag()
	case '?':
		return s.instruction()
	case '!':
		return s.declaration()
	}
	return s.startTag()
}

func (s *xmlScanner) end() error {
	if len(s.open) > 0 {
		return s.fault(s.pos, "the document ends within <%s>; it is truncated", s.text(s.innermost().name.span))
	}
	if !s.rootSeen {
		return s.fault(s.pos, "no element in it")
	}
	s.kind = tokEOF
	return nil
}

// pass goes over the blanks before the next tag, if there is nothing but blanks.
func (s *xmlScanner) pass() bool {
	src, i := s.src, s.pos
	for i < len(src) && xmlClass[src[i]]&inBlank != 0 {
		i = spaces(src, i+1)
	}
	if i == len(src) || src[i] != '<' {
		return false
	}
	s.pos, s.passed = i, true
	return true
}

func (s *xmlScanner) innermost() *openElement { return &s.open[len(s.open)-1] }

// run reads one literal run, up to the next markup.
func (s *xmlScanner) run() error {
	start := s.pos
	plain := true
	src, i := s.src, s.pos
	for i < len(src) && blank(src[i]) && src[i] != '\r' {
		i++
	}
	if i < len(src) && src[i] == '<' { // the blanks between two tags
		s.kind, s.raw, s.pos = tokText, spanOf(start, i), i
		s.plain, s.inked = true, false
		return nil
	}
	for {
		i = s.plainText(i)
		if i == len(src) || src[i] == '<' {
			break
		}
		s.steps++
		switch c := src[i]; {
		case c == '&':
			end, err := s.reference(i)
			if err != nil {
				return err
			}
			plain = false
			i = end
		case c == '\r':
			plain = false
			i++
		case c == '>':
			if i-start >= 2 && src[i-1] == ']' && src[i-2] == ']' {
				return s.fault(i-2, "]]> in text; write ]]&gt;")
			}
			plain = false
			i++
		default:
			size, err := s.char(i)
			if err != nil {
				return err
			}
			i += size
		}
	}
	s.kind, s.raw, s.pos = tokText, spanOf(start, i), i
	s.plain, s.inked = plain, !allBlank(src[start:i])
	if len(s.open) == 0 && s.inked {
		return s.fault(start, "text outside the root element")
	}
	return nil
}

// plainText goes over text that is its own canonical form.
func (s *xmlScanner) plainText(i int) int {
	src := s.src
	i = plainText(src, i)
	for i < len(src) && xmlClass[src[i]]&inText != 0 {
		i++
	}
	return i
}

// char checks the character at i, which is no plain one, and gives its size.
func (s *xmlScanner) char(i int) (int, error) {
	r, size := utf8.DecodeRune(s.src[i:])
	if r == utf8.RuneError && size <= 1 {
		return 0, s.fault(i, "invalid UTF-8 (byte 0x%02x); save the document as UTF-8", s.src[i])
	}
	if !xmlChar(r) {
		return 0, s.fault(i, "character U+%04X is not allowed in XML", r)
	}
	return size, nil
}

// reference checks the character reference or predefined entity at i and gives
// the offset after it.
func (s *xmlScanner) reference(i int) (end int, err error) {
	const longest = 64 // "&#x0010FFFF;" and some zeros
	stop := bytes.IndexByte(s.src[i:min(i+longest, len(s.src))], ';')
	if stop < 0 {
		return 0, s.fault(i, "& that begins no reference; write &amp;")
	}
	name := s.src[i+1 : i+stop]
	if _, ok := referenced(name); !ok {
		return 0, s.fault(i, "&%s; is not a reference XML allows without a DTD", name)
	}
	return i + stop + 1, nil
}

// referenced resolves what stands between & and ;.
func referenced(name []byte) (rune, bool) {
	switch string(name) {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "apos":
		return '\'', true
	case "quot":
		return '"', true
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	digits, base := name[1:], rune(10)
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	var r rune
	for _, c := range digits {
		d := rune(hexValue(c))
		if d >= base {
			return 0, false
		}
		if r = r*base + d; r > utf8.MaxRune {
			return 0, false
		}
	}
	return r, len(digits) > 0 && xmlChar(r)
}

// hexValue gives the value of a hexadecimal digit, or 255.
func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// declaration reads a comment or a CDATA section, and refuses a DOCTYPE.
func (s *xmlScanner) declaration() error {
	rest := s.src[s.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("<!--")):
		return s.comment()
	case bytes.HasPrefix(rest, []byte("<![CDATA[")):
		return s.cdata()
	case bytes.HasPrefix(rest, []byte("<!DOCTYPE")):
		return s.fault(s.pos, "a DOCTYPE is refused, since it can change what the document says; remove it")
	}
	return s.fault(s.pos, "<! that begins neither a comment nor a CDATA section")
}

func (s *xmlScanner) comment() error {
	body := s.pos + len("<!--")
	stop := bytes.Index(s.src[body:], []byte("--"))
	if stop < 0 {
		return s.fault(s.pos, "a comment that does not end")
	}
	end := body + stop + 2
	if end >= len(s.src) || s.src[end] != '>' {
		return s.fault(end-2, "-- within a comment")
	}
	if err := s.chars(body, end-2); err != nil {
		return err
	}
	s.kind, s.raw, s.pos = tokComment, spanOf(body, end-2), end+1
	return nil
}

func (s *xmlScanner) cdata() error {
	if len(s.open) == 0 {
		return s.fault(s.pos, "a CDATA section outside the root element")
	}
	body := s.pos + len("<![CDATA[")
	stop := bytes.Index(s.src[body:], []byte("]]>"))
	if stop < 0 {
		return s.fault(s.pos, "a CDATA section that does not end")
	}
	if err := s.chars(body, body+stop); err != nil {
		return err
	}
	s.kind, s.raw, s.pos = tokCDATA, spanOf(body, body+stop), body+stop+3
	s.inked = !allBlank(s.text(s.raw))
	return nil
}

// chars checks that src[from:to] has only characters of XML.
func (s *xmlScanner) chars(from, to int) error {
	for i := from; i < to; {
		if c := s.src[i]; c < utf8.RuneSelf && xmlClass[c]&(inText|inValue|inBlank) != 0 || c == '&' || c == '<' || c == '>' {
			i++
			continue
		}
		size, err := s.char(i)
		if err != nil {
			return err
		}
		i += size
	}
	return nil
}

func allBlank(text []byte) bool {
	for _, c := range text {
		if !blank(c) {
			return false
		}
	}
	return true
}
