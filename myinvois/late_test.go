package myinvois

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAnswerThatTellsNothingOfADocumentIsNoAnswer(t *testing.T) {
	for _, body := range []string{
		`{}`, `null`, `{"submissionUid":null,"acceptedDocuments":[],"rejectedDocuments":[]}`, `{"submissionUid":""}`,
		`{"submissionUid":null,"rejectedDocuments":[{"invoiceCodeNumber":"another","error":{"code":"x"}}]}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{after: onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) { return respond(202, body) })}
			j := opened(t, filepath.Join(t.TempDir(), "journal"))
			got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 1))
			if got.outcomes["INV-0"] != Valid || s.count("submit") != 1 {
				t.Errorf("%s: got %v after %d submissions, %v; want it found after 1", body, got.outcomes, s.count("submit"), got.reasons)
			}
		})
	}
}

func TestNothingIsSentAgainUnlookedForHoweverLongATurnTakes(t *testing.T) {
	limited := func() (*httptest.ResponseRecorder, error) {
		return respond(429, `{"error":{"code":"TooManyRequests"}}`, "Retry-After", "599")
	}
	for name, before := range map[string]func(*http.Request, int) (*httptest.ResponseRecorder, error){
		"the submission's": func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) == "submit" && n == 2 {
				return limited()
			}
			return nil, nil
		},
		"the login's": func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			switch kind := kindOf(r); {
			case kind == "submit" && n == 2: // the token is not known any more
				return respond(401, `{}`)
			case kind == "login" && n == 2:
				return limited()
			}
			return nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{before: before, after: onlyFor("submit", 1, cut)}
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 1))
				if got.outcomes["INV-0"] != Valid || s.count("submit") != 2 {
					t.Errorf("got %v, %v after %d submissions, want it found after 2", got.outcomes, got.reasons, s.count("submit"))
				}
				once(t, s, 1)
			})
		})
	}
}

func TestARefusalAfterALimitLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			switch {
			case kindOf(r) != "submit" || n > 2:
				return nil, nil
			case n == 1:
				return respond(429, "")
			}
			return respond(403, `{"error":{"code":"IncorrectSubmitter"}}`)
		}}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		deliver(t.Context(), at(t, s, lasting(t)), j, ids)
		if e := mustEntry(t, j, ids[0]); e.State != Signed {
			t.Errorf("got %v, want Signed: it was surely not taken", e.State)
		}
	})
}

func TestAClockThatWasSetBackProtectsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{after: onlyFor("submit", 1, cut)}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		interrupted(t, at(t, s, lasting(t)), j, ids)
		b, err := j.batch(mustEntry(t, j, ids[0]).Batch)
		if err != nil {
			t.Fatal(err)
		}
		// It was an hour fast.
		if _, err := j.change(b, func(b *batch, _ *Entry) {
			b.FirstSent, b.LastSent = b.FirstSent.Add(time.Hour), b.LastSent.Add(time.Hour)
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Minute)
		got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
		if got.outcomes["INV-0"] != Valid || s.count("submit") != 1 {
			t.Errorf("got %v, %v after %d submissions, want it found after 1", got.outcomes, got.reasons, s.count("submit"))
		}
	})
}

func TestARefusedSubmissionThatNeverArrivedIsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			switch {
			case kindOf(r) != "submit":
				return nil, nil
			case n == 1:
				return cut()
			}
			return respond(400, `{"error":{"code":"BadStructure"}}`)
		}}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		for _, want := range []State{Sending, Signed} { // soon it may still arrive, later it has not
			deliver(t.Context(), at(t, s, lasting(t)), j, ids)
			if e := mustEntry(t, j, ids[0]); e.State != want {
				t.Errorf("got %v, want %v", e.State, want)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestWhatWasNotSentWhileItWaitedForItsTurnIsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) == "submit" {
				return respond(429, "", "Retry-After", "300")
			}
			return nil, nil
		}}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		interrupted(t, at(t, s, lasting(t)), j, ids)
		if e := mustEntry(t, j, ids[0]); e.State != Signed {
			t.Errorf("got %v, want Signed", e.State)
		}
	})
}

func TestALoginThatIsRefusedTellsNothingOfAnEarlierSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{after: onlyFor("submit", 1, cut)} // taken, and lost
		s.before = func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) == "login" && n == 2 { // of the second run, which sends nothing
				return respond(400, `{"error":"invalid_client"}`)
			}
			return nil, nil
		}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		interrupted(t, at(t, s, lasting(t)), j, ids)
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); len(got.reasons) != 1 || mustEntry(t, j, ids[0]).State != Sending {
			t.Errorf("got %s, %v, want it left Sending", mustEntry(t, j, ids[0]).State, got.reasons)
		}
		time.Sleep(time.Hour)
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.outcomes["INV-0"] != Valid {
			t.Errorf("later: got %v, %v", got.outcomes, got.reasons)
		}
		once(t, s, 1)
	})
}
