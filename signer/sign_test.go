package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

func TestAGrantedDigestIsSigned(t *testing.T) {
	r := start(t, setting{})
	in := r.request()
	in.SignedPropertiesDigest, in.DocumentNumber = digestOf(2), "INV-2026/0001"
	out, err := r.as(erp).SignDigest(t.Context(), in)
	if err != nil {
		t.Fatalf("SignDigest: %v", err)
	}
	if !r.verifies(in.GetDocumentDigest(), out.GetSignature()) {
		t.Error("the signature does not verify under the certificate")
	}
	again, err := r.as(erp).SignDigest(t.Context(), in)
	if err != nil || !bytes.Equal(again.GetSignature(), out.GetSignature()) {
		t.Errorf("the same again: got %v, want the same signature", err)
	}
}

func TestCertificateAndTaxpayersAreToldToTheGranted(t *testing.T) {
	r := start(t, setting{})
	certificate, err := r.as(erp).GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
	must(t, err)
	want := &roamsignv1.GetCertificateResponse{Certificate: r.material.leaf.Raw, Chain: [][]byte{r.material.root.Raw}}
	if diff := cmp.Diff(want, certificate, protocmp.Transform()); diff != "" {
		t.Errorf("GetCertificate (-want +got):\n%s", diff)
	}
	taxpayers, err := r.as(erp).ListTaxpayers(t.Context(), &roamsignv1.ListTaxpayersRequest{})
	must(t, err)
	methods := []string{"SignDigest", "SignDigests", "SignDocument"}
	expected := &roamsignv1.ListTaxpayersResponse{Taxpayers: []*roamsignv1.Taxpayer{
		{Tin: ownTIN, Brn: "201901054321", Name: "Syarikat Seri Melur Sdn. Bhd.", Methods: methods, Rights: []string{"submit"}},
		{Tin: soleTIN, Methods: methods, Rights: []string{"submit"}},
	}}
	if diff := cmp.Diff(expected, taxpayers, protocmp.Transform()); diff != "" {
		t.Errorf("ListTaxpayers (-want +got):\n%s", diff)
	}
}

func TestWindowsAreToldInUTCAndRightsAsGiven(t *testing.T) {
	r := start(t, setting{})
	allowed, err := policy.Parse([]byte(`
taxpayers: [{tin: C20880050010, brn: 2020, from: 2020-01-01, to: 9999-12-31, rights: [cancel, submit], intermediary: true}]
callers: [{name: spiffe://example.com/erp, taxpayers: all, methods: [SignDigest, ListTaxpayers]}]
`))
	must(t, err)
	r.server.SetPolicy(allowed)
	got, err := r.as(erp).ListTaxpayers(t.Context(), &roamsignv1.ListTaxpayersRequest{})
	must(t, err)
	want := &roamsignv1.ListTaxpayersResponse{Taxpayers: []*roamsignv1.Taxpayer{{
		Tin: ownTIN, Brn: "2020", Methods: []string{"SignDigest"}, Rights: []string{"submit", "cancel"}, Intermediary: true,
		NotBefore: timestamppb.New(time.Date(2019, 12, 31, 16, 0, 0, 0, time.UTC)),
		NotAfter:  timestamppb.New(time.Date(9999, 12, 31, 16, 0, 0, 0, time.UTC)),
	}}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("ListTaxpayers (-want +got):\n%s", diff)
	}
}

// ask is one request in the words of whichever method.
func ask(ctx context.Context, client roamsignv1.SignerServiceClient, method string, in *roamsignv1.SignDigestRequest) error {
	var err error
	switch method {
	case "SignDigest":
		_, err = client.SignDigest(ctx, in)
	case "SignDigests":
		var out *roamsignv1.SignDigestsResponse
		if out, err = client.SignDigests(ctx, &roamsignv1.SignDigestsRequest{Items: []*roamsignv1.SignDigestRequest{in}}); err == nil {
			err = itemError(out.GetResults()[0].GetError())
		}
	case "SignDocument":
		_, err = client.SignDocument(ctx, &roamsignv1.SignDocumentRequest{Tin: in.GetTin(), RequestId: in.GetRequestId(), Document: []byte("no document")})
	}
	return err
}

// itemError is an item's error as the status that a single call gives.
func itemError(e *roamsignv1.ItemError) error {
	if e == nil {
		return nil
	}
	r := refusal{code: codes.Code(e.GetCode()), message: e.GetMessage(), metadata: e.GetMetadata(), retry: e.GetRetryDelay().AsDuration()}
	for kind := range answers {
		if kind.Reason() == e.GetReason() {
			r.kind = kind
		}
	}
	return r.status()
}

func TestDenialsTellNothingApart(t *testing.T) {
	r := start(t, setting{})
	clients := map[string]roamsignv1.SignerServiceClient{erp: r.as(erp), portal: r.as(portal), stranger: r.as(stranger)}
	var first []byte
	for _, row := range []struct {
		name, caller, method, tin string
		fingerprint               []byte
		why                       string // in the log
	}{
		{"unknown caller", stranger, "SignDigest", ownTIN, nil, "is not in the policy"},
		{"unknown caller, batch", stranger, "SignDigests", ownTIN, nil, "is not in the policy"},
		{"unknown caller, document", stranger, "SignDocument", ownTIN, nil, "is not in the policy"},
		{"unknown taxpayer", erp, "SignDigest", unknownTIN, nil, `taxpayer "C99999999990" is not in the policy`},
		{"unknown taxpayer, batch", erp, "SignDigests", unknownTIN, nil, `taxpayer "C99999999990" is not in the policy`},
		{"unknown taxpayer, document", erp, "SignDocument", unknownTIN, nil, `taxpayer "C99999999990" is not in the policy`},
		{"foreign taxpayer", erp, "SignDigest", foreignTIN, nil, "has no grant for taxpayer"},
		{"foreign taxpayer, batch", erp, "SignDigests", foreignTIN, nil, "has no grant for taxpayer"},
		{"foreign taxpayer, document", erp, "SignDocument", foreignTIN, nil, "has no grant for taxpayer"},
		{"foreign taxpayer, ended", portal, "SignDocument", endedTIN, nil, "has no grant for taxpayer"},
		{"method not granted", portal, "SignDigest", foreignTIN, nil, `is not granted method "SignDigest"`},
		{"method not granted, batch", portal, "SignDigests", foreignTIN, nil, `is not granted method "SignDigests"`},
		{"a sole proprietor without the business", erp, "SignDigest", "IG40125678090", nil, "is not in the policy"},
		{"foreign taxpayer, another certificate", erp, "SignDigest", foreignTIN, make([]byte, 32), "has no grant for taxpayer"},
		{"unknown caller, another certificate", stranger, "SignDigest", ownTIN, digestOf(9), "is not in the policy"},
	} {
		in := r.request()
		in.Tin = row.tin
		if row.fingerprint != nil {
			in.CertificateSha256 = row.fingerprint
		}
		err := ask(t.Context(), clients[row.caller], row.method, in)
		checkRefused(t, row.name, err, codes.PermissionDenied, "NOT_ALLOWED")
		st, _ := status.FromError(err)
		raw, failed := proto.MarshalOptions{Deterministic: true}.Marshal(st.Proto())
		must(t, failed)
		if first == nil {
			first = raw
		}
		if !bytes.Equal(raw, first) {
			t.Errorf("%s: the answer differs from the first row's: %v", row.name, st)
		}
		if !r.journal.tells(row.why) {
			t.Errorf("%s: the log does not say %q", row.name, row.why)
		}
	}
	if n := r.key.used(); n != 0 {
		t.Errorf("the key was used %d times, want never", n)
	}
}

func TestOtherCallsAreDeniedTheUngranted(t *testing.T) {
	r := start(t, setting{})
	for _, caller := range []string{stranger, portal} {
		client := r.as(caller)
		_, err := client.GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
		checkRefused(t, caller+" GetCertificate", err, codes.PermissionDenied, "NOT_ALLOWED")
		_, err = client.ListTaxpayers(t.Context(), &roamsignv1.ListTaxpayersRequest{})
		checkRefused(t, caller+" ListTaxpayers", err, codes.PermissionDenied, "NOT_ALLOWED")
	}
}

func TestWhatIsMalformedIsNamed(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	for _, row := range []struct {
		name   string
		change func(*roamsignv1.SignDigestRequest)
		want   string
	}{
		{"no TIN", func(in *roamsignv1.SignDigestRequest) { in.Tin = "" }, "tin: "},
		{"no TIN at all", func(in *roamsignv1.SignDigestRequest) { in.Tin = "Supplier's TIN" }, "tin: "},
		{"a general TIN", func(in *roamsignv1.SignDigestRequest) { in.Tin = "EI00000000010" }, "tin: "},
		{"no digest", func(in *roamsignv1.SignDigestRequest) { in.DocumentDigest = nil }, "document_digest must be 32 bytes (SHA-256), not 0"},
		{"a short digest", func(in *roamsignv1.SignDigestRequest) { in.DocumentDigest = make([]byte, 31) }, "document_digest must be 32 bytes"},
		{"a long digest", func(in *roamsignv1.SignDigestRequest) { in.DocumentDigest = make([]byte, 33) }, "document_digest must be 32 bytes"},
		{"SHA-1", func(in *roamsignv1.SignDigestRequest) { in.DocumentDigest = make([]byte, 20) }, "document_digest must be 32 bytes"},
		{"hexadecimal", func(in *roamsignv1.SignDigestRequest) {
			in.DocumentDigest = []byte(hex.EncodeToString(in.GetDocumentDigest()))
		}, "document_digest must be 32 bytes"},
		{"no fingerprint", func(in *roamsignv1.SignDigestRequest) { in.CertificateSha256 = nil }, "certificate_sha256 must be 32 bytes"},
		{"a short fingerprint", func(in *roamsignv1.SignDigestRequest) { in.CertificateSha256 = make([]byte, 20) }, "certificate_sha256 must be 32 bytes"},
		{"no request ID", func(in *roamsignv1.SignDigestRequest) { in.RequestId = "" }, "request_id must be"},
		{"a long request ID", func(in *roamsignv1.SignDigestRequest) { in.RequestId = strings.Repeat("x", 65) }, "request_id must be"},
		{"a newline in the request ID", func(in *roamsignv1.SignDigestRequest) { in.RequestId = "a\nb" }, "request_id must be"},
		{"a request ID of other letters", func(in *roamsignv1.SignDigestRequest) { in.RequestId = "permintaan-é" }, "request_id must be"},
		{"a short properties digest", func(in *roamsignv1.SignDigestRequest) { in.SignedPropertiesDigest = make([]byte, 31) }, "signed_properties_digest must be 32 bytes"},
		{"a long number", func(in *roamsignv1.SignDigestRequest) { in.DocumentNumber = strings.Repeat("é", 51) }, "document_number must be"},
		{"a newline in the number", func(in *roamsignv1.SignDigestRequest) { in.DocumentNumber = "1\n2" }, "document_number must be"},
	} {
		for _, method := range []string{"SignDigest", "SignDigests"} {
			in := r.request()
			row.change(in)
			err := ask(t.Context(), client, method, in)
			checkRefused(t, row.name+", "+method, err, codes.InvalidArgument, "INVALID_REQUEST")
			if got := toldBy(t, err); !strings.Contains(got.Message, row.want) {
				t.Errorf("%s, %s: got %q, want %q in it", row.name, method, got.Message, row.want)
			}
		}
	}
	if n := r.key.used(); n != 0 {
		t.Errorf("the key was used %d times, want never", n)
	}
}

func TestLongestFieldsAreTaken(t *testing.T) {
	r := start(t, setting{})
	in := r.request()
	in.RequestId = strings.Repeat("~", 63) + " "
	in.DocumentNumber = strings.Repeat("é", 50)
	if _, err := r.as(erp).SignDigest(t.Context(), in); err != nil {
		t.Errorf("SignDigest: %v", err)
	}
}

func TestGrantedCallersLearnMore(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	in := r.request()
	in.CertificateSha256 = digestOf(9)
	for _, method := range []string{"SignDigest", "SignDigests"} {
		checkRefused(t, method, ask(t.Context(), client, method, in), codes.FailedPrecondition, "CERTIFICATE_ROTATED")
	}
	in = r.request()
	in.Tin = endedTIN
	for _, method := range []string{"SignDigest", "SignDigests", "SignDocument"} {
		err := ask(t.Context(), client, method, in)
		checkRefused(t, method, err, codes.PermissionDenied, "REPRESENTATION_ENDED")
		want := map[string]string{"request_id": "request-1", "tin": endedTIN, "not_after": "2020-12-31T16:00:00Z"}
		if diff := cmp.Diff(want, toldBy(t, err).Metadata); diff != "" {
			t.Errorf("%s metadata (-want +got):\n%s", method, diff)
		}
	}
	r.advance(20 * 24 * time.Hour) // past the signing certificate, not those of TLS
	for _, method := range []string{"SignDigest", "SignDigests", "SignDocument"} {
		checkRefused(t, method, ask(t.Context(), client, method, r.request()), codes.FailedPrecondition, "CERTIFICATE_EXPIRED")
	}
	if n := r.key.used(); n != 0 {
		t.Errorf("the key was used %d times, want never", n)
	}
}

func TestOneLineARequest(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	in := r.request()
	in.RequestId = "fine"
	_, err := client.SignDigest(t.Context(), in)
	must(t, err)
	in = r.request()
	in.RequestId, in.Tin = "foreign", foreignTIN
	_, err = client.SignDigest(t.Context(), in)
	checkRefused(t, "foreign", err, codes.PermissionDenied, "NOT_ALLOWED")

	for id, want := range map[string]map[string]any{
		"fine": {
			"level": "INFO", "msg": "request", "method": "SignDigest", "caller": erp, "tin": ownTIN,
			"request_id": "fine", "outcome": "OK",
		},
		"foreign": {
			"level": "INFO", "msg": "request", "method": "SignDigest", "caller": erp, "tin": foreignTIN,
			"request_id": "foreign", "outcome": "NOT_ALLOWED", "error": `caller "spiffe://example.com/erp" has no grant for taxpayer "C25814470030"`,
		},
	} {
		r.journal.await(t, func(line map[string]any) bool { return line["request_id"] == id })
		lines := r.journal.requests(id)
		if len(lines) != 1 {
			t.Fatalf("%s: got %d lines, want one", id, len(lines))
		}
		if took, ok := lines[0]["duration"].(float64); !ok || took <= 0 {
			t.Errorf("%s: duration: got %v, want some", id, lines[0]["duration"])
		}
		delete(lines[0], "duration")
		delete(lines[0], "time")
		if diff := cmp.Diff(want, lines[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
}
