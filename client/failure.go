package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is why something was not signed, or another call not answered: what the
// signer said, or that none could be reached. Faults of the document itself are
// errors of package xades instead.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is the machine-readable cause in upper snake case ("NOT_ALLOWED";
	// the header of signer.proto lists them). Empty if no signer answered.
	Reason string
	// Message is what the signer said, for people.
	Message string
	// Metadata are the facts that the signer added, by name. May be nil.
	Metadata map[string]string
	// RetryAfter is when the signer says that trying again may help, or 0.
	RetryAfter time.Duration
	// TIN is the taxpayer on whose behalf the call was made, if it was for one.
	TIN string
	// RequestID is the call's, as the signer has it on record; empty for calls
	// that sign nothing.
	RequestID string

	cause  error
	server string // which gave the error, if it is known
	hint   string // what to do next, instead of the reason's
}

// Error tells what happened and what to do next, in one line.
func (e *Error) Error() string {
	var text strings.Builder
	if e.TIN != "" {
		fmt.Fprintf(&text, "on behalf of %s: ", e.TIN)
	}
	text.WriteString(e.Message)
	if e.Reason != "" {
		fmt.Fprintf(&text, " (%s)", e.Reason)
	}
	if next := e.next(); next != "" {
		text.WriteString(": " + next)
	}
	return text.String()
}

// Unwrap returns what lies beneath, such as [context.DeadlineExceeded].
func (e *Error) Unwrap() error { return e.cause }

// next says what to do.
func (e *Error) next() string {
	text := cmp.Or(e.hint, advice(e.Reason))
	switch {
	case e.Reason == "" && e.Code == codes.Unavailable:
		text = "see that the signer runs, and that servers, ca, certificate and key of the configuration are right"
	case e.Code == codes.DeadlineExceeded:
		text = "try again, with more time"
	}
	if e.RetryAfter > 0 {
		text = strings.TrimPrefix(text+"; try again in "+e.RetryAfter.Round(time.Millisecond).String(), "; ")
	}
	return text
}

// advice is what to do next, by reason.
func advice(reason string) string {
	switch reason {
	case fault.Internal.Reason():
		return "tell the operator of the signer, whose log says more"
	case fault.NotAllowed.Reason():
		return "ask the operator of the signer to grant this client the taxpayer and the method in its policy"
	case fault.RepresentationEnded.Reason():
		return "the taxpayer has to renew the representation in the MyInvois portal, and the operator of the signer its dates in the policy"
	case fault.CertificateRotated.Reason():
		return "the signers disagree about their certificate; try again once the rotation is over"
	case fault.CertificateExpired.Reason():
		return "the operator of the signer has to install a valid signing certificate"
	case fault.CertificateRevoked.Reason():
		return "the operator of the signer has to install another signing certificate, since this one is revoked"
	case fault.CertificateStopped.Reason():
		return "the operator of the signer has stopped signing under its certificate, and has to install another one or resume"
	case fault.Overloaded.Reason():
		return "send less at a time"
	case fault.TokenUnavailable.Reason():
		return "the signer cannot reach its HSM; tell its operator if it lasts"
	case fault.LogUnavailable.Reason():
		return "tell the operator of the signer if it lasts"
	case fault.SignatureWrong.Reason():
		return "the HSM is at fault, and nothing was released; tell the operator of the signer"
	}
	return ""
}

// Unreached tells whether no signer was reached at all, which concerns whatever
// else there is to be signed as well.
func (e *Error) Unreached() bool {
	return e.Reason == "" && (e.Code == codes.Unavailable || e.Code == codes.DeadlineExceeded)
}

// transient tells whether another attempt may end otherwise. It may be made at
// once, at another server.
func (e *Error) transient() bool {
	return !e.pending() && (e.Code == codes.Unavailable || e.Code == codes.DeadlineExceeded)
}

// patience is the longest that a call waits because the signer asks it to.
const patience = 5 * time.Second

// postponed tells whether the signer asks for a wait that is worth its while.
func (e *Error) postponed() bool {
	return e.Code == codes.ResourceExhausted && e.RetryAfter > 0 && e.RetryAfter <= patience
}

// rotated tells whether the request was built for a certificate that is no
// longer the current one.
func (e *Error) rotated() bool { return e.Reason == fault.CertificateRotated.Reason() }

// answered makes an Error of a call's.
func answered(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	st := status.Convert(err)
	e := &Error{Code: st.Code(), Message: st.Message(), cause: err}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == "roamsign" {
				e.Reason, e.Metadata = detail.GetReason(), detail.GetMetadata()
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// itemError makes an Error of one item's at a server.
func itemError(item *roamsignv1.ItemError, server string) *Error {
	return &Error{
		Code:       codes.Code(uint32(item.GetCode())),
		Reason:     item.GetReason(),
		Message:    item.GetMessage(),
		Metadata:   maps.Clone(item.GetMetadata()),
		RetryAfter: item.GetRetryDelay().AsDuration(),
		server:     server,
	}
}

// about returns the error as one of a taxpayer's request.
func (e *Error) about(tin, requestID string) *Error {
	copied := *e
	copied.TIN, copied.RequestID = tin, requestID
	return &copied
}

// over is the error of a call whose context ended; last is what the attempt
// before had come to, or nil.
func over(ctx context.Context, last *Error) *Error {
	e := &Error{Code: codes.Canceled, Reason: fault.Canceled.Reason(), Message: "given up", cause: context.Cause(ctx)}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code, e.Reason = codes.DeadlineExceeded, fault.DeadlineExceeded.Reason()
		e.Message = "no answer within the caller's deadline"
	}
	if last != nil {
		e.Message += ", last: " + last.Message
	}
	return e
}
