package signer

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

func TestABatchAnswersEachItemInOrder(t *testing.T) {
	r := start(t, setting{})
	r.key.behave(digestsStarting(0xee, flipsABit))
	changes := []struct {
		reason string // empty: signed
		change func(*roamsignv1.SignDigestRequest)
	}{
		{"", func(*roamsignv1.SignDigestRequest) {}},
		{"NOT_ALLOWED", func(in *roamsignv1.SignDigestRequest) { in.Tin = foreignTIN }},
		{"INVALID_REQUEST", func(in *roamsignv1.SignDigestRequest) { in.DocumentDigest = nil }},
		{"CERTIFICATE_ROTATED", func(in *roamsignv1.SignDigestRequest) { in.CertificateSha256 = digestOf(9) }},
		{"REPRESENTATION_ENDED", func(in *roamsignv1.SignDigestRequest) { in.Tin = endedTIN }},
		{"SIGNATURE_WRONG", func(in *roamsignv1.SignDigestRequest) { in.DocumentDigest = digestOf(0xee) }},
		{"", func(in *roamsignv1.SignDigestRequest) { in.Tin = soleTIN }},
	}
	request := &roamsignv1.SignDigestsRequest{}
	for i := range 70 {
		in := r.request()
		in.RequestId = fmt.Sprintf("item-%d", i)
		in.DocumentDigest = digestOf(byte(i))
		changes[i%len(changes)].change(in)
		request.Items = append(request.Items, in)
	}
	out, err := r.as(erp).SignDigests(t.Context(), request)
	if err != nil || len(out.GetResults()) != len(request.GetItems()) {
		t.Fatalf("got %d results, %v, want %d", len(out.GetResults()), err, len(request.GetItems()))
	}
	for i, result := range out.GetResults() {
		in, want := request.GetItems()[i], changes[i%len(changes)].reason
		if got := result.GetError().GetReason(); got != want {
			t.Errorf("item %d: got %q, want %q", i, got, want)
		}
		if want == "" && !r.verifies(in.GetDocumentDigest(), result.GetSignature()) {
			t.Errorf("item %d: the signature is not over its digest", i)
		}
		if want != "" && result.GetError().GetMetadata()["request_id"] != in.GetRequestId() {
			t.Errorf("item %d: got request ID %q, want %q", i, result.GetError().GetMetadata()["request_id"], in.GetRequestId())
		}
	}
	line := r.journal.await(t, func(line map[string]any) bool { return line["method"] == "SignDigests" })
	delete(line, "time")
	delete(line, "duration")
	wrong := map[string]any{"items": 10.0, "first": "verifying the signature under the certificate: it does not verify"}
	want := map[string]any{
		"level": "ERROR", "msg": "request", "method": "SignDigests", "caller": erp, "outcome": "PARTIAL", "items": 70.0, "signed": 20.0,
		"taxpayers": 4.0, "tins": []any{ownTIN, foreignTIN, endedTIN, soleTIN},
		"NOT_ALLOWED":          map[string]any{"items": 10.0, "first": `caller "spiffe://example.com/erp" has no grant for taxpayer "C25814470030"`},
		"INVALID_REQUEST":      map[string]any{"items": 10.0, "first": "document_digest must be 32 bytes (SHA-256), not 0"},
		"REPRESENTATION_ENDED": map[string]any{"items": 10.0, "first": `the representation of taxpayer "D4800990020" has ended`},
		"SIGNATURE_WRONG":      wrong,
		"CERTIFICATE_ROTATED":  line["CERTIFICATE_ROTATED"],
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// TestABatchThatKeepsToALimitDoesNotWaitForTheRecord: an item whose turn comes only once
// others are on record has no use for their being so late.
func TestABatchThatKeepsToALimitDoesNotWaitForTheRecord(t *testing.T) {
	const sessions, concurrent, cost = 4, 2, time.Hour
	r := start(t, setting{sessions: sessions, policy: strings.Replace(rules, "methods: [SignDocument]", "methods: [SignDigests]", 1) + fmt.Sprintf("    limits: {concurrent: %d}\n", concurrent)})
	r.key.behave(remembering())
	r.server.queue.mu.Lock()
	r.server.queue.cost = cost // no signature takes as long here
	r.server.queue.mu.Unlock()
	request := &roamsignv1.SignDigestsRequest{}
	for range 100 {
		in := r.request()
		in.Tin = foreignTIN
		request.Items = append(request.Items, in)
	}
	out, err := r.as(portal).SignDigests(t.Context(), request)
	must(t, err)
	for i, result := range out.GetResults() {
		if result.GetError() != nil {
			t.Fatalf("item %d: got %v", i, result.GetError())
		}
	}
	if got, most := r.record.longest(), cost+(concurrent-1)*cost/sessions; got > most {
		t.Errorf("got %v for the record to take, want %v at most: until those are made that may be at once", got, most)
	}
}

func TestAPanicInOneItemLeavesTheOthers(t *testing.T) {
	r := start(t, setting{})
	r.key.behave(digestsStarting(3, panics))
	request := &roamsignv1.SignDigestsRequest{}
	for i := range 9 {
		in := r.request()
		in.DocumentDigest = digestOf(byte(i))
		request.Items = append(request.Items, in)
	}
	out, err := r.as(erp).SignDigests(t.Context(), request)
	must(t, err)
	for i, result := range out.GetResults() {
		if failed := result.GetError().GetReason() == "INTERNAL"; failed != (i == 3) {
			t.Errorf("item %d: got %v, want a failure of item 3 alone", i, result)
		}
	}
}

func TestAPanicAnywhereInAnItemIsItsError(t *testing.T) {
	s := &Server{clock: func() time.Time { panic("no time") }}
	good := &roamsignv1.SignDigestRequest{Tin: ownTIN, DocumentDigest: digestOf(1), CertificateSha256: digestOf(2), RequestId: "request-1"}
	decided := s.decideItem(nil, erp, good)
	if kindOf(decided.err) != fault.Internal || decided.released.signature != nil {
		t.Errorf("deciding: got %x, %v, want INTERNAL", decided.released.signature, decided.err)
	}
	allowed, err := policy.Parse([]byte(rules))
	must(t, err)
	granted, err := allowed.Decide(erp, policy.SignDigests, ownTIN, [32]byte{1}, time.Now())
	must(t, err)
	signed := item{grant: granted}
	s.signItem(t.Context(), nil, &signed, 0)
	if kindOf(signed.err) != fault.Internal || signed.released.signature != nil {
		t.Errorf("signing: got %x, %v, want INTERNAL", signed.released.signature, signed.err)
	}
}

func TestABatchHasOneToAThousandItems(t *testing.T) {
	r := start(t, setting{})
	r.key.behave(remembering())
	client := r.as(erp)
	for _, row := range []struct {
		items int
		fine  bool
	}{{0, false}, {1, true}, {1000, true}, {1001, false}, {1500, false}} {
		request := &roamsignv1.SignDigestsRequest{}
		for range row.items {
			request.Items = append(request.Items, r.request())
		}
		before := r.key.used()
		out, err := client.SignDigests(t.Context(), request)
		if row.fine {
			if err != nil || len(out.GetResults()) != row.items || r.key.used()-before != row.items {
				t.Errorf("%d items: got %d results of %d signatures, %v", row.items, len(out.GetResults()), r.key.used()-before, err)
			}
			continue
		}
		checkRefused(t, fmt.Sprintf("%d items", row.items), err, codes.InvalidArgument, "INVALID_REQUEST")
		if r.key.used() != before {
			t.Errorf("%d items: the key was used", row.items)
		}
	}
}

// overlong is a batch of items of no bytes, two bytes each on the wire.
func overlong(items int) []byte {
	return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, itemsField, protowire.BytesType), nil), items)
}

func TestAnOverlongBatchIsNotReadWhole(t *testing.T) {
	var in roamsignv1.SignDigestsRequest
	must(t, proto.Unmarshal(cutBatch(overlong(1_000_000)), &in))
	if len(in.GetItems()) != maxItems+1 {
		t.Errorf("items read: got %d, want %d", len(in.GetItems()), maxItems+1)
	}
	r := start(t, setting{})
	in.Items = nil
	in.ProtoReflect().SetUnknown(overlong(1_000_000)) // goes onto the wire as it is
	_, err := r.as(erp).SignDigests(t.Context(), &in)
	checkRefused(t, "a million items", err, codes.InvalidArgument, "INVALID_REQUEST")
}

func FuzzCutBatch(f *testing.F) {
	f.Add(overlong(3))
	f.Add(overlong(maxItems + 3))
	f.Add([]byte{0x0a, 0x05, 'x'})
	f.Add([]byte{0x08, 0x05, 0x0b, 0x0c, 0x12, 0x01, 'x'})
	f.Fuzz(func(t *testing.T, raw []byte) {
		cut := cutBatch(raw)
		if !bytes.HasPrefix(raw, cut) {
			t.Fatal("the cut is no beginning")
		}
		var whole, part roamsignv1.SignDigestsRequest
		if proto.Unmarshal(raw, &whole) != nil {
			return
		}
		if err := proto.Unmarshal(cut, &part); err != nil {
			t.Fatalf("what is whole does not parse once cut: %v", err)
		}
		if got, want := len(part.GetItems()), min(len(whole.GetItems()), maxItems+1); got != want {
			t.Errorf("items: got %d, want %d", got, want)
		}
		if len(cut) == len(raw) && !proto.Equal(&whole, &part) {
			t.Error("an uncut batch changed")
		}
	})
}
