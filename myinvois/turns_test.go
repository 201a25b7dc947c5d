package myinvois

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// beside is the client of one of several processes that share a journal, which is
// not opened. What it notes is told to note.
func beside(t *testing.T, s *stage, journal string, note func(string)) *Client {
	t.Helper()
	c, err := New(Config{API: place, Credentials: "not read", Transport: s, Journal: journal, Note: note}, lasting(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *stage) loginTimes() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(slices.Values(s.arrived["login"]), time.Time.Compare)
}

func TestProcessesOneAfterAnotherStayWithinTwelveLoginsAMinute(t *testing.T) {
	for name, before := range map[string]func(*http.Request, int) (*httptest.ResponseRecorder, error){
		"each logs in": nil,
		"each is killed while it logs in": func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const many = 40
				s, journal := &stage{before: before}, filepath.Join(t.TempDir(), "journal")
				var notes []string
				for range many {
					c := beside(t, s, journal, func(text string) { notes = append(notes, text) })
					ctx, cancel := context.WithCancel(t.Context())
					n := s.count("login")
					go func() { _, _ = c.Login(ctx, seller) }()
					for s.count("login") == n {
						synctest.Wait()
						time.Sleep(100 * time.Millisecond)
					}
					cancel()
					c.Close()
				}
				times := s.loginTimes()
				if len(times) != many {
					t.Fatalf("got %d logins, want %d", len(times), many)
				}
				windows(t, times, 12)
				if took := times[many-1].Sub(times[0]); took > 4*time.Minute {
					t.Errorf("got them within %v, want 12 a minute used", took)
				}
				if len(notes) == 0 || !strings.Contains(notes[0], "12 logins a minute with client ID erp") {
					t.Errorf("got %q, want to be told why it takes so long", notes)
				}
			})
		})
	}
}

func TestProcessesSideBySideStayWithinTwelveLoginsAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const processes, each = 5, 6
		s, journal := &stage{}, filepath.Join(t.TempDir(), "journal")
		var running sync.WaitGroup
		for range processes {
			c := beside(t, s, journal, nil)
			running.Go(func() {
				for i := range each {
					if _, err := c.Login(t.Context(), fmt.Sprintf("C%011d", i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		times := s.loginTimes()
		if len(times) != processes*each {
			t.Fatalf("got %d logins, want %d", len(times), processes*each)
		}
		windows(t, times, 12)
	})
}

func TestALimitThatOneProcessLearnsHoldsForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, journal := &stage{}, filepath.Join(t.TempDir(), "journal")
		s.before = onlyFor("login", 1, func() (*httptest.ResponseRecorder, error) { return respond(429, "", "Retry-After", "300") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := beside(t, s, journal, nil).Login(ctx, seller); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		if _, err := beside(t, s, journal, nil).Login(t.Context(), seller); err != nil {
			t.Error(err)
		}
		if times := s.loginTimes(); len(times) != 2 || times[1].Sub(times[0]) < 5*time.Minute {
			t.Errorf("got logins at %v, want the second 5 minutes later", times)
		}
	})
}

func TestAClockThatWasSetBackHoldsNoLoginUp(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	p := past{Turns: slices.Repeat([]time.Time{now.Add(time.Hour)}, 12), Closed: now.Add(time.Hour)}
	p.since(now)
	if got := p.left(now, 12); got > maxPatience {
		t.Errorf("got %v to wait, want %v at most", got, maxPatience)
	}
	p.since(now.Add(maxPatience))
	if got := p.left(now.Add(maxPatience), 12); got != 0 {
		t.Errorf("got %v to wait after that, want none", got)
	}
}

func TestALoginThatCannotBeCountedIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		journal := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(journal+turnsSuffix, []byte(strings.Repeat("no such file ", 4096)), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &stage{}
		_, err := beside(t, s, journal, nil).Login(t.Context(), seller)
		if !errors.Is(err, errUncounted) || s.count("login") != 0 || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("got %v after %d logins, want what is wrong with the file after none", err, s.count("login"))
		}
	})
}
