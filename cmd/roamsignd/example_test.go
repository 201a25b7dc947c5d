package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// leftOut is a line that shows a key which may be left out: no blank after the
// sign, or the two of what stands inside such a key.
var leftOut = regexp.MustCompile(`(?m)^( *)#(\S|  )`)

// The configuration that the package installs shows every key, and nothing that
// is no key; the manual says of each section what it trusts.
func TestExampleConfigurationShowsEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/roamsign.yaml")
	check(t, err)
	whole := leftOut.ReplaceAllString(string(text), "$1$2")
	for name, text := range map[string]string{"as it is installed": string(text), "with all that may be left out": whole} {
		path := filepath.Join(t.TempDir(), "roamsign.yaml")
		check(t, os.WriteFile(path, []byte(text), 0o600))
		s, document, err := readForm(path)
		check(t, err)
		if err := document.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Signer.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, token := range s.all() {
			if err := token.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	threats, err := os.ReadFile("../../docs/THREATS.md")
	check(t, err)
	keys := 0
	for path := range keysOf(reflect.TypeFor[config](), "") {
		keys++
		key := path[strings.LastIndexByte(path, '.')+1:]
		if !regexp.MustCompile(`(?m)^ *(- )?`+key+`:`).MatchString(whole) && !strings.Contains(whole, `"`+key+`:"`) {
			t.Errorf("%s is not shown", path)
		}
		section, _, _ := strings.Cut(path, ".")
		if !strings.Contains(string(threats), "| `"+section) {
			t.Errorf("docs/THREATS.md does not say what %s trusts", section)
		}
	}
	if keys < 30 {
		t.Errorf("only %d keys were looked for", keys)
	}
}

// keysOf yields the paths of the keys that a configuration's type has.
func keysOf(of reflect.Type, before string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range of.NumField() {
			field := of.Field(i)
			tag, tagged := field.Tag.Lookup("yaml")
			if !tagged || tag == "-" {
				continue
			}
			path := strings.TrimPrefix(before+"."+strings.Split(tag, ",")[0], ".")
			if strings.HasSuffix(tag, ",inline") {
				path = before
			} else if !yield(path) {
				return
			}
			if field.Type.Kind() != reflect.Struct || field.Type == reflect.TypeFor[time.Duration]() {
				continue
			}
			for inner := range keysOf(field.Type, path) {
				if !yield(inner) {
					return
				}
			}
		}
	}
}
