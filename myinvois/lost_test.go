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

func TestWhatWasTakenIsNeverSentAgain(t *testing.T) {
	for _, row := range []struct {
		name string
		body string
	}{{"an empty answer", ""}, {"half an answer", `{"submissionUid":"UI`}, {"an answer of another kind", `[]`}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{after: onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) { return respond(202, row.body) })}
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 1))
				if got.outcomes["INV-0"] != Valid || s.count("submit") != 1 {
					t.Errorf("got %v after %d submissions, %v; want Valid after 1", got.outcomes, s.count("submit"), got.reasons)
				}
			})
		})
	}
}

func TestWhatWasTakenAndIsNotListedIsRejectedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		s.before = onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) { return respond(202, "") }) // taken, and lost
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		for range 2 {
			got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
			if len(got.outcomes) != 0 || len(got.reasons) != 1 || !strings.Contains(got.reasons[0].Error(), "run this again later") || s.count("submit") != 1 {
				t.Errorf("got %v, %v after %d submissions; want it left after 1", got.outcomes, got.reasons, s.count("submit"))
			}
			time.Sleep(5 * time.Minute)
		}
		time.Sleep(time.Hour)
		got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
		if got.outcomes["INV-0"] != Rejected || !strings.Contains(strings.Join(got.entries["INV-0"].Findings, ""), "was lost") || s.count("submit") != 1 {
			t.Errorf("later: got %v, %v after %d submissions, want it Rejected after 1", got.entries, got.reasons, s.count("submit"))
		}
	})
}

func TestALineThatIsDownLeavesAllForAnotherRun(t *testing.T) {
	for name, applied := range map[string]bool{"nothing arrived": false, "all arrived": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const many = 8
				s := &stage{}
				strike := onlyFor("submit", 1000, cut)
				if s.before = strike; applied {
					s.before, s.after = nil, strike
				}
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				ids := numbered(t, j, many)
				got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
				if got.err != nil || !applied && len(got.reasons) != many {
					t.Errorf("got %d reasons, %v; want %d", len(got.reasons), got.err, many)
				}
				s.before, s.after = nil, nil
				time.Sleep(24 * time.Hour)
				if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.err != nil || len(got.reasons) > 0 {
					t.Errorf("the next day: got %v, %v", got.reasons, got.err)
				}
				once(t, s, many)
			})
		})
	}
}

func TestARefusalOfASecondSendingTellsNothingOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{after: onlyFor("submit", 1, cut)} // taken, and lost
		s.before = func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
			if kindOf(r) == "submit" && n == 2 {
				return respond(403, `{"error":{"code":"IncorrectSubmitter"}}`)
			}
			return nil, nil
		}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 1)
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); len(got.reasons) != 1 {
			t.Errorf("got %v, %v, want it left", got.outcomes, got.reasons)
		}
		if e := mustEntry(t, j, ids[0]); e.State != Sending {
			t.Errorf("got %v, want Sending: it may have been taken", e.State)
		}
		if got := deliver(t.Context(), at(t, s, lasting(t)), j, ids); got.outcomes["INV-0"] != Valid {
			t.Errorf("run again: got %v, %v", got.outcomes, got.reasons)
		}
		once(t, s, 1)
	})
}

func TestAnotherSubmissionIsNotTakenForOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		c := at(t, s, lasting(t))
		submitted := func(text string) {
			if _, err := c.Submit(t.Context(), seller, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		submitted(`{"documents":[{"codeNumber":"INV-0"}]}`) // long ago
		time.Sleep(time.Hour)
		submitted(`{"documents":[{"codeNumber":"INV-0"},{"codeNumber":"INV-77"}]}`) // of another system
		s.after = onlyFor("submit", 3, cut)
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		got := deliver(t.Context(), c, j, numbered(t, j, 1))
		if e := got.entries["INV-0"]; e.State != Valid || e.SubmissionUID != "UID3" {
			t.Errorf("got %+v, %v, want it in UID3", e, got.reasons)
		}
	})
}

func TestWhatALostAnswerRejectedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{
			refuse: func(d SubmittedDocument) *Problem {
				if d.CodeNumber == "INV-0" {
					return &Problem{Code: "3"}
				}
				return nil
			},
			after: onlyFor("submit", 1, cut),
		}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 5) // 0 and 4 go together
		got := deliver(t.Context(), at(t, s, lasting(t)), j, []uint64{ids[0], ids[4]})
		if got.outcomes["INV-4"] != Valid || got.outcomes["INV-0"] != Rejected || !strings.Contains(strings.Join(got.entries["INV-0"].Findings, ""), "was lost") {
			t.Errorf("got %v, %v", got.entries, got.reasons)
		}
	})
}

func TestADuplicateThatIsNoneIsSentWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) {
			return respond(422, `{"error":{"code":"DuplicateSubmission"}}`, "Retry-After", "90")
		})}
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		began := time.Now()
		got := deliver(t.Context(), at(t, s, lasting(t)), j, numbered(t, j, 1))
		if got.outcomes["INV-0"] != Valid || s.count("submit") != 2 {
			t.Errorf("got %v, %v after %d submissions", got.outcomes, got.reasons, s.count("submit"))
		}
		if second := s.arrived["submit"][1].Sub(began); second < 90*time.Second {
			t.Errorf("sent again after %v, want 90s at least", second)
		}
		once(t, s, 1)
	})
}

func TestADocumentToUsIsNotTakenForOurs(t *testing.T) {
	for name, issuer := range map[string]string{"its issuer is told": "C99999999990", "its issuer is not told": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{before: onlyFor("submit", 1, cut)}
				if issuer == "" { // then the platform tells of the submission to its submitter only
					s.after = func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
						if r.URL.Path == PathSubmissions+"THEIRS" {
							return respond(403, `{"error":{"code":"Forbidden"}}`)
						}
						return nil, nil
					}
				}
				j := opened(t, filepath.Join(t.TempDir(), "journal"))
				ids := numbered(t, j, 1)
				interrupted(t, at(t, s, lasting(t)), j, ids)
				s.taken = append(s.taken, &takenSubmission{uid: "THEIRS", taxpayer: seller, received: time.Now(), summary: []DocumentSummary{{
					UUID: "THEIRS-1", SubmissionUID: "THEIRS", Number: "INV-0", IssuerTIN: issuer, Status: StatusValid, Received: Instant{time.Now()},
				}}})
				time.Sleep(15 * time.Minute)
				got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
				if e := got.entries["INV-0"]; e.State != Valid || e.SubmissionUID != "UID2" {
					t.Errorf("got %+v, %v, want ours, sent again", e, got.reasons)
				}
			})
		})
	}
}
