package sandbox

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAPayloadIsKeptOutForTenMinutes(t *testing.T) {
	b := lay(t, nil)
	agent := b.agent()
	body := payload64(draft{}.paper(t, "XML"))
	submit := func(token, body string) answer { return b.call(token, "POST", "/api/v1.0/documentsubmissions/", body) }
	for _, row := range []struct {
		after  time.Duration
		status int
		retry  string
	}{{0, 202, ""}, {0, 422, "600"}, {time.Minute, 422, "540"}, {9*time.Minute - time.Second, 422, "1"}, {time.Second, 202, ""}, {time.Second, 422, "599"}} {
		b.pass(row.after)
		if a := submit(agent, body); a.Code != row.status || a.Header().Get("Retry-After") != row.retry {
			t.Errorf("after %s: got %d, Retry-After %q, want %d, %q", row.after, a.Code, a.Header().Get("Retry-After"), row.status, row.retry)
		}
	}
	if a := submit(agent, body+" "); a.Code != 202 {
		t.Errorf("one blank more is another payload: got %d", a.Code)
	}
	sole := b.token("agent-erp", "agent-secret-1", "IG12345678912")
	if a := submit(sole, body); a.Code == 422 {
		t.Error("another taxpayer's payload is a duplicate")
	}
}

func TestAPayloadOfWhichNothingWasAcceptedMayComeAgain(t *testing.T) {
	b := lay(t, nil)
	agent := b.agent()
	for range 2 {
		if a := b.submitAll(agent, draft{number: "INV-1", issued: start.Add(time.Hour)}.paper(t, "XML")); a.Code != 202 {
			t.Errorf("all rejected: got %d, want 202", a.Code)
		}
		if a := b.submitAll(agent, draft{supplierTIN: buyerTIN, supplierBRN: buyerBRN}.paper(t, "XML")); a.Code != 400 {
			t.Errorf("refused: got %d, want 400", a.Code)
		}
	}
}

func TestANumberIsKeptOutForTwoHours(t *testing.T) {
	const duplicate, fine = "Error03 DS302", "Valid"
	for _, row := range []struct {
		name  string
		after time.Duration
		draft draft
		want  string
	}{
		{"the same", time.Minute, draft{}, duplicate},
		{"the same, in another format", time.Minute, draft{}, duplicate},
		{"the same, just within two hours", 2*time.Hour - time.Second, draft{}, duplicate},
		{"the same, after two hours", 2 * time.Hour, draft{}, fine},
		{"another number", time.Minute, draft{number: "INV-2"}, fine},
		{"another type", time.Minute, draft{typeCode: "03"}, fine},
		{"another version", time.Minute, draft{version: "1.3"}, fine},
		{"another second of issue", time.Minute, draft{issued: start.Add(-time.Hour + time.Second)}, fine},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, nil)
			b.accepted(b.agent(), draft{}.paper(t, "XML"))
			b.pass(row.after)
			token := b.agent()
			format := "XML"
			if row.name == "the same, in another format" {
				format = "JSON"
			}
			paper := row.draft.paper(t, format)
			if format == "XML" && row.after < 10*time.Minute && row.want == duplicate {
				paper = draft{after: func(b []byte) []byte { return append(b, '\n') }}.paper(t, "XML") // another payload
			}
			_, uuids := b.accepted(token, paper)
			if got := b.steps(token, uuids[0])["Step03-Duplicated Submission Validator"]; got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestSelfBilledDocumentsAreTheBuyers(t *testing.T) {
	b := lay(t, nil)
	token := b.agent()
	self := draft{typeCode: "11", supplierTIN: buyerTIN, supplierBRN: buyerBRN, buyerTIN: issuerTIN, buyerBRN: issuerBRN}
	uid, uuids := b.accepted(token, self.paper(t, "JSON"))
	if got := b.steps(token, uuids[0]); got["Step08-Document Signature Validator"] != "Valid" {
		t.Errorf("got %v", got)
	}
	a := b.call(token, "GET", "/api/v1.0/documentsubmissions/"+uid, "")
	for _, want := range []string{`"typeName":"self-billed invoice"`, `"issuerTin":"C20880050010"`, `"receiverId":"202101098765"`} {
		if !strings.Contains(a.Body.String(), want) {
			t.Errorf("got %s, want %s", a.Body, want)
		}
	}
}

func TestChangesMustComeWithin72Hours(t *testing.T) {
	for _, row := range []struct {
		name   string
		after  time.Duration
		status int
	}{{"in time", 72 * time.Hour, 200}, {"too late", 72*time.Hour + time.Second, 400}} {
		for _, state := range []string{"cancelled", "rejected"} {
			t.Run(row.name+", "+state, func(t *testing.T) {
				b := lay(t, nil)
				_, uuids := b.accepted(b.agent(), draft{}.paper(t, "XML"))
				b.pass(DefaultValidation + row.after)
				token := map[string]func() string{"cancelled": b.agent, "rejected": b.buyer}[state]()
				a := b.call(token, "PUT", "/api/v1.0/documents/state/"+uuids[0]+"/state", fmt.Sprintf(`{"status":%q,"reason":"x"}`, state))
				if a.Code != row.status || row.status == 400 && !strings.Contains(a.Body.String(), `"OperationPeriodOver"`) {
					t.Errorf("got %d %s, want %d", a.Code, a.Body, row.status)
				}
			})
		}
	}
}

func TestTokensEnd(t *testing.T) {
	b := lay(t, nil)
	token := b.agent()
	for _, row := range []struct {
		after  time.Duration
		status int
	}{{time.Hour - time.Second, 200}, {time.Second, 401}} {
		b.pass(row.after)
		if a := b.call(token, "GET", "/api/v1.0/documents/recent", ""); a.Code != row.status {
			t.Errorf("after %s more: got %d, want %d", row.after, a.Code, row.status)
		}
	}
	fresh := b.agent()
	for name, token := range map[string]string{
		"another platform's": lay(t, nil).agent(), "none": "", "a part of one": fresh[:len(fresh)-2],
		"one that was changed": strings.Replace(fresh, ".", ".e30", 1),
	} {
		if a := b.call(token, "GET", "/api/v1.0/documents/recent", ""); a.Code != 401 {
			t.Errorf("%s: got %d, want 401", name, a.Code)
		}
	}
}

func TestRepresentationEndsAtOnce(t *testing.T) {
	b := lay(t, func(c *Config) { c.Taxpayers[0].Represented[0].To = start.Add(30 * time.Minute) })
	token := b.agent()
	b.pass(30 * time.Minute)
	if a := b.call(token, "GET", "/api/v1.0/documents/recent", ""); a.Code != 200 {
		t.Errorf("at its last moment: got %d", a.Code)
	}
	b.pass(time.Second)
	if a := b.call(token, "GET", "/api/v1.0/documents/recent", ""); a.Code != http.StatusForbidden {
		t.Errorf("after it: got %d, want 403", a.Code)
	}
	if a := b.login("agent-erp", "agent-secret-1", issuerTIN); a.Code != 400 || !strings.Contains(a.Body.String(), "unauthorized_client") {
		t.Errorf("logging in after it: got %d %s", a.Code, a.Body)
	}
}

func TestRightsAreHeldTo(t *testing.T) {
	for _, row := range []struct {
		rights         []Right
		submit, cancel int
	}{{[]Right{MaySubmit}, 202, 403}, {[]Right{MaySubmit, MayCancel}, 202, 200}, {[]Right{MayCancel}, 403, 403}, {nil, 403, 403}} {
		t.Run(fmt.Sprint(row.rights), func(t *testing.T) {
			b := lay(t, func(c *Config) { c.Taxpayers[0].Represented[0].Rights = row.rights })
			agent := b.agent()
			a := b.submitAll(agent, draft{}.paper(t, "XML"))
			if a.Code != row.submit || row.submit == 403 && !strings.Contains(a.Body.String(), `"IncorrectSubmitter"`) {
				t.Errorf("submitting: got %d %s, want %d", a.Code, a.Body, row.submit)
			}
			if row.submit == 403 {
				_, _ = b.accepted(b.issuer(), draft{signer: signers().issuer}.paper(t, "XML"))
			}
			b.pass(DefaultValidation)
			uuid := b.Documents()[0].UUID
			if a := b.call(agent, "PUT", "/api/v1.0/documents/state/"+uuid+"/state", `{"status":"cancelled","reason":"x"}`); a.Code != row.cancel {
				t.Errorf("cancelling: got %d, want %d", a.Code, row.cancel)
			}
		})
	}
}

// TestOthersDocumentsAreOutOfSight holds that an intermediary sees what it submitted,
// and a taxpayer its own and those it received.
func TestOthersDocumentsAreOutOfSight(t *testing.T) {
	b := lay(t, nil)
	agent, issuer, buyer := b.agent(), b.issuer(), b.buyer()
	sole := b.token("agent-erp", "agent-secret-1", "IG12345678912")
	byAgent, agents := b.accepted(agent, draft{number: "A"}.paper(t, "XML"), draft{number: "A-BAD", state: "18"}.paper(t, "XML"))
	byIssuer, issuers := b.accepted(issuer, draft{number: "I", signer: signers().issuer}.paper(t, "XML"))
	b.pass(DefaultValidation)
	for _, row := range []struct {
		who, token, path string
		status           int
	}{
		{"agent", agent, "documents/" + agents[0] + "/details", 200},
		{"agent", agent, "documents/" + agents[1] + "/details", 200},
		{"agent", agent, "documents/" + issuers[0] + "/details", 404},
		{"agent", agent, "documents/" + issuers[0] + "/raw", 404},
		{"agent for another", sole, "documents/" + agents[0] + "/raw", 404},
		{"agent", agent, "documentsubmissions/" + byAgent, 200},
		{"agent", agent, "documentsubmissions/" + byIssuer, 403},
		{"agent for another", sole, "documentsubmissions/" + byAgent, 403},
		{"anybody", agent, "documentsubmissions/NONE", 404},
		{"issuer", issuer, "documents/" + agents[1] + "/details", 200},
		{"issuer", issuer, "documentsubmissions/" + byAgent, 403},
		{"buyer", buyer, "documents/" + agents[0] + "/raw", 200},
		{"buyer", buyer, "documents/" + agents[1] + "/details", 404},
	} {
		if a := b.call(row.token, "GET", "/api/v1.0/"+row.path, ""); a.Code != row.status {
			t.Errorf("%s, %s: got %d, want %d", row.who, row.path, a.Code, row.status)
		}
	}
	for token, want := range map[string]int{agent: 2, issuer: 3, buyer: 2, sole: 0} {
		got := decoded(t, b.call(token, "GET", "/api/v1.0/documents/recent", "").Body.String()).(map[string]any)["result"].([]any)
		if len(got) != want {
			t.Errorf("got a list of %d, want %d", len(got), want)
		}
	}
}

// TestEachEndpointHasThePublishedLimit uses each up, and waits until it is free.
func TestEachEndpointHasThePublishedLimit(t *testing.T) {
	for _, row := range []struct {
		endpoint     Endpoint
		limit        int
		method, path string
		body         string
	}{
		{Submit, 100, "POST", "/api/v1.0/documentsubmissions/", `{}`},
		{Submission, 300, "GET", "/api/v1.0/documentsubmissions/X", ""},
		{Details, 125, "GET", "/api/v1.0/documents/X/details", ""},
		{Raw, 60, "GET", "/api/v1.0/documents/X/raw", ""},
		{Cancel, 12, "PUT", "/api/v1.0/documents/state/X/state", `{"status":"cancelled","reason":"x"}`},
		{Reject, 12, "PUT", "/api/v1.0/documents/state/X/state", `{"status":"rejected","reason":"x"}`},
		{Recent, 12, "GET", "/api/v1.0/documents/recent", ""},
		{Search, 12, "GET", "/api/v1.0/documents/search", ""},
		{TIN, 60, "GET", "/api/v1.0/taxpayer/validate/X", ""},
		{Login, 12, "POST", "/connect/token", ""},
	} {
		t.Run(string(row.endpoint), func(t *testing.T) {
			b := lay(t, nil)
			once := func() answer { return b.login("agent-erp", "wrong", "") }
			if row.endpoint != Login {
				token, other := b.agent(), b.token("agent-erp", "agent-secret-1", "IG12345678912")
				n := 0
				once = func() answer { // the limit is the client's, whomever it acts for
					n++
					return b.call(map[int]string{0: token, 1: other}[n%2], row.method, row.path, row.body)
				}
			}
			for i := range row.limit {
				a := once()
				if a.Code == 429 || a.Header().Get("X-Rate-Limit-Limit") != strconv.Itoa(row.limit) ||
					a.Header().Get("X-Rate-Limit-Remaining") != strconv.Itoa(row.limit-1-i) || a.Header().Get("X-Rate-Limit-Reset") != "" {
					t.Fatalf("request %d: got %d, %v", i+1, a.Code, a.Header())
				}
			}
			b.pass(20*time.Second + 500*time.Millisecond)
			a := once()
			if a.Code != 429 || a.Header().Get("Retry-After") != "40" || a.Header().Get("X-Rate-Limit-Remaining") != "0" ||
				a.Header().Get("X-Rate-Limit-Reset") != "2026-11-20T04:01:00Z" {
				t.Errorf("one too many: got %d, %v", a.Code, a.Header())
			}
			if issuer := b.login("issuer-erp", "issuer-secret", ""); issuer.Code != 200 {
				t.Errorf("another client: got %d", issuer.Code)
			}
			if agent := b.login("agent-erp", "agent-secret-1", issuerTIN); agent.Code != 200 {
				t.Errorf("a login on behalf of a taxpayer: got %d", agent.Code)
			}
			b.pass(40 * time.Second)
			if a := once(); a.Code == 429 {
				t.Errorf("after the time it said: got %d", a.Code)
			}
		})
	}
}

func TestLimitsAreConfigured(t *testing.T) {
	b := lay(t, func(c *Config) { c.Limits = map[Endpoint]int{Login: 2, Recent: 0} })
	token := b.agent()
	for range 100 {
		if a := b.call(token, "GET", "/api/v1.0/documents/recent", ""); a.Code != 200 || a.Header().Get("X-Rate-Limit-Limit") != "" {
			t.Fatalf("without a limit: got %d, %v", a.Code, a.Header())
		}
	}
	b.agent()
	if a := b.login("agent-erp", "agent-secret-1", issuerTIN); a.Code != 429 {
		t.Errorf("the third login of two: got %d", a.Code)
	}
}

// TestOnePayloadOfManyAtOnceIsAccepted holds that what comes in at the same time is
// accepted once.
func TestOnePayloadOfManyAtOnceIsAccepted(t *testing.T) {
	b := lay(t, nil)
	token := b.agent()
	body := payload64(draft{}.paper(t, "XML"), draft{number: "INV-2"}.paper(t, "XML"))
	var all sync.WaitGroup
	codes := make([]int, 50)
	for i := range codes {
		all.Go(func() { codes[i] = b.call(token, "POST", "/api/v1.0/documentsubmissions/", body).Code })
	}
	all.Wait()
	counts := map[int]int{}
	for _, code := range codes {
		counts[code]++
	}
	if counts[202] != 1 || counts[422] != 49 || len(b.Documents()) != 2 {
		t.Errorf("got %v and %d documents, want one accepted", counts, len(b.Documents()))
	}
}

func TestTheOldestIsForgotten(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Config)
	}{
		{"by number", func(c *Config) { c.MaxDocuments = 4 }},
		{"by size", func(c *Config) { c.MaxBytes = 25_000 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, row.change)
			token := b.agent()
			var uids []string
			for i := range 5 {
				uid, _ := b.accepted(token, draft{number: fmt.Sprint("A", i)}.paper(t, "XML"), draft{number: fmt.Sprint("B", i), typeCode: "02", reference: "X" + fmt.Sprint(i)}.paper(t, "XML"))
				uids = append(uids, uid)
			}
			documents := b.Documents()
			if n := len(documents); n == 0 || n > 4 || documents[n-1].Number != "B4" {
				t.Fatalf("got %d documents, the last %+v, want the last four at most", n, documents)
			}
			if a := b.call(token, "GET", "/api/v1.0/documentsubmissions/"+uids[0], ""); a.Code != 404 {
				t.Errorf("the oldest: got %d", a.Code)
			}
			if a := b.call(token, "GET", "/api/v1.0/documentsubmissions/"+uids[4], ""); a.Code != 200 {
				t.Errorf("the newest: got %d", a.Code)
			}
			s := &b.store
			if s.held != len(documents) || len(s.documents) != s.held || len(s.twins) != s.held || len(s.referring) != s.held/2 || len(s.order) != len(s.submissions) {
				t.Errorf("got %d held, %d documents, %d twins, %d references, %d of %d submissions", s.held, len(s.documents), len(s.twins), len(s.referring), len(s.order), len(s.submissions))
			}
		})
	}
}

func TestPagesAreOfTheSizeAskedFor(t *testing.T) {
	b := lay(t, nil)
	token := b.agent()
	var papers []paper
	for i := range 5 {
		papers = append(papers, draft{number: fmt.Sprint("N", i)}.paper(t, "XML"))
	}
	uid, _ := b.accepted(token, papers...)
	for query, want := range map[string]string{
		"": "N0 N1 N2 N3 N4", "pageNo=1&pageSize=2": "N0 N1", "pageNo=3&pageSize=2": "N4", "pageNo=4&pageSize=2": "",
		"pageSize=101": "400", "pageNo=0": "400", "pageNo=x": "400",
	} {
		a := b.call(token, "GET", "/api/v1.0/documentsubmissions/"+uid+"?"+query, "")
		got := strconv.Itoa(a.Code)
		if a.Code == 200 {
			var numbers []string
			for _, d := range decoded(t, a.Body.String()).(map[string]any)["documentSummary"].([]any) {
				numbers = append(numbers, d.(map[string]any)["internalId"].(string))
			}
			got = strings.Join(numbers, " ")
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	}
}
