package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/xades"
)

// A person with two businesses, of which the signer knows one by name.
const (
	person   = "IG20880051110"
	business = "202203054321"
	company  = "C20880050010"
)

// counting is a counter with a journal, and taxpayers who let it submit; nothing
// answers it.
func counting(t *testing.T) *counter {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials.yaml")
	if err := os.WriteFile(path, []byte("clients:\n  - {client_id: a, secrets: [{secret: a-secret, expires: 2099-12-31}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets, err := myinvois.LoadCredentials(path)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := myinvois.OpenJournal(filepath.Join(t.TempDir(), "journal"), "https://platform.test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := journal.Close(); err != nil {
			t.Error(err)
		}
	})
	may := []string{"submit"}
	return &counter{secrets: secrets, journal: journal, taxpayers: []client.Taxpayer{
		{TIN: company, Rights: may, NotBefore: time.Now().Add(-time.Hour)},
		{TIN: person, Rights: may}, {TIN: person + ":" + business, Rights: may},
	}}
}

// running is a run of submit with a counter, and what it complains of.
func running(c *counter, s submitting) (*submission, *bytes.Buffer) {
	var said bytes.Buffer
	r := &submission{submitting: &s, counter: c, streams: command.Streams{Out: io.Discard, Err: &said}, papers: map[uint64]*paper{}}
	r.report = newReporter(r.streams, 0, "", "")
	return r, &said
}

// written is an entry of a document that was written down.
func written(t *testing.T, c *counter, taxpayer, brn, num, content string) myinvois.Entry {
	t.Helper()
	entries, err := c.journal.Add([]myinvois.Unsent{{
		Name: content, Taxpayer: taxpayer, Business: brn, Number: num, Type: "01",
		Format: myinvois.XML, Input: sha256.Sum256([]byte(content)), Content: []byte(content),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return entries[0]
}

// valid writes down that the platform found an entry valid.
func valid(t *testing.T, c *counter, e myinvois.Entry) myinvois.Entry {
	t.Helper()
	e.UUID = "U1"
	platform := answering(t, func(*http.Request) (int, string) { return http.StatusOK, `{"uuid":"U1","status":"Valid"}` })
	e, err := (&myinvois.Courier{Client: platform, Journal: c.journal}).Refresh(t.Context(), e)
	if err != nil || e.State != myinvois.Valid {
		t.Fatalf("got %v, %v, want it Valid", e, err)
	}
	return e
}

func paperOf(tin, brn, num, content string) *paper {
	return &paper{name: content, input: sha256.Sum256([]byte(content)), facts: xades.Facts{TIN: tin, BRN: brn, Type: "01", Number: num}}
}

func TestADocumentIsSubmittedOnceHoweverItsTaxpayerIsNamed(t *testing.T) {
	c := counting(t)
	known := valid(t, c, written(t, c, person, business, "INV-1", "v1"))
	for _, row := range []struct {
		name, tin, brn, content string
		want                    string // in the error
		known                   bool
	}{
		{"the same", "", business, "v1", "", true},
		{"the same, with the business named", person + ":" + business, business, "v1", "", true},
		{"another of that number", "", business, "v2", "other content", false},
		{"another of that number, with the business named", person + ":" + business, business, "v2", "other content", false},
		{"another business's of that number", person, "202203059999", "v2", "", false},
	} {
		r, _ := running(c, submitting{tin: row.tin})
		p := paperOf(person, row.brn, "INV-1", row.content)
		err := r.represent(p)
		if err == nil {
			err = r.recall(p)
		}
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) || (p.entry != nil && p.entry.ID == known.ID) != row.known {
			t.Errorf("%s: got entry %v, %v; want it known: %v, and %q", row.name, p.entry, err, row.known, row.want)
		}
	}
}

func TestADocumentThatWasNotSentGivesWay(t *testing.T) {
	for _, force := range []bool{false, true} {
		c := counting(t)
		first := written(t, c, company, "", "INV-1", "v1")
		recalled := func(content string) (*paper, error) {
			r, _ := running(c, submitting{force: force})
			p := paperOf(company, "", "INV-1", content)
			return p, errors.Join(r.represent(p), r.recall(p))
		}
		if p, err := recalled("v2"); err != nil || p.entry != nil {
			t.Errorf("force %v: another of its number: got entry %v, %v, want it taken", force, p.entry, err)
		}
		second := written(t, c, company, "", "INV-1", "v2")
		if left, err := c.journal.Unfinished(); err != nil || len(left) != 1 || left[0].ID != second.ID {
			t.Errorf("force %v: got %v, %v unfinished, want the second alone", force, left, err)
		}
		if e, err := c.journal.Entry(first.ID); err != nil || e.State != myinvois.Withdrawn || !strings.Contains(told(e), "v2") {
			t.Errorf("force %v: got %v, %v, want it Withdrawn for v2", force, e, err)
		}
		if p, err := recalled("v1"); err != nil || p.entry != nil {
			t.Errorf("force %v: the first again: got entry %v, %v, want it taken in its turn", force, p.entry, err)
		}
	}
}

func TestTheRepresentationMustHoldWhenADocumentIsIssued(t *testing.T) {
	c := counting(t) // the company is represented for an hour
	for age, want := range map[time.Duration]bool{30 * time.Minute: false, 48 * time.Hour: true} {
		r, _ := running(c, submitting{})
		p := paperOf(company, "", "INV-1", "v1")
		issued := time.Now().UTC().Add(-age)
		p.facts.IssueDate, p.facts.IssueTime = issued.Format(time.DateOnly), issued.Format("15:04:05Z")
		if err := r.represent(p); err != nil {
			t.Fatal(err)
		}
		err := r.judge(p, p.input[:]) // which is no document, as the error says, too
		if got := err != nil && strings.Contains(err.Error(), "the representation of "+company+" begins at"); got != want {
			t.Errorf("issued %v ago: got %v, want the representation in it: %v", age, err, want)
		}
	}
}

func TestADocumentThatWasNotSentIsJudgedAnew(t *testing.T) {
	c := counting(t)
	e := written(t, c, company, "", "INV-1", "no invoice any more")
	r, said := running(c, submitting{resume: true})
	papers, err := r.take(t.Context(), nil)
	if err != nil || len(papers) != 1 {
		t.Fatalf("got %d, %v, want the one that was left", len(papers), err)
	}
	if err := r.prepare(t.Context(), papers); err != nil {
		t.Fatal(err)
	}
	if papers[0].entry != nil || r.code != command.Failed || !strings.Contains(said.String(), "not sent") {
		t.Errorf("got entry %v, exit code %d and %q, want it not sent", papers[0].entry, r.code, said)
	}
	if e, err := c.journal.Entry(e.ID); err != nil || e.State != myinvois.Signed {
		t.Errorf("got %v, %v, want it Signed still", e.State, err)
	}
}

func TestACancellationFindsItsDocumentHoweverItsTaxpayerIsNamed(t *testing.T) {
	c := counting(t)
	e := written(t, c, person, business, "INV-1", "v1")
	w := &withdrawing{tin: person + ":" + business}
	if got, err := w.find(c.journal, "INV-1"); err == nil || !strings.Contains(err.Error(), "it is Signed there") {
		t.Errorf("one that is not valid: got %v, %v, want that told, and not its number taken for a UUID", got, err)
	}
	valid(t, c, e)
	for _, tin := range []string{"", person, person + ":" + business} {
		w.tin = tin
		if got, err := w.find(c.journal, "INV-1"); err != nil || got.ID != e.ID {
			t.Errorf("--tin %q: got %v, %v, want entry %d", tin, got, err, e.ID)
		}
	}
	w.tin = company
	if got, err := w.find(c.journal, "INV-1"); err != nil || got.ID != 0 {
		t.Errorf("for another taxpayer: got %v, %v, want no entry", got, err)
	}
}

func TestAJournalThatFailsIsToldWhateverElseEnds(t *testing.T) {
	c := counting(t)
	e := written(t, c, company, "", "INV-1", "v1")
	ctx, cancel := context.WithCancel(t.Context())
	c.platform = answering(t, func(*http.Request) (int, string) {
		if err := c.journal.Close(); err != nil {
			t.Error(err)
		}
		return http.StatusAccepted, `{"submissionUid":"S1","acceptedDocuments":[{"uuid":"U1","invoiceCodeNumber":"INV-1"}]}`
	})
	r, _ := running(c, submitting{wait: time.Hour})
	r.report.streams.Err = canceller(cancel) // once anything is told
	if err := r.deliver(ctx, []uint64{e.ID}); err == nil || !strings.Contains(err.Error(), "the journal") || ctx.Err() == nil {
		t.Errorf("got %v, the context ended: %v; want the journal's error, and that", err, ctx.Err())
	}
}

type canceller context.CancelFunc

// Write ends the context.
func (c canceller) Write(text []byte) (int, error) {
	c()
	return len(text), nil
}

type answerer func(*http.Request) (int, string)

// RoundTrip answers a login itself.
func (a answerer) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := http.StatusOK, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`
	if r.URL.Path != myinvois.PathLogin {
		status, body = a(r)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// answering is a client of a platform that answers so, until the test ends.
func answering(t *testing.T, answer answerer) *myinvois.Client {
	t.Helper()
	platform, err := myinvois.New(myinvois.Config{API: "https://platform.test", Credentials: "not read", Transport: answer}, counting(t).secrets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(platform.Close)
	return platform
}
