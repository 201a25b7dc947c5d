package myinvois

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// written adds a document to a journal.
func written(t *testing.T, j *Journal, taxpayer, kind, num, content string) uint64 {
	t.Helper()
	e, err := j.Add([]Unsent{{
		Name: content, Taxpayer: taxpayer, Number: num, Type: kind, Format: XML,
		Input: sha256.Sum256([]byte(content)), Content: []byte(content),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return e[0].ID
}

// contentOf is the first document of a submission.
func contentOf(t *testing.T, r *http.Request) string {
	t.Helper()
	body, err := r.GetBody()
	if err != nil {
		t.Error(err)
		return ""
	}
	var said SubmissionRequest
	if err := json.NewDecoder(body).Decode(&said); err != nil || len(said.Documents) == 0 {
		t.Errorf("got no submission: %v", err)
		return ""
	}
	return string(said.Documents[0].Document)
}

// interrupted delivers until an interruption soon after.
func interrupted(t *testing.T, c *Client, j *Journal, ids []uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	deliver(ctx, c, j, ids)
}

func TestAnInvoiceIsNotTakenForTheCreditNoteOfItsNumber(t *testing.T) {
	for name, arrives := range map[string]func(content string) bool{
		"only the credit note arrives": func(content string) bool { return content == "credit note" },
		"only the invoice arrives":     func(content string) bool { return content == "invoice" },
		"both arrive":                  func(string) bool { return true },
	} {
		for _, first := range []string{"invoice", "credit note"} {
			t.Run(name+", first the "+first, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var up atomic.Bool
					var accepted []string // contents, in the order of the submissions' UIDs
					s := &stage{delay: 10 * time.Millisecond, validate: func(d SubmittedDocument) (string, *StepProblem) {
						accepted = append(accepted, string(d.Document))
						return StatusValid, nil
					}}
					lost := func(r *http.Request) bool { return kindOf(r) == "submit" && !up.Load() }
					s.before = func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
						if lost(r) && !arrives(contentOf(t, r)) {
							return nil, errCut
						}
						return nil, nil
					}
					s.after = func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
						if lost(r) {
							return nil, errCut
						}
						return nil, nil
					}
					j := opened(t, filepath.Join(t.TempDir(), "journal"))
					both := []uint64{written(t, j, seller, "01", "1001", "invoice"), written(t, j, seller, "02", "1001", "credit note")}
					if first == "credit note" {
						slices.Reverse(both)
					}
					interrupted(t, at(t, s, lasting(t)), j, both)
					up.Store(true)
					time.Sleep(15 * time.Minute)
					got := deliver(t.Context(), at(t, s, lasting(t)), j, both)
					if len(accepted) != 2 {
						t.Fatalf("got %q accepted, %v; want each once", accepted, got.reasons)
					}
					for i, content := range accepted {
						for _, id := range both {
							e := mustEntry(t, j, id)
							if want := fmt.Sprintf("UID%d", i+1); e.Name == content && (e.State != Valid || e.SubmissionUID != want) {
								t.Errorf("the %s: got %s in %s, want it Valid in %s", content, e.State, e.SubmissionUID, want)
							}
						}
					}
				})
			})
		}
	}
}

func TestASubmissionThatIsNotFinishedHoldsItsNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{after: onlyFor("submit", 1, cut)}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		invoice := written(t, j, seller, "01", "1001", "invoice")
		note := written(t, j, seller+":202203054321", "02", "1001", "credit note")
		interrupted(t, at(t, s, lasting(t)), j, []uint64{invoice})
		time.Sleep(time.Hour)
		got := deliver(t.Context(), at(t, s, lasting(t)), j, []uint64{note})
		if len(got.reasons) != 1 || !strings.Contains(got.reasons[0].Error(), "has to be finished first") || s.count("submit") != 1 {
			t.Errorf("got %v, %v after %d submissions, want it held after 1", got.outcomes, got.reasons, s.count("submit"))
		}
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, []uint64{note, invoice}); len(got.reasons) > 0 || s.accepted()["1001"] != 2 {
			t.Errorf("got %v, %v, %d accepted, want 2", got.outcomes, got.reasons, s.accepted()["1001"])
		}
	})
}

func TestWhatIsLookedForHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) == "submit" && contentOf(t, r) != "the last" {
				return respond(422, `{"error":{"code":"DuplicateSubmission"}}`)
			}
			return nil, nil
		}}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		var ids []uint64
		for i := range atOnce + 1 {
			ids = append(ids, written(t, j, fmt.Sprintf("C%010d", i), "01", fmt.Sprint(i), fmt.Sprint("document ", i)))
		}
		ids = append(ids, written(t, j, seller, "01", "last", "the last"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if got := deliver(ctx, at(t, s, lasting(t)), j, ids); got.outcomes["last"] != Valid {
			t.Errorf("got %v, %v, want the last Valid", got.outcomes, got.reasons)
		}
	})
}

func TestOnlyADuplicateIsLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) {
			return respond(422, `{"error":{"code":"ValidationError"}}`)
		})}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		began := time.Now()
		got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
		if e := mustEntry(t, j, ids[0]); len(got.reasons) != 1 || e.State != Signed || time.Since(began) > time.Minute {
			t.Errorf("got %s, %v after %v, want a refusal at once", e.State, got.reasons, time.Since(began))
		}
	})
}

func TestADamagedSubmissionHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 4)
		batches, _, err := j.gather([]Entry{mustEntry(t, j, ids[0])})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.change(batches[0], func(b *batch, _ *Entry) { b.Payload = Digest{} }); err != nil {
			t.Fatal(err)
		}
		got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
		if got.err != nil || len(got.outcomes) != 3 || len(got.reasons) != 1 || !strings.Contains(got.reasons[0].Error(), "damaged") {
			t.Errorf("got %v, %v, %v, want 3 Valid and one left", got.outcomes, got.reasons, got.err)
		}
	})
}
