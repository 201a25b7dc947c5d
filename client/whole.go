package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// SignDocument sends the whole document to the signer, which builds the
// signature block and checks that the taxpayer named is the document's own, so
// that its record can say so; AllowMismatch is refused. The answer is taken only
// if it is this document with a signature that verifies.
func (c *Client) SignDocument(ctx context.Context, doc Document) (*Signed, error) {
	if doc.AllowMismatch {
		return nil, unclear("a document that names another taxpayer cannot be signed by SignDocument: the signer checks it")
	}
	it := newItem(doc)
	if c.inspect(it); it.err != nil {
		return nil, it.err
	}
	expected, err := xades.DigestAsSigned(doc.Content, doc.xades())
	if err != nil {
		return nil, err
	}
	var answer *roamsignv1.SignDocumentResponse
	var at peer.Peer
	ctx, span := c.traced.begin(ctx, "roamsign.SignDocument", it)
	err = c.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		answer, err = c.signer.SignDocument(ctx, &roamsignv1.SignDocumentRequest{
			Tin: it.tin, Document: doc.Content, RequestId: it.id,
			SetVersion: doc.SetVersion, ReplaceSignature: doc.ReplaceSignature, KeepLiterals: doc.KeepLiterals,
		}, append(opts, grpc.Peer(&at))...)
		return err
	})
	ended(span, err)
	if err != nil {
		it.fail(err)
		return nil, it.err
	}
	if err := judge(answer, expected); err != nil {
		it.fail(err)
		return nil, it.err
	}
	facts, err := xades.Inspect(answer.GetDocument())
	if err != nil {
		return nil, fmt.Errorf("reading what the signer answered: %w", err)
	}
	return &Signed{
		Document: answer.GetDocument(), DocDigest: expected, Warnings: answer.GetWarnings(),
		Facts: facts, TIN: it.tin, RequestID: it.id, LogIndex: answer.GetLogIndex(), Server: serverOf(at),
	}, nil
}

// judge checks that an answer is the document that was sent, rightly signed.
func judge(answer *roamsignv1.SignDocumentResponse, expected [sha256.Size]byte) error {
	got, err := xades.DigestAsIs(answer.GetDocument())
	if err != nil {
		return wrong("the signer's answer cannot be read: %w", err)
	}
	if got != expected || !bytes.Equal(answer.GetDocumentDigest(), expected[:]) {
		return wrong("the signer answered with another document than it was sent")
	}
	report := xades.Verify(answer.GetDocument(), xades.VerifyOptions{})
	for _, f := range report.Findings {
		if f.Severity == xades.SeverityError {
			return wrong("the signer's answer does not verify: %s %s", f.Code, f.Message)
		}
	}
	return nil
}

// Taxpayer is one on whose behalf this client may have documents signed.
type Taxpayer struct {
	TIN string
	// BRN and Name are as the signer's policy has them; they may be empty.
	BRN, Name string
	// NotBefore is the first instant of the representation, NotAfter the first
	// one after its end; zero means unbounded on that side.
	NotBefore, NotAfter time.Time
	// Methods are those granted ("SignDigest").
	Methods []string
	// Rights are what the taxpayer lets the intermediary do on MyInvois, as the
	// signer's policy has them ("submit", "cancel", "reject", "view").
	Rights []string
	// Intermediary marks the one that holds the signing certificate.
	Intermediary bool
}

// Taxpayers lists those on whose behalf this client may have documents signed,
// by TIN. The error is an [*Error].
func (c *Client) Taxpayers(ctx context.Context) ([]Taxpayer, error) {
	var answer *roamsignv1.ListTaxpayersResponse
	err := c.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		answer, err = c.signer.ListTaxpayers(ctx, &roamsignv1.ListTaxpayersRequest{}, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	list := make([]Taxpayer, len(answer.GetTaxpayers()))
	for i, t := range answer.GetTaxpayers() {
		list[i] = Taxpayer{TIN: t.GetTin(), BRN: t.GetBrn(), Name: t.GetName(), Methods: t.GetMethods(), Rights: t.GetRights(), Intermediary: t.GetIntermediary()}
		if t.GetNotBefore() != nil {
			list[i].NotBefore = t.GetNotBefore().AsTime()
		}
		if t.GetNotAfter() != nil {
			list[i].NotAfter = t.GetNotAfter().AsTime()
		}
	}
	return list, nil
}
