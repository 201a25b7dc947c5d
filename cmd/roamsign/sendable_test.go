package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/roamsign/roamsign/internal/command"
)

func TestADocumentIsTheSameHoweverItIsWritten(t *testing.T) {
	desk, out := openDesk(t), t.TempDir()
	args := []string{"--config", desk.path("client.yaml"), "sign", "--out", out, filepath.Join("..", "..", "client", "testdata", "self-billed-1.1.json")}
	var errs bytes.Buffer
	if code := run(t.Context(), args, command.Streams{Out: io.Discard, Err: &errs}); code != command.OK {
		t.Fatalf("signing: got code %d: %s", code, &errs)
	}
	sent, err := os.ReadFile(filepath.Join(out, "self-billed-1.1.signed.json"))
	if err != nil {
		t.Fatal(err)
	}
	var anew bytes.Buffer
	if err := json.Indent(&anew, sent, "", " "); err != nil {
		t.Fatal(err)
	}
	edited := func(pattern, by string) []byte {
		text := regexp.MustCompile(pattern).ReplaceAll(sent, []byte(by))
		if bytes.Equal(text, sent) {
			t.Fatalf("the document has no %s", pattern)
		}
		return text
	}
	for name, row := range map[string]struct {
		shown []byte
		want  bool
	}{
		"to the byte":                 {sent, true},
		"with blanks":                 {anew.Bytes(), true},
		"signed in another second":    {edited(`("SigningTime":\[\{"_":")[^"]*`, "${1}2020-01-01T00:00:00Z"), false},
		"of another number":           {edited(`^(.*?"ID":\[\{"_":")[^"]*`, "${1}ANOTHER"), false},
		"of another type":             {edited(`("InvoiceTypeCode":\[\{"_":")[^"]*`, "${1}12"), false},
		"not signed, or no document":  {[]byte(`{"Invoice":[{}]}`), false},
		"nothing that can be read":    {[]byte("<"), false},
		"signed with something other": {edited(`("X509Certificate":\[\{"_":")[^"]*`, "${1}AAAA"), false},
	} {
		if got := same(sent, row.shown); got != row.want {
			t.Errorf("%s: got %t, want %t", name, got, row.want)
		}
	}
}
