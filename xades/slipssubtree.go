package xades

import (
	"bytes"
	"slices"
	"strings"
)

// maxSubtree bounds the tags and the quotes, two an attribute, of a block that is
// searched for an element, and which is written anew with what is in scope at each
// of them: a signature has some 200.
const maxSubtree = 1000

// subtree gives the canonical forms, inclusive and exclusive, of an element in
// the signature block, as signers after XMLDSig take them; or nil.
func (d *reading) subtree(local string) (inclusive, exclusive []byte) {
	for i := range d.blocks {
		w := subtreeWriter{text: d.blocks[i].canonical, local: local}
		if d.blocks[i].extensions && bytes.Count(w.text, []byte{'<'})+bytes.Count(w.text, []byte{'"'}) <= maxSubtree && w.write() {
			return w.inclusive, w.exclusive
		}
	}
	return nil, nil
}

// subtreeWriter writes the first element of a name out of canonical text, which
// declares nothing twice, in two forms that stand by themselves.
type subtreeWriter struct {
	text, inclusive, exclusive []byte
	local                      string
	open                       []subtreeElement
	depth                      int // of the element sought; 0 before it
	from                       int // text before it is written
}

// subtreeElement is an open element: what is declared in it, and what the
// exclusive form has declared.
type subtreeElement struct{ scope, written []string }

func (w *subtreeWriter) write() (found bool) {
	canonicalTags(w.text, func(at int) bool {
		switch w.text[at+1] {
		case '?':
			return true
		case '/':
			end := at + 1 + bytes.IndexByte(w.text[at:], '>')
			w.upTo(at)
			w.both(w.text[at:end])
			found = w.depth == len(w.open)
			w.open = w.open[:len(w.open)-1]
			w.from = end
			return !found
		}
		tag := startTag(w.text[at:])
		w.upTo(at)
		w.start(tag)
		w.from = at + len(tag)
		return true
	})
	return found
}

func (w *subtreeWriter) both(text []byte) {
	if w.depth > 0 {
		w.inclusive, w.exclusive = append(w.inclusive, text...), append(w.exclusive, text...)
	}
}

func (w *subtreeWriter) upTo(at int) { w.both(w.text[w.from:at]) }

// start writes a start tag. Attributes come with the blank before them.
func (w *subtreeWriter) start(tag string) {
	name := tag[1:strings.IndexAny(tag, " >")]
	var e subtreeElement
	if len(w.open) > 0 {
		e = w.open[len(w.open)-1]
	}
	plain, prefixes := make([]byte, 0, len(tag)), map[string]bool{prefixOf(name): true}
	e.scope = slices.Clone(e.scope)
	for _, attribute := range attributesOf(tag) {
		if strings.HasPrefix(attribute, " xmlns") {
			e.scope = declaredAnew(e.scope, attribute)
			continue
		}
		plain = append(plain, attribute...)
		if own := nameIn(attribute[1:]); strings.Contains(own, ":") {
			prefixes[prefixOf(own)] = true
		}
	}
	first := w.depth == 0 && name[strings.IndexByte(name, ':')+1:] == w.local
	if first {
		w.depth = len(w.open) + 1
		w.inclusive = append(append(append(w.inclusive, "<"+name+strings.Join(e.scope, "")...), plain...), '>')
	} else if w.depth > 0 {
		w.inclusive = append(w.inclusive, tag...)
	}
	if w.depth > 0 {
		w.exclusive = append(append(append(w.exclusive, "<"+name+strings.Join(e.needed(prefixes), "")...), plain...), '>')
	}
	w.open = append(w.open, e)
}

// needed gives the declarations of the prefixes that are not written yet, and
// notes them as written.
func (e *subtreeElement) needed(prefixes map[string]bool) (declarations []string) {
	written := e.written
	for _, declaration := range e.scope {
		at, found := declaredAt(written, declaration)
		if !prefixes[prefixDeclared(declaration)] || found && written[at] == declaration {
			continue
		}
		if declarations = append(declarations, declaration); len(declarations) == 1 {
			e.written = slices.Clone(e.written)
		}
		e.written = declaredAnew(e.written, declaration)
	}
	return declarations
}

func prefixOf(name string) string { return name[:max(0, strings.IndexByte(name, ':'))] }

// prefixDeclared is what a declaration declares.
func prefixDeclared(declaration string) string {
	return strings.TrimPrefix(strings.TrimPrefix(nameIn(declaration), " xmlns"), ":")
}

// declaredAnew puts a declaration in a list, which is in canonical order, instead
// of the one of the same prefix.
func declaredAnew(list []string, declaration string) []string {
	at, found := declaredAt(list, declaration)
	if found {
		list[at] = declaration
		return list
	}
	return slices.Insert(list, at, declaration)
}

func declaredAt(list []string, declaration string) (at int, found bool) {
	return slices.BinarySearchFunc(list, nameIn(declaration), func(other, name string) int { return strings.Compare(nameIn(other), name) })
}

// nameIn is the name that an attribute or declaration begins with.
func nameIn(attribute string) string {
	name, _, _ := strings.Cut(attribute, "=")
	return name
}
