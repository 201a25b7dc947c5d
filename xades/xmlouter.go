package xades

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// outerXML writes an element as .NET's XmlNode.OuterXml does, which is what
// LHDN's PropsDigest is taken over: attributes in source order; a namespace
// that the output does not bind yet is declared after them, on each element
// that needs it; an element is empty in the form the source has it; blank text
// is gone, unless xml:space="preserve" is in force. Line ends and blanks in
// attributes stay as they are: XmlDocument.Load normalizes neither.
type outerXML struct {
	out    []byte
	ns     namespaces // as the output binds them
	marks  []int      // declarations outside each open element
	opened bool       // a start tag was written and nothing after it
	needs  []binding  // scratch of start
}

func (o *outerXML) reset() {
	*o = outerXML{out: o.out[:0], ns: namespaces{o.ns.bound[:0]}, marks: o.marks[:0], needs: o.needs[:0]}
}

// start writes the scanner's start tag, if on. What the source declares stays
// where it stands; what else the names need follows the attributes, the last
// one needed first, as XmlTextWriter pops them.
func (o *outerXML) start(s *xmlScanner, on bool) {
	if !on {
		return
	}
	o.marks = append(o.marks, o.ns.mark())
	for i := range s.attrs {
		if a := &s.attrs[i]; a.declares {
			o.ns.bind(a.declared(), a.uri)
		}
	}
	o.out = append(append(o.out, '<'), s.name.full...)
	o.needs = o.needs[:0]
	o.need(s.name.prefix(), s.uri)
	for i := range s.attrs {
		a := &s.attrs[i]
		if !a.declares && a.name.colon > 0 && string(a.name.prefix()) != "xml" {
			o.need(a.name.prefix(), a.uri)
		}
		o.attribute(a.name.full, resolved(nil, a.raw))
	}
	slices.Reverse(o.needs)
	slices.SortStableFunc(o.needs, func(a, b binding) int { // the default namespace comes last
		return min(1, len(b.prefix)) - min(1, len(a.prefix))
	})
	for _, b := range o.needs {
		name := append([]byte("xmlns:"), b.prefix...)
		o.attribute(bytes.TrimSuffix(name, []byte(":")), b.uri)
	}
	if s.selfClosed {
		o.out = append(o.out, " /"...)
	}
	o.out = append(o.out, '>')
	o.opened = s.selfClosed
}

// need binds prefix to uri unless the output does already.
func (o *outerXML) need(prefix, uri []byte) {
	if bound, ok := o.ns.lookup(prefix); ok && bytes.Equal(bound, uri) {
		return
	}
	o.ns.bind(prefix, uri)
	o.needs = append(o.needs, binding{prefix, uri})
}

func (o *outerXML) attribute(name, value []byte) {
	o.out = append(append(o.out, ' '), name...)
	o.out = append(o.out, '=', '"')
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
	if !on || s.kind == tokText && !s.inked && !s.open[len(s.open)-1].preserves {
		return
	}
	if s.kind == tokCDATA {
		o.out = append(o.out, "<![CDATA["...)
		o.out = append(append(o.out, s.raw...), "]]>"...)
		return
	}
	for _, c := range resolved(nil, s.raw) {
		o.out = appendOuter(o.out, c)
	}
}

// end writes the scanner's end tag, if on.
func (o *outerXML) end(s *xmlScanner, on bool) {
	if !on {
		return
	}
	if !o.opened {
		o.out = append(append(append(o.out, "</"...), s.name.full...), '>')
	}
	o.opened = false
	last := len(o.marks) - 1
	o.ns.release(o.marks[last])
	o.marks = o.marks[:last]
}

// comment and instruction write theirs as they stand, if on.
func (o *outerXML) comment(s *xmlScanner, on bool) {
	if on {
		o.out = append(append(append(o.out, "<!--"...), s.raw...), "-->"...)
	}
}

func (o *outerXML) instruction(s *xmlScanner, on bool) {
	if on {
		o.out = append(append(append(o.out, "<?"...), s.name.full...), ' ')
		o.out = append(append(o.out, s.raw...), "?>"...)
	}
}
