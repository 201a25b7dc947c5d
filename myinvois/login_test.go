package myinvois

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneLoginServesHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{delay: time.Second}
		c := at(t, s, lasting(t))
		var asking sync.WaitGroup
		for range 200 {
			asking.Go(func() {
				if _, err := c.Login(t.Context(), seller); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		if len(s.logins) != 1 || s.logins[0].onBehalf != seller || s.logins[0].secret != "the-secret" || s.logins[0].client != "erp" {
			t.Errorf("got logins %v, want one on behalf of %s", s.logins, seller)
		}
	})
}

// windows fails the test if more than most instants lie in any minute.
func windows(t *testing.T, instants []time.Time, most int) {
	t.Helper()
	for i := range instants {
		if i >= most && instants[i].Sub(instants[i-most]) < time.Minute {
			t.Fatalf("got %d within %v, want at most %d a minute", most+1, instants[i].Sub(instants[i-most]), most)
		}
	}
}

func TestAThousandTaxpayersStayWithinTwelveLoginsAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 1000
		s := &stage{life: 4 * time.Hour}
		c := at(t, s, lasting(t))
		began := time.Now()
		var asking sync.WaitGroup
		for i := range many {
			asking.Go(func() {
				if _, err := c.Login(t.Context(), fmt.Sprintf("C%011d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		var instants []time.Time
		for _, l := range s.logins {
			instants = append(instants, l.at)
		}
		if len(instants) != many {
			t.Errorf("got %d logins, want %d", len(instants), many)
		}
		windows(t, instants, 12)
		if took := time.Since(began); took > 2*time.Hour {
			t.Errorf("got all logged in after %v: too slow for what is allowed", took)
		}
	})
}

func TestTokensAreRenewedBeforeTheyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{delay: time.Second}
		c := at(t, s, lasting(t))
		if _, err := c.Login(t.Context(), seller); err != nil {
			t.Fatal(err)
		}
		waits := 0
		for range 3 * 60 {
			time.Sleep(time.Minute)
			asked := time.Now()
			if _, err := c.Recent(t.Context(), seller, asked, asked); err != nil {
				t.Fatal(err)
			}
			if time.Since(asked) > time.Second {
				waits++
			}
		}
		if n := len(s.logins); n < 3 || n > 5 {
			t.Errorf("got %d logins in three hours of tokens that last one, want 3 to 5", n)
		}
		if waits > 0 {
			t.Errorf("got %d calls that waited for a login, want none: the next token is fetched beside", waits)
		}
	})
}

func TestRenewalsAreSpread(t *testing.T) {
	now := time.Now()
	seen := map[time.Time]bool{}
	for range 50 {
		made := newToken(TokenAnswer{"x", "Bearer", 3600, Scope}, now)
		seen[made.renewal] = true
		if early := made.ends.Sub(made.renewal); early < 2*time.Minute || early > 7*time.Minute || made.ends.After(now.Add(time.Hour-slack)) {
			t.Fatalf("got a token that is renewed %v before %v", early, made.ends.Sub(now))
		}
	}
	if len(seen) < 10 {
		t.Errorf("got %d times of renewal of 50 tokens fetched together, want many", len(seen))
	}
}

func TestAWaitForALoginEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{delay: 10 * time.Second}
		c := at(t, s, lasting(t))
		var asking sync.WaitGroup
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.Login(ctx, seller); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("one who leaves: got %v, want %v", err, context.DeadlineExceeded)
			}
		})
		asking.Go(func() {
			if _, err := c.Login(t.Context(), seller); err != nil {
				t.Errorf("one who stays: %v", err)
			}
		})
		asking.Wait()
		if n := s.count("login"); n != 1 {
			t.Errorf("got %d logins, want 1", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Login(ctx, other)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the only one, who leaves: got %v, want %v", err, context.DeadlineExceeded)
		}
		if _, err := c.Login(t.Context(), other); err != nil {
			t.Errorf("who comes just then: %v", err)
		}
	})
}

func TestEachRefusalOfALoginSaysWhatToDo(t *testing.T) {
	for _, row := range []struct {
		name, body string
		status     int
		want       []string
		code       Code
	}{
		{"a wrong secret", `{"error":"invalid_client","error_description":"the-secret is wrong","error_uri":null}`, 400, []string{"client ID and secret", "(secret) is wrong"}, InvalidClient},
		{"a parameter that is missing", `{"error":"invalid_request"}`, 400, []string{"parameter"}, "invalid_request"},
		{"no representation", `{"error":"invalid_grant","error_description":"x"}`, 400, []string{"appointed"}, "invalid_grant"},
		{"another kind of client", `{"error":"unauthorized_client"}`, 400, []string{"intermediary or taxpayer"}, "unauthorized_client"},
		{"the same in LHDN's spelling", `{"error":"unauthorised_client"}`, 400, []string{"intermediary or taxpayer"}, "unauthorised_client"},
		{"another grant", `{"error":"unsupported_grant_type"}`, 400, []string{"login service"}, "unsupported_grant_type"},
		{"another scope", `{"error":"invalid_scope"}`, 400, []string{"register"}, "invalid_scope"},
		{"what nobody knows", `{"error":"strange"}`, 400, []string{"[strange]", "status 400"}, "strange"},
		{"a page of HTML", `<html>blocked</html>`, 403, []string{"Forbidden", "appointed"}, ""},
		{"the API's kind of error", `{"error":{"code":"Blocked","message":"no"}}`, 403, []string{"no [Blocked]"}, "Blocked"},
		{"an answer without a token", `{"token_type":"Bearer","expires_in":3600}`, 200, []string{"no bearer token"}, ""},
		{"an answer that is none", `what?`, 200, []string{"cannot be read"}, ""},
		{"a redirection", ``, 302, []string{"redirection"}, ""},
		{"not implemented", ``, 501, []string{"at fault"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{before: func(*http.Request, int) (*httptest.ResponseRecorder, error) {
					return respond(row.status, row.body, "Location", "https://elsewhere.test/", CorrelationID, "corr-1")
				}}
				_, err := at(t, s, lasting(t)).Login(t.Context(), seller)
				failed, ours := errors.AsType[*Error](err)
				if !ours || failed.Status != row.status || failed.CorrelationID != "corr-1" || !errors.Is(err, row.code) && row.code != "" {
					t.Fatalf("got %#v, want an Error of code %q", err, row.code)
				}
				for _, want := range append(row.want, "logging in on behalf of "+seller, "corr-1") {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("got %q, want %q in it", err, want)
					}
				}
				if strings.Contains(err.Error(), "the-secret") {
					t.Errorf("the secret is in %q", err)
				}
				if n := s.count("login"); n != 1 {
					t.Errorf("got %d logins, want 1", n)
				}
			})
		})
	}
}

func TestARefusedLoginIsNotTriedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("login", 1, func() (*httptest.ResponseRecorder, error) { return respond(400, `{"error":"invalid_grant"}`) })}
		c := at(t, s, lasting(t))
		for range 20 {
			if _, err := c.Login(t.Context(), seller); err == nil {
				t.Fatal("got no error")
			}
			time.Sleep(time.Second)
		}
		if n := s.count("login"); n != 1 {
			t.Errorf("got %d logins within 20 seconds, want 1", n)
		}
		time.Sleep(time.Minute)
		if _, err := c.Login(t.Context(), seller); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}

func TestALoginThatFailsInPassingIsRepeated(t *testing.T) {
	for name, strike := range map[string]func() (*httptest.ResponseRecorder, error){
		"a broken line":  cut,
		"an error of it": func() (*httptest.ResponseRecorder, error) { return respond(503, "") },
		"too many":       func() (*httptest.ResponseRecorder, error) { return respond(429, "", "Retry-After", "20") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{before: onlyFor("login", 2, strike)}
				if _, err := at(t, s, lasting(t)).Login(t.Context(), seller); err != nil {
					t.Error(err)
				}
				if n := s.count("login"); n != 3 {
					t.Errorf("got %d logins, want 3", n)
				}
			})
		})
	}
}

func TestSecretsReplaceEachOther(t *testing.T) {
	two := func(first, second string) *Credentials {
		return lasting(t, clientEntry{ID: "erp", Secrets: []secretEntry{{"old-secret", first}, {"new-secret", second}}})
	}
	for _, row := range []struct {
		name        string
		credentials *Credentials
		refused     string
		want        string // the secrets, as they are tried
	}{
		{"the new one is taken", two("2090-01-01", "2091-01-01"), "", "new"},
		{"the old one where the new one is not known yet", two("2090-01-01", "2091-01-01"), "new", "new old"},
		{"none that has ended", two("2091-01-01", "1999-12-31"), "", "old"},
		{"both where both are refused", two("2090-01-01", "2091-01-01"), "new old", "new old"},
		{"neither where both have ended", two("1999-12-30", "1999-12-31"), "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tried []string
				s := &stage{}
				s.before = func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
					body, err := r.GetBody()
					if err != nil {
						return nil, err
					}
					text := make([]byte, 4096)
					n, _ := body.Read(text)
					for _, secret := range []string{"old", "new"} {
						if !strings.Contains(string(text[:n]), "client_secret="+secret+"-secret") {
							continue
						}
						tried = append(tried, secret)
						if strings.Contains(row.refused, secret) {
							return respond(400, `{"error":"invalid_client"}`)
						}
					}
					return nil, nil
				}
				_, err := at(t, s, row.credentials).Login(t.Context(), seller)
				if got := strings.Join(tried, " "); got != row.want {
					t.Errorf("got secrets %q tried, want %q", got, row.want)
				}
				if good := row.want != "" && row.want != row.refused; good != (err == nil) {
					t.Errorf("got %v, want success: %v", err, good)
				}
			})
		})
	}
}

func TestWhoLogsInForWhom(t *testing.T) {
	day := []secretEntry{{"a-secret", "2099-12-31"}}
	credentials := lasting(t,
		clientEntry{ID: "all", Secrets: day},
		clientEntry{ID: "own", TIN: seller, Secrets: day},
		clientEntry{ID: "self", TIN: other, As: "taxpayer", Secrets: day},
	)
	for _, row := range []struct{ taxpayer, client, onBehalf string }{
		{"C10000000010", "all", "C10000000010"},
		{"IG12345678912:201901234567", "all", "IG12345678912:201901234567"},
		{seller, "own", seller},
		{other, "self", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{}
			access, err := at(t, s, credentials).Login(t.Context(), row.taxpayer)
			if err != nil || access.Client != row.client || s.logins[0].client != row.client || s.logins[0].onBehalf != row.onBehalf {
				t.Errorf("%s: got %v by %v, %v; want client ID %s on behalf of %q", row.taxpayer, access, s.logins, err, row.client, row.onBehalf)
			}
		})
	}
	_, err := at(t, &stage{}, lasting(t, clientEntry{ID: "own", TIN: seller, Secrets: day})).Login(t.Context(), other)
	if err == nil || !strings.Contains(err.Error(), "credentials file") {
		t.Errorf("a taxpayer without a client ID: got %v, want what to do", err)
	}
}
