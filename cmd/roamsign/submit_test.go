package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
)

func TestNothingButValidIsSuccess(t *testing.T) {
	journal, err := myinvois.OpenJournal(filepath.Join(t.TempDir(), "journal"), "https://platform.test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	entries, err := journal.Add([]myinvois.Unsent{{Taxpayer: "C20880050010", Number: "1", Type: "01", Content: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	r := &submission{counter: &counter{journal: journal}}
	if err := r.confirm([]uint64{entries[0].ID}); err != nil || r.code != command.Failed {
		t.Errorf("a document that nobody told of: got code %d, %v, want %d", r.code, err, command.Failed)
	}
}

func TestStatusIsShownWhileSubmitRuns(t *testing.T) {
	folder := t.TempDir()
	config := filepath.Join(folder, "platform.yaml")
	if err := os.WriteFile(config, []byte("api: https://platform.test\ncredentials: none.yaml\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	journal, err := myinvois.OpenJournal(filepath.Join(folder, "myinvois.journal"), "https://platform.test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	if _, err := journal.Add([]myinvois.Unsent{{Taxpayer: "C20880050010", Number: "INV-1", Type: "01", Content: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	code := run(t.Context(), []string{"status", "--platform", config}, command.Streams{Out: &out, Err: &errs})
	if code != command.OK || !strings.HasPrefix(out.String(), "INV-1  -  Signed  ") {
		t.Errorf("got exit code %d, %q, %s want the document", code, &out, &errs)
	}
}
