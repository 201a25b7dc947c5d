package xades

import (
	"bytes"
	"slices"
	"strings"
)

// xmlForms are the known slips with XML.
func (d *reading) xmlForms(a *attempts) []form {
	const declaration = `<?xml version="1.0" encoding="UTF-8"?>`
	const blanksKept = "blanks between elements were not removed before hashing"
	whole := func(before, after string) func() [][]byte {
		return func() [][]byte { return [][]byte{[]byte(before), d.canonical, []byte(after)} }
	}
	var forms []form
	add := func(happened string, text func() [][]byte) { forms = append(forms, form{happened, text}) }
	version := func(version string) {
		add(versionChanged(version), func() [][]byte { return a.withVersion(d.canonical, d.typeCodeAt, version) })
	}
	others := d.otherVersions()
	version(others[0])
	add(blanksKept, func() [][]byte { return some(d.withBlanks(a)) })
	add("cac:Signature was not removed before hashing", d.withXMLPointer)
	add(blanksKept, func() [][]byte { return some(d.withBlanksBut(a)) })
	for _, other := range others[1:] {
		version(other)
	}
	add("empty elements were hashed as <a/>; canonical XML writes <a></a>", func() [][]byte { return d.selfClosed(a, "/>") })
	add("empty elements were hashed as <a />; canonical XML writes <a></a>", func() [][]byte { return d.selfClosed(a, " />") })
	for _, version := range others {
		happened := versionChanged(version) + ", and blanks between elements were not removed"
		for _, with := range []func(*attempts) ([]byte, int){d.withBlanksBut, d.withBlanks} {
			add(happened, func() [][]byte {
				text, typeCodeAt := with(a)
				return a.withVersion(text, typeCodeAt, version)
			})
		}
	}
	add("the root did not declare xmlns:ext yet when the digest was taken", d.withoutRootDeclaration)
	add("the XML declaration was hashed, too", whole(declaration, ""))
	add("the XML declaration was hashed, too", whole(declaration+"\n", ""))
	add("a line feed after the document was hashed, too", whole("", "\n"))
	return forms
}

// some is a form in one piece, or none, wherever anything stands in it.
func some(text []byte, _ ...int) [][]byte {
	if text == nil {
		return nil
	}
	return [][]byte{text}
}

// withBlanks is the canonical form with all blanks kept, or nil if there are
// none, and where InvoiceTypeCode stands in it. It is the one form for which the
// document is read again, once.
func (d *reading) withBlanks(a *attempts) (text []byte, typeCodeAt int) {
	effort := (len(d.source)+len(d.canonical))/4 + perStep*d.steps
	if !d.blanksRead && a.left >= effort+len(d.canonical) && a.afford(effort) {
		doc, err := scanXML(d.source, xmlOptions{keepBlanks: true, room: len(d.canonical)})
		if err == nil && len(doc.canonical) != len(d.canonical) {
			d.blanks = doc
		}
	}
	d.blanksRead = true
	if d.blanks == nil {
		return nil, -1
	}
	return d.blanks.canonical, d.blanks.typeCodeAt
}

// withBlanksBut is the same but for the blanks before each block: a block that
// was put in with a line of its own left the blanks after it as they were.
func (d *reading) withBlanksBut(a *attempts) (text []byte, typeCodeAt int) {
	all, typeCodeAt := d.withBlanks(a)
	if all == nil || !a.afford(len(all)/4) {
		return nil, -1
	}
	out, from, gone := slices.Grow(a.scratch[:0], len(all)), 0, 0
	for i := range d.blanks.blocks {
		at := d.blanks.blocks[i].at
		out = append(out, bytes.TrimRight(all[from:at], " \t\n")...)
		from = at
		if at <= d.blanks.typeCodeAt {
			gone = at - len(out)
		}
	}
	a.scratch = append(out, all[from:]...)
	return a.scratch, typeCodeAt - gone
}

// withXMLPointer is the canonical form with cac:Signature left in.
func (d *reading) withXMLPointer() [][]byte {
	for i := range d.blocks {
		if b := &d.blocks[i]; !b.extensions && b.atRoot {
			return [][]byte{d.canonical[:b.at], d.inherited(b.canonical), d.canonical[b.at:]}
		}
	}
	return nil
}

// inherited takes from the start tag of an element that was written by itself
// the declarations that the root makes as well, as it stands in the document.
func (d *reading) inherited(element []byte) []byte {
	tag := startTag(element)
	ofRoot := attributesOf(d.rootTag())
	kept := make([]byte, 0, len(element))
	kept = append(kept, tag[:strings.IndexAny(tag, " >")]...)
	for _, attribute := range attributesOf(tag) {
		if !strings.HasPrefix(attribute, " xmlns") || !slices.Contains(ofRoot, attribute) {
			kept = append(kept, attribute...)
		}
	}
	return append(append(kept, '>'), element[len(tag):]...)
}

// rootTag is the root's start tag in the canonical form.
func (d *reading) rootTag() (tag string) {
	canonicalTags(d.canonical, func(at int) bool {
		tag = startTag(d.canonical[at:])
		return d.canonical[at+1] == '?'
	})
	return tag
}

// startTag is the canonical start tag that text begins with.
func startTag(text []byte) string {
	for end, quoted := 0, false; end < len(text); end++ {
		switch c := text[end]; {
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return string(text[:end+1])
		}
	}
	return ""
}

// attributesOf splits the attributes from a canonical start tag, each with the
// blank before it.
func attributesOf(tag string) (attributes []string) {
	for {
		at := strings.IndexByte(tag, ' ')
		if at < 0 {
			return attributes
		}
		tag = tag[at:]
		open := strings.IndexByte(tag, '"')
		if open < 0 {
			return attributes
		}
		end := open + 1 + strings.IndexByte(tag[open+1:], '"') + 1
		attributes = append(attributes, tag[:end])
		tag = tag[end:]
	}
}

// withoutRootDeclaration drops xmlns:ext from the root.
func (d *reading) withoutRootDeclaration() [][]byte {
	const declaration = ` xmlns:ext="` + nsExt + `"`
	root := d.rootTag()
	if !strings.Contains(root, declaration) {
		return nil
	}
	before, after, _ := bytes.Cut(d.canonical, []byte(root))
	return [][]byte{before, []byte(strings.Replace(root, declaration, "", 1)), after}
}

// canonicalTags calls yield with where each tag or instruction of canonical XML
// begins. There, < begins nothing else.
func canonicalTags(text []byte, yield func(at int) bool) {
	for at := 0; ; at++ {
		next := bytes.IndexByte(text[at:], '<')
		if next < 0 {
			return
		}
		at += next
		if !yield(at) {
			return
		}
		if text[at+1] == '?' {
			at += bytes.Index(text[at:], []byte("?>"))
		}
	}
}

// selfClosed rewrites the empty elements of canonical XML. Text has no bare > in
// it, so that one before an end tag ends the tag before.
func (d *reading) selfClosed(a *attempts, how string) [][]byte {
	canonical := d.canonical
	if !a.afford(len(canonical)/4 + perTag*bytes.Count(canonical, []byte{'<'})) {
		return nil
	}
	out, opened, from := slices.Grow(a.scratch[:0], len(canonical)), false, 0
	canonicalTags(canonical, func(at int) bool {
		ends := canonical[at+1] == '/'
		if ends && opened && canonical[at-1] == '>' {
			out = append(append(out, canonical[from:at-1]...), how...)
			from = at + 1 + bytes.IndexByte(canonical[at:], '>')
		}
		opened = !ends && canonical[at+1] != '?'
		return true
	})
	a.scratch = out
	if from == 0 {
		return nil
	}
	return [][]byte{out, canonical[from:]}
}

// withVersion writes listVersionID anew in canonical XML, in the InvoiceTypeCode
// that stands at an offset.
func (a *attempts) withVersion(canonical []byte, at int, version string) [][]byte {
	if canonical == nil || at < 0 || !a.afford(perByte*len(startTag(canonical[at:]))) {
		return nil
	}
	return versionAt(canonical, at, version)
}

// versionAt writes listVersionID among the attributes of the tag at an offset: in
// the place of the one there, or where the order of canonical XML has it.
func versionAt(canonical []byte, at int, version string) [][]byte {
	const name = " listVersionID"
	tag := startTag(canonical[at:])
	from := at + strings.IndexAny(tag, " >")
	to := from
	for _, attribute := range attributesOf(tag) {
		own, _, _ := strings.Cut(attribute, "=")
		if own == name {
			to = from + len(attribute)
			break
		}
		if !strings.HasPrefix(own, " xmlns") && (own > name || strings.Contains(own, ":")) {
			break
		}
		from += len(attribute)
		to = from
	}
	return [][]byte{canonical[:from], []byte(name + `="` + version + `"`), canonical[to:]}
}

// xmlPropsForms are the known slips with the signed properties in XML.
func (d *reading) xmlPropsForms(props []byte) []form {
	without := func(declarations ...string) string {
		text := string(props)
		for _, declaration := range declarations {
			text = strings.ReplaceAll(text, declaration, "")
		}
		return text
	}
	const ds, xades = ` xmlns:ds="` + nsDS + `"`, ` xmlns:xades="` + nsXAdES + `"`
	const bare = "it was taken without the namespaces that .NET's OuterXml declares on each element that needs them"
	const canonical = "it was taken over the canonical form (C14N); LHDN takes it over .NET's OuterXml"
	const qualifying = "it was taken over QualifyingProperties; in XML it belongs over SignedProperties"
	forms := []form{
		{"it was taken with <ds:DigestMethod .../>; .NET writes a blank before the slash", replaced(string(props), ` />`, `/>`)},
		{"it was taken with <ds:DigestMethod ...></ds:DigestMethod>, and the file has it self-closed", replaced(string(props), ` />`, `></ds:DigestMethod>`)},
		{"it was taken with a self-closed <ds:DigestMethod ... />, and the file has it expanded", replaced(string(props), `></ds:DigestMethod>`, ` />`)},
		{"it was taken without xmlns:ds on the ds: elements, which .NET's OuterXml repeats", replaced(without(ds), "", "")},
		{bare, replaced(without(ds, xades), "", "")},
		{bare, replaced(without(ds), ` />`, `/>`)},
		{bare, replaced(without(ds, xades), ` />`, `/>`)},
	}
	for _, of := range []struct{ element, happened string }{{"SignedProperties", canonical}, {"QualifyingProperties", qualifying}} {
		inclusive, exclusive := d.subtree(of.element)
		forms = append(forms,
			form{of.happened, func() [][]byte { return some(exclusive) }},
			form{of.happened, func() [][]byte { return some(inclusive) }})
	}
	return append(forms, form{"it was taken over the text as it stands in the file; LHDN takes it over one line, without blanks between elements", func() [][]byte {
		return some(d.asItStands("SignedProperties"))
	}})
}

func replaced(text, old, new string) func() [][]byte {
	return func() [][]byte { return some([]byte(strings.ReplaceAll(text, old, new))) }
}

// asItStands is the element of that name as the source has it, or nil.
func (d *reading) asItStands(local string) []byte {
	end := bytes.Index(d.source, []byte(local+">"))
	if end < 0 {
		return nil
	}
	open := bytes.LastIndexByte(d.source[:end], '<')
	end += len(local) + 1
	if d.source[open+1] != '/' {
		return nil
	}
	from := bytes.Index(d.source, append([]byte{'<'}, d.source[open+2:end-1]...))
	if from < 0 || from >= open {
		return nil
	}
	return d.source[from:end]
}
