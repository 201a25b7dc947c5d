package signer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// requestID is the caller's own name of a request: 1 to 64 printable ASCII
// characters. The zero requestID is that of a request which has none.
type requestID string

func parseRequestID(s string) (requestID, error) {
	const most = 64
	if s == "" || len(s) > most || strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) >= 0 {
		return "", fault.New(fault.InvalidRequest, "request_id must be 1 to %d printable ASCII characters", most)
	}
	return requestID(s), nil
}

func parseTIN(s string) (policy.TIN, error) {
	tin, err := policy.ParseTIN(s)
	if err != nil {
		return "", fault.New(fault.InvalidRequest, "tin: %w", err)
	}
	return tin, nil
}

func parseDigest(field string, value []byte) ([32]byte, error) {
	if len(value) != 32 {
		return [32]byte{}, fault.New(fault.InvalidRequest, "%s must be 32 bytes (SHA-256), not %d", field, len(value))
	}
	return [32]byte(value), nil
}

// digestOrder is a request for one blind signature, in types that cannot be
// wrong.
type digestOrder struct {
	id          requestID
	tin         policy.TIN
	certificate [32]byte
	subject     subject
}

// parseDigestOrder reads a request. The order carries what could be read even
// where the error says that something could not.
func parseDigestOrder(in *roamsignv1.SignDigestRequest) (o digestOrder, err error) {
	if o.id, err = parseRequestID(in.GetRequestId()); err != nil {
		return o, err
	}
	if o.tin, err = parseTIN(in.GetTin()); err != nil {
		return o, err
	}
	if o.subject.digest, err = parseDigest("document_digest", in.GetDocumentDigest()); err != nil {
		return o, err
	}
	if o.subject.digest == [32]byte{} {
		return o, fault.New(fault.InvalidRequest, "document_digest is all zeros, which no document has")
	}
	if o.certificate, err = parseDigest("certificate_sha256", in.GetCertificateSha256()); err != nil {
		return o, err
	}
	if given := in.GetSignedPropertiesDigest(); len(given) > 0 {
		if o.subject.properties, err = parseDigest("signed_properties_digest", given); err != nil {
			return o, err
		}
	}
	o.subject.number = in.GetDocumentNumber()
	return o, checkNumber(o.subject.number)
}

// checkNumber checks a document's number, which is for the record only.
func checkNumber(number string) error {
	const most = 50
	if utf8.RuneCountInString(number) > most || strings.IndexFunc(number, func(c rune) bool { return !unicode.IsPrint(c) }) >= 0 {
		return fault.New(fault.InvalidRequest, "document_number must be at most %d printable characters", most)
	}
	return nil
}
