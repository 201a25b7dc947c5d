package signer

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// answered is what a caller got for one digest or document.
type answered struct {
	digest, signature []byte
	index             uint64
	err               error
}

// signsBy signs by a method.
func signsBy(t *testing.T, client roamsignv1.SignerServiceClient, method policy.Method, in *roamsignv1.SignDigestRequest) answered {
	t.Helper()
	switch method {
	case policy.SignDocument:
		out, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
			Tin: in.GetTin(), RequestId: in.GetRequestId(), Document: invoice(t, "xml/invoice-1.1.xml"),
		})
		return answered{out.GetDocumentDigest(), out.GetDocument(), out.GetLogIndex(), err}
	case policy.SignDigests:
		out, err := client.SignDigests(t.Context(), &roamsignv1.SignDigestsRequest{Items: []*roamsignv1.SignDigestRequest{in}})
		must(t, err)
		result := out.GetResults()[0]
		return answered{in.GetDocumentDigest(), result.GetSignature(), result.GetLogIndex(), itemError(result.GetError())}
	default:
		out, err := client.SignDigest(t.Context(), in)
		return answered{in.GetDocumentDigest(), out.GetSignature(), out.GetLogIndex(), err}
	}
}

// onRecord fails the test where a signature was released without its entry.
func (r *rig) onRecord(name string, a answered) {
	r.t.Helper()
	if len(a.signature) == 0 {
		return
	}
	entries := r.record.all()
	if a.index >= uint64(len(entries)) || entries[a.index].Document != audit.Digest(a.digest) {
		r.t.Errorf("%s: a signature was released that is not on record at %d", name, a.index)
	}
}

// recordFaults are the ways in which the record, the key, or both fail, and what
// callers then learn. Each of the record's is there twice: the entry did not come on
// record, and it did.
var recordFaults = []struct {
	name   string
	manner manner
	way    way
	code   codes.Code
	reason string
}{
	{"all is well", keeps, honest, codes.OK, ""},
	{"append fails, not written", losesIt, honest, codes.Unavailable, "LOG_UNAVAILABLE"},
	{"append fails, written", keepsAndSaysNot, honest, codes.Unavailable, "LOG_UNAVAILABLE"},
	{"append fails for no kind of reason, not written", errsWithoutAKind, honest, codes.Unavailable, "LOG_UNAVAILABLE"},
	{"append fails for no kind of reason, written", keepsAndErrsWithoutAKind, honest, codes.Unavailable, "LOG_UNAVAILABLE"},
	{"append blames the entry", blamesTheEntry, honest, codes.Internal, "INTERNAL"},
	{"append times out by itself", timesOutByItself, honest, codes.Unavailable, "LOG_UNAVAILABLE"},
	{"append hangs, not written", losesItAndHangs, honest, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	{"append hangs, written", keepsItAndHangs, honest, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	{"append panics, not written", losesItAndPanics, honest, codes.Internal, "INTERNAL"},
	{"append panics, written", keepsItAndPanics, honest, codes.Internal, "INTERNAL"},
	{"append panics, written and told so", keepsSaysSoAndPanics, honest, codes.OK, ""},
	{"the key is away, written", keeps, isAway, codes.Unavailable, "TOKEN_UNAVAILABLE"},
	{"the key is away, not written", losesIt, isAway, codes.Unavailable, "TOKEN_UNAVAILABLE"},
	{"the key is away, append hangs", losesItAndHangs, isAway, codes.Unavailable, "TOKEN_UNAVAILABLE"},
	{"the key lies, written", keeps, flipsABit, codes.Unavailable, "SIGNATURE_WRONG"},
	{"the key lies, not written", losesIt, flipsABit, codes.Unavailable, "SIGNATURE_WRONG"},
	{"the key panics, written", keeps, panics, codes.Internal, "INTERNAL"},
	{"the key hangs, written", keeps, hangs, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	{"the key hangs, not written", losesIt, hangs, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	{"the key is right at the second try", keeps, flipsABitOnce, codes.OK, ""},
	{"the key is right at the second try, not written", losesIt, flipsABitOnce, codes.Unavailable, "LOG_UNAVAILABLE"},
}

func TestNothingIsReleasedThatIsNotOnRecord(t *testing.T) {
	patient, hasty := start(t, setting{sessions: 1}), start(t, setting{sessions: 1, limits: Limits{Request: 500 * time.Millisecond}})
	clients := map[*rig]roamsignv1.SignerServiceClient{patient: patient.as(erp), hasty: hasty.as(erp)}
	for _, row := range recordFaults {
		r := patient
		if row.code == codes.DeadlineExceeded {
			r = hasty
		}
		client := clients[r]
		for _, method := range []policy.Method{policy.SignDigest, policy.SignDigests, policy.SignDocument} {
			r.key.behave(row.way)
			r.record.behave(row.manner)
			name := row.name + ", " + string(method)
			in := r.request()
			in.RequestId = name[:min(len(name), 64)]
			in.DocumentDigest = digestFor(name)
			got := signsBy(t, client, method, in)
			r.onRecord(name, got)
			if row.code == codes.OK {
				if got.err != nil || len(got.signature) == 0 {
					t.Errorf("%s: got %v, want a signature", name, got.err)
				}
				continue
			}
			checkRefused(t, name, got.err, row.code, row.reason)
			if len(got.signature) != 0 {
				t.Errorf("%s: got %d bytes, want none", name, len(got.signature))
			}
			if st, _ := status.FromError(got.err); strings.Contains(st.Proto().String(), "secret") {
				t.Errorf("%s: the caller is told %v", name, st.Proto())
			}
			if row.name == "append fails for no kind of reason, written" && toldBy(t, got.err).Retry <= 0 {
				t.Errorf("%s: no time to try again", name)
			}
		}
	}
}

func digestFor(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:]
}

// TestARequestIsOneEntry: also where the key was asked twice.
func TestARequestIsOneEntry(t *testing.T) {
	r := start(t, setting{})
	r.key.behave(flipsABitOnce)
	in := r.request()
	in.DocumentNumber, in.SignedPropertiesDigest = "INV-1", digestOf(9)
	out, err := r.as(erp).SignDigest(t.Context(), in)
	must(t, err)
	entries := r.record.all()
	if len(entries) != 1 || r.key.used() != 2 || out.GetLogIndex() != 0 {
		t.Fatalf("got %d entries, %d calls of the key and index %d, want 1, 2 and 0", len(entries), r.key.used(), out.GetLogIndex())
	}
	e := entries[0]
	if e.Signer != instance || e.Caller != erp || e.TIN != ownTIN || e.TINChecked || e.Method != "SignDigest" || e.Number != "INV-1" ||
		e.RequestID != "request-1" || e.Document != audit.Digest(in.GetDocumentDigest()) || e.SignedProperties != audit.Digest(digestOf(9)) ||
		e.Certificate != audit.Digest(r.fingerprint()) || e.Time.IsZero() {
		t.Errorf("got %+v", e)
	}
	r.key.behave(honest)
	signed := signsBy(t, r.as(erp), policy.SignDocument, r.request())
	must(t, signed.err)
	e = r.record.all()[signed.index]
	if !e.TINChecked || e.Method != "SignDocument" || e.Number == "" || e.SignedProperties == (audit.Digest{}) {
		t.Errorf("of a document: got %+v, want its taxpayer checked, its number and its properties", e)
	}
}

// TestTheRecordIsWrittenWhileTheKeySigns: neither waits for the other.
func TestTheRecordIsWrittenWhileTheKeySigns(t *testing.T) {
	r := start(t, setting{})
	gate := make(chan struct{})
	r.key.behave(gated(gate))
	r.record.behave(slow(gate))
	done := make(chan error, 1)
	go func() {
		_, err := r.as(erp).SignDigest(context.Background(), r.request())
		done <- err
	}()
	for name, entered := range map[string]chan struct{}{"key": r.key.entered, "record": r.record.entered} {
		select {
		case <-entered:
		case <-time.After(20 * time.Second):
			t.Errorf("the %s was not asked while the other was at work", name)
		}
	}
	close(gate)
	must(t, <-done)
}

// TestWhereTheKeyFailsNobodyWaitsForTheRecord: the request ends, whatever becomes of
// its entry.
func TestWhereTheKeyFailsNobodyWaitsForTheRecord(t *testing.T) {
	r := start(t, setting{})
	r.record.behave(losesItAndHangs)
	r.key.behave(isAway)
	_, err := r.as(erp).SignDigest(t.Context(), r.request())
	checkRefused(t, "the key is away", err, codes.Unavailable, "TOKEN_UNAVAILABLE")
	r.record.letGo()
	must(t, r.server.recorder.finish(20*time.Second))
}

func TestHealthFollowsTheRecord(t *testing.T) {
	r := start(t, setting{})
	next := watched(t, r, serviceName)
	for _, step := range []struct {
		why  error
		want healthv1.HealthCheckResponse_ServingStatus
	}{
		{nil, healthv1.HealthCheckResponse_SERVING},
		{errors.New("the disk is full"), healthv1.HealthCheckResponse_NOT_SERVING},
		{nil, healthv1.HealthCheckResponse_SERVING},
	} {
		r.record.goDown(step.why)
		if got := next(); got != step.want {
			t.Errorf("with %v: got %v, want %v", step.why, got, step.want)
		}
	}
}

// TestWhatCouldNotBeRecordedIsGivenBack: a quota is not used up by it.
func TestWhatCouldNotBeRecordedIsGivenBack(t *testing.T) {
	r := atNoon(t, setting{policy: strings.Replace(rules, "ListTaxpayers]", "ListTaxpayers]\n    limits: {daily: 1}", 1)})
	client := r.as(erp)
	r.record.behave(losesIt)
	for range 3 {
		_, err := client.SignDigest(t.Context(), r.request())
		checkRefused(t, "not recorded", err, codes.Unavailable, "LOG_UNAVAILABLE")
	}
	r.record.behave(keeps)
	_, err := client.SignDigest(t.Context(), r.request())
	must(t, err)
	in := r.request()
	in.DocumentDigest = digestOf(2)
	_, err = client.SignDigest(t.Context(), in)
	checkRefused(t, "the second one", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
}
