package client

import (
	"fmt"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
	"google.golang.org/grpc/codes"
)

// onBehalf decides for whom a document is signed: for the taxpayer that is
// stated, else for the document's own, else, only where the document names no
// valid TIN, for the fallback. A document that names anybody else than the
// stated one is refused with both, unless that is allowed.
func onBehalf(doc Document, facts xades.Facts, fallback policy.TIN) (policy.TIN, error) {
	if doc.TIN != "" {
		stated, err := policy.ParseTIN(doc.TIN)
		if err != nil {
			return "", unclear("%w", err)
		}
		if facts.TIN == "" || names(facts, stated) || doc.AllowMismatch {
			return stated, nil
		}
		return "", mismatch(facts, stated)
	}
	named, err := policy.ParseTIN(facts.TIN)
	switch {
	case err == nil && names(facts, fallback):
		return fallback, nil // the same taxpayer, maybe with a registration number
	case err == nil:
		return named, nil
	case fallback != "":
		return fallback, nil
	case facts.TIN == "":
		return "", unclear("the document's %s has no TIN: say on whose behalf it is to be signed", party(facts))
	}
	return "", unclear("the document's %s has no valid TIN (%q): say on whose behalf it is to be signed", party(facts), facts.TIN)
}

// names tells whether the document names the taxpayer. A sole proprietor's
// business is its owner's TIN and a registration number, which documents state
// apart, or not at all.
func names(facts xades.Facts, tin policy.TIN) bool {
	return facts.TIN == tin.Number() && (tin.ROB() == "" || facts.BRN == "" || facts.BRN == tin.ROB())
}

// party names the one on whose behalf such a document is issued.
func party(facts xades.Facts) string {
	if facts.SelfBilled {
		return "buyer (it is self-billed)"
	}
	return "supplier"
}

// mismatch is the error of a document that names another taxpayer. It has the
// reason that a signer gives for the same.
func mismatch(facts xades.Facts, stated policy.TIN) *Error {
	return &Error{
		Code:     codes.FailedPrecondition,
		Reason:   fault.TaxpayerMismatch.Reason(),
		Message:  fmt.Sprintf("the document's %s is %q, and it was to be signed on behalf of %q", party(facts), facts.TIN, stated),
		Metadata: map[string]string{"tin": string(stated), "document_tin": facts.TIN, "document_brn": facts.BRN},
	}
}

// unclear is the error of a document that cannot be signed for anybody.
func unclear(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: codes.InvalidArgument, Reason: fault.InvalidRequest.Reason(), Message: err.Error(), cause: err}
}
