package myinvois

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatCannotBeListedToItsEndIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{after: onlyFor("submit", 1, cut)}
		s.before = func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) != "recent" {
				return nil, nil
			}
			page := r.URL.Query().Get("pageNo")
			said := RecentAnswer{Metadata: RecentMetadata{Pages: maxPages + 1}}
			for i := range pageSize {
				said.Documents = append(said.Documents, DocumentSummary{SubmissionUID: "S" + page, Number: fmt.Sprint(page, "-", i)})
			}
			w := httptest.NewRecorder()
			write(w, http.StatusOK, said)
			return w, nil
		}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		interrupted(t, at(t, s, lasting(t)), j, ids)
		time.Sleep(15 * time.Minute)
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); len(got.reasons) != 1 || s.count("submit") != 1 {
			t.Errorf("got %v, %v after %d submissions, want it left after 1", got.outcomes, got.reasons, s.count("submit"))
		}
	})
}

func TestAllPagesAreReadWhetherTheyAreCountedOrNot(t *testing.T) {
	for name, row := range map[string]struct {
		counted int
		sizes   []int
	}{
		"counted":                     {3, []int{pageSize, pageSize, 7}},
		"counted, and shorter":        {3, []int{50, 50, 7}},
		"not counted":                 {0, []int{pageSize, pageSize, 7}},
		"not counted, the last empty": {0, []int{pageSize, pageSize, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := 0
				for _, n := range row.sizes {
					want += n
				}
				s := &stage{before: func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
					if kindOf(r) != "recent" {
						return nil, nil
					}
					page, err := strconv.Atoi(r.URL.Query().Get("pageNo"))
					if err != nil {
						return nil, err
					}
					w := httptest.NewRecorder()
					write(w, http.StatusOK, RecentAnswer{Documents: make([]DocumentSummary, row.sizes[page-1]), Metadata: RecentMetadata{Pages: Whole(row.counted)}})
					return w, nil
				}}
				got, err := at(t, s, lasting(t)).Recent(t.Context(), seller, time.Now().Add(-time.Hour), time.Now())
				if err != nil || len(got) != want {
					t.Errorf("got %d, %v, want %d", len(got), err, want)
				}
			})
		})
	}
}

func TestOnlyTheTimeOfTheSendingIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last time.Time
		s := &stage{after: onlyFor("submit", 1, cut)}
		s.before = func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) == "recent" {
				to, err := time.Parse(time.RFC3339, r.URL.Query().Get("submissionDateTo"))
				last = to
				return nil, err
			}
			return nil, nil
		}
		began := time.Now()
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		interrupted(t, at(t, s, lasting(t)), j, ids)
		time.Sleep(24 * time.Hour)
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.outcomes["INV-0"] != Valid {
			t.Errorf("got %v, %v", got.outcomes, got.reasons)
		}
		if within := last.Sub(began); within <= 0 || within > time.Hour {
			t.Errorf("got documents until %v after the sending asked for, want an hour at most", within)
		}
	})
}

func TestADocumentIsFoundWithoutATime(t *testing.T) {
	for _, form := range []string{`"2026-11-22 06:00:00"`, `null`} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{after: func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
				switch {
				case kindOf(r) == "submit" && n == 1:
					return cut()
				case kindOf(r) == "recent":
					return respond(200, `{"result":[{"uuid":"UID1-0","submissionUID":"UID1","internalId":"INV-0","status":"Valid","dateTimeReceived":`+form+`}],"metadata":{"totalPages":1}}`)
				}
				return nil, nil
			}}
			j := opened(t, filepath.Join(t.TempDir(), "journal"))
			ids := numbered(t, j, 1)
			interrupted(t, at(t, s, lasting(t)), j, ids)
			time.Sleep(15 * time.Minute)
			if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.outcomes["INV-0"] != Valid || s.count("submit") != 1 {
				t.Errorf("%s: got %v, %v after %d submissions, want it found after 1", form, got.outcomes, got.reasons, s.count("submit"))
			}
		})
	}
}
