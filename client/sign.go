package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/roamsign/roamsign/xades"
)

// Document is one to be signed, and how.
type Document struct {
	// TIN is the taxpayer on whose behalf. If it is empty, that is the one whom
	// the document names: its supplier, or its buyer if it is self-billed; or
	// [Config.TIN], where the document names no valid TIN.
	TIN string
	// Content is the unsigned UBL 2.1 document, XML or JSON, at most
	// [xades.MaxInput] bytes. It is not changed.
	Content []byte
	Options
}

// Options are how a document is signed. The zero value is right for a document
// of version 1.1 or 1.3 that carries no signature yet.
type Options struct {
	// SetVersion is "1.1" or "1.3" to set the document's version before it is
	// hashed; empty to leave it.
	SetVersion string
	// ReplaceSignature replaces a signature block that the document already
	// carries; without it such a document is refused.
	ReplaceSignature bool
	// KeepLiterals keeps the number literals and escapes of JSON as they are,
	// with a warning, although a server that re-serialises them computes another
	// digest.
	KeepLiterals bool
	// AllowMismatch signs a document that names another taxpayer than TIN does;
	// without it such a document is refused.
	AllowMismatch bool
	// RequestID names the request in the signer's record, 1 to 64 printable
	// ASCII characters; who signs a document again should give the same. Empty
	// means a random one.
	RequestID string
}

func (o Options) xades() xades.Options {
	return xades.Options{SetVersion: o.SetVersion, ReplaceSignature: o.ReplaceSignature, KeepLiterals: o.KeepLiterals}
}

// Signed is a signed document.
type Signed struct {
	// Document is the exact bytes to submit. Keep them: signing again gives
	// others, which the platform takes for another submission.
	Document []byte
	// DocDigest is the SHA-256 that was signed.
	DocDigest [sha256.Size]byte
	// Warnings are what was noticed and signed all the same, a sentence each.
	Warnings []string
	// Facts are what the document says of itself.
	Facts xades.Facts
	// TIN is the taxpayer on whose behalf it was signed.
	TIN string
	// RequestID is the request's, as the signer has it on record.
	RequestID string
	// LogIndex is the place of the signature's entry in the signer's audit log, and
	// Server the address of that signer: what [Client.Receipt] takes.
	LogIndex uint64
	Server   string
}

// SignXML signs an XML document on behalf of a taxpayer; an empty tin is read
// as in [Document]. Only hashes leave the process. The error is an [*Error], or
// wraps one of package xades.
func (c *Client) SignXML(ctx context.Context, tin string, document []byte, opts Options) (*Signed, error) {
	return c.signAs(ctx, xades.XML, Document{TIN: tin, Content: document, Options: opts})
}

// SignJSON is [Client.SignXML] for a JSON document.
func (c *Client) SignJSON(ctx context.Context, tin string, document []byte, opts Options) (*Signed, error) {
	return c.signAs(ctx, xades.JSON, Document{TIN: tin, Content: document, Options: opts})
}

func (c *Client) signAs(ctx context.Context, want xades.Format, doc Document) (*Signed, error) {
	got, err := xades.Detect(doc.Content)
	if err != nil {
		return nil, err
	}
	if got != want {
		return nil, fmt.Errorf("the document is %v, not %v: %w", got, want, xades.ErrMalformed)
	}
	return c.Sign(ctx, doc)
}

// Sign is [Client.SignXML] for a document of either format.
func (c *Client) Sign(ctx context.Context, doc Document) (*Signed, error) {
	one := newItem(doc)
	c.signItems(ctx, []*item{one}, c.signDigest)
	return one.signed, one.err
}

// item is one document on its way. It is settled once it has either a signed
// document or an error.
type item struct {
	doc    Document
	tin    string // on whose behalf
	id     string // of the request
	draft  *xades.Draft
	built  *certificate // what the draft was built with
	signed *Signed
	err    error
}

func (it *item) settled() bool { return it.signed != nil || it.err != nil }

// fail settles the item with an error; an [*Error] learns whose it is.
func (it *item) fail(err error) {
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.about(it.tin, it.id)
	}
	it.err = err
}

func newItem(doc Document) *item {
	it := &item{doc: doc, id: doc.RequestID}
	if it.id == "" {
		it.id = uuid.NewString()
	}
	return it
}

// rebuilds is how often documents are built anew because the certificate has
// rotated under them.
const rebuilds = 3

// signItems settles every item: it builds the drafts, has ship sign their
// digests, and puts the signatures in. Drafts that were refused because the
// certificate has rotated are built again with the new one.
func (c *Client) signItems(ctx context.Context, items []*item, ship func(context.Context, []*item)) {
	if c.current.get() == nil {
		for _, it := range unsettled(items) {
			c.inspect(it) // so that a bad document is told without a connection
		}
	}
	var refused *certificate
	var at string // the server that refused it
	open := unsettled(items)
	for n := 0; n <= rebuilds && len(open) > 0; n++ {
		now := c.now()
		current, err := c.signing(ctx, refused, now)
		if err != nil {
			failAll(open, err)
			return
		}
		if refused != nil && refused.fingerprint == current.fingerprint {
			// The servers disagree: keep to those that hold this certificate.
			c.servers.shun(at, time.Now())
		}
		for _, it := range open {
			it.err = nil
			c.build(it, current, now)
		}
		open = unsettled(open)
		ship(ctx, open)
		open, at = rotatedOf(open)
		refused = current
	}
}

// inspect settles the item if its document cannot be signed, whatever the
// certificate.
func (c *Client) inspect(it *item) {
	facts, err := xades.Inspect(it.doc.Content)
	if err == nil {
		err = c.behalf(it, facts)
	}
	if err == nil {
		_, err = xades.DigestAsSigned(it.doc.Content, it.doc.xades())
	}
	if err != nil {
		it.fail(err)
	}
}

// build makes the item's draft, or settles it with the reason why there is none.
func (c *Client) build(it *item, current *certificate, now time.Time) {
	draft, err := current.block.Prepare(it.doc.Content, now, it.doc.xades())
	if err == nil {
		err = c.behalf(it, draft.Facts())
	}
	if err != nil {
		it.fail(err)
		return
	}
	it.draft, it.built = draft, current
}

// behalf decides on whose behalf the item is signed.
func (c *Client) behalf(it *item, facts xades.Facts) error {
	tin, err := onBehalf(it.doc, facts, c.tin)
	it.tin = string(tin)
	return err
}

// complete settles an item with the signature that a server gave, if that is
// right, and where that is on record.
func (it *item) complete(signature []byte, index uint64, server string) {
	document, err := it.draft.Complete(signature)
	if err != nil {
		it.fail(fmt.Errorf("the signer's answer was not taken: %w", err))
		return
	}
	it.signed = &Signed{
		Document:  document,
		DocDigest: it.draft.DocDigest(),
		Warnings:  it.draft.Warnings(),
		Facts:     it.draft.Facts(),
		TIN:       it.tin,
		RequestID: it.id,
		LogIndex:  index,
		Server:    server,
	}
}

func failAll(items []*item, err error) {
	for _, it := range items {
		it.fail(err)
	}
}

// unsettled returns the items that have neither a result nor an error.
func unsettled(items []*item) []*item {
	var open []*item
	for _, it := range items {
		if !it.settled() {
			open = append(open, it)
		}
	}
	return open
}

// rotatedOf returns the items that failed because the certificate has rotated,
// and the server that said so of the last of them.
func rotatedOf(items []*item) (open []*item, server string) {
	for _, it := range items {
		if e, ok := errors.AsType[*Error](it.err); ok && e.rotated() {
			open, server = append(open, it), e.server
		}
	}
	return open, server
}
