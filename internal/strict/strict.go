// Package strict reads YAML configuration files so that nothing in them is
// overlooked: a key that nobody knows, a key given twice and a value of the
// wrong kind are faults, and all faults are told at once, each with its line.
//
// It judges form only. What values mean is validated by the package that owns
// the configuration, whose faults [Document.Locate] puts back on their lines.
package strict

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Fault is one thing wrong with a file. Line counts from 1; 0 means the file as
// a whole.
type Fault struct {
	Line    int
	Message string
}

// Error writes the fault with its line.
func (f Fault) Error() string {
	if f.Line == 0 {
		return f.Message
	}
	return fmt.Sprintf("line %d: %s", f.Line, f.Message)
}

// Faults is everything wrong with a file.
type Faults []Fault

// Error writes the faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Document is a file that was read. It is not safe for concurrent use.
type Document struct {
	lines  map[string]int // of each key, by its path ("tls.key")
	faults Faults
	broken bool // it is no YAML
	hushed bool // it holds secrets
}

// Decode reads one YAML document into the struct that into points to, whose
// fields' yaml tags are the keys of the file. Structs within it, inlined or not,
// and lists of structs, whose items' paths are "tokens[1]", are read the same way;
// every other field is decoded as package yaml does.
func Decode(text []byte, into any) *Document {
	return (&Document{lines: map[string]int{}}).decode(text, into)
}

// DecodeSecret is Decode of a file that holds secrets. Its faults quote nothing of
// the file, since a secret may stand where a key belongs, and a value that begins
// with a tag or an anchor is one, since a secret may begin like that, too.
func DecodeSecret(text []byte, into any) *Document {
	return (&Document{lines: map[string]int{}, hushed: true}).decode(text, into)
}

func (d *Document) decode(text []byte, into any) *Document {
	root, faults := Read(text)
	d.broken = root == nil && len(faults) > 0
	if d.broken && d.hushed {
		faults[0].Message = "not YAML; put values with special characters in quotes"
	}
	d.faults = faults
	if root != nil {
		d.mapping(root, "", reflect.ValueOf(into).Elem())
	}
	return d
}

// Read returns the one YAML document that a file holds, nil if it is empty or
// no YAML, and what is wrong with its form.
func Read(text []byte) (*yaml.Node, Faults) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, more yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, Faults{syntax(err)}
	}
	switch err := decoder.Decode(&more); {
	case err == nil:
		return root.Content[0], Faults{{more.Line, "a second document begins here; the file holds one"}}
	case !errors.Is(err, io.EOF):
		return nil, Faults{syntax(err)}
	}
	return root.Content[0], nil
}

// syntax turns the YAML reader's error, which names a line in its text, into a
// fault.
func syntax(err error) Fault {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d: ", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	if strings.Contains(text, "cannot start any token") {
		text += " (a tab? YAML is indented with blanks)"
	}
	return Fault{line, "not YAML: " + text}
}

// Given reports whether the file has the key, by its path.
func (d *Document) Given(key string) bool {
	_, given := d.lines[key]
	return given
}

func (d *Document) add(line int, format string, args ...any) {
	d.faults = append(d.faults, Fault{line, fmt.Sprintf(format, args...)})
}

// mapping reads a node into a struct.
func (d *Document) mapping(node *yaml.Node, path string, target reflect.Value) {
	fields := map[string]reflect.Value{}
	keys := fieldsOf(target, fields)
	if node.Kind != yaml.MappingNode {
		d.add(node.Line, "%s must have the keys %s", cmp.Or(strings.TrimSuffix(path, "."), "the file"), strings.Join(keys, ", "))
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field, known := fields[key.Value]
		full := path + key.Value
		switch _, twice := d.lines[full]; {
		case !known && d.hushed:
			d.add(key.Line, "%s has a key that is none; the keys are %s", cmp.Or(strings.TrimSuffix(path, "."), "the file"), strings.Join(keys, ", "))
			continue
		case !known:
			d.add(key.Line, "%s is not a key here; the keys are %s", full, strings.Join(keys, ", "))
			continue
		case twice:
			d.add(key.Line, "%s is given twice", full)
			continue
		}
		d.lines[full] = key.Line
		d.value(value, full, field)
	}
}

// value reads a node into a field.
func (d *Document) value(node *yaml.Node, path string, field reflect.Value) {
	switch {
	case field.Kind() == reflect.Struct && field.Type() != reflect.TypeFor[time.Time]():
		d.mapping(node, path+".", field)
	case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct && node.Kind == yaml.SequenceNode:
		field.Set(reflect.MakeSlice(field.Type(), len(node.Content), len(node.Content)))
		for i, item := range node.Content {
			full := fmt.Sprintf("%s[%d]", path, i)
			d.lines[full] = item.Line
			d.mapping(item, full+".", field.Index(i))
		}
	case d.hushed && (node.Anchor != "" || strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!")):
		d.add(node.Line, "%s begins with a special character: put it in quotes", path)
	default:
		if err := node.Decode(field.Addr().Interface()); err != nil {
			d.add(node.Line, "%s must be %s", path, kindOf(field.Type()))
		}
	}
}

// fieldsOf collects a struct's fields by key, those of inlined structs too, and
// returns the keys in order.
func fieldsOf(target reflect.Value, fields map[string]reflect.Value) (keys []string) {
	for i := range target.NumField() {
		name, flags, _ := strings.Cut(target.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case flags == "inline":
			keys = append(keys, fieldsOf(target.Field(i), fields)...)
		case name != "" && name != "-":
			fields[name] = target.Field(i)
			keys = append(keys, name)
		}
	}
	return keys
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return `a duration, such as "5s"`
	case t == reflect.TypeFor[time.Time]():
		return "a date or a time, such as 2026-11-20 or 2026-11-20T03:15:00Z"
	case reflect.Int <= t.Kind() && t.Kind() <= reflect.Uint64:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Map:
		return "a mapping"
	case t.Kind() == reflect.Bool:
		return "true or false"
	}
	return "a text"
}

// Locate adds the faults that validation found in the part of the file below
// prefix ("token.", or "" for all of it). Each, joined or alone, begins with the
// key that it is about and a colon; a fault on a line that has one already is
// left out, since the first tells why. Of a file that is no YAML no more is told
// than that.
func (d *Document) Locate(prefix string, err error) {
	if err == nil || d.broken {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		for _, e := range joined.Unwrap() {
			d.Locate(prefix, e)
		}
		return
	}
	message := prefix + err.Error()
	key, _, _ := strings.Cut(message, ":")
	line := d.line(key)
	if line > 0 && slices.ContainsFunc(d.faults, func(f Fault) bool { return f.Line == line }) {
		return
	}
	d.add(line, "%s", message)
}

// line finds the line of a key, or of what it is missing from.
func (d *Document) line(key string) int {
	for {
		if line, ok := d.lines[key]; ok {
			return line
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 {
			return 0
		}
		key = key[:dot]
	}
}

// Err returns all faults as [Faults], by line, or nil.
func (d *Document) Err() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return d.faults
}
