package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func TestWhoSubmitsTheSameBytesAnewIsToldThatItMayTakeAWhile(t *testing.T) {
	c := counting(t)
	e := written(t, c, company, "", "INV-1", "v1")
	c.platform = answering(t, func(*http.Request) (int, string) {
		return http.StatusAccepted, `{"submissionUid":null,"rejectedDocuments":[{"invoiceCodeNumber":"INV-1","error":{"code":"1"}}]}`
	})
	r, _ := running(c, submitting{wait: time.Hour})
	if err := r.deliver(t.Context(), []uint64{e.ID}); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		content string
		again   bool
		told    bool
	}{
		"the same bytes":       {"v1", true, true},
		"it was not asked for": {"v1", false, false},
		"corrected":            {"v2", true, false},
	} {
		r, said := running(c, submitting{again: row.again})
		p := paperOf(company, "", "INV-1", row.content)
		err := r.represent(p)
		if err == nil {
			err = r.recall(p)
		}
		if told := strings.Contains(said.String(), "LHDN refuses the same submission for ten minutes"); err != nil || told != row.told {
			t.Errorf("%s: got %q, %v, want it told: %t", name, said, err, row.told)
		}
	}
}
