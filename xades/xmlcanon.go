package xades

import (
	"bytes"
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
	keepBlanks bool // drop nothing, as plain canonical XML
	differs    difference

	nodeAt int  // where the text node that is being written began
	inked  bool // it has a character that is no blank

	literalGone bool // a literal run of blanks was dropped from it
	sectioned   bool // it has a CDATA section

	declares []*attribute // scratch of start
	plainly  []*attribute
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
	if !c.inked && !c.keepBlanks && c.nodeAt < len(c.out) {
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
	c.nodeAt, c.inked, c.literalGone, c.sectioned = len(c.out), false, false, false
}

// start writes the scanner's start tag. As an apex it declares every namespace
// in scope, so that what follows stands by itself.
func (c *canon) start(s *xmlScanner, apex bool, override *attribute) {
	outer := s.open[len(s.open)-1].mark
	if s.open[len(s.open)-1].preserves {
		c.differs |= spacePreserved
	}
	for i := range s.attrs {
		if a := &s.attrs[i]; len(a.raw) == 0 && string(a.name.prefix()) == "xml" {
			c.differs |= emptyXML
		}
	}
	if s.tag != nil && !apex && override == nil && inOrder(s.attrs) {
		c.out = append(c.out, s.tag...)
		return
	}
	c.declares, c.plainly = c.declares[:0], c.plainly[:0]
	for i := range s.attrs {
		a := &s.attrs[i]
		switch {
		case !a.declares:
			c.plainly = append(c.plainly, a)
		case !apex && !superfluous(s, outer, a):
			c.declares = append(c.declares, a)
		}
	}
	c.out = append(c.out, '<')
	c.out = append(c.out, s.name.full...)
	if apex {
		c.scope(&s.ns)
	} else {
		slices.SortFunc(c.declares, func(a, b *attribute) int { return bytes.Compare(a.declared(), b.declared()) })
		for _, a := range c.declares {
			c.declare(a.declared(), a.uri)
		}
	}
	if override != nil {
		c.plainly = append(slices.DeleteFunc(c.plainly, func(a *attribute) bool { return sameAttribute(a, override) }), override)
	}
	slices.SortFunc(c.plainly, byNamespaceThenName)
	for _, a := range c.plainly {
		c.attribute(a)
	}
	c.out = append(c.out, '>')
}

// inOrder tells whether attributes, none of them a declaration, stand in the order
// of canonical XML.
func inOrder(attrs []attribute) bool {
	for i := range attrs {
		if attrs[i].declares || i > 0 && byNamespaceThenName(&attrs[i-1], &attrs[i]) > 0 {
			return false
		}
	}
	return true
}

// superfluous tells whether the parent says the same as this declaration.
func superfluous(s *xmlScanner, outer int, a *attribute) bool {
	if string(a.declared()) == "xml" {
		return true
	}
	uri, ok := s.ns.lookupBelow(outer, a.declared())
	return ok && bytes.Equal(uri, a.uri)
}

func byNamespaceThenName(a, b *attribute) int {
	if order := bytes.Compare(a.uri, b.uri); order != 0 {
		return order
	}
	return bytes.Compare(a.name.local(), b.name.local())
}

// scope declares all that is in scope, each prefix once.
func (c *canon) scope(ns *namespaces) {
	visible := make([]binding, 0, len(ns.bound))
	for _, b := range ns.bound {
		uri, _ := ns.lookup(b.prefix)
		seen := slices.ContainsFunc(visible, func(v binding) bool { return bytes.Equal(v.prefix, b.prefix) })
		if !seen && len(uri) > 0 && string(b.prefix) != "xml" {
			visible = append(visible, binding{b.prefix, uri})
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

func (c *canon) attribute(a *attribute) {
	c.out = append(c.out, ' ')
	c.out = append(c.out, a.name.full...)
	c.out = append(c.out, '=', '"')
	if a.plain {
		c.out = append(c.out, a.raw...)
	} else {
		if bytes.ContainsAny(a.raw, "\t\r\n") {
			c.differs |= attributeLine
		}
		c.out = appendAttribute(c.out, attributeValue(nil, a.raw))
	}
	c.out = append(c.out, '"')
}

// end writes the scanner's end tag.
func (c *canon) end(s *xmlScanner) {
	if s.tag != nil {
		c.out = append(c.out, s.tag...)
		return
	}
	c.out = append(append(append(c.out, "</"...), s.name.full...), '>')
}

// text writes a literal run.
func (c *canon) text(s *xmlScanner) {
	switch {
	case !s.inked && !c.keepBlanks:
		c.literalGone = true
		return
	case s.plain:
		c.out = append(c.out, s.raw...)
		c.inked = true
		return
	}
	for i := 0; i < len(s.raw); {
		if s.raw[i] == '&' {
			size := 1 + bytes.IndexByte(s.raw[i:], ';')
			r, _ := referenced(s.raw[i+1 : i+size-1])
			c.out = appendTextRune(c.out, r)
			c.inked = c.inked || r >= utf8.RuneSelf || !blank(byte(r))
			i += size
			continue
		}
		c.inked = c.inked || !blank(s.raw[i])
		i += c.literal(s.raw[i:])
	}
}

// cdata writes the content of a CDATA section.
func (c *canon) cdata(s *xmlScanner) {
	c.inked = c.inked || s.inked
	c.sectioned = true
	for i := 0; i < len(s.raw); {
		if s.raw[i] == '&' {
			c.out = append(c.out, "&amp;"...)
			i++
			continue
		}
		i += c.literal(s.raw[i:])
	}
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
	outside := len(s.open) == 0
	if outside && s.rootSeen {
		c.out = append(c.out, '\n')
	}
	c.out = append(c.out, "<?"...)
	c.out = append(c.out, s.name.full...)
	if len(s.raw) > 0 {
		c.out = append(c.out, ' ')
		normal := bytes.ReplaceAll(s.raw, []byte("\r\n"), []byte("\n"))
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

// appendAttribute appends a normalized attribute value in its canonical form.
func appendAttribute(out, value []byte) []byte {
	for _, b := range value {
		switch b {
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
		default:
			out = append(out, b)
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
