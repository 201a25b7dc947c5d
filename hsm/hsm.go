// Package hsm signs with an RSA key that stays inside a PKCS#11 token, and makes
// such tokens and keys in the first place.
//
// [Open] finds the token and the key and proves that the key belongs to the
// certificate; [Token.SignDigest] signs SHA-256 digests on a pool of sessions.
// The ceremony ([InitToken], [GenerateKey], [PublicKey]) comes before serving.
//
// The one idea: a call into a vendor's library cannot be interrupted, so every
// session belongs to one goroutine, callers wait beside it under their own
// contexts, and a call that outlives its caller is abandoned, counted, and its
// session replaced when it comes back. No caller ever stands in cgo itself.
//
// It never sees a document, has no key of its own, exports no private key, and
// never tries a PIN twice. It cannot survive a library that crashes: a SIGSEGV
// in C ends the process.
//
// Section numbers are those of the PKCS #11 Base Specification, version 2.40.
package hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

// What can be wrong between us and a token. Each error returned wraps one of
// them, where one fits, in a sentence that says which and what to do next.
var (
	// ErrModule: the PKCS#11 library, or what it is configured with, cannot be used.
	ErrModule = errors.New("PKCS#11 module cannot be used")
	// ErrNoToken: no token, or more than one, has the label and serial.
	ErrNoToken = errors.New("no such token")
	// ErrNoKey: no private key, or more than one, has the label and ID.
	ErrNoKey = errors.New("no such key")
	// ErrKeyExists: the label or ID is taken, and nothing is overwritten.
	ErrKeyExists = errors.New("key exists")
	// ErrKeyMismatch: the key is not the one that the certificate certifies.
	ErrKeyMismatch = errors.New("key does not belong to the certificate")
	// ErrPINIncorrect: the token refused the PIN. It is not tried again.
	ErrPINIncorrect = errors.New("PIN incorrect")
	// ErrPINLocked: the PIN is locked, or one wrong try away from it and so was not tried.
	ErrPINLocked = errors.New("PIN locked or about to be")
	// ErrClosed: the Token is closed.
	ErrClosed = errors.New("token closed")

	errTwice = errors.New("the token is open already in this process")
)

// retryAfter is what callers are told to wait when the token may come back.
const retryAfter = time.Second

// withKind gives an error that may reach a caller its kind.
func withKind(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fault.Wrap(fault.Canceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.DeadlineExceeded, err)
	}
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return &fault.Error{Kind: known.Kind, RetryAfter: known.RetryAfter, Metadata: known.Metadata, Err: err}
	}
	switch classOf(err) {
	case requestClass:
		return fault.Wrap(fault.Internal, err)
	case permanentClass:
		return fault.Wrap(fault.TokenUnavailable, err)
	default:
		return &fault.Error{Kind: fault.TokenUnavailable, RetryAfter: retryAfter, Err: err}
	}
}

// rescue turns a panic of the PKCS#11 wrapper into an error: a token that
// answers with nonsense must not take the service down. Deferred directly.
func rescue(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic in the PKCS#11 wrapper: %v", p)
	}
}
