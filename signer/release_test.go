package signer

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// faults are the ways in which a key fails, and what callers then learn.
var faults = []struct {
	name   string
	way    way
	code   codes.Code
	reason string
}{
	{"one bit flipped", flipsABit, codes.Unavailable, "SIGNATURE_WRONG"},
	{"over another digest", signsAnother, codes.Unavailable, "SIGNATURE_WRONG"},
	{"with another key", withAnotherKey, codes.Unavailable, "SIGNATURE_WRONG"},
	{"without DigestInfo", withoutDigestInfo, codes.Unavailable, "SIGNATURE_WRONG"},
	{"PSS", withPSS, codes.Unavailable, "SIGNATURE_WRONG"},
	{"nothing", givesNothing, codes.Unavailable, "SIGNATURE_WRONG"},
	{"wrong as the token's owner saw", seesItself, codes.Unavailable, "SIGNATURE_WRONG"},
	{"one bit flipped, then away", isAwayAfterALie, codes.Unavailable, "SIGNATURE_WRONG"},
	{"away", isAway, codes.Unavailable, "TOKEN_UNAVAILABLE"},
	{"broken", breaks, codes.Internal, "INTERNAL"},
	{"blames the caller", blamesTheCaller, codes.Internal, "INTERNAL"},
	{"panics", panics, codes.Internal, "INTERNAL"},
	{"hangs", hangs, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
}

func TestNothingWrongIsEverReleased(t *testing.T) {
	patient := start(t, setting{sessions: 1}) // a session lost would be the last
	hasty := start(t, setting{sessions: 1, limits: Limits{Request: time.Second}})
	clients := map[*rig]roamsignv1.SignerServiceClient{patient: patient.as(erp), hasty: hasty.as(erp)}
	for _, row := range faults {
		r := patient
		if row.code == codes.DeadlineExceeded {
			r = hasty
		}
		client := clients[r]
		r.key.behave(row.way)
		for _, method := range []string{"SignDigest", "SignDigests", "SignDocument"} {
			id := row.name + ", " + method
			in := r.request()
			in.RequestId = id
			var out []byte
			var err error
			switch method {
			case "SignDocument":
				var released *roamsignv1.SignDocumentResponse
				released, err = client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{Tin: ownTIN, RequestId: id, Document: invoice(t, "xml/invoice-1.1.xml")})
				out = released.GetDocument()
			case "SignDigest":
				var released *roamsignv1.SignDigestResponse
				released, err = client.SignDigest(t.Context(), in)
				out = released.GetSignature()
			default:
				var released *roamsignv1.SignDigestsResponse
				released, err = client.SignDigests(t.Context(), &roamsignv1.SignDigestsRequest{Items: []*roamsignv1.SignDigestRequest{in}})
				must(t, err)
				out, err = released.GetResults()[0].GetSignature(), itemError(released.GetResults()[0].GetError())
			}
			checkRefused(t, id, err, row.code, row.reason)
			if len(out) != 0 {
				t.Errorf("%s: got %d bytes, want none", id, len(out))
			}
			st, _ := status.FromError(err)
			if text := st.Proto().String(); strings.Contains(text, "secret") || strings.Contains(text, "CKR_") {
				t.Errorf("%s: the caller is told %s", id, text)
			}
		}
	}
	// The service is as good as before.
	for r, client := range clients {
		r.key.behave(honest)
		_, err := client.SignDigest(t.Context(), r.request())
		for late := time.Now().Add(20 * time.Second); r == hasty && status.Code(err) == codes.DeadlineExceeded && time.Now().Before(late); {
			_, err = client.SignDigest(t.Context(), r.request()) // a second is not long on a busy machine
		}
		if err != nil {
			t.Errorf("after all faults: %v", err)
		}
	}
}

func TestWhatTheTokenGaveIsNeitherReleasedNorLogged(t *testing.T) {
	r := start(t, setting{})
	r.key.behave(flipsABit)
	in := r.request()
	_, err := r.as(erp).SignDigest(t.Context(), in)
	checkRefused(t, "a flipped bit", err, codes.Unavailable, "SIGNATURE_WRONG")
	line := r.journal.await(t, func(line map[string]any) bool { return line["outcome"] == "SIGNATURE_WRONG" })
	if retry := toldBy(t, err).Retry; retry <= 0 {
		t.Errorf("retry: got %v, want a while", retry)
	}
	if line["level"] != "ERROR" {
		t.Errorf("level of a wrong signature: got %v, want ERROR", line["level"])
	}
	signature, err := honest(t.Context(), r.key, [32]byte(in.GetDocumentDigest()))
	must(t, err)
	signature[100] ^= 1
	for _, form := range []string{hex.EncodeToString(signature), base64.StdEncoding.EncodeToString(signature)} {
		if strings.Contains(r.journal.all(), form[:32]) {
			t.Error("the log holds what the token gave")
		}
	}
	if !r.key.given[sha256.Sum256(signature)] {
		t.Error("the fake gave something else, so this test shows nothing")
	}
}

// TestAWrongSignatureIsReportedAndMadeAgain: once, since part of a key may lie
// and another not.
func TestAWrongSignatureIsReportedAndMadeAgain(t *testing.T) {
	r := start(t, setting{})
	for _, row := range []struct {
		name      string
		way       way
		suspected int
	}{
		{"wrong once", flipsABitOnce, 1},
		{"wrong twice", flipsABit, 2},
		{"never wrong", honest, 0},
		{"never answered", isAway, 0},
	} {
		r.key.behave(row.way)
		in := r.request()
		in.DocumentDigest = digestOf(byte(len(row.name)))
		out, err := r.as(erp).SignDigest(t.Context(), in)
		if right := r.verifies(in.GetDocumentDigest(), out.GetSignature()); err == nil && !right {
			t.Errorf("%s: a wrong signature was released", row.name)
		}
		if signed := err == nil; signed != (row.name == "wrong once" || row.name == "never wrong") {
			t.Errorf("%s: got error %v", row.name, err)
		}
		if got := r.key.suspected([32]byte(in.GetDocumentDigest())); got != row.suspected {
			t.Errorf("%s: got %d reports to the key, want %d", row.name, got, row.suspected)
		}
	}
}

func TestAPanicOfTheKeyIsAFailedSignature(t *testing.T) {
	r := start(t, setting{sessions: 1})
	r.key.behave(panics)
	_, err := r.as(erp).SignDigest(t.Context(), r.request())
	checkRefused(t, "a panic", err, codes.Internal, "INTERNAL")
	if q := r.server.queue; q.busy != 0 || q.cost != 0 {
		t.Errorf("queue: got %d sessions in use and a cost of %v, want it as before", q.busy, q.cost)
	}
}

func TestNothingIsSignedWithoutAGrant(t *testing.T) {
	r := start(t, setting{})
	if made, err := r.server.sign(t.Context(), admitted{}, subject{}, 0); kindOf(err) != fault.NotAllowed || made.signature != nil {
		t.Errorf("got %x, %v, want NOT_ALLOWED", made.signature, err)
	}
	if _, err := r.server.admit(t.Context(), nil, policy.Grant{}, "id", [32]byte{}); kindOf(err) != fault.NotAllowed {
		t.Errorf("admitting: got %v, want NOT_ALLOWED", err)
	}
	if n := r.key.used(); n != 0 {
		t.Errorf("the key was used %d times, want never", n)
	}
	if entries := r.record.all(); len(entries) != 0 {
		t.Errorf("the record has %d entries, want none", len(entries))
	}
}
