package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// online is a platform on a port, over TLS.
func online(t *testing.T, b *bed, modern bool) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(b)
	server.EnableHTTP2 = modern
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// send makes a request over the network and returns what came of it.
func send(t *testing.T, server *httptest.Server, token, method, path, body string) (status int, text string, header http.Header, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.GetBody = nil // the client is not to try again by itself
	response, err := server.Client().Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), response.Header, err
}

// TestEachFaultStrikes has every kind of fault strike a submission, before the work
// and after it where it can, over both versions of HTTP. Whatever the client is
// shown, the document is accepted exactly where the fault is applied.
func TestEachFaultStrikes(t *testing.T) {
	const cut = -1
	body := payload64(draft{}.paper(t, "XML"))
	for _, row := range []struct {
		name     string
		fault    Fault
		status   int
		says     string
		retry    string
		accepted int
	}{
		{"none", Fault{}, 202, `"acceptedDocuments":[{`, "", 1},
		{"too many requests", Fault{On: Submit, Kind: TooMany}, 429, `"code":"TooManyRequests"`, "1", 0},
		{"too many requests for a minute", Fault{On: Submit, Kind: TooMany, Delay: time.Minute}, 429, `"code":"TooManyRequests"`, "60", 0},
		{"a duplicate", Fault{On: Submit, Kind: Duplicate, Delay: 90 * time.Second}, 422, `"code":"DuplicateSubmission"`, "90", 0},
		{"500, not applied", Fault{On: Submit, Kind: Fail, Status: 500}, 500, `"code":"InternalServerError"`, "", 0},
		{"500, applied", Fault{On: Submit, Kind: Fail, Status: 500, Applied: true}, 500, `"code":"InternalServerError"`, "", 1},
		{"502, not applied", Fault{On: Submit, Kind: Fail, Status: 502}, 502, "<html>", "", 0},
		{"502, applied", Fault{On: Submit, Kind: Fail, Status: 502, Applied: true}, 502, "<html>", "", 1},
		{"503, not applied", Fault{On: Any, Kind: Fail}, 503, `"code":"ServiceUnavailable"`, "", 0},
		{"503 with a time", Fault{On: Submit, Kind: Fail, Delay: 2 * time.Second}, 503, `"code":"ServiceUnavailable"`, "2", 0},
		{"504, applied", Fault{On: Submit, Kind: Fail, Status: 504, Applied: true}, 504, "<html>", "", 1},
		{"slow, not applied", Fault{On: Submit, Kind: Slow, Delay: time.Millisecond}, 202, `"acceptedDocuments":[{`, "", 1},
		{"slow, applied", Fault{On: Submit, Kind: Slow, Delay: time.Millisecond, Applied: true}, 202, `"acceptedDocuments":[{`, "", 1},
		{"cut, not applied", Fault{On: Submit, Kind: Cut}, cut, "", "", 0},
		{"cut, applied: the reply is lost", Fault{On: Submit, Kind: Cut, Applied: true}, cut, "", "", 1},
		{"half a reply", Fault{On: Submit, Kind: Half}, cut, "", "", 1},
		{"the token has expired", Fault{On: Submit, Kind: Expire}, 401, `"code":"Unauthorized"`, "", 0},
	} {
		for _, modern := range []bool{false, true} {
			name := row.name + map[bool]string{false: ", HTTP/1.1", true: ", HTTP/2"}[modern]
			t.Run(name, func(t *testing.T) {
				b := lay(t, nil)
				server, token := online(t, b, modern), b.agent()
				if row.fault.Kind != "" {
					if err := b.Inject(row.fault); err != nil {
						t.Fatal(err)
					}
				}
				status, text, header, err := send(t, server, token, "POST", "/api/v1.0/documentsubmissions/", body)
				switch {
				case row.status == cut && err == nil:
					t.Errorf("got %d %s, want a connection that is cut", status, text)
				case row.status != cut && (err != nil || status != row.status || !strings.Contains(text, row.says) || header.Get("Retry-After") != row.retry):
					t.Errorf("got %d %s, Retry-After %q, %v; want %d %s, %q", status, text, header.Get("Retry-After"), err, row.status, row.says, row.retry)
				}
				if got := len(b.Documents()); got != row.accepted {
					t.Errorf("got %d documents accepted, want %d", got, row.accepted)
				}
			})
		}
	}
}

func TestALostReplyIsFoundByTheDuplicate(t *testing.T) {
	b := lay(t, nil)
	server, token := online(t, b, true), b.agent()
	if err := b.Inject(Fault{On: Submit, Kind: Cut, Applied: true, Times: 1}); err != nil {
		t.Fatal(err)
	}
	body := payload64(draft{}.paper(t, "XML"))
	if status, text, _, err := send(t, server, token, "POST", "/api/v1.0/documentsubmissions/", body); err == nil {
		t.Fatalf("got %d %s, want no reply", status, text)
	}
	b.pass(time.Minute)
	status, text, header, err := send(t, server, token, "POST", "/api/v1.0/documentsubmissions/", body)
	if err != nil || status != 422 || !strings.Contains(text, "DuplicateSubmission") || header.Get("Retry-After") != "540" {
		t.Errorf("the second time: got %d %s, Retry-After %s, %v", status, text, header.Get("Retry-After"), err)
	}
	status, text, _, err = send(t, server, token, "GET", "/api/v1.0/documents/recent?InvoiceDirection=Sent", "")
	if err != nil || status != 200 || !strings.Contains(text, b.Documents()[0].UUID) {
		t.Errorf("the list: got %d %s, %v; want the document", status, text, err)
	}
}

func TestSlowFaultsTakeTheirTimeOrEndWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if _, stop := (Fault{Kind: Slow, Delay: time.Hour}).strike(&call{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody)}); stop {
			t.Error("a slow request is stopped")
		}
		if got := time.Since(began); got != time.Hour {
			t.Errorf("got %s, want an hour", got)
		}
		began = time.Now()
		(Fault{Kind: Slow}).strike(&call{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody)})
		if got := time.Since(began); got != 5*time.Second {
			t.Errorf("without a delay: got %s, want 5s", got)
		}
		gone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		began = time.Now()
		(Fault{Kind: Slow, Delay: time.Hour}).strike(&call{Request: httptest.NewRequestWithContext(gone, "GET", "/", http.NoBody)})
		if got := time.Since(began); got != time.Second {
			t.Errorf("of a caller that goes after a second: got %s", got)
		}
	})
}

func TestFaultsStrikeHowOftenTheySay(t *testing.T) {
	b := lay(t, func(c *Config) { c.Limits = map[Endpoint]int{TIN: 0} })
	token := b.agent()
	for _, row := range []struct{ fault, want string }{
		{"tin:fail", "xxxxxx"}, {"tin:fail/3", "..x..x"}, {"tin:fail*2", "xx...."}, {"tin:fail/2*2", ".x.x.."},
		{"any:fail/6", ".....x"}, {"submit:fail", "......"},
	} {
		b.Clear()
		fault, err := ParseFault(row.fault)
		if err == nil {
			err = b.Inject(fault)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for range row.want {
			a := b.call(token, "GET", "/api/v1.0/taxpayer/validate/"+issuerTIN+"?idType=BRN&idValue="+issuerBRN, "")
			got += map[int]string{200: ".", 503: "x"}[a.Code]
		}
		if got != row.want {
			t.Errorf("%s: got %s, want %s", row.fault, got, row.want)
		}
	}
}

func TestExpiryMakesAllTokensVoid(t *testing.T) {
	b := lay(t, nil)
	agent, issuer := b.agent(), b.issuer()
	if err := b.Inject(Fault{On: Recent, Kind: Expire, Times: 1}); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{agent, issuer} {
		if a := b.call(token, "GET", "/api/v1.0/documents/recent", ""); a.Code != 401 {
			t.Errorf("got %d, want 401", a.Code)
		}
	}
	if a := b.call(b.agent(), "GET", "/api/v1.0/documents/recent", ""); a.Code != 200 {
		t.Errorf("with a new token: got %d", a.Code)
	}
}

func TestFaultsAreReadAndWritten(t *testing.T) {
	for text, want := range map[string]Fault{
		"submit:cut-applied/5":     {On: Submit, Kind: Cut, Applied: true, Every: 5},
		"any:too-many*3":           {On: Any, Kind: TooMany, Times: 3},
		"login:fail/2*4":           {On: Login, Kind: Fail, Every: 2, Times: 4},
		"submission:expire":        {On: Submission, Kind: Expire},
		"details:slow-applied/2*1": {On: Details, Kind: Slow, Applied: true, Every: 2, Times: 1},
	} {
		got, err := ParseFault(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %+v, %q, %v", text, got, got.String(), err)
		}
	}
	for text, want := range map[string]string{
		"submit":              "write ENDPOINT:KIND",
		"invoices:cut":        "no endpoint",
		"submit:bite":         "no kind of fault",
		"submit:cut/0":        `"0" is no number above 0`,
		"submit:cut*x":        `"x" is no number above 0`,
		"submit:half-applied": "", // it always is
		"raw:duplicate":       "of submit alone",
		"any:expire-applied":  "cannot come after the work",
	} {
		if _, err := ParseFault(text); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestFaultsAreSetOverHTTP(t *testing.T) {
	b := lay(t, nil)
	const set = `{"on":"submit","kind":"slow","applied":true,"delay":"3s"}`
	b.do("POST", "/sandbox/faults", set, "Content-Type", "application/json").
		is(201, `[{"on":"submit","kind":"slow","applied":true,"delay":3000000000}]`)
	b.do("GET", "/sandbox/faults", "").is(200, `[{"on":"submit","kind":"slow","applied":true,"delay":3000000000}]`)
	for name, body := range map[string]string{
		"an unknown kind": `{"on":"submit","kind":"bite"}`, "an unknown member": `{"on":"submit","kind":"cut","often":1}`,
		"no JSON": `submit:cut`, "a delay that is none": `{"on":"submit","kind":"slow","delay":"long"}`,
	} {
		if a := b.do("POST", "/sandbox/faults", body, "Content-Type", "application/json"); a.Code != 400 {
			t.Errorf("%s: got %d %s, want 400", name, a.Code, a.Body)
		}
	}
	if a := b.do("POST", "/sandbox/faults", set, "Content-Type", "text/plain"); a.Code != 415 {
		t.Errorf("as text: got %d, want 415", a.Code)
	}
	b.do("DELETE", "/sandbox/faults", "").is(204, "")
	b.do("GET", "/sandbox/faults", "").is(200, `[]`)
	for range maxFaults {
		if err := b.Inject(Fault{On: Any, Kind: Cut, Every: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Inject(Fault{On: Any, Kind: Cut}); err == nil {
		t.Error("one fault too many is set")
	}
}

func TestDocumentsAreToldOverHTTP(t *testing.T) {
	b := lay(t, nil)
	b.do("GET", "/sandbox/documents", "").is(200, `[]`)
	b.accepted(b.agent(), draft{}.paper(t, "XML"))
	b.pass(DefaultValidation)
	var got []Accepted
	a := b.do("GET", "/sandbox/documents", "")
	if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil || len(got) != 1 {
		t.Fatalf("got %s, %v", a.Body, err)
	}
	if d := got[0]; d.Number != "INV-1" || d.TIN != issuerTIN || d.Client != "agent-erp" || d.Status != "Valid" || len(d.SHA256) != 64 {
		t.Errorf("got %+v", d)
	}
}

func TestALoginCanFailToo(t *testing.T) {
	b := lay(t, nil)
	server := online(t, b, false)
	if err := errors.Join(b.Inject(Fault{On: Login, Kind: Fail, Times: 1}), b.Inject(Fault{On: Login, Kind: Cut, Applied: true, Times: 1})); err != nil {
		t.Fatal(err)
	}
	login := func() (int, error) {
		form := url.Values{"client_id": {"issuer-erp"}, "client_secret": {"issuer-secret"}, "grant_type": {"client_credentials"}}
		r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/connect/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.GetBody = nil
		response, err := server.Client().Do(r)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	if status, err := login(); status != 503 || err != nil {
		t.Errorf("first: got %d, %v, want 503", status, err)
	}
	if status, err := login(); err == nil {
		t.Errorf("second: got %d, want no reply", status)
	}
	if status, err := login(); status != 200 || err != nil {
		t.Errorf("third: got %d, %v, want 200", status, err)
	}
}
