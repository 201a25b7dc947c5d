package xades

import (
	"bytes"
	"unicode/utf8"
)

// outerXML writes an element as .NET's XmlNode.OuterXml does, which is what
// LHDN's PropsDigest is taken over: attributes in source order; a namespace
// that the output does not bind yet is declared after them, on each element
// that needs it; an element is empty in the form the source has it; blank text
// is gone, unless xml:space="preserve" is in force. Line ends and blanks in
// attributes stay as they are: XmlDocument.Load normalizes neither.
//
// It follows XmlTextWriter, which keeps a stack of the namespaces it knows of.
type outerXML struct {
	out     []byte // of all elements, one after the other
	begunAt int    // where in it the element being written begins
	known   []knownNamespace
	marks   []int // length of known outside each open element
	closed  bool  // the start tag last written was of the form <a />
}

// knownNamespace is an entry of XmlTextWriter's stack.
type knownNamespace struct {
	prefix, uri []byte
	declared    bool // by an attribute of the source
}

// begin makes ready for an element of a document of size bytes.
func (o *outerXML) begin(size int) {
	const usual = 1200
	if o.out == nil {
		o.out = make([]byte, 0, min(usual, size))
	}
	o.begunAt, o.known, o.marks, o.closed = len(o.out), o.known[:0], o.marks[:0], false
}

// start writes the scanner's start tag, if on. What the source declares stays
// where it stands; what else the names need follows the attributes, the last
// one needed first and the default namespace last.
func (o *outerXML) start(s *xmlScanner, on bool) {
	if !on {
		return
	}
	own := len(o.known)
	o.marks = append(o.marks, own)
	o.push(s.prefix(s.name), s.ns.uri(s.space), false)
	o.out = append(append(o.out, '<'), s.text(s.name.span)...)
	for i := range s.attrs {
		a := &s.attrs[i]
		prefix := s.prefix(a.name)
		switch {
		case a.declares:
			o.push(s.declared(a), s.ns.uri(a.space), true)
		case a.name.colon > 0 && string(prefix) != "xml":
			prefix = o.attributePrefix(own, prefix, s.ns.uri(a.space))
		}
		o.attribute(prefix, s.local(a.name), resolved(nil, s.text(a.raw)))
	}
	for _, ofDefault := range []bool{false, true} {
		for i := len(o.known) - 1; i >= own; i-- {
			if k := &o.known[i]; !k.declared && (len(k.prefix) == 0) == ofDefault {
				o.declare(k)
			}
		}
	}
	if s.selfClosed {
		o.out = append(o.out, " /"...)
	}
	o.out = append(o.out, '>')
	o.closed = s.selfClosed
}

// push makes known that prefix is uri.
func (o *outerXML) push(prefix, uri []byte, declared bool) {
	at := o.find(prefix)
	switch {
	case at >= 0 && bytes.Equal(o.known[at].uri, uri):
		o.known[at].declared = o.known[at].declared || declared
	case at >= 0 || len(prefix) > 0 || len(uri) > 0:
		o.known = append(o.known, knownNamespace{prefix, uri, declared})
	}
}

// find gives the innermost entry of a prefix, or -1.
func (o *outerXML) find(prefix []byte) int {
	for i := len(o.known) - 1; i >= 0; i-- {
		if bytes.Equal(o.known[i].prefix, prefix) {
			return i
		}
	}
	return -1
}

// attributePrefix gives the prefix that an attribute is written with. It is the
// source's, which becomes known; but where the element's own entries from own on
// have that already, the last prefix known for the namespace is taken, which may
// be another one.
func (o *outerXML) attributePrefix(own int, prefix, uri []byte) []byte {
	if o.find(prefix) < own {
		o.push(prefix, uri, false)
		return prefix
	}
	for i := len(o.known) - 1; i >= 0; i-- {
		if k := &o.known[i]; len(k.prefix) > 0 && bytes.Equal(k.uri, uri) && o.find(k.prefix) == i {
			return k.prefix
		}
	}
	return prefix
}

func (o *outerXML) declare(k *knownNamespace) {
	if len(k.prefix) == 0 {
		o.attribute(nil, []byte("xmlns"), k.uri)
		return
	}
	o.attribute([]byte("xmlns"), k.prefix, k.uri)
}

func (o *outerXML) attribute(prefix, local, value []byte) {
	o.out = append(append(o.out, ' '), prefix...)
	if len(prefix) > 0 {
		o.out = append(o.out, ':')
	}
	o.out = append(append(o.out, local...), '=', '"')
	for _, c := range value {
		switch c {
		case '"':
			o.out = append(o.out, "&quot;"...)
		case '\n':
			o.out = append(o.out, "&#xA;"...)
		case '\r':
			o.out = append(o.out, "&#xD;"...)
		default:
			o.out = appendOuter(o.out, c)
		}
	}
	o.out = append(o.out, '"')
}

// resolved appends raw with its references resolved.
func resolved(out, raw []byte) []byte {
	for i := 0; i < len(raw); {
		if raw[i] != '&' {
			out = append(out, raw[i])
			i++
			continue
		}
		size := 1 + bytes.IndexByte(raw[i:], ';')
		r, _ := referenced(raw[i+1 : i+size-1])
		out = utf8.AppendRune(out, r)
		i += size
	}
	return out
}

func appendOuter(out []byte, c byte) []byte {
	switch c {
	case '&':
		return append(out, "&amp;"...)
	case '<':
		return append(out, "&lt;"...)
	case '>':
		return append(out, "&gt;"...)
	}
	return append(out, c)
}

// text writes a run of text, if on: its characters, with the three escapes.
func (o *outerXML) text(s *xmlScanner, on bool) {
	if !on || s.kind == tokText && !s.innermost().preserves && blankToNET(s.text(s.raw)) {
		return
	}
	if s.kind == tokCDATA {
		o.out = append(o.out, "<![CDATA["...)
		o.out = append(append(o.out, s.text(s.raw)...), "]]>"...)
		return
	}
	for _, c := range resolved(nil, s.text(s.raw)) {
		o.out = appendOuter(o.out, c)
	}
}

// blankToNET tells whether a literal run is one that XmlDocument drops: blanks,
// as they are or by hexadecimal reference. A decimal reference makes it a text,
// whatever it stands for (XmlTextReader's ParseText, which keeps to version 1 of
// .NET there).
func blankToNET(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		switch {
		case blank(raw[i]):
		case raw[i] != '&' || bytes.HasPrefix(raw[i:], []byte("&#")) && raw[i+2] != 'x':
			return false
		default:
			size := bytes.IndexByte(raw[i:], ';')
			if r, _ := referenced(raw[i+1 : i+size]); r >= utf8.RuneSelf || !blank(byte(r)) {
				return false
			}
			i += size
		}
	}
	return true
}

// end writes the scanner's end tag, if on.
func (o *outerXML) end(s *xmlScanner, on bool) {
	if !on {
		return
	}
	if !o.closed {
		o.out = append(append(append(o.out, "</"...), s.text(s.name.span)...), '>')
	}
	o.closed = false
	last := len(o.marks) - 1
	o.known = o.known[:o.marks[last]]
	o.marks = o.marks[:last]
}

// comment and instruction write theirs as they stand, if on.
func (o *outerXML) comment(s *xmlScanner, on bool) {
	if on {
		o.out = append(append(append(o.out, "<!--"...), s.text(s.raw)...), "-->"...)
	}
}

func (o *outerXML) instruction(s *xmlScanner, on bool) {
	if on {
		o.out = append(append(append(o.out, "<?"...), s.text(s.name.span)...), ' ')
		o.out = append(append(o.out, s.text(s.raw)...), "?>"...)
	}
}
