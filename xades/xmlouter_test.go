package xades

import (
	"bufio"
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// signedProperties makes a document with SignedProperties of any kind within
// UBLExtensions, and says what OuterXml makes of them.
func (g *generator) signedProperties() (document, outer string) {
	root := &node{name: "Invoice", attributes: []genAttribute{declaration("", nsInvoice)}}
	scope := map[string]string{"": nsInvoice, "xml": nsXML}
	g.attributes(root, scope)
	around := &node{name: "e:UBLExtensions", attributes: []genAttribute{declaration("e", nsExt)}}
	scope["e"] = nsExt
	root.children = []*node{around}
	preserve := preserves(root, false)
	for range g.IntN(3) {
		prefix := pick(g, []string{"", "e"})
		inner := &node{name: strings.TrimPrefix(prefix+":x", ":")}
		g.attributes(inner, scope)
		if prefix == "e" && scope["e"] == "" {
			inner.name = "x"
		}
		around.children, around = []*node{inner}, inner
		preserve = preserves(inner, preserve)
	}
	prefix := pick(g, []string{"xades", "xades", "", "a", "ds"})
	properties := &node{name: strings.TrimPrefix(prefix+":SignedProperties", ":")}
	if g.chance(50) { // declared around it, or by itself
		declareOver(around, scope, prefix, nsXAdES)
	} else {
		g.attributes(properties, scope)
		declareOver(properties, scope, prefix, nsXAdES)
	}
	g.content(properties, scope, 1)
	if g.chance(80) { // as in practice
		properties.children = append(properties.children, g.digestMethod(scope))
	}
	around.children = []*node{properties}
	var b strings.Builder
	slowOuter(&b, properties, sourceScope(root, properties), nil, preserve)
	return g.source([]*node{root}), b.String()
}

// declareOver makes n declare prefix as uri, instead of what it said.
func declareOver(n *node, scope map[string]string, prefix, uri string) {
	d := declaration(prefix, uri)
	n.attributes = slices.DeleteFunc(n.attributes, func(a genAttribute) bool {
		was, _, _ := strings.Cut(a.name, ":")
		return a.name == d.name || prefix != "" && was == prefix
	})
	n.attributes = append(n.attributes, d)
	scope[prefix] = uri
}

func (g *generator) digestMethod(scope map[string]string) *node {
	n := &node{name: "ds:DigestMethod", expanded: g.chance(50)}
	n.attributes = []genAttribute{{name: "Algorithm", quote: `"`, pieces: []piece{{literalPiece, algDigest, algDigest}}}}
	if scope["ds"] != nsDS {
		n.attributes = slices.Insert(n.attributes, g.IntN(2), declaration("ds", nsDS))
	}
	return n
}

// sourceScope is what is declared around the node at the end of the way down.
func sourceScope(n, to *node) map[string]string {
	scope := map[string]string{"": "", "xml": nsXML}
	for ; n != to; n = n.children[0] {
		enter(scope, n)
	}
	return scope
}

func enter(scope map[string]string, n *node) {
	for _, a := range n.attributes {
		if prefix, declares := declaredPrefix(a.name); declares {
			scope[prefix] = attributeText(a)
		}
	}
}

func preserves(n *node, outer bool) bool {
	for _, a := range n.attributes {
		if a.name == "xml:space" {
			return attributeText(a) == "preserve"
		}
	}
	return outer
}

// pushed is a namespace that System.Xml's XmlTextWriter knows of, and whether an
// attribute of the source has declared it.
type pushed struct {
	prefix, uri string
	declared    bool
}

// slowWriter is XmlTextWriter's stack of namespaces. own is where those of the
// element that is being written begin.
type slowWriter struct {
	stack []pushed
	own   int
}

func (w *slowWriter) lookup(prefix string) int {
	for i := len(w.stack) - 1; i >= 0; i-- {
		if w.stack[i].prefix == prefix {
			return i
		}
	}
	return -1
}

func (w *slowWriter) push(p pushed) {
	i := w.lookup(p.prefix)
	if i >= 0 && w.stack[i].uri == p.uri {
		w.stack[i].declared = w.stack[i].declared || p.declared
		return
	}
	if i < 0 && p.prefix == "" && p.uri == "" {
		return
	}
	w.stack = append(w.stack, p)
}

// startAttribute gives the prefix that an attribute is written with.
func (w *slowWriter) startAttribute(prefix, uri string) string {
	if w.lookup(prefix) < w.own {
		w.push(pushed{prefix, uri, false})
		return prefix
	}
	for i := len(w.stack) - 1; ; i-- {
		if p := w.stack[i]; p.uri == uri && p.prefix != "" && w.lookup(p.prefix) == i {
			return p.prefix
		}
	}
}

// slowOuter writes an element as .NET's XmlElement.WriteTo has XmlTextWriter
// write it, from the generated tree and not from the source.
func slowOuter(b *strings.Builder, n *node, outer map[string]string, stack []pushed, preserve bool) {
	scope := maps.Clone(outer)
	enter(scope, n)
	preserve = preserves(n, preserve)
	w := slowWriter{stack: slices.Clone(stack), own: len(stack)}
	prefixOf := func(name string) string {
		prefix, _, prefixed := strings.Cut(name, ":")
		if !prefixed {
			return ""
		}
		return prefix
	}

	w.push(pushed{prefixOf(n.name), scope[prefixOf(n.name)], false})
	b.WriteString("<" + n.name)
	for _, a := range n.attributes {
		name := a.name
		if prefix, declares := declaredPrefix(name); declares {
			w.push(pushed{prefix, scope[prefix], true})
		} else if prefix := prefixOf(name); prefix != "" && prefix != "xml" {
			name = w.startAttribute(prefix, scope[prefix]) + strings.TrimPrefix(name, prefix)
		}
		b.WriteString(" " + name + `="`)
		for _, p := range a.pieces {
			b.WriteString(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\n", "&#xA;", "\r", "&#xD;").Replace(p.text))
		}
		b.WriteString(`"`)
	}
	for _, last := range []bool{false, true} { // the default namespace comes last
		for i := len(w.stack) - 1; i >= w.own; i-- {
			if p := w.stack[i]; !p.declared && (p.prefix == "") == last {
				b.WriteString(" " + strings.TrimSuffix("xmlns:"+p.prefix, ":") + `="` + p.uri + `"`)
			}
		}
	}
	if len(n.children) == 0 && !n.expanded {
		b.WriteString(" />")
		return
	}
	b.WriteString(">")
	for _, c := range n.children {
		switch c.kind {
		case elementNode:
			slowOuter(b, c, scope, w.stack, preserve)
		case commentNode:
			b.WriteString("<!--" + c.data + "-->")
		case piNode:
			b.WriteString("<?" + c.name + " " + c.data + "?>")
		case textNode:
			slowOuterText(b, c.pieces, preserve)
		}
	}
	b.WriteString("</" + n.name + ">")
}

// slowOuterText drops runs of blanks, literal or by hexadecimal reference, and
// writes the others, whatever blanks are in sections.
func slowOuterText(b *strings.Builder, pieces []piece, preserve bool) {
	run, literal := "", true
	flush := func() {
		if preserve || !literal || strings.Trim(run, " \t\r\n") != "" {
			b.WriteString(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(run))
		}
		run, literal = "", true
	}
	for _, p := range pieces {
		switch p.kind {
		case sectionPiece:
			flush()
			b.WriteString(p.source)
		case referencePiece:
			run, literal = run+p.text, literal && strings.HasPrefix(p.source, "&#x")
		case literalPiece:
			run += p.text
		}
	}
	flush()
}

func TestSignedPropertiesAreWrittenAsXmlTextWriterDoes(t *testing.T) {
	t.Parallel()
	g := &generator{Rand: rand.New(rand.NewPCG(3, 2026)), blanks: true, comments: true}
	for i := range generated {
		document, want := g.signedProperties()
		d := scannedXML(t, []byte(document))
		if len(d.props) != 1 {
			t.Fatalf("document %d: %d SignedProperties, want 1: %q", i, len(d.props), document)
		}
		if string(d.props[0]) != want {
			t.Errorf("document %d is %q", i, document)
			sameBytes(t, "the properties", d.props[0], []byte(want))
			return
		}
	}
}

// The answers in outerxml.txt are System.Xml's own: what outerxml.cs, run with
// mono, wrote for each of the documents. Lines are Go strings: a document, then
// its SignedProperties' OuterXml.
func TestSignedPropertiesAreWrittenAsSystemXmlDid(t *testing.T) {
	file, err := os.Open(filepath.Join("testdata", "outerxml", "outerxml.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, count := bufio.NewScanner(file), 0
	lines.Buffer(nil, 1<<20)
	unquoted := func() string {
		text, err := strconv.Unquote(lines.Text())
		if err != nil {
			t.Fatalf("line of document %d: %v", count, err)
		}
		return text
	}
	for lines.Scan() {
		document := unquoted()
		if !lines.Scan() {
			t.Fatalf("document %d has no answer", count)
		}
		want := unquoted()
		d := scannedXML(t, []byte(document))
		if len(d.props) != 1 || !bytes.Equal(d.props[0], []byte(want)) {
			t.Fatalf("document %d is %q\ngot  %q\nwant %q", count, document, d.props, want)
		}
		count++
	}
	if err := lines.Err(); err != nil || count < 100 {
		t.Fatalf("%d documents (%v); at least 100 are expected", count, err)
	}
}
