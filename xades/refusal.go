package xades

import "errors"

// The kinds of error that documents and certificates give. Each error returned
// wraps one of them in a sentence that says where and what to do next.
var (
	// ErrMalformed: not well-formed, or not a MyInvois document at all (DS300).
	ErrMalformed = errors.New("malformed document")
	// ErrTooLarge: over [MaxInput], or over [MaxSigned] once signed.
	ErrTooLarge = errors.New("document too large")
	// ErrSigned: the document carries a signature block already.
	ErrSigned = errors.New("document already signed")
	// ErrVersion: the document's version is not one that is signed.
	ErrVersion = errors.New("document version is not a signed one")
	// ErrUnsignable: well-formed, but it cannot be signed as it stands.
	ErrUnsignable = errors.New("document cannot be signed as it stands")
	// ErrLiteral: a JSON literal that has no form every server leaves alone.
	ErrLiteral = errors.New("literal does not survive re-serialisation")
	// ErrCertificate: the certificate cannot be used for this signature.
	ErrCertificate = errors.New("certificate cannot be used")
	// ErrSignature: the signature does not verify under the certificate.
	ErrSignature = errors.New("signature does not verify")
)
