package myinvois

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// opened is a journal that is closed when the test ends.
func opened(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := OpenJournal(path, place)
	if err != nil {
		t.Fatal(err)
	}
	j.noSync = true                     // the machine stays up
	t.Cleanup(func() { _ = j.Close() }) // a second time, in some tests
	return j
}

// numbered adds n documents, XML and JSON, for two taxpayers in turn.
func numbered(t *testing.T, j *Journal, n int) []uint64 {
	t.Helper()
	var documents []Unsent
	for i := range n {
		content := fmt.Appendf(nil, "document %d", i)
		d := Unsent{
			Name: fmt.Sprintf("%d.xml", i), Taxpayer: seller, Number: fmt.Sprintf("INV-%d", i), Type: "01",
			Format: XML, Input: sha256.Sum256(content), Content: content,
		}
		if i%2 == 1 {
			d.Format = JSON
		}
		if i%4 > 1 {
			d.Taxpayer = other
		}
		documents = append(documents, d)
	}
	entries, err := j.Add(documents)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]uint64, n)
	for i, e := range entries {
		ids[i] = e.ID
	}
	return ids
}

// delivery is what one run of a courier tells.
type delivery struct {
	outcomes map[string]State // by number
	entries  map[string]Entry
	reasons  []error // of those without an outcome
	err      error
}

func deliver(ctx context.Context, c *Client, j *Journal, ids []uint64) delivery {
	d := delivery{outcomes: map[string]State{}, entries: map[string]Entry{}}
	courier := &Courier{Client: c, Journal: j, Note: func(string) {}, Seen: func(e Entry, why error) error {
		if why != nil {
			d.reasons = append(d.reasons, why)
			return nil
		}
		d.outcomes[e.Number] = e.State
		d.entries[e.Number] = e
		return nil
	}}
	d.err = courier.Deliver(ctx, ids)
	return d
}

// once fails the test unless each document was accepted once.
func once(t *testing.T, s *stage, n int) {
	t.Helper()
	accepted := s.accepted()
	for i := range n {
		if got := accepted[fmt.Sprintf("INV-%d", i)]; got != 1 {
			t.Errorf("document %d: got accepted %d times, want once", i, got)
		}
	}
	if len(accepted) != n {
		t.Errorf("got %d documents accepted, want %d", len(accepted), n)
	}
}

// faults are what can go wrong with a request, each before the platform has done
// it and after.
var requestFaults = []struct {
	name   string
	strike func() (*httptest.ResponseRecorder, error)
}{
	{"a broken line", cut},
	{"a gateway's error", func() (*httptest.ResponseRecorder, error) { return respond(502, "<html>Bad Gateway</html>") }},
	{"an error of its own", func() (*httptest.ResponseRecorder, error) {
		return respond(500, `{"error":{"code":"InternalServerError"}}`)
	}},
	{"not available, come again", func() (*httptest.ResponseRecorder, error) { return respond(503, "", "Retry-After", "3") }},
	{"a time-out", func() (*httptest.ResponseRecorder, error) { return respond(408, "") }},
}

func TestEachDocumentIsAcceptedOnceWhateverGoesWrong(t *testing.T) {
	const many = 12
	for kind, often := range map[string][]int{"login": {2}, "submit": {1, 3}, "submission": {3}, "recent": {1}} {
		for _, fault := range requestFaults {
			for _, when := range []string{"not applied", "applied"} {
				for _, times := range often {
					t.Run(fmt.Sprintf("%s/%s/%s/%d", kind, fault.name, when, times), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							s := &stage{}
							strike := onlyFor(kind, times, fault.strike)
							if s.before = strike; when == "applied" {
								s.before, s.after = nil, strike
							}
							if kind == "recent" { // which is asked when an answer was lost
								lost, others := onlyFor("submit", 1, cut), s.after
								s.after = func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
									if got, err := lost(r, n); err != nil || others == nil {
										return got, err
									}
									return others(r, n)
								}
							}
							j := opened(t, filepath.Join(t.TempDir(), "journal"))
							got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, many))
							if got.err != nil || len(got.reasons) > 0 || len(got.outcomes) != many {
								t.Fatalf("got %d outcomes, %v, %v; want %d", len(got.outcomes), got.reasons, got.err, many)
							}
							once(t, s, many)
							if s.count(kind) == 0 {
								t.Errorf("got no request of the kind")
							}
						})
					})
				}
			}
		}
	}
}

func TestAnInterruptionAtAnyPointCostsNothing(t *testing.T) {
	const many = 10
	for _, pause := range []time.Duration{0, time.Minute, time.Hour} {
		t.Run(fmt.Sprintf("run again after %v", pause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for stop := 1; ; stop++ {
					path := filepath.Join(t.TempDir(), "journal")
					s := &stage{}
					ctx, cancel := context.WithCancel(t.Context())
					requests := 0
					s.after = func(*http.Request, int) (*httptest.ResponseRecorder, error) {
						s.mu.Lock()
						defer s.mu.Unlock()
						if requests++; requests == stop {
							cancel()
							return nil, errCut
						}
						return nil, nil
					}
					j := opened(t, path)
					ids := numbered(t, j, many)
					first := deliver(ctx, at(t, s, lasting(t)), j, ids)
					stopped := ctx.Err() != nil
					cancel()
					if stopped && !errors.Is(first.err, context.Canceled) {
						t.Errorf("stopped at request %d: got %v, want %v", stop, first.err, context.Canceled)
					}
					if err := j.Close(); err != nil {
						t.Fatal(err)
					}
					s.after = nil
					time.Sleep(pause)
					j = opened(t, path)
					second := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
					if second.err != nil || len(second.reasons) > 0 {
						t.Fatalf("stopped at request %d, run again: got %v, %v", stop, second.err, second.reasons)
					}
					once(t, s, many)
					for _, id := range ids {
						if e, err := j.Entry(id); err != nil || e.State != Valid || e.UUID == "" || e.LongID == "" {
							t.Errorf("stopped at request %d: got entry %+v, %v", stop, e, err)
						}
					}
					if !stopped {
						if stop < 8 {
							t.Fatalf("got %d points to stop at, want more", stop)
						}
						return
					}
				}
			})
		})
	}
}

func TestARefusalOfAllLeavesThemUnsent(t *testing.T) {
	for _, row := range []struct {
		name, body, want string
		status           int
	}{
		{"not the submitter", `{"error":{"code":"IncorrectSubmitter","message":"no"}}`, "allows you to submit", 403},
		{"the other spelling", `{"error":{"errorCode":"BadStructure","error":"no","innerError":[{"errorCode":"X","error":"deeper"}]}}`, "deeper [X]", 400},
		{"a cause within", `{"error":{"code":"ValidationError","details":[{"code":"IncorrectSubmitter","message":"The authenticated TIN and documents TIN is not matching"}]}}`, "is not matching", 400},
		{"not known any more", ``, "log in again", 401},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{before: onlyFor("submit", 2, func() (*httptest.ResponseRecorder, error) {
					return respond(row.status, row.body, CorrelationID, "corr-7")
				})}
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				ids := numbered(t, j, 1)
				got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
				if len(got.reasons) != 1 || !strings.Contains(got.reasons[0].Error(), row.want) || !strings.Contains(got.reasons[0].Error(), "corr-7") {
					t.Errorf("got %v, want %q with its correlation ID", got.reasons, row.want)
				}
				if e, err := j.Entry(ids[0]); err != nil || e.State != Signed {
					t.Errorf("got %v, %v, want Signed", e.State, err)
				}
				s.before = nil
				if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.outcomes["INV-0"] != Valid {
					t.Errorf("run again: got %v, %v", got.outcomes, got.reasons)
				}
			})
		})
	}
}

func TestTheOutcomeOfEachIsToldInWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{
			refuse: func(d SubmittedDocument) *Problem {
				if d.CodeNumber != "INV-0" {
					return nil
				}
				return &Problem{Code: "3", Message: "Validation Error", Details: []Problem{{Code: "CF321", Message: "too old", PropertyPath: "Invoice.IssueDate"}}}
			},
			validate: func(d SubmittedDocument) (string, *StepProblem) {
				if d.CodeNumber != "INV-4" {
					return StatusValid, nil
				}
				return StatusInvalid, &StepProblem{Code: "Error21", Message: "Document Signature Validator", Details: []Problem{{Code: "DS333"}}}
			},
		}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 8))
		for number, want := range map[string]struct {
			state State
			said  string
		}{
			"INV-0": {Rejected, "Validation Error [3]: too old [CF321] at Invoice.IssueDate"},
			"INV-4": {Invalid, "Step08-Document Signature Validator: Document Signature Validator [Error21]: the signature is invalid [DS333]"},
			"INV-5": {Valid, ""},
		} {
			e := got.entries[number]
			if e.State != want.state || strings.Join(e.Findings, "\n") != want.said {
				t.Errorf("%s: got %s %q, want %s %q", number, e.State, e.Findings, want.state, want.said)
			}
		}
		if len(got.outcomes) != 8 {
			t.Errorf("got %d outcomes, want 8", len(got.outcomes))
		}
	})
}

func TestATokenThatEndedCostsNoDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		ended := 0
		s.before = func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) == "login" || n > 2 {
				return nil, nil
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if ended++; ended%2 == 1 {
				clear(s.valid)
			}
			return nil, nil
		}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 12)); got.err != nil || len(got.reasons) > 0 {
			t.Errorf("got %v, %v", got.reasons, got.err)
		}
		once(t, s, 12)
	})
}

func TestSubmissionsKeepToTheirNumberAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		c := at(t, s, lasting(t))
		for i := range 300 {
			if _, err := c.Submit(t.Context(), seller, fmt.Appendf(nil, `{"documents":[{"codeNumber":"%d"}]}`, i)); err != nil {
				t.Fatal(err)
			}
		}
		windows(t, s.arrived["submit"], 100)
		if took := s.arrived["submit"][299].Sub(s.arrived["submit"][0]); took > 5*time.Minute {
			t.Errorf("got 300 submissions in %v: too slow for what is allowed", took)
		}
	})
}
