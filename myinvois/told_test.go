package myinvois

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAReasonInBareWordsIsTold(t *testing.T) {
	for _, body := range []string{`"no"`, `{"code":"x","details":["no"]}`, `{"errorCode":"x","innerError":["no"]}`} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{before: onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) {
				return respond(202, `{"submissionUid":null,"rejectedDocuments":[{"invoiceCodeNumber":"INV-0","error":`+body+`}]}`)
			})}
			j := opened(t, filepath.Join(t.TempDir(), "journal"))
			got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 1))
			if e := got.entries["INV-0"]; e.State != Rejected || !strings.Contains(strings.Join(e.Findings, ""), "no") {
				t.Errorf("%s: got %s %q, %v, want it Rejected and why", body, e.State, e.Findings, got.reasons)
			}
		})
	}
}

func TestARejectedDocumentThatIsNotNamedIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{refuse: func(d SubmittedDocument) *Problem {
			if d.CodeNumber == "B" {
				return &Problem{Code: "x"}
			}
			return nil
		}}
		s.after = onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) {
			return respond(202, `{"submissionUid":"UID1","acceptedDocuments":[{"uuid":"UID1-0","invoiceCodeNumber":"A"}],"rejectedDocuments":[{"invoiceCodeNumber":null,"error":{"code":"x"}}]}`)
		})
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		got := deliver(t.Context(), at(t, s, lasting(t)), j, []uint64{written(t, j, seller, "01", "A", "a"), written(t, j, seller, "01", "B", "b")})
		if got.outcomes["A"] != Valid || got.outcomes["B"] != Rejected {
			t.Errorf("got %v, %v, want A Valid, B Rejected", got.outcomes, got.reasons)
		}
	})
}

func TestNoDocumentIsRejectedByAPageThatIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		s.after = func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			switch {
			case kindOf(r) == "submit" && n == 1:
				return cut()
			case kindOf(r) == "submission":
				return respond(200, `{"submissionUid":"UID1","documentCount":2,"overallStatus":"Valid","documentSummary":[{"uuid":"UID1-0","internalId":"A","status":"Valid"}]}`)
			}
			return nil, nil
		}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := []uint64{written(t, j, seller, "01", "A", "a"), written(t, j, seller, "01", "B", "b")}
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.outcomes["A"] != Valid || len(got.reasons) != 1 {
			t.Errorf("got %v, %v, want A Valid, B not known", got.outcomes, got.reasons)
		}
		s.after = nil
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.outcomes["B"] != Valid {
			t.Errorf("run again: got %v, %v, want B Valid", got.outcomes, got.reasons)
		}
	})
}

func TestANumberIsReadHoweverItIsWritten(t *testing.T) {
	for text, want := range map[string]Whole{`3`: 3, `"3"`: 3, `" 3 "`: 3, `3.0`: 3, `3599.9`: 3599, `null`: 0, `""`: 0, `-1`: -1} {
		var got Whole
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{`"three"`, `"NaN"`, `1e300`, `true`, `[3]`} {
		var got Whole
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s: got %d, want an error", text, got)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("login", 1, func() (*httptest.ResponseRecorder, error) {
			return respond(200, `{"access_token":"a-token-of-text","token_type":"Bearer","expires_in":"3600"}`)
		})}
		if access, err := at(t, s, lasting(t)).Login(t.Context(), seller); err != nil || time.Until(access.Ends) < 3500*time.Second {
			t.Errorf("a login: got %v, %v", access.Ends, err)
		}
	})
}

func TestCredentialsOfTheOtherEnvironmentAreSuspected(t *testing.T) {
	for _, body := range []string{``, `{"error":{"code":"Forbidden","message":"no"}}`, `<html>`} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{before: onlyFor("login", 1, func() (*httptest.ResponseRecorder, error) { return respond(403, body) })}
			j := opened(t, filepath.Join(t.TempDir(), "journal"))
			got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 1))
			if len(got.reasons) != 1 || !strings.Contains(got.reasons[0].Error(), "the other environment (preprod and production each have their own)") {
				t.Errorf("%s: got %v, want the other environment suspected", body, got.reasons)
			}
		})
	}
}

func TestAJournalThatFailsIsNotMaskedByARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		s := &stage{before: onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) {
			if err := j.Close(); err != nil {
				return nil, err
			}
			return respond(400, `{"error":{"code":"BadStructure"}}`)
		})}
		got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 1))
		if !errors.Is(got.err, os.ErrClosed) || !strings.Contains(got.err.Error(), "BadStructure") {
			t.Errorf("got %v, want the journal's error, and the refusal", got.err)
		}
	})
}
