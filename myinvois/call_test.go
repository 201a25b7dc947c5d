package myinvois

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// served is a server over HTTPS, and the configuration of its clients.
func served(t *testing.T, handler http.HandlerFunc) Config {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{API: server.URL, CA: file, Credentials: "not read"}
}

func dialled(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg, lasting(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestOnlyThePlatformsOwnAuthoritiesAreTrusted(t *testing.T) {
	asked := make(chan struct{}, 100)
	cfg := served(t, func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
	})
	if _, err := dialled(t, cfg).Login(t.Context(), seller); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	strange := cfg
	strange.CA = ""
	c := dialled(t, strange)
	_, err := c.once(t.Context(), request{doing: "asking", at: recent, method: http.MethodGet, url: cfg.API, most: 100, header: http.Header{}})
	if err == nil || !strings.Contains(err.Error(), "certificate") || !strings.Contains(err.Error(), "ca of the configuration") {
		t.Errorf("with the system's: got %v, want what to do", err)
	}
	if n := len(asked); n != 1 {
		t.Errorf("got %d requests, want 1: nothing is sent to strangers", n)
	}
	for _, text := range []string{"", "no certificate"} {
		broken := cfg
		broken.CA = filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(broken.CA, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(broken, lasting(t)); err == nil {
			t.Errorf("a file of authorities with %q: got no error", text)
		}
	}
}

func TestNoRedirectionIsFollowed(t *testing.T) {
	elsewhere := make(chan struct{}, 10)
	other := served(t, func(http.ResponseWriter, *http.Request) { elsewhere <- struct{}{} })
	cfg := served(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.API, http.StatusTemporaryRedirect)
	})
	_, err := dialled(t, cfg).Login(t.Context(), seller)
	if err == nil || !strings.Contains(err.Error(), "redirection") || len(elsewhere) > 0 {
		t.Errorf("got %v and %d requests elsewhere, want it refused", err, len(elsewhere))
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	cfg := served(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1001))
	})
	c := dialled(t, cfg)
	_, err := c.once(t.Context(), request{doing: "asking", at: raw, method: http.MethodGet, url: cfg.API, most: 1000, header: http.Header{}})
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v, want it refused", err)
	}
}

func TestNothingSecretIsInAnError(t *testing.T) {
	const secret = "very-secret-text"
	credentials := lasting(t, clientEntry{ID: "erp", Secrets: []secretEntry{{secret, "2099-12-31"}}})
	cfg := served(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.Form.Get("client_secret") != secret {
			t.Errorf("got the form %v, %v", r.Form, err)
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s is not it"}`, r.Form.Get("client_secret"))
	})
	c, err := New(cfg, credentials)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Login(t.Context(), seller)
	for _, text := range []string{
		fmt.Sprint(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), fmt.Sprintf("%v %+v %#v", credentials, credentials, credentials.clients[0]),
		fmt.Sprintf("%v %#v %s", credentials.clients[0].secrets, credentials.clients[0].secrets[0], credentials.clients[0].secrets[0].secret),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in %q", text)
		}
	}
	_, err = c.once(t.Context(), request{doing: "validating", at: validateTIN, method: http.MethodGet, url: "https://127.0.0.1:1/?idValue=800101145678", most: 10, header: http.Header{}})
	if err == nil || strings.Contains(err.Error(), "800101145678") {
		t.Errorf("got %v, want an error without a person's number", err)
	}
}

func TestWhatThePlatformSaysOfSecretsIsNotRepeated(t *testing.T) {
	const secret = "aa+b/c=="
	credentials := lasting(t, clientEntry{ID: "erp", Secrets: []secretEntry{{secret, "2099-12-31"}}})
	for _, said := range []string{secret, "aa%2Bb%2Fc%3D%3D", "aa%2bb%2fc%3d%3d"} {
		synctest.Test(t, func(t *testing.T) {
			long := strings.Repeat("x", 995) // so that what is cut off cuts the secret, too
			s := &stage{before: func(*http.Request, int) (*httptest.ResponseRecorder, error) {
				return respond(400, fmt.Sprintf(`{"error":{"code":%q,"message":%q,"details":[{"message":%[1]q,"target":%[1]q}]}}`, said, long+said), CorrelationID, said)
			}}
			_, err := at(t, s, credentials).Login(t.Context(), seller)
			failed, ours := errors.AsType[*Error](err)
			if text := fmt.Sprintf("%v %+v", err, failed); !ours || strings.Contains(text, said[:5]) || strings.Count(text, "(secret)") < 4 {
				t.Errorf("said %s: got %s, want it hidden", said, text)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := answering(func(r *http.Request, _ string) (*httptest.ResponseRecorder, error) {
			return respond(403, fmt.Sprintf(`{"error":{"code":"x","message":"bad header %s"}}`, r.Header.Get("Authorization")))
		})
		_, err := at(t, s, credentials).Details(t.Context(), seller, "D1")
		if err == nil || !strings.Contains(err.Error(), "bad header Bearer (secret)") {
			t.Errorf("a token: got %v, want it hidden", err)
		}
	})
}

func TestARefusalIsReadInEachShape(t *testing.T) {
	for _, row := range []struct {
		name, body  string
		code, words string
	}{
		{"the wire's", `{"error":{"code":"BadArgument","message":"no","target":"x","propertyPath":null,"details":[{"code":"CF1","message":"deeper","propertyPath":"a.b"}]}}`, "BadArgument", "no [BadArgument]: deeper [CF1] at a.b"},
		{"the documented one", `{"error":{"propertyName":null,"errorCode":"BadArgument","error":"no","errorMS":"tidak","innerError":[{"errorCode":"CF1","error":"deeper"}]}}`, "BadArgument", "no [BadArgument]: deeper [CF1]"},
		{"the documented one by itself", `{"errorCode":"BadArgument","error":"no","innerError":null}`, "BadArgument", "no [BadArgument]"},
		{"the wire's by itself", `{"code":"BadArgument","message":"no"}`, "BadArgument", "no [BadArgument]"},
		{"a code that is a number", `{"error":{"code":3,"message":"no"}}`, "3", "no [3]"},
		{"a signature's, in words", `{"error":{"code":"DS322","message":null}}`, "DS322", "digest does not match [DS322]"},
		{"a page of HTML", `<html>`, "", "Bad Request"},
		{"nothing", ``, "", "Bad Request"},
		{"a list", `[1]`, "", "Bad Request"},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer, err := respond(400, row.body, CorrelationID, "corr-9")
			if err != nil {
				t.Fatal(err)
			}
			got := refusal("asking", &http.Response{StatusCode: answer.Code, Header: answer.Header()}, []byte(row.body), strings.NewReplacer())
			if got.Code != row.code || !strings.Contains(got.Error(), row.words) || !strings.Contains(got.Error(), "corr-9") {
				t.Errorf("got %q with code %q, want %q with %q", got, got.Code, row.words, row.code)
			}
		})
	}
}

func TestA429IsObeyedByAll(t *testing.T) {
	for _, row := range []struct {
		name    string
		headers []string
		least   time.Duration
	}{
		{"in seconds", []string{"Retry-After", "30"}, 30 * time.Second},
		{"as a time of reset", []string{"X-Rate-Limit-Reset", "2000-01-01T00:00:45Z"}, 45 * time.Second}, // a bubble begins with 2000
		{"as a date", []string{"Retry-After", "Sat, 01 Jan 2000 00:00:50 GMT"}, 50 * time.Second},
		{"not at all", nil, time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{before: onlyFor("recent", 1, func() (*httptest.ResponseRecorder, error) { return respond(429, "", row.headers...) })}
				c := at(t, s, lasting(t))
				var asking sync.WaitGroup
				began := time.Now()
				ask := func(taxpayer string) {
					if _, err := c.Recent(t.Context(), taxpayer, began, began); err != nil {
						t.Error(err)
					}
				}
				asking.Go(func() { ask(seller) })
				synctest.Wait()
				asking.Go(func() { ask(other) }) // of the same client ID
				asking.Wait()
				for _, at := range s.arrived["recent"][1:] {
					if since := at.Sub(began); since < row.least {
						t.Errorf("got a request after %v, want none before %v", since, row.least)
					}
				}
				if n := s.count("recent"); n != 3 {
					t.Errorf("got %d requests, want 3", n)
				}
			})
		})
	}
}

func TestThoseWhoQueuedAtAClosedGateDoNotPassTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("login", 1, func() (*httptest.ResponseRecorder, error) { return respond(429, "", "Retry-After", "300") })}
		c := at(t, s, lasting(t))
		var asking sync.WaitGroup
		for i := range 200 {
			asking.Go(func() {
				if _, err := c.Login(t.Context(), fmt.Sprintf("C%011d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		if n := s.count("login"); n != 201 {
			t.Errorf("got %d logins, want 201", n)
		}
		windows(t, s.arrived["login"], 12)
	})
}

func TestALimitOfOneThatIsToldIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("recent", 1, func() (*httptest.ResponseRecorder, error) {
			return respond(429, "", "Retry-After", "60", "X-Rate-Limit-Limit", "1")
		})}
		c := at(t, s, lasting(t))
		for range 5 {
			if _, err := c.Recent(t.Context(), seller, time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		windows(t, s.arrived["recent"][1:], 1)
	})
}

func TestALowerLimitThatIsToldIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("submit", 1, func() (*httptest.ResponseRecorder, error) {
			return respond(429, "", "Retry-After", "1", "X-Rate-Limit-Limit", "20", "X-Rate-Limit-Remaining", "0")
		})}
		c := at(t, s, lasting(t))
		for i := range 100 {
			if _, err := c.Submit(t.Context(), seller, fmt.Appendf(nil, `{"documents":[{"codeNumber":"%d"}]}`, i)); err != nil {
				t.Fatal(err)
			}
		}
		windows(t, s.arrived["submit"][1:], 21) // what was held at first is spent within the first minute
	})
}

func TestALimitOutOfAllReasonIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{before: onlyFor("recent", 1, func() (*httptest.ResponseRecorder, error) { return respond(429, "", "Retry-After", "86400") })}
		_, err := at(t, s, lasting(t)).Recent(t.Context(), seller, time.Now(), time.Now())
		if failed, ours := errors.AsType[*Error](err); !ours || failed.RetryAfter != 24*time.Hour {
			t.Errorf("got %v, want when to come again", err)
		}
	})
}

func TestEachEndpointKeepsToItsLimit(t *testing.T) {
	if len(perMinute) < 10 {
		t.Fatalf("got %d endpoints", len(perMinute))
	}
	for at, limit := range perMinute {
		for _, share := range []float64{1, 0.5} {
			synctest.Test(t, func(t *testing.T) {
				all := newGates(share)
				var instants []time.Time
				for range 3 * int(limit) {
					if err := all.of("erp", at).pass(t.Context()); err != nil {
						t.Fatal(err)
					}
					instants = append(instants, time.Now())
				}
				windows(t, instants, int(limit*share))
				if took := instants[len(instants)-1].Sub(instants[0]); took > 8*time.Minute {
					t.Errorf("%s: got %d in %v, too slow for %v a minute", at, len(instants), took, limit*share)
				}
			})
		}
	}
}

func TestAContextEndsEachWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGates(1).of("erp", loginTaxpayer)
		for range 2 {
			if err := g.pass(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.pass(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in the queue: got %v, want %v", err, context.DeadlineExceeded)
		}
		g.heed(http.Header{}, time.Hour)
		time.Sleep(time.Minute)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.pass(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at a closed gate: got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}
