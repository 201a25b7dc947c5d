package client

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// certificate is a signing certificate with what is often asked of it.
type certificate struct {
	leaf        *x509.Certificate
	block       *xades.Leaf // the same, for signature blocks
	issuers     []*x509.Certificate
	fingerprint [sha256.Size]byte
}

// covers tells whether the certificate is valid at t.
func (k *certificate) covers(t time.Time) bool {
	return !t.Before(k.leaf.NotBefore) && !t.After(k.leaf.NotAfter)
}

// certificates keeps the current signing certificate, so that it is fetched when
// it changes and not with each signature.
type certificates struct {
	turn chan struct{} // holds one token while somebody fetches; others wait

	mu    sync.Mutex
	known *certificate
}

func (k *certificates) get() *certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known
}

func (k *certificates) set(known *certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = known
}

// Certificate fetches the current signing certificate; its issuers follow it, as
// far as the signer knows them. The error is an [*Error].
func (c *Client) Certificate(ctx context.Context) ([]*x509.Certificate, error) {
	fetched, err := c.fetch(ctx)
	if err != nil {
		return nil, err
	}
	c.current.set(fetched)
	return append([]*x509.Certificate{fetched.leaf}, fetched.issuers...), nil
}

// signing returns the certificate to build signatures with at now: the one that
// is known, or a fetched one where none is, where it is the refused one, or where
// it has ended (so that a client that slept through a rotation wakes up).
func (c *Client) signing(ctx context.Context, refused *certificate, now time.Time) (*certificate, error) {
	fits := func(k *certificate) bool { return k != nil && k != refused && k.covers(now) }
	if known := c.current.get(); fits(known) {
		return known, nil
	}
	select {
	case c.current.turn <- struct{}{}:
		defer func() { <-c.current.turn }()
	case <-ctx.Done():
		return nil, over(ctx, nil)
	}
	if known := c.current.get(); fits(known) {
		return known, nil
	}
	fetched, err := c.fetch(ctx)
	if err != nil {
		return nil, err
	}
	c.current.set(fetched)
	return fetched, nil
}

func (c *Client) fetch(ctx context.Context) (*certificate, error) {
	var answer *roamsignv1.GetCertificateResponse
	err := c.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		answer, err = c.signer.GetCertificate(ctx, &roamsignv1.GetCertificateRequest{}, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(answer.GetCertificate())
	if err != nil {
		return nil, wrong("the signer's certificate cannot be read: %w", err)
	}
	fetched := &certificate{leaf: leaf, block: xades.NewLeaf(leaf), fingerprint: sha256.Sum256(leaf.Raw)}
	for _, der := range answer.GetChain() {
		issuer, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, wrong("the certificate of the signer's issuer cannot be read: %w", err)
		}
		fetched.issuers = append(fetched.issuers, issuer)
	}
	return fetched, nil
}

// wrong is the error of an answer that makes no sense.
func wrong(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: codes.Internal, Reason: fault.Internal.Reason(), Message: err.Error(), cause: err}
}
