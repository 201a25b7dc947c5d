package signer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/roamsign/roamsign/internal/fault"
)

// told is an error as a client sees it.
type told struct {
	Code     codes.Code
	Reason   string
	Domain   string
	Message  string
	Metadata map[string]string
	Retry    time.Duration
}

func toldBy(t *testing.T, err error) told {
	t.Helper()
	st, ok := status.FromError(err)
	if !ok {
		t.Fatalf("got %v, want a gRPC status", err)
	}
	out := told{Code: st.Code(), Message: st.Message()}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			out.Reason, out.Domain, out.Metadata = detail.GetReason(), detail.GetDomain(), detail.GetMetadata()
		case *errdetails.RetryInfo:
			out.Retry = detail.GetRetryDelay().AsDuration()
		default:
			t.Errorf("unknown detail %T", detail)
		}
	}
	return out
}

func checkRefused(t *testing.T, name string, err error, code codes.Code, reason string) {
	t.Helper()
	if got := toldBy(t, err); got.Code != code || got.Reason != reason || got.Domain != domain {
		t.Errorf("%s: got %v %s, want %v %s", name, got.Code, got.Reason, code, reason)
	}
}

func TestEveryKindHasItsAnswer(t *testing.T) {
	if len(answers) != len(fault.Kinds()) {
		t.Errorf("answers: got %d, want %d, as many as kinds", len(answers), len(fault.Kinds()))
	}
	waiting := map[fault.Kind]bool{
		fault.QuotaExceeded: true, fault.RateLimited: true, fault.StateUnavailable: true,
		fault.Overloaded: true, fault.TokenUnavailable: true, fault.LogUnavailable: true, fault.ReceiptPending: true, fault.SignatureWrong: true}
	for _, kind := range fault.Kinds() {
		a, ok := answers[kind]
		if !ok || a.code == codes.OK || a.code == codes.Unknown {
			t.Errorf("%v: got %v, want a code of its own", kind, a.code)
		}
		if (a.sentence == "") != a.tell {
			t.Errorf("%v: sentence %q and tell %v, want exactly one", kind, a.sentence, a.tell)
		}
		if a.wait != waiting[kind] {
			t.Errorf("%v: wait %v, want %v", kind, a.wait, waiting[kind])
		}
	}
}

// The API's manual, the header of the .proto, must say what the table says.
func TestTheProtoDocumentsTheAnswers(t *testing.T) {
	text, err := os.ReadFile("../proto/roamsign/v1/signer.proto")
	must(t, err)
	row := regexp.MustCompile(`(?m)^//\s+([A-Z_]+)\s+([A-Z_]+)\s{2,}\S`)
	documented := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		documented[match[1]] = match[2]
	}
	actual := map[string]string{}
	for kind, a := range answers {
		actual[kind.Reason()] = screaming(a.code)
	}
	if diff := cmp.Diff(documented, actual); diff != "" {
		t.Errorf("reasons and codes (-documented +actual):\n%s", diff)
	}
}

// screaming writes a code as the .proto and google.rpc.Code do.
func screaming(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(code.String(), "${1}_${2}"))
}

func TestWhatCallersLearnOfErrors(t *testing.T) {
	inner := errors.New("secret detail")
	for _, row := range []struct {
		name string
		err  error
		id   requestID
		want told
	}{
		{
			"unclassified", inner, "r1",
			told{codes.Internal, "INTERNAL", domain, "the service failed; its log says why", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"a denial", fault.New(fault.NotAllowed, "caller x: %w", inner), "r1",
			told{codes.PermissionDenied, "NOT_ALLOWED", domain, "not allowed", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"no request ID", fault.Wrap(fault.NotAllowed, inner), "",
			told{codes.PermissionDenied, "NOT_ALLOWED", domain, "not allowed", nil, 0},
		},
		{
			"the caller's own mistake", fault.New(fault.InvalidRequest, "tin: it is empty"), "r1",
			told{codes.InvalidArgument, "INVALID_REQUEST", domain, "tin: it is empty", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"no wait, since only people can help", fault.Wrap(fault.TokenUnavailable, inner), "r1",
			told{codes.Unavailable, "TOKEN_UNAVAILABLE", domain, "the token does not answer", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"a wait, told deep inside",
			fmt.Errorf("signing: %w", &fault.Error{Kind: fault.Overloaded, RetryAfter: 3 * time.Second, Err: inner}), "r1",
			told{codes.ResourceExhausted, "OVERLOADED", domain, "too much is waiting already", map[string]string{"request_id": "r1"}, 3 * time.Second},
		},
		{
			"a wait where none helps", &fault.Error{Kind: fault.NotAllowed, RetryAfter: time.Second, Err: inner}, "r1",
			told{codes.PermissionDenied, "NOT_ALLOWED", domain, "not allowed", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"metadata", &fault.Error{Kind: fault.TaxpayerMismatch, Metadata: map[string]string{"tin": "a", "document_tin": "b"}, Err: inner}, "r1",
			told{codes.FailedPrecondition, "TAXPAYER_MISMATCH", domain, "the document names another taxpayer than the request",
				map[string]string{"request_id": "r1", "tin": "a", "document_tin": "b"}, 0},
		},
		{
			"a context that ended", fmt.Errorf("waiting: %w", context.DeadlineExceeded), "r1",
			told{codes.DeadlineExceeded, "DEADLINE_EXCEEDED", domain, "the deadline passed first", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"a context that was canceled", fmt.Errorf("waiting: %w", context.Canceled), "r1",
			told{codes.Canceled, "CANCELED", domain, "the caller went away", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"a kind attached to a context's error", fault.Wrap(fault.TokenUnavailable, context.DeadlineExceeded), "r1",
			told{codes.Unavailable, "TOKEN_UNAVAILABLE", domain, "the token does not answer", map[string]string{"request_id": "r1"}, 0},
		},
		{
			"a kind that nobody knows", fault.Wrap(fault.Kind(200), inner), "r1",
			told{codes.Internal, "INTERNAL", domain, "the service failed; its log says why", map[string]string{"request_id": "r1"}, 0},
		},
	} {
		if diff := cmp.Diff(row.want, toldBy(t, refuse(row.err, row.id).status())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}

func TestItemsAreToldWhatSingleCallsAre(t *testing.T) {
	for _, kind := range fault.Kinds() {
		r := refuse(&fault.Error{Kind: kind, RetryAfter: time.Minute, Metadata: map[string]string{"k": "v"}, Err: errors.New("why")}, "r1")
		whole, item := toldBy(t, r.status()), r.item()
		got := told{codes.Code(item.GetCode()), item.GetReason(), domain, item.GetMessage(), item.GetMetadata(), item.GetRetryDelay().AsDuration()}
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Errorf("%v (-whole +item):\n%s", kind, diff)
		}
	}
}

func TestTextsOfAnySizeAndEncodingCanBeTold(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", 100_000), "\xff\xfe", "a\x00b"} {
		err := refuse(fault.New(fault.DocumentInvalid, "%s", text), "r1").status()
		st, _ := status.FromError(err)
		if raw, failed := proto.Marshal(st.Proto()); failed != nil || len(raw) > 2*maxMessage {
			t.Errorf("%.10q: got %d bytes, %v, want at most %d", text, len(raw), failed, 2*maxMessage)
		}
		if !utf8.ValidString(st.Message()) {
			t.Errorf("%.10q: got the message %q, want UTF-8", text, st.Message())
		}
	}
}
