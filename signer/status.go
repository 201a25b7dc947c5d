package signer

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/roamsign/roamsign/internal/fault"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// domain is the ErrorInfo domain of all errors.
const domain = "roamsign"

// answer is what callers are told of a kind of error.
type answer struct {
	code     codes.Code
	sentence string
	// wait lets the error's RetryAfter through: waiting may help with this kind.
	// An error that has none stays without, since only people can help.
	wait bool
	// tell puts the error's own text in the sentence's place. It is for kinds
	// that speak of nothing but what the caller itself sent.
	tell bool
}

// answers is the one table from kinds to what callers learn. The header of
// signer.proto documents it.
var answers = map[fault.Kind]answer{
	fault.Internal:            {code: codes.Internal, sentence: "the service failed; its log says why"},
	fault.InvalidRequest:      {code: codes.InvalidArgument, tell: true},
	fault.DocumentInvalid:     {code: codes.InvalidArgument, tell: true},
	fault.NotAllowed:          {code: codes.PermissionDenied, sentence: "not allowed"},
	fault.RepresentationEnded: {code: codes.PermissionDenied, sentence: "the representation of this taxpayer is not in force"},
	fault.CertificateRotated:  {code: codes.FailedPrecondition, sentence: "built for another certificate: fetch the current one and build again"},
	fault.CertificateExpired:  {code: codes.FailedPrecondition, sentence: "the signing certificate is not valid now"},
	fault.CertificateRevoked:  {code: codes.FailedPrecondition, sentence: "the signing certificate is revoked"},
	fault.CertificateStopped:  {code: codes.FailedPrecondition, sentence: "signing under the present certificate was stopped"},
	fault.TaxpayerMismatch:    {code: codes.FailedPrecondition, sentence: "the document names another taxpayer than the request"},
	fault.IssueTimeMismatch:   {code: codes.FailedPrecondition, sentence: "the document is not issued within the representation of this taxpayer"},
	fault.QuotaExceeded:       {code: codes.ResourceExhausted, sentence: "the day's signatures are used up", wait: true},
	fault.RateLimited:         {code: codes.ResourceExhausted, sentence: "more at a time, or in a short time, than is granted", wait: true},
	fault.StateUnavailable:    {code: codes.Unavailable, sentence: "the use of a quota cannot be put down, so nothing was signed", wait: true},
	fault.Overloaded:          {code: codes.ResourceExhausted, sentence: "too much is waiting already", wait: true},
	fault.TokenUnavailable:    {code: codes.Unavailable, sentence: "the token does not answer", wait: true},
	fault.LogUnavailable:      {code: codes.Unavailable, sentence: "the audit log does not answer, and without it nothing is released", wait: true},
	fault.ReceiptPending:      {code: codes.Unavailable, sentence: "recorded, but no checkpoint holds it yet", wait: true},
	fault.SignatureWrong:      {code: codes.Unavailable, sentence: "the token gave a wrong signature, which was not released", wait: true},
	fault.Canceled:            {code: codes.Canceled, sentence: "the caller went away"},
	fault.DeadlineExceeded:    {code: codes.DeadlineExceeded, sentence: "the deadline passed first"},
}

// kindOf returns an error's kind. Errors of contexts need none attached.
func kindOf(err error) fault.Kind {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return fault.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return fault.DeadlineExceeded
	default:
		return fault.Internal
	}
}

// refusal is an error as its caller sees it.
type refusal struct {
	kind     fault.Kind
	code     codes.Code
	message  string
	retry    time.Duration
	metadata map[string]string
}

// refuse turns an error into what its caller learns. It is the only place that
// does.
func refuse(err error, id requestID) refusal {
	kind := kindOf(err)
	told, known := answers[kind]
	if !known {
		kind, told = fault.Internal, answers[fault.Internal]
	}
	r := refusal{kind: kind, code: told.code, message: told.sentence, metadata: map[string]string{}}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		maps.Copy(r.metadata, e.Metadata)
		if told.tell {
			r.message = clip(e.Error(), maxMessage)
		}
		if told.wait {
			r.retry = e.RetryAfter
		}
	}
	if id != "" {
		r.metadata["request_id"] = string(id)
	}
	return r
}

// Bounds of what errors carry, in bytes: they travel in headers.
const maxMessage, maxMetadata = 1000, 100

// clip cuts a text to a number of bytes, and makes it valid UTF-8.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// status returns the gRPC status error of a whole call.
func (r refusal) status() error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: domain, Reason: r.kind.Reason(), Metadata: r.metadata}}
	if r.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.retry)})
	}
	st := status.New(r.code, r.message)
	if detailed, err := st.WithDetails(details...); err == nil {
		st = detailed
	}
	return st.Err()
}

// item returns the error of one item of a batch.
func (r refusal) item() *roamsignv1.ItemError {
	e := &roamsignv1.ItemError{Code: int32(r.code), Reason: r.kind.Reason(), Message: r.message, Metadata: r.metadata}
	if r.retry > 0 {
		e.RetryDelay = durationpb.New(r.retry)
	}
	return e
}
