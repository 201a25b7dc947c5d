package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
)

// documentOrder is a request for a signed document, in types that cannot be
// wrong; the document itself is judged later.
type documentOrder struct {
	id       requestID
	tin      policy.TIN
	document []byte
	options  xades.Options
}

// parseDocumentOrder reads a request. The order carries what could be read even
// where the error says that something could not.
func parseDocumentOrder(in *roamsignv1.SignDocumentRequest) (o documentOrder, err error) {
	if o.id, err = parseRequestID(in.GetRequestId()); err != nil {
		return o, err
	}
	if o.tin, err = parseTIN(in.GetTin()); err != nil {
		return o, err
	}
	switch in.GetSetVersion() {
	case "", "1.1", "1.3":
	default:
		return o, fault.New(fault.InvalidRequest, `set_version must be "1.1", "1.3" or empty`)
	}
	o.document = in.GetDocument()
	o.options = xades.Options{
		SetVersion:       in.GetSetVersion(),
		ReplaceSignature: in.GetReplaceSignature(),
		KeepLiterals:     in.GetKeepLiterals(),
	}
	return o, nil
}

// SignDocument signs a whole document for an identified caller.
func (s *service) SignDocument(ctx context.Context, in *roamsignv1.SignDocumentRequest) (*roamsignv1.SignDocumentResponse, error) {
	call := callOf(ctx)
	order, err := parseDocumentOrder(in)
	call.id, call.tin = order.id, order.tin
	if err != nil {
		return nil, err
	}
	now := s.clock()
	grant, err := s.policy.Load().Decide(call.caller, policy.SignDocument, order.tin, s.certificate.fingerprint, now)
	if err != nil {
		return nil, err
	}
	if err := s.certificate.usable(grant, now); err != nil {
		return nil, err
	}
	draft, err := xades.Prepare(order.document, s.certificate.leaf, now, order.options)
	if err != nil {
		return nil, documentFault(err)
	}
	if err := checkTaxpayer(order.tin, draft.Facts()); err != nil {
		return nil, err
	}
	digest := draft.DocDigest()
	released, err := s.sign(ctx, grant, digest)
	if err != nil {
		return nil, err
	}
	signed, err := draft.Complete(released)
	if err != nil {
		return nil, fmt.Errorf("completing the document: %w", err)
	}
	return &roamsignv1.SignDocumentResponse{
		Document: signed, DocumentDigest: digest[:], Warnings: draft.Warnings(),
	}, nil
}

// documentFault tells what is the document's fault from what is the service's.
func documentFault(err error) error {
	for _, theirs := range []error{
		xades.ErrMalformed, xades.ErrTooLarge, xades.ErrSigned,
		xades.ErrVersion, xades.ErrUnsignable, xades.ErrLiteral,
	} {
		if errors.Is(err, theirs) {
			return fault.Wrap(fault.DocumentInvalid, err)
		}
	}
	return fault.New(fault.Internal, "preparing the document: %w", err)
}

// checkTaxpayer checks that the document is issued on behalf of the taxpayer
// named. A sole proprietor's business is named by TIN and registration number,
// which a document states apart.
func checkTaxpayer(named policy.TIN, facts xades.Facts) error {
	if facts.TIN == string(named) {
		return nil
	}
	if facts.TIN == named.Number() && facts.BRN == named.ROB() {
		return nil
	}
	metadata := map[string]string{"tin": string(named), "document_tin": clip(facts.TIN, maxMetadata)}
	if named.ROB() != "" {
		metadata["document_brn"] = clip(facts.BRN, maxMetadata)
	}
	return &fault.Error{
		Kind: fault.TaxpayerMismatch, Metadata: metadata,
		Err: fmt.Errorf("the request names taxpayer %q, the document %q", named, metadata["document_tin"]),
	}
}
