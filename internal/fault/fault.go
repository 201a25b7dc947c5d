// Package fault names the kinds of error that can reach a caller of the
// service. A kind says what a caller can do about it; the text of the error is
// for the log. Packages of every floor attach kinds, exactly one place (signer)
// turns them into gRPC statuses, from a table that a test proves complete.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong in terms of what a caller can do. The zero Kind is
// [Internal]: an error that nobody classified is a fault of the service.
type Kind uint8

// The kinds of error, with the reasons that callers see in upper snake case.
const (
	Internal            Kind = iota // INTERNAL: a fault of the service
	InvalidRequest                  // INVALID_REQUEST: a field is missing or malformed
	DocumentInvalid                 // DOCUMENT_INVALID: the document cannot be signed as it is
	NotAllowed                      // NOT_ALLOWED: no grant, or unknown
	RepresentationEnded             // REPRESENTATION_ENDED: granted, but outside the representation window
	CertificateRotated              // CERTIFICATE_ROTATED: built for another certificate
	CertificateExpired              // CERTIFICATE_EXPIRED: the signing certificate is not valid now
	CertificateRevoked              // CERTIFICATE_REVOKED: the signing certificate is revoked
	CertificateStopped              // CERTIFICATE_STOPPED: the operator has stopped signing under it
	TaxpayerMismatch                // TAXPAYER_MISMATCH: the document names another taxpayer
	IssueTimeMismatch               // ISSUE_TIME_MISMATCH: the document is issued outside the representation window
	QuotaExceeded                   // QUOTA_EXCEEDED: the day's signatures are used up
	RateLimited                     // RATE_LIMITED: more at a time, or in a short time, than granted
	StateUnavailable                // STATE_UNAVAILABLE: what a quota has been used for cannot be kept
	Overloaded                      // OVERLOADED: the queue is full or the deadline cannot be met
	TokenUnavailable                // TOKEN_UNAVAILABLE: the HSM does not answer
	LogUnavailable                  // LOG_UNAVAILABLE: the audit log cannot be written or read
	ReceiptPending                  // RECEIPT_PENDING: no checkpoint holds the entry yet
	SignatureWrong                  // SIGNATURE_WRONG: the HSM gave a wrong signature
	Canceled                        // CANCELED: the caller went away
	DeadlineExceeded                // DEADLINE_EXCEEDED: the caller's deadline passed

	kinds // how many there are
)

var reasons = [kinds]string{
	Internal:            "INTERNAL",
	InvalidRequest:      "INVALID_REQUEST",
	DocumentInvalid:     "DOCUMENT_INVALID",
	NotAllowed:          "NOT_ALLOWED",
	RepresentationEnded: "REPRESENTATION_ENDED",
	CertificateRotated:  "CERTIFICATE_ROTATED",
	CertificateExpired:  "CERTIFICATE_EXPIRED",
	CertificateRevoked:  "CERTIFICATE_REVOKED",
	CertificateStopped:  "CERTIFICATE_STOPPED",
	TaxpayerMismatch:    "TAXPAYER_MISMATCH",
	IssueTimeMismatch:   "ISSUE_TIME_MISMATCH",
	QuotaExceeded:       "QUOTA_EXCEEDED",
	RateLimited:         "RATE_LIMITED",
	StateUnavailable:    "STATE_UNAVAILABLE",
	Overloaded:          "OVERLOADED",
	TokenUnavailable:    "TOKEN_UNAVAILABLE",
	LogUnavailable:      "LOG_UNAVAILABLE",
	ReceiptPending:      "RECEIPT_PENDING",
	SignatureWrong:      "SIGNATURE_WRONG",
	Canceled:            "CANCELED",
	DeadlineExceeded:    "DEADLINE_EXCEEDED",
}

// Kinds returns every kind, for tables that must be complete.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Reason returns the kind in the upper snake case that callers see.
func (k Kind) Reason() string {
	if k >= kinds {
		return reasons[Internal]
	}
	return reasons[k]
}

// String returns the reason.
func (k Kind) String() string { return k.Reason() }

// Error is an error with a kind. RetryAfter, when positive, says when trying
// again may help. Metadata reaches the caller; the wrapped error does not.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration
	Metadata   map[string]string
	Err        error
}

// Error returns the wrapped error's text.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Kind.Reason()
	}
	return e.Err.Error()
}

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the kind with a formatted text; %w wraps.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap gives err a kind. A nil err stays nil.
func Wrap(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Err: err}
}

// Of returns the kind of the outermost [Error] in err's chain, or Internal.
func Of(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
