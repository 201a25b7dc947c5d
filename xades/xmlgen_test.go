package xades

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// How a piece of text stands in the source.
type pieceKind uint8

const (
	literalPiece pieceKind = iota
	referencePiece
	sectionPiece // a CDATA section
)

// piece is a piece of text or of an attribute's value: how it stands in the
// source, and what it stands for before any normalization.
type piece struct {
	kind         pieceKind
	source, text string
}

type nodeKind uint8

const (
	elementNode nodeKind = iota
	textNode             // pieces
	commentNode          // name holds its text
	piNode               // name, and its data in blank
)

// node is a generated node: it knows its own source, so that what becomes of it
// can be told without parsing.
type node struct {
	kind       nodeKind
	name       string // qualified
	data       string
	attributes []genAttribute
	children   []*node
	pieces     []piece
	expanded   bool // an empty element written as two tags
}

type genAttribute struct {
	name   string // qualified; a declaration begins with xmlns
	quote  string
	pieces []piece
}

// generator makes documents at random, of every feature that canonical XML has
// a rule for.
type generator struct {
	*rand.Rand
	blanks   bool // text of blanks only, too
	comments bool
	blocks   bool // elements that the digest leaves out, too
}

var (
	genPrefixes = []string{"", "", "a", "b", "cac", "cbc", "ns2", "é"}
	genURIs     = []string{"urn:a", "urn:b", "urn:b:c", "urn:z#", nsCAC, nsCBC, nsInvoice}
	genLocals   = []string{"x", "y", "Line", "名前", "a.b-c", "_", "ID"}
	genTexts    = []string{"x", "10.00", " x ", "é", "公司", "𝟜", "\"", "'", "x\ny", "x\r\ny", "x\ry", "x\t", "\u00a0", "\u0085", "\u2028", "a > b", "]] >", "x]]", "ſ"}
	genBlanks   = []string{" ", "\n", "\r\n", "\r", "\t", "\n    ", "  \t\r\n "}
	genRefs     = []piece{
		{referencePiece, "&amp;", "&"}, {referencePiece, "&lt;", "<"}, {referencePiece, "&gt;", ">"}, {referencePiece, "&quot;", `"`},
		{referencePiece, "&apos;", "'"}, {referencePiece, "&#65;", "A"}, {referencePiece, "&#x1F600;", "😀"}, {referencePiece, "&#xe9;", "é"}, {referencePiece, "&#38;", "&"},
	}
	genBlankRefs = []piece{
		{referencePiece, "&#32;", " "}, {referencePiece, "&#xD;", "\r"}, {referencePiece, "&#13;", "\r"}, {referencePiece, "&#x0A;", "\n"}, {referencePiece, "&#9;", "\t"},
	}
	genSections = []string{"x", "a<b>&amp;c", "]]", "x\r\ny", " x", "é>", "&#65;"}
)

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// document makes a root Invoice with what is below it. Outside it there may be
// processing instructions.
func (g *generator) document() []*node {
	root := &node{name: "Invoice", attributes: []genAttribute{declaration("", nsInvoice)}}
	scope := map[string]string{"": nsInvoice, "xml": nsXML}
	if g.chance(15) {
		root.name, root.attributes[0] = "in:Invoice", declaration("in", nsInvoice)
		scope = map[string]string{"": "", "in": nsInvoice, "xml": nsXML}
	}
	g.attributes(root, scope)
	g.content(root, scope, 0)
	nodes := []*node{root}
	for range g.IntN(2) {
		nodes = slices.Insert(nodes, g.IntN(len(nodes)+1), g.aside())
	}
	return nodes
}

func declaration(prefix, uri string) genAttribute {
	name := "xmlns"
	if prefix != "" {
		name += ":" + prefix
	}
	return genAttribute{name: name, quote: `"`, pieces: []piece{{literalPiece, uri, uri}}}
}

func (g *generator) aside() *node {
	if g.comments && g.chance(50) {
		return &node{kind: commentNode, data: pick(g, []string{"", " x ", "x\r\ny", "- <a> &b; é"})}
	}
	return &node{kind: piNode, name: pick(g, []string{"p", "xml-style", "é"}), data: pick(g, []string{"", "x", "x y ", "x\r\ny", "? > <a>&b;"})}
}

// attributes adds declarations and attributes, and enters the declarations in
// scope.
func (g *generator) attributes(n *node, scope map[string]string) {
	for range g.IntN(3) {
		prefix, uri := pick(g, genPrefixes), pick(g, genURIs)
		if prefix == "" && g.chance(30) {
			uri = "" // undeclares the default namespace
		}
		if g.chance(25) && scope[prefix] != "" { // says again what is so
			uri = scope[prefix]
		}
		own, _, _ := strings.Cut(":"+n.name, ":")
		if i := strings.IndexByte(n.name, ':'); i >= 0 {
			own = n.name[:i]
		}
		d := declaration(prefix, uri)
		has := slices.ContainsFunc(n.attributes, func(a genAttribute) bool { return a.name == d.name })
		if has || prefix == own && uri != scope[prefix] && strings.HasSuffix(n.name, "Invoice") {
			continue
		}
		scope[prefix] = uri
		n.attributes = append(n.attributes, d)
	}
	taken := map[string]bool{}
	for range g.IntN(4) {
		prefixes := slices.DeleteFunc(slices.Sorted(maps.Keys(scope)), func(p string) bool { return p != "" && scope[p] == "" })
		prefix := pick(g, prefixes)
		local := pick(g, genLocals)
		if prefix == "xml" {
			local = pick(g, []string{"lang", "space", "id"})
		}
		uri := scope[prefix]
		if prefix == "" {
			uri = ""
		}
		if taken[uri+" "+local] {
			continue
		}
		taken[uri+" "+local] = true
		n.attributes = append(n.attributes, g.attribute(prefix, local))
	}
	g.Shuffle(len(n.attributes), func(i, j int) { n.attributes[i], n.attributes[j] = n.attributes[j], n.attributes[i] })
}

func (g *generator) attribute(prefix, local string) genAttribute {
	a := genAttribute{name: local, quote: pick(g, []string{`"`, "'"})}
	if prefix != "" {
		a.name = prefix + ":" + local
	}
	if a.name == "xml:space" {
		a.pieces = []piece{{literalPiece, "default", "default"}}
		if g.blanks && g.chance(50) {
			a.pieces[0] = piece{literalPiece, "preserve", "preserve"}
		}
		return a
	}
	if a.name == "xml:id" {
		a.pieces = []piece{{literalPiece, "i", "i"}}
		return a
	}
	for range g.IntN(4) {
		switch text := pick(g, genTexts); {
		case g.chance(25):
			a.pieces = append(a.pieces, pick(g, genRefs))
		case g.chance(15):
			a.pieces = append(a.pieces, pick(g, genBlankRefs))
		case g.chance(15):
			blank := pick(g, genBlanks)
			a.pieces = append(a.pieces, piece{literalPiece, blank, blank})
		case !strings.Contains(text, a.quote):
			a.pieces = append(a.pieces, piece{literalPiece, text, text})
		}
	}
	return a
}

// content gives an element its children.
func (g *generator) content(n *node, scope map[string]string, depth int) {
	n.expanded = g.chance(50)
	for range g.IntN(6) {
		switch {
		case depth < 5 && g.chance(50):
			n.children = append(n.children, g.element(scope, depth+1))
		case g.chance(10):
			n.children = append(n.children, g.aside())
		case len(n.children) == 0 || n.children[len(n.children)-1].kind != textNode:
			n.children = append(n.children, g.text())
		}
	}
}

func (g *generator) element(outer map[string]string, depth int) *node {
	scope, n := maps.Clone(outer), &node{}
	g.attributes(n, scope)
	prefixes := slices.DeleteFunc(slices.Sorted(maps.Keys(scope)), func(p string) bool { return p == "xml" || p != "" && scope[p] == "" })
	prefix := pick(g, prefixes)
	n.name = pick(g, genLocals)
	switch {
	case g.blocks && g.chance(10) && scope[prefix] == nsCAC:
		n.name = "Signature"
	case g.blocks && g.chance(5):
		prefix, n.name = "e", "UBLExtensions"
		n.attributes = append(slices.DeleteFunc(n.attributes, func(a genAttribute) bool { return a.name == "xmlns:e" }), declaration("e", nsExt))
		scope["e"] = nsExt
	}
	if prefix != "" {
		n.name = prefix + ":" + n.name
	}
	g.content(n, scope, depth)
	return n
}

// text makes a text node. Without blanks, each run of it has other characters.
func (g *generator) text() *node {
	n := &node{kind: textNode}
	for range 1 + g.IntN(4) {
		switch {
		case g.chance(20):
			section := pick(g, genSections)
			if g.blanks && g.chance(30) {
				section = pick(g, genBlanks)
			}
			n.pieces = append(n.pieces, piece{sectionPiece, "<![CDATA[" + section + "]]>", section})
		case g.chance(25):
			n.pieces = append(n.pieces, pick(g, genRefs))
		case g.blanks && g.chance(40):
			blank := pick(g, genBlanks)
			n.pieces = append(n.pieces, piece{literalPiece, blank, blank})
		case g.blanks && g.chance(30):
			n.pieces = append(n.pieces, pick(g, genBlankRefs))
		default:
			text := pick(g, genTexts)
			n.pieces = append(n.pieces, piece{literalPiece, text, text})
		}
	}
	return n
}

// source writes nodes as a document has them.
func (g *generator) source(nodes []*node) string {
	var b strings.Builder
	for _, n := range nodes {
		g.write(&b, n)
		if g.chance(30) {
			b.WriteString(pick(g, genBlanks))
		}
	}
	return b.String()
}

func (g *generator) write(b *strings.Builder, n *node) {
	switch n.kind {
	case textNode:
		for _, p := range n.pieces {
			b.WriteString(p.source)
		}
	case commentNode:
		b.WriteString("<!--" + n.data + "-->")
	case piNode:
		fmt.Fprintf(b, "<?%s %s?>", n.name, n.data)
	case elementNode:
		b.WriteString("<" + n.name)
		for _, a := range n.attributes {
			b.WriteString(pick(g, []string{" ", " ", "\n ", "\t", "\r\n"}) + a.name + pick(g, []string{"=", "=", " = "}) + a.quote)
			for _, p := range a.pieces {
				b.WriteString(p.source)
			}
			b.WriteString(a.quote)
		}
		if len(n.children) == 0 && !n.expanded {
			b.WriteString(pick(g, []string{"/>", " />"}))
			return
		}
		b.WriteString(">")
		for _, c := range n.children {
			g.write(b, c)
		}
		b.WriteString("</" + n.name + pick(g, []string{">", ">", " >"}))
	}
}
