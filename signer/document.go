package signer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

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

// hash tells one document, and what is to be done with it, from another.
func (o *documentOrder) hash() [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%+v\n", o.options)
	h.Write(o.document)
	return [32]byte(h.Sum(nil))
}

// SignDocument signs a whole document for an identified caller.
func (s *service) SignDocument(ctx context.Context, in *roamsignv1.SignDocumentRequest) (out *roamsignv1.SignDocumentResponse, err error) {
	call := callOf(ctx)
	under := s.inForce()
	call.certificate = under
	order, err := parseDocumentOrder(in)
	call.id, call.tin = order.id, order.tin
	if err != nil {
		return nil, err
	}
	now := s.clock()
	grant, err := s.policy.Load().Decide(call.caller, policy.SignDocument, order.tin, under.fingerprint, now)
	if err != nil {
		return nil, err
	}
	// Reading a document is work, too, so it is charged first.
	var content [32]byte
	if charged(grant) {
		content = order.hash()
	}
	work, err := s.admit(ctx, under, grant, order.id, content)
	if err != nil {
		return nil, err
	}
	defer func() { s.settle(work, out != nil, err) }()
	draft, err := under.block.Prepare(order.document, now, order.options)
	if err != nil {
		return nil, documentFault(err)
	}
	if err := checkTaxpayer(order.tin, draft.Facts()); err != nil {
		return nil, err
	}
	if err := checkIssued(grant, draft.Facts()); err != nil {
		return nil, err
	}
	of := subjectOf(draft)
	made, err := s.sign(ctx, work, of, 0)
	if err != nil {
		return nil, err
	}
	done, err := s.release(ctx, made)
	if err != nil {
		return nil, err
	}
	signed, err := draft.Complete(done.signature)
	if err != nil {
		return nil, fmt.Errorf("completing the document: %w", err)
	}
	return &roamsignv1.SignDocumentResponse{
		Document: signed, DocumentDigest: of.digest[:], Warnings: draft.Warnings(), LogIndex: done.index,
	}, nil
}

// maxNumber is how much of a document's number goes on record, in bytes.
const maxNumber = 190

// subjectOf is a document whose taxpayer was checked.
func subjectOf(draft *xades.Draft) subject {
	return subject{
		digest:     draft.DocDigest(),
		properties: draft.PropsDigest(),
		number:     clip(draft.Facts().Number, maxNumber),
		checked:    true,
	}
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

// checkIssued checks that the document is issued within the representation. One
// that does not tell its time, in the form that LHDN asks for, is within none that
// begins or ends.
func checkIssued(grant policy.Grant, facts xades.Facts) error {
	window := grant.Window()
	if window.From.IsZero() && window.To.IsZero() {
		return nil
	}
	stated := clip(facts.IssueDate+"T"+facts.IssueTime, maxMetadata)
	mismatch := &fault.Error{Kind: fault.IssueTimeMismatch}
	issued, err := time.Parse(time.RFC3339, stated)
	if err != nil {
		mismatch.Err = fmt.Errorf("the document does not tell when it was issued: %q is no date and time (2026-11-22, 08:15:00Z)", stated)
	} else if mismatch.Err = grant.Covers(issued); mismatch.Err == nil {
		return nil
	}
	mismatch.Metadata = map[string]string{"tin": string(grant.Taxpayer()), "document_issued": stated}
	for key, edge := range map[string]time.Time{"not_before": window.From, "not_after": window.To} {
		if !edge.IsZero() {
			mismatch.Metadata[key] = edge.UTC().Format(time.RFC3339)
		}
	}
	return mismatch
}
