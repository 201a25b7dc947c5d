package xades

import (
	"bytes"
	"cmp"
	"slices"
	"unicode/utf8"
)

// canon writes inclusive Canonical XML without comments (1.0 and 1.1 give the
// same bytes for whole documents), less every whitespace-only text node.
//
// A literal run of blanks between markup is dropped, as .NET drops it. Blanks
// that come by reference or in a CDATA section are dropped only if the whole
// text node, in the sense of XPath, is blank: in "a<![CDATA[ ]]>b" the blank
// is somebody's content.
type canon struct {
	out        []byte
	copied     span // of the source, to be written after out: tags and texts that follow each other there
	keepBlanks bool // drop nothing, as plain canonical XML
	differs    difference
	value      []byte // scratch of attribute

	nodeAt int  // where the text node that is being written began
	inked  bool // it has a character that is no blank

	literalGone bool // a literal run of blanks was dropped from it
	sectioned   bool // it has a CDATA section
}

// difference is what readers of XML are known to read differently. A document
// that has none of it gives every reader the same digest.
type difference uint8

const (
	blankKept      difference = 1 << iota // a text node of blanks by reference or CDATA, dropped here
	blankDropped                          // a literal run of blanks beside a CDATA section, dropped here
	carriageReturn                        // a line end with CR within text, normalized here
	spacePreserved                        // xml:space="preserve", which .NET obeys
	attributeLine                         // a line end or tab in an attribute, normalized here
	emptyXML                              // an attribute xml:lang="" or the like, which .NET leaves out
)

// differences says who reads what otherwise.
var differences = []struct {
	of   difference
	says string
}{
	{blankKept, "blanks given by reference or in CDATA make up a whole text: .NET keeps them, this digest does not"},
	{blankDropped, "blanks stand beside a CDATA section: libxml2 keeps them, .NET and this digest do not"},
	{carriageReturn, "a text has a line end with a carriage return: .NET keeps it as &#xD;, XML and this digest make it a line feed"},
	{attributeLine, "an attribute's value has a line end or a tab: .NET keeps it as a reference, XML and this digest make it a blank"},
	{emptyXML, "an attribute of the prefix xml is empty, as in xml:lang=\"\": .NET's canonical form leaves it out, this digest does not"},
	{spacePreserved, "xml:space=\"preserve\" makes .NET keep blanks that this digest drops"},
}

// boundary ends the text node being written; every token but text and CDATA is
// one.
func (c *canon) boundary() {
	if !c.inked && !c.keepBlanks && c.nodeAt < c.size() { // nothing of it was copied
		c.out = c.out[:c.nodeAt]
		c.differs |= blankKept
	}
	if c.inked && c.literalGone && c.sectioned {
		c.differs |= blankDropped
	}
	c.begin()
}

// begin makes a new text node start here.
func (c *canon) begin() {
	c.nodeAt, c.inked, c.literalGone, c.sectioned = c.size(), false, false, false
}

// size is how many bytes have been written.
func (c *canon) size() int { return len(c.out) + int(c.copied.to-c.copied.from) }

// copy writes a part of the source as it stands. Parts that follow each other
// there are copied together.
func (c *canon) copy(s *xmlScanner, part span) {
	if part.from != c.copied.to {
		c.flush(s)
		c.copied.from = part.from
	}
	c.copied.to = part.to
}

// flush makes out whole. Where it has no room, it gets as much as the rest of the
// source will take if that is like what was read.
func (c *canon) flush(s *xmlScanner) {
	if size := c.size(); size > cap(c.out) && s.pos > 0 {
		c.out = slices.Grow(c.out, size/8+int(int64(size)*int64(len(s.src))/int64(s.pos))-len(c.out))
	}
	c.out = append(c.out, s.text(c.copied)...)
	c.copied.from = c.copied.to
}

// start writes the scanner's start tag. As an apex it declares every namespace
// in scope, so that what follows stands by itself. The version, if there is one,
// becomes the value of listVersionID.
func (c *canon) start(s *xmlScanner, apex bool, version string) {
	if s.innermost().preserves {
		c.differs |= spacePreserved
	}
	if s.apart {
		c.emptyXML(s)
	}
	if s.exact && !apex && version == "" && (len(s.attrs) == 0 || s.inOrder()) {
		c.copy(s, s.tag)
		return
	}
	c.flush(s)
	c.write(s, apex, version)
}

func (c *canon) emptyXML(s *xmlScanner) {
	for i := range s.attrs {
		if a := &s.attrs[i]; a.raw.from == a.raw.to && string(s.prefix(a.name)) == "xml" {
			c.differs |= emptyXML
		}
	}
}

// inOrder tells whether the attributes, none of them a declaration, stand in the
// order of canonical XML.
func (s *xmlScanner) inOrder() bool {
	if len(s.attrs) < 2 && !s.apart {
		return true
	}
	for i, a := range s.inCanonicalOrder() {
		if a.declares || a.attribute != &s.attrs[i] {
			return false
		}
	}
	return true
}

// write writes a start tag that does not stand in the source as it must here.
func (c *canon) write(s *xmlScanner, apex bool, version string) {
	outer := int(s.innermost().mark)
	c.out = append(c.out, '<')
	c.out = append(c.out, s.text(s.name.span)...)
	if apex {
		c.scope(&s.ns)
	}
	attributes := s.inCanonicalOrder()
	for len(attributes) > 0 && attributes[0].declares {
		if a := attributes[0].attribute; !apex && !superfluous(s, outer, a) {
			c.declare(s.declared(a), s.ns.uri(a.space))
		}
		attributes = attributes[1:]
	}
	c.attributes(s, attributes, version)
	c.out = append(c.out, '>')
}

// attributes writes those given, with listVersionID, if a version is given, where
// its name puts it.
func (c *canon) attributes(s *xmlScanner, attributes []sortable, version string) {
	for _, a := range attributes {
		order := -1
		if version != "" {
			order = cmp.Or(bytes.Compare(s.ns.uri(a.space), nil), bytes.Compare(s.local(a.name), []byte(versionAttribute)))
		}
		if order >= 0 {
			c.version(version)
			version = ""
		}
		if order != 0 {
			c.attribute(s, a.attribute)
		}
	}
	if version != "" {
		c.version(version)
	}
}

// superfluous tells whether the parent says the same as this declaration.
func superfluous(s *xmlScanner, outer int, a *attribute) bool {
	if string(s.declared(a)) == "xml" {
		return true
	}
	space, ok := s.ns.lookupBelow(outer, s.declared(a))
	return ok && bytes.Equal(s.ns.uri(space), s.ns.uri(a.space))
}

// scope declares all that is in scope, each prefix once.
func (c *canon) scope(ns *namespaces) {
	visible := make([]binding, 0, len(ns.bound))
	for i, b := range ns.bound {
		if space, _ := ns.lookup(b.prefix); int(space) == i && len(b.uri) > 0 && string(b.prefix) != "xml" {
			visible = append(visible, b)
		}
	}
	slices.SortFunc(visible, func(a, b binding) int { return bytes.Compare(a.prefix, b.prefix) })
	for _, b := range visible {
		c.declare(b.prefix, b.uri)
	}
}

func (c *canon) declare(prefix, uri []byte) {
	c.out = append(c.out, " xmlns"...)
	if len(prefix) > 0 {
		c.out = append(c.out, ':')
		c.out = append(c.out, prefix...)
	}
	c.out = append(c.out, '=', '"')
	c.out = appendAttribute(c.out, uri)
	c.out = append(c.out, '"')
}

func (c *canon) attribute(s *xmlScanner, a *attribute) {
	raw := s.text(a.raw)
	c.out = append(c.out, ' ')
	c.out = append(c.out, s.text(a.name.span)...)
	c.out = append(c.out, '=', '"')
	if a.plain {
		c.out = append(c.out, raw...)
	} else {
		if bytes.ContainsAny(raw, "&\t\r\n") {
			if bytes.ContainsAny(raw, "\t\r\n") {
				c.differs |= attributeLine
			}
			c.value = attributeValue(c.value[:0], raw)
			raw = c.value
		}
		c.out = appendAttribute(slices.Grow(c.out, escapedSize(raw)), raw)
	}
	c.out = append(c.out, '"')
}

func (c *canon) version(version string) {
	c.out = append(c.out, " "+versionAttribute+`="`...)
	c.out = append(append(c.out, version...), '"')
}

// end writes the scanner's end tag.
func (c *canon) end(s *xmlScanner) {
	if s.exact {
		c.copy(s, s.tag)
		return
	}
	c.flush(s)
	c.out = append(append(append(c.out, "</"...), s.text(s.name.span)...), '>')
}

// leaf writes what is in an element that is a leaf, and its end tag.
func (c *canon) leaf(s *xmlScanner) { c.copy(s, span{s.raw.from, s.tag.to}) }

// text writes a literal run.
func (c *canon) text(s *xmlScanner) {
	switch {
	case !s.inked && !c.keepBlanks:
		c.literalGone = true
		return
	case s.plain:
		c.copy(s, s.raw)
		c.inked = true
		return
	}
	c.flush(s)
	raw := s.text(s.raw)
	for i := 0; i < len(raw); {
		switch {
		case xmlClass[raw[i]]&inText != 0 || raw[i] >= utf8.RuneSelf:
			i += c.plain(raw[i:])
		case raw[i] == '&':
			size := 1 + bytes.IndexByte(raw[i:], ';')
			r, _ := referenced(raw[i+1 : i+size-1])
			c.out = appendTextRune(c.out, r)
			c.inked = c.inked || r >= utf8.RuneSelf || !blank(byte(r))
			i += size
		default:
			c.inked = c.inked || !blank(raw[i])
			i += c.literal(raw[i:])
		}
	}
}

// cdata writes the content of a CDATA section.
func (c *canon) cdata(s *xmlScanner) {
	c.inked = c.inked || s.inked
	c.sectioned = true
	c.flush(s)
	raw := s.text(s.raw)
	for i := 0; i < len(raw); {
		switch {
		case xmlClass[raw[i]]&inText != 0 || raw[i] >= utf8.RuneSelf:
			i += c.plain(raw[i:])
		case raw[i] == '&':
			c.out = append(c.out, "&amp;"...)
			i++
		default:
			i += c.literal(raw[i:])
		}
	}
}

// plain writes what text begins with and is its own canonical form, and gives how
// many bytes that is.
func (c *canon) plain(text []byte) int {
	end := plainText(text, 0)
	for end < len(text) && (text[end] >= utf8.RuneSelf || xmlClass[text[end]]&inText != 0) {
		end++
	}
	c.inked = c.inked || !allBlank(text[:end])
	c.out = append(c.out, text[:end]...)
	return end
}

// literal writes the character text begins with, its line end normalized, and
// gives how many bytes it took.
func (c *canon) literal(text []byte) int {
	switch text[0] {
	case '\r':
		c.differs |= carriageReturn
		c.out = append(c.out, '\n')
		if len(text) > 1 && text[1] == '\n' {
			return 2
		}
	case '<':
		c.out = append(c.out, "&lt;"...)
	case '>':
		c.out = append(c.out, "&gt;"...)
	default:
		c.out = append(c.out, text[0])
	}
	return 1
}

// instruction writes a processing instruction; outside the root a line feed
// stands between it and the root.
func (c *canon) instruction(s *xmlScanner) {
	c.flush(s)
	outside := len(s.open) == 0
	if outside && s.rootSeen {
		c.out = append(c.out, '\n')
	}
	c.out = append(c.out, "<?"...)
	c.out = append(c.out, s.text(s.name.span)...)
	if raw := s.text(s.raw); len(raw) > 0 {
		c.out = append(c.out, ' ')
		normal := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
		c.out = append(c.out, bytes.ReplaceAll(normal, []byte("\r"), []byte("\n"))...)
	}
	c.out = append(c.out, "?>"...)
	if outside && !s.rootSeen {
		c.out = append(c.out, '\n')
	}
}

// appendTextRune appends a character of text in its canonical form.
func appendTextRune(out []byte, r rune) []byte {
	switch r {
	case '&':
		return append(out, "&amp;"...)
	case '<':
		return append(out, "&lt;"...)
	case '>':
		return append(out, "&gt;"...)
	case '\r':
		return append(out, "&#xD;"...)
	}
	return utf8.AppendRune(out, r)
}

// escapedSize is at least as long as what appendAttribute appends.
func escapedSize(value []byte) int {
	const longest = len("&quot;")
	size := len(value)
	for _, b := range value {
		if xmlClass[b]&inValue == 0 && b < utf8.RuneSelf {
			size += longest - 1
		}
	}
	return size
}

// appendAttribute appends a normalized attribute value in its canonical form.
func appendAttribute(out, value []byte) []byte {
	for i := 0; i < len(value); i++ {
		from := i
		for i < len(value) && (xmlClass[value[i]]&inValue != 0 || value[i] >= utf8.RuneSelf) {
			i++
		}
		if out = append(out, value[from:i]...); i == len(value) {
			break
		}
		switch value[i] {
		case '&':
			out = append(out, "&amp;"...)
		case '<':
			out = append(out, "&lt;"...)
		case '"':
			out = append(out, "&quot;"...)
		case '\t':
			out = append(out, "&#x9;"...)
		case '\n':
			out = append(out, "&#xA;"...)
		case '\r':
			out = append(out, "&#xD;"...)
		}
	}
	return out
}

// attributeValue appends the value that raw, which is well-formed, stands for:
// literal line ends and tabs are blanks, references are what they name
// (XML 1.0, section 3.3.3; without a DTD every attribute is CDATA).
func attributeValue(out, raw []byte) []byte {
	for i := 0; i < len(raw); {
		switch c := raw[i]; c {
		case '&':
			size := 1 + bytes.IndexByte(raw[i:], ';')
			r, _ := referenced(raw[i+1 : i+size-1])
			out = utf8.AppendRune(out, r)
			i += size
		case '\r', '\n', '\t':
			out = append(out, ' ')
			i++
			if c == '\r' && i < len(raw) && raw[i] == '\n' {
				i++
			}
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}
