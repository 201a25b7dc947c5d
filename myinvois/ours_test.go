package myinvois

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNoOtherDocumentOfTheNumberIsTakenForOurs(t *testing.T) {
	for name, row := range map[string]struct {
		other DocumentSummary // what the platform tells of it, beside its number
		found bool            // as ours
	}{
		"of another type":             {DocumentSummary{Type: "Credit Note"}, false},
		"of another type, by code":    {DocumentSummary{Type: "02"}, false},
		"issued at another time":      {DocumentSummary{Status: StatusInvalid, Issued: Instant{time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC)}}, false},
		"issued by another":           {DocumentSummary{Status: StatusInvalid, IssuerTIN: other}, false},
		"valid, with other bytes":     {DocumentSummary{Status: "VALID"}, false},
		"not shown, nothing is wrong": {DocumentSummary{Status: StatusInvalid, Type: "invoice"}, true},
		"of a type that is not known": {DocumentSummary{Status: StatusSubmitted, Type: "Faktur"}, true},
		"issued on the same day, and at no time that is told": {DocumentSummary{
			Status: StatusInvalid, Issued: Instant{time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)},
		}, true},
		"issued on the same day in Malaysia, and at no time that is told": {DocumentSummary{
			Status: StatusInvalid, Issued: Instant{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)},
		}, true},
		"issued at the same time": {DocumentSummary{
			Status: StatusInvalid, Issued: Instant{time.Date(1999, 12, 31, 23, 59, 58, 0, time.UTC)},
		}, true},
		"issued at the same time in Malaysia": {DocumentSummary{
			Status: StatusInvalid, Issued: Instant{time.Date(2000, 1, 1, 7, 59, 58, 0, time.UTC)},
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{}
				c := at(t, s, lasting(t))
				payload, err := Payload([]Document{{XML, "1001", []byte("another")}})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Submit(t.Context(), seller, payload); err != nil {
					t.Fatal(err)
				}
				d := &s.taken[0].summary[0]
				d.Type, d.Issued, d.IssuerTIN = row.other.Type, row.other.Issued, row.other.IssuerTIN
				if d.Status = StatusValid; row.other.Status != "" {
					d.Status = row.other.Status
				}
				s.before = onlyFor("submit", 2, cut) // ours does not arrive
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				entries, err := j.Add([]Unsent{{
					Taxpayer: seller, Number: "1001", Type: "01", Format: XML, Content: []byte("ours"),
					Issued: time.Date(1999, 12, 31, 23, 59, 58, 0, time.UTC),
				}})
				if err != nil {
					t.Fatal(err)
				}
				ids := []uint64{entries[0].ID}
				interrupted(t, at(t, s, lasting(t)), j, ids)
				s.before = nil
				time.Sleep(15 * time.Minute)
				deliver(t.Context(), at(t, s, lasting(t)), j, ids)
				want := "UID2"
				if row.found {
					want = "UID1"
				}
				if e := mustEntry(t, j, ids[0]); e.SubmissionUID != want {
					t.Errorf("got it %s in %q, want it in %s", e.State, e.SubmissionUID, want)
				}
			})
		})
	}
}

func TestOursIsFoundAlthoughItIsShownAnew(t *testing.T) {
	for name, row := range map[string]struct {
		shown func() (*httptest.ResponseRecorder, error)
		same  func(sent, shown []byte) bool
	}{
		"written anew": {
			func() (*httptest.ResponseRecorder, error) { return respond(200, `{"document":" OURS "}`) },
			func(sent, shown []byte) bool {
				return strings.EqualFold(string(sent), strings.TrimSpace(string(shown)))
			},
		},
		"not at all":    {func() (*httptest.ResponseRecorder, error) { return respond(403, "") }, nil},
		"without bytes": {func() (*httptest.ResponseRecorder, error) { return respond(200, `{}`) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{after: onlyFor("submit", 1, cut)}
				s.before = func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
					if kindOf(r) == "raw" {
						return row.shown()
					}
					return nil, nil
				}
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				id := written(t, j, seller, "01", "1001", "ours")
				interrupted(t, at(t, s, lasting(t)), j, []uint64{id})
				time.Sleep(15 * time.Minute)
				courier := &Courier{Client: at(t, s, lasting(t)), Journal: j, Seen: func(Entry, error) error { return nil }, Same: row.same}
				if err := courier.Deliver(t.Context(), []uint64{id}); err != nil {
					t.Fatal(err)
				}
				if e := mustEntry(t, j, id); e.State != Valid || s.count("submit") != 1 || s.count("raw") == 0 {
					t.Errorf("got it %s after %d submissions, %d times looked at; want it found after 1", e.State, s.count("submit"), s.count("raw"))
				}
			})
		})
	}
}
