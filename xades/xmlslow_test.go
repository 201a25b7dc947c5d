package xades

import (
	"slices"
	"strings"
)

// slowCanonical writes the canonical form of generated nodes, less blank text
// and what the digest leaves out, as the rules are told and not as the scanner
// does it: node by node, with maps, after taking out what goes.
func slowCanonical(nodes []*node) string {
	var b strings.Builder
	rootSeen := false
	for _, n := range nodes {
		switch n.kind {
		case elementNode:
			rootSeen = true
			slowElement(&b, n, map[string]string{"": ""}, map[string]string{"": ""})
		case piNode:
			if rootSeen {
				b.WriteString("\n")
			}
			slowPI(&b, n)
			if !rootSeen {
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

func slowPI(b *strings.Builder, n *node) {
	b.WriteString("<?" + n.name)
	if n.data != "" {
		b.WriteString(" " + lineEnds(n.data))
	}
	b.WriteString("?>")
}

func lineEnds(text string) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
}

// slowElement writes an element. In scope is what the document declares, and
// rendered what the output does.
func slowElement(b *strings.Builder, n *node, scope, rendered map[string]string) {
	scope, rendered = copyOf(scope), copyOf(rendered)
	type pair struct{ uri, local, text string }
	var declarations, attributes []pair
	for _, a := range n.attributes {
		if prefix, declares := declaredPrefix(a.name); declares {
			scope[prefix] = attributeText(a)
		}
	}
	for prefix, uri := range scope {
		if was, ok := rendered[prefix]; (!ok || was != uri) && prefix != "xml" {
			rendered[prefix] = uri
			declarations = append(declarations, pair{"", prefix, " " + strings.TrimSuffix("xmlns:"+prefix, ":") + `="` + escapeAttribute(uri) + `"`})
		}
	}
	for _, a := range n.attributes {
		if _, declares := declaredPrefix(a.name); declares {
			continue
		}
		prefix, local, prefixed := strings.Cut(a.name, ":")
		uri := ""
		switch {
		case !prefixed:
			local = prefix
		case prefix == "xml":
			uri = nsXML
		default:
			uri = scope[prefix]
		}
		attributes = append(attributes, pair{uri, local, " " + a.name + `="` + escapeAttribute(attributeText(a)) + `"`})
	}
	b.WriteString("<" + n.name)
	for _, pairs := range [][]pair{declarations, attributes} {
		slices.SortFunc(pairs, func(a, b pair) int {
			if order := strings.Compare(a.uri, b.uri); order != 0 {
				return order
			}
			return strings.Compare(a.local, b.local)
		})
		for _, p := range pairs {
			b.WriteString(p.text)
		}
	}
	b.WriteString(">")
	for _, c := range n.children {
		switch c.kind {
		case elementNode:
			if !leftOut(c, scope) {
				slowElement(b, c, scope, rendered)
			}
		case textNode:
			b.WriteString(slowText(c))
		case piNode:
			slowPI(b, c)
		}
	}
	b.WriteString("</" + n.name + ">")
}

func copyOf(scope map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range scope {
		out[k] = v
	}
	return out
}

func declaredPrefix(name string) (string, bool) {
	if name == "xmlns" {
		return "", true
	}
	return strings.CutPrefix(name, "xmlns:")
}

// leftOut tells whether the digest leaves the element out.
func leftOut(n *node, outer map[string]string) bool {
	prefix, local, prefixed := strings.Cut(n.name, ":")
	if !prefixed {
		prefix, local = "", n.name
	}
	uri := outer[prefix]
	for _, a := range n.attributes {
		if declared, declares := declaredPrefix(a.name); declares && declared == prefix {
			uri = attributeText(a)
		}
	}
	return local == "UBLExtensions" && uri == nsExt || local == "Signature" && uri == nsCAC
}

// attributeText is an attribute's value after normalization, which takes literal
// stretches as one: a CR at the end of a piece and an LF at the start of the next
// are one line end.
func attributeText(a genAttribute) string {
	var b strings.Builder
	stretch := ""
	flush := func() {
		b.WriteString(strings.NewReplacer("\n", " ", "\t", " ").Replace(lineEnds(stretch)))
		stretch = ""
	}
	for _, p := range a.pieces {
		if p.kind == literalPiece {
			stretch += p.text
			continue
		}
		flush()
		b.WriteString(p.text)
	}
	flush()
	return b.String()
}

func escapeAttribute(value string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;").Replace(value)
}

// slowText applies the rule for blanks to a text node: runs of literal blanks
// between markup go; what is left goes if it is blank as a whole.
func slowText(n *node) string {
	type run struct {
		pieces  []piece
		section bool
	}
	var runs []run
	for _, p := range n.pieces {
		if p.kind == sectionPiece || len(runs) == 0 || runs[len(runs)-1].section {
			runs = append(runs, run{section: p.kind == sectionPiece})
		}
		last := &runs[len(runs)-1]
		last.pieces = append(last.pieces, p)
	}
	ink := false
	var out strings.Builder
	for _, r := range runs {
		literal, whole := true, ""
		for _, p := range r.pieces {
			literal = literal && p.kind == literalPiece
			whole += p.text
		}
		if literal && strings.Trim(whole, " \t\r\n") == "" {
			continue
		}
		ink = ink || strings.Trim(whole, " \t\r\n") != ""
		var stretch string
		flush := func() {
			out.WriteString(escapeText(lineEnds(stretch)))
			stretch = ""
		}
		for _, p := range r.pieces {
			if p.kind == referencePiece {
				flush()
				out.WriteString(escapeText(p.text))
			} else {
				stretch += p.text
			}
		}
		flush()
	}
	if !ink {
		return ""
	}
	return out.String()
}

func escapeText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;").Replace(text)
}
