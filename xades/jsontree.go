package xades

import (
	"bytes"
	"fmt"
)

// jsonTree is minified JSON that is known to be valid, read once: its values in
// the order in which they begin, so that what is in a value follows it. Like
// tokens, they have no pointers.
type jsonTree struct {
	path   string // of the first value
	text   []byte
	values []jsonValue
}

type jsonValue struct {
	name, raw span  // the name, of a member, is what stands between the quotes
	parent    int32 // -1 of the first
	end       int32 // the number of the first value that does not stand in this one
}

// jsonNode is a value in a tree. The zero node is one that is not there.
type jsonNode struct {
	*jsonTree
	at int32
}

// treeOf gives the value that is all of text, or the zero node if there is none.
func treeOf(path string, text []byte) jsonNode {
	const usual = 24 // bytes a value
	if text == nil {
		return jsonNode{}
	}
	t := &jsonTree{path: path, text: text, values: make([]jsonValue, 0, len(text)/usual+1)}
	var name span
	parent := int32(-1)
	for i := 0; i < len(text); {
		from := i
		switch text[i] {
		case ',':
			i++
			continue
		case ']', '}':
			i++
			t.values[parent].raw.to, t.values[parent].end = int32(i), int32(len(t.values))
			parent = t.values[parent].parent
			continue
		case '"':
			i += 2 + closingQuote(text[i+1:])
			if i < len(text) && text[i] == ':' {
				name = spanOf(from+1, i-1)
				i++
				continue
			}
		case '[', '{':
			i++
		default:
			for i < len(text) && text[i] != ',' && text[i] != ']' && text[i] != '}' {
				i++
			}
		}
		next := int32(len(t.values)) + 1
		t.values = append(t.values, jsonValue{name, spanOf(from, i), parent, next})
		name = span{}
		if c := text[from]; c == '[' || c == '{' {
			parent = next - 1
		}
	}
	return jsonNode{t, 0}
}

// raw is the value as it stands.
func (n jsonNode) raw() []byte {
	if n.jsonTree == nil {
		return nil
	}
	raw := n.values[n.at].raw
	return n.text[raw.from:raw.to]
}

// children gives the values that stand directly in this one.
func (n jsonNode) children() func(yield func(jsonNode) bool) {
	return func(yield func(jsonNode) bool) {
		end := n.values[n.at].end
		for at := n.at + 1; at < end; at = n.values[at].end {
			if !yield(jsonNode{n.jsonTree, at}) {
				return
			}
		}
	}
}

// name is the member's name.
func (n jsonNode) name() []byte {
	name := n.text[n.values[n.at].name.from:n.values[n.at].name.to]
	if bytes.IndexByte(name, '\\') >= 0 {
		return appendDecoded(nil, name)
	}
	return name
}

// where is the path of the value, as in Invoice[0].UBLExtensions[0].UBLExtension.
func (n jsonNode) where() string {
	at := n.values[n.at].parent
	if at < 0 {
		return n.path
	}
	parent := jsonNode{n.jsonTree, at}
	if parent.raw()[0] == '{' {
		return parent.where() + "." + shorten(n.name())
	}
	index := 0
	for sibling := range parent.children() {
		if sibling.at == n.at {
			break
		}
		index++
	}
	return fmt.Sprintf("%s[%d]", parent.where(), index)
}

// count gives how many values there are in this one in members of that name,
// wherever they stand: of an array its elements.
func (n jsonNode) count(name string) (count int) {
	for at := n.at + 1; at < n.values[n.at].end; at++ {
		member := jsonNode{n.jsonTree, at}
		if string(member.name()) != name {
			continue
		}
		if member.raw()[0] != '[' {
			count++
			continue
		}
		for range member.children() {
			count++
		}
	}
	return count
}

// countIDs counts the members Id, whatever its case, that have this text.
func (n jsonNode) countIDs(id string) (count int) {
	for at := n.at + 1; at < n.values[n.at].end; at++ {
		member := jsonNode{n.jsonTree, at}
		raw := member.raw()
		if raw[0] == '"' && bytes.EqualFold(member.name(), []byte("Id")) && string(appendDecoded(nil, raw[1:len(raw)-1])) == id {
			count++
		}
	}
	return count
}
