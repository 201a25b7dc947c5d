package signer

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
)

// atNoon starts a rig whose day, in Malaysia, does not end while a test runs.
func atNoon(t *testing.T, how setting) *rig {
	t.Helper()
	r := start(t, how)
	now := r.now()
	_, midnight := policy.Day(now)
	r.advance(midnight.Add(12 * time.Hour).Sub(now))
	return r
}

// numbered is a request of that number, granted to erp.
func (r *rig) numbered(n int) *roamsignv1.SignDigestRequest {
	in := r.request()
	in.RequestId, in.DocumentDigest = fmt.Sprintf("request-%d", n), digestOf(byte(n))
	return in
}

func TestOverItsQuotaACallerIsTold(t *testing.T) {
	r := atNoon(t, setting{policy: limitedRules("    limits: {daily: 2}\n", erp)})
	client := r.as(erp)
	foreign, later := r.numbered(9), r.numbered(3)
	foreign.Tin = foreignTIN
	_, err := client.SignDigest(t.Context(), foreign) // denied, so not charged
	checkRefused(t, "a foreign taxpayer", err, codes.PermissionDenied, "NOT_ALLOWED")
	for _, n := range []int{1, 1, 2, 1} { // with retries
		_, err := client.SignDigest(t.Context(), r.numbered(n))
		must(t, err)
	}
	used := r.key.used()
	_, err = client.SignDigest(t.Context(), later)
	checkRefused(t, "a third", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
	told := toldBy(t, err)
	again, failed := time.Parse(time.RFC3339, told.Metadata["retry_at"])
	if _, midnight := policy.Day(r.now()); failed != nil || !again.Equal(midnight) {
		t.Errorf("retry_at: got %q, want %v", told.Metadata["retry_at"], midnight)
	}
	if left := again.Sub(r.now()); told.Retry < left || told.Retry > left+time.Minute {
		t.Errorf("retry: got %v, want about %v", told.Retry, left)
	}
	if told.Metadata["limit"] != "daily" || told.Metadata["request_id"] != "request-3" {
		t.Errorf("metadata: got %v", told.Metadata)
	}
	_, err = client.SignDigest(t.Context(), foreign)
	checkRefused(t, "a foreign taxpayer, over the quota", err, codes.PermissionDenied, "NOT_ALLOWED")
	if r.key.used() != used {
		t.Error("the key was used for what was refused")
	}
	line := r.journal.await(t, func(line map[string]any) bool { return line["outcome"] == "QUOTA_EXCEEDED" })
	if text := fmt.Sprint(line["error"]); !strings.Contains(text, "the day's 2 signatures") || line["caller"] != erp || line["tin"] != ownTIN {
		t.Errorf("the log: got %v", line)
	}
	if n := len(r.journal.requests("request-3")); n != 1 {
		t.Errorf("lines of the refused request: got %d, want one", n)
	}
}

func TestWhatTheTokenRefusesIsNotCharged(t *testing.T) {
	r := atNoon(t, setting{policy: limitedRules("    limits: {daily: 1, rate: 0.001, burst: 1}\n", erp)})
	client := r.as(erp)
	for _, bad := range []way{isAway, flipsABit, breaks, panics} {
		r.key.behave(bad)
		if _, err := client.SignDigest(t.Context(), r.numbered(1)); err == nil {
			t.Error("a key that fails: got no error")
		}
	}
	r.key.behave(honest)
	for _, document := range [][]byte{nil, []byte("%PDF-1.7"), invoice(t, "xml/invoice-1.0.xml")} {
		_, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{Tin: ownTIN, RequestId: "document", Document: document})
		checkRefused(t, "what is no document", err, codes.InvalidArgument, "DOCUMENT_INVALID")
	}
	_, err := client.SignDigest(t.Context(), r.numbered(2))
	must(t, err)
	_, err = client.SignDigest(t.Context(), r.numbered(3))
	checkRefused(t, "the second that is signed", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
}

func TestEachItemOfABatchIsChargedByItself(t *testing.T) {
	r := atNoon(t, setting{policy: limitedRules("    limits: {daily: 5, concurrent: 1}\n", erp)})
	request := &roamsignv1.SignDigestsRequest{}
	for n := range 9 {
		request.Items = append(request.Items, r.numbered(n/2*2)) // every second one is a retry
	}
	request.Items = append(request.Items, r.numbered(20), r.numbered(21))
	request.Items[3].Tin = foreignTIN
	out, err := r.as(erp).SignDigests(t.Context(), request)
	must(t, err)
	var got []string
	for _, result := range out.GetResults() {
		got = append(got, result.GetError().GetReason())
	}
	// Five requests, some twice; one at a time, so none is too many at once.
	want := []string{"", "", "", "NOT_ALLOWED", "", "", "", "", "", "QUOTA_EXCEEDED", "QUOTA_EXCEEDED"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	last := out.GetResults()[10].GetError()
	if last.GetRetryDelay().AsDuration() <= 0 || last.GetMetadata()["retry_at"] == "" {
		t.Errorf("an item over the quota: got %v, want when to come again", last)
	}
}

func TestAnotherPolicysLimitsApplyAtOnce(t *testing.T) {
	r := atNoon(t, setting{policy: limitedRules("    limits: {daily: 2}\n", erp)})
	client := r.as(erp)
	for n, row := range []struct {
		limits string
		reason string
	}{
		{"", ""}, {"", ""}, {"", "QUOTA_EXCEEDED"},
		{"    limits: {daily: 3}\n", ""}, {"", "QUOTA_EXCEEDED"},
		{"    limits: {daily: 1}\n", "QUOTA_EXCEEDED"},
		{"    limits: {rate: 1000}\n", ""},
		{"    limits: {daily: 4}\n", "QUOTA_EXCEEDED"},
	} {
		if row.limits != "" {
			changed, err := policy.Parse([]byte(limitedRules(row.limits, erp)))
			must(t, err)
			r.server.SetPolicy(changed)
		}
		_, err := client.SignDigest(t.Context(), r.numbered(n))
		if row.reason == "" {
			must(t, err)
			continue
		}
		checkRefused(t, fmt.Sprint("request ", n), err, codes.ResourceExhausted, row.reason)
	}
}

func TestAServersQuotaSurvivesIt(t *testing.T) {
	folder := t.TempDir()
	how := setting{policy: limitedRules("    limits: {daily: 3}\n", erp), state: folder}
	for run := range 2 {
		r := atNoon(t, how)
		client := r.as(erp)
		for n := range 2 {
			_, err := client.SignDigest(t.Context(), r.numbered(10*run+n))
			if run == 1 && n == 1 {
				checkRefused(t, "the fourth", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
				continue
			}
			must(t, err)
		}
		must(t, r.stop())
	}
}

// TestARetryAfterARestartIsChargedAgainAndSignedAlike: retries are remembered by the
// process alone, and the signature is the same, since RSASSA-PKCS1-v1_5 has no
// randomness.
func TestARetryAfterARestartIsChargedAgainAndSignedAlike(t *testing.T) {
	how := setting{policy: limitedRules("    limits: {daily: 2}\n", erp), state: t.TempDir()}
	var first []byte
	for run := range 2 {
		r := atNoon(t, how)
		client := r.as(erp)
		for range 3 { // charged once in each run
			out, err := client.SignDigest(t.Context(), r.numbered(7))
			must(t, err)
			if first == nil {
				first = out.GetSignature()
			}
			if !bytes.Equal(out.GetSignature(), first) {
				t.Errorf("run %d: a retry was signed otherwise", run)
			}
		}
		if run == 1 {
			_, err := client.SignDigest(t.Context(), r.numbered(8))
			checkRefused(t, "one more, with the quota of two used by one request before and after", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
		}
		must(t, r.stop())
	}
}

func TestAQuotaThatIsNotKeptIsToldOnce(t *testing.T) {
	for _, row := range []struct {
		name, before, after string
		state               bool
		told                int
	}{
		{"from the start", "    limits: {daily: 3}\n", "    limits: {daily: 3}\n", false, 1},
		{"under another policy", "", "    method_limits: {SignDigest: {daily: 3}}\n", false, 1},
		{"without a quota", "    limits: {rate: 1000}\n", "", false, 0},
		{"with a folder", "    limits: {daily: 3}\n", "    limits: {daily: 3}\n", true, 0},
	} {
		how := setting{policy: limitedRules(row.before, erp)}
		if row.state {
			how.state = t.TempDir()
		}
		r := start(t, how)
		client := r.as(erp)
		_, err := client.SignDigest(t.Context(), r.numbered(0))
		must(t, err)
		if told := strings.Count(r.journal.all(), "in memory only"); row.before == row.after && told != row.told {
			t.Errorf("%s: told %d times at the start, want %d", row.name, told, row.told)
		}
		changed, err := policy.Parse([]byte(limitedRules(row.after, erp)))
		must(t, err)
		r.server.SetPolicy(changed)
		for n := range 2 {
			_, err := client.SignDigest(t.Context(), r.numbered(n+1))
			must(t, err)
		}
		if told := strings.Count(r.journal.all(), "in memory only"); told != row.told {
			t.Errorf("%s: told %d times, want %d", row.name, told, row.told)
		}
	}
}

func TestDocumentsAreIssuedWithinTheRepresentation(t *testing.T) {
	const text = `
taxpayers:
  - {tin: C20880050010, from: 2026-01-01, to: 2026-09-30}
  - {tin: C25814470030, from: 2026-01-01}
  - {tin: D4800990020, to: 2026-09-30}
  - {tin: C99999999990}
callers: [{name: portal.example.com, taxpayers: all, methods: [SignDocument]}]
`
	p, err := policy.Parse([]byte(text))
	must(t, err)
	whole := map[string]string{"not_before": "2025-12-31T16:00:00Z", "not_after": "2026-09-30T16:00:00Z"}
	from := map[string]string{"not_before": "2025-12-31T16:00:00Z"}
	to := map[string]string{"not_after": "2026-09-30T16:00:00Z"}
	for _, row := range []struct {
		tin        policy.TIN
		date, time string
		window     map[string]string // nil: it is within
	}{
		{ownTIN, "2026-05-01", "00:00:00Z", nil},
		{ownTIN, "2025-12-31", "16:00:00Z", nil},
		{ownTIN, "2025-12-31", "15:59:59Z", whole},
		{ownTIN, "2026-09-30", "15:59:59Z", nil},
		{ownTIN, "2026-09-30", "16:00:00Z", whole},
		{ownTIN, "2026-05-01", "", whole},
		{ownTIN, "", "", whole},
		{ownTIN, "2026-05-01", "08:00:00", whole}, // whose time?
		{ownTIN, "2026-13-01", "08:00:00Z", whole},
		{ownTIN, "01-05-2026", "08:00:00Z", whole},
		{ownTIN, "2026-05-01", "08:00:00Z, or so", whole},
		{foreignTIN, "2030-05-01", "00:00:00Z", nil},
		{foreignTIN, "2025-05-01", "00:00:00Z", from},
		{endedTIN, "2020-05-01", "00:00:00Z", nil},
		{endedTIN, "2026-10-01", "00:00:00Z", to},
		{unknownTIN, "", "", nil}, // represented ever since and without end
	} {
		grant, err := p.Decide(portal, policy.SignDocument, row.tin, [32]byte{1}, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
		must(t, err)
		err = checkIssued(grant, xades.Facts{IssueDate: row.date, IssueTime: row.time})
		if row.window == nil {
			if err != nil {
				t.Errorf("%s, %s %s: got %v, want none", row.tin, row.date, row.time, err)
			}
			continue
		}
		want := map[string]string{"tin": string(row.tin), "document_issued": row.date + "T" + row.time}
		for key, edge := range row.window {
			want[key] = edge
		}
		checkRefused(t, row.date, refuse(err, "").status(), codes.FailedPrecondition, "ISSUE_TIME_MISMATCH")
		if diff := cmp.Diff(want, refuse(err, "").metadata); diff != "" {
			t.Errorf("%s, %s %s (-want +got):\n%s", row.tin, row.date, row.time, diff)
		}
	}
}

func TestADocumentIssuedOutsideIsNotSigned(t *testing.T) {
	// The documents are of September and October 2026.
	r := start(t, setting{policy: `
taxpayers: [{tin: C20880050010, from: 2026-10-01}]
callers: [{name: "` + erp + `", taxpayers: all, methods: [SignDocument]}]
`})
	client := r.as(erp)
	for file, reason := range map[string]string{
		"xml/invoice-1.0.xml": "ISSUE_TIME_MISMATCH", "json/invoice-1.0.json": "ISSUE_TIME_MISMATCH",
		"xml/invoice-1.1.xml": "", "json/invoice-1.1.json": "", "json/self-billed-1.1.json": "",
	} {
		_, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
			Tin: ownTIN, RequestId: "request-1", Document: invoice(t, file), SetVersion: "1.1",
		})
		if reason == "" {
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		checkRefused(t, file, err, codes.FailedPrecondition, reason)
		if told := toldBy(t, err).Metadata; told["document_issued"] != "2026-09-18T16:40:00Z" || told["not_before"] != "2026-09-30T16:00:00Z" {
			t.Errorf("%s: got %v, want both values", file, told)
		}
	}
	if n := r.key.used(); n != 3 {
		t.Errorf("the key was used %d times, want 3", n)
	}
}
