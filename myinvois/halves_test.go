package myinvois

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// holding refuses a submission that holds a document of one of the numbers.
func holding(status int, body string, numbers ...string) func(*http.Request, int) (*httptest.ResponseRecorder, error) {
	return func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
		if kindOf(r) != "submit" {
			return nil, nil
		}
		content, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(content)
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			if strings.Contains(string(text), `"codeNumber":"`+n+`"`) {
				return respond(status, body)
			}
		}
		return nil, nil
	}
}

func TestOneDocumentAtFaultDoesNotRefuseTheOthers(t *testing.T) {
	const many = 32
	var all []string
	for i := range many {
		all = append(all, fmt.Sprint("N-", i))
	}
	for name, row := range map[string]struct {
		status   int
		body     string
		at       []string // fault
		sent     int      // submissions at most
		together bool     // those without fault are refused with them
	}{
		"one":                           {400, `{"error":{"code":"ValidationError"}}`, []string{"N-21"}, 15, false},
		"the first and the last":        {400, `{"error":{"code":"BadStructure"}}`, []string{"N-0", "N-31"}, 29, false},
		"two beside each other, by 422": {422, `{"error":{"code":"ValidationError"}}`, []string{"N-15", "N-16"}, 29, false},
		"one that is too large":         {413, ``, []string{"N-1"}, 15, false},
		"all":                           {400, ``, all, 1 + 2*maxSplits, true},
		"who submits":                   {403, `{"error":{"code":"IncorrectSubmitter"}}`, []string{"N-21"}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{before: holding(row.status, row.body, row.at...)}
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				documents := make([]Unsent, many)
				for i, n := range all {
					documents[i] = Unsent{Taxpayer: seller, Number: n, Type: "01", Format: XML, Content: []byte("document " + n)}
				}
				entries, err := j.Add(documents)
				if err != nil {
					t.Fatal(err)
				}
				ids := make([]uint64, many)
				for i, e := range entries {
					ids[i] = e.ID
				}
				got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
				good := many - len(row.at)
				if row.together {
					good = 0
				}
				if got.err != nil || len(got.outcomes) != good || len(got.reasons) != many-good || s.count("submit") > row.sent {
					t.Errorf("got %d outcomes, %d without, %v after %d submissions; want %d, %d after %d at most",
						len(got.outcomes), len(got.reasons), got.err, s.count("submit"), good, many-good, row.sent)
				}
				times := s.accepted()
				for i, n := range all {
					e := mustEntry(t, j, ids[i])
					if accepted := times[n]; (e.State == Valid) != (accepted == 1) || accepted > 1 || e.State != Valid && e.State != Signed {
						t.Errorf("document %s: got it %s, accepted %d times", n, e.State, accepted)
					}
				}
			})
		})
	}
}

func TestAnInterruptionWhileOneAtFaultIsLookedForCostsNothing(t *testing.T) {
	const many = 8
	for stop := 1; stop <= 9; stop++ {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			requests, faulty := 0, holding(400, ``, "INV-4")
			s := &stage{}
			s.before = func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
				s.mu.Lock()
				requests++
				now := requests == stop
				s.mu.Unlock()
				if now {
					cancel()
					return nil, errCut
				}
				return faulty(r, n)
			}
			path := filepath.Join(t.TempDir(), "journal")
			j := opened(t, path)
			var ids []uint64
			for i := range many {
				ids = append(ids, written(t, j, seller, "01", fmt.Sprint("INV-", i), fmt.Sprint("document ", i)))
			}
			deliver(ctx, at(t, s, lasting(t)), j, ids)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			s.before = nil // it is mended, as it were
			j = opened(t, path)
			got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
			if got.err != nil || len(got.reasons) > 0 {
				t.Errorf("stopped at request %d: got %v, %v", stop, got.reasons, got.err)
			}
			once(t, s, many)
		})
	}
}
