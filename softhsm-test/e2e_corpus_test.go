package softhsmtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// corpus returns the folders of unsigned documents to sign: LHDN's official
// samples where ROAMSIGN_VECTORS says, else the project's own. It is never empty.
func corpus(t *testing.T) map[string][]string {
	t.Helper()
	folders := []string{"../testdata", "../xades/testdata/xml", "../xades/testdata/json", "../client/testdata"}
	if vectors := os.Getenv("ROAMSIGN_VECTORS"); vectors != "" {
		folders = []string{filepath.Join(vectors, "unsigned")}
	}
	all := map[string][]string{}
	formats := map[string]int{}
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		check(t, err)
		for _, entry := range entries {
			format := filepath.Ext(entry.Name())
			if format != ".xml" && format != ".json" {
				continue
			}
			path, err := filepath.Abs(filepath.Join(folder, entry.Name()))
			check(t, err)
			all[folder] = append(all[folder], path)
			formats[format]++
		}
	}
	if formats[".xml"] == 0 || formats[".json"] == 0 {
		t.Fatalf("got %v documents in %v, want some of each format", formats, folders)
	}
	return all
}

// twice returns the path of the first member that a JSON document has twice in
// one object, or "".
func twice(t *testing.T, document []byte) string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(document))
	var walk func(path string) string
	walk = func(path string) (found string) {
		token, err := decoder.Token()
		check(t, err)
		names := map[string]bool{}
		for i := 0; token == json.Delim('{') || token == json.Delim('['); i++ {
			if !decoder.More() {
				_, err := decoder.Token()
				check(t, err)
				return found
			}
			inner := fmt.Sprintf("%s[%d]", path, i)
			if token == json.Delim('{') {
				name, err := decoder.Token()
				check(t, err)
				inner = strings.TrimPrefix(path+"."+name.(string), ".")
				if names[inner] && found == "" {
					found = inner
				}
				names[inner] = true
			}
			if deeper := walk(inner); found == "" {
				found = deeper
			}
		}
		return found
	}
	return walk("")
}

// numbers are the places of the documents' numbers: the first ID of each.
var numbers = map[string]*regexp.Regexp{
	"xml":  regexp.MustCompile(`(?s)^(.*?<cbc:ID>)[^<]*`),
	"json": regexp.MustCompile(`(?s)^(.*?"ID"[^"]*"_"[^"]*")[^"]*`),
}

// invoice is a document of the project's own, on behalf of a taxpayer that dev
// mode's policy knows, under another number.
func invoice(t *testing.T, format, number string) []byte {
	t.Helper()
	document := read(t, map[string]string{"xml": "../testdata/invoice.xml", "json": "../testdata/self-billed.json"}[format])
	numbered := numbers[format].ReplaceAll(document, []byte("${1}"+number))
	if bytes.Equal(numbered, document) {
		t.Fatalf("the %s document of testdata has no number", format)
	}
	return numbered
}
