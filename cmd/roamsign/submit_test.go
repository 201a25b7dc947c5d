package main

import (
	"path/filepath"
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
