package myinvois

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

func TestWhatIsWrongIsToldLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{validate: func(SubmittedDocument) (string, *StepProblem) {
			return "INVALID", &StepProblem{Code: "DS333", Message: "bad"} // however it is spelled
		}}
		s.before = onlyFor("details", attempts, func() (*httptest.ResponseRecorder, error) { return respond(503, "") })
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		c := at(t, s, lasting(t))
		ids := numbered(t, j, 1)
		got := deliver(t.Context(), c, j, ids)
		e := got.entries["INV-0"]
		if e.State != Invalid || len(e.Findings) != 1 || !strings.Contains(e.Findings[0], "was not told") {
			t.Fatalf("got %+v, want it Invalid, and why not told", e)
		}
		now, err := (&Courier{Client: c, Journal: j}).Refresh(t.Context(), e)
		if err != nil || len(now.Findings) != 1 || !strings.Contains(now.Findings[0], "DS333") || mustEntry(t, j, ids[0]).Findings[0] != now.Findings[0] {
			t.Errorf("got %v, %v, want what is wrong, written down", now.Findings, err)
		}
	})
}
