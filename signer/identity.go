package signer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// identify returns the caller that a verified client certificate names: by its
// one URI, else by its one DNS name. The certificate must be for client
// authentication, in so many words: one without Extended Key Usage is not. It
// must be valid at now and not revoked, which the handshake does not settle for
// connections that live on.
func identify(state tls.ConnectionState, c *Credentials, now time.Time) (policy.Caller, error) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return "", fault.New(fault.NotAllowed, "no verified client certificate")
	}
	leaf := state.PeerCertificates[0]
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return "", fault.New(fault.NotAllowed, "client certificate %v is not for client authentication (Extended Key Usage)", leaf.Subject)
	}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return "", fault.New(fault.NotAllowed, "client certificate %v is not valid now", leaf.Subject)
	}
	if revoked := c.revokes(state.VerifiedChains); revoked != nil {
		return "", fault.New(fault.NotAllowed, "client certificate %v is revoked (serial %s, %v)", leaf.Subject, ca.FormatSerial(revoked.SerialNumber), revoked.Subject)
	}
	name, err := ca.NameOf(leaf)
	if err != nil {
		return "", fault.New(fault.NotAllowed, "client certificate %v: %w", leaf.Subject, err)
	}
	caller, err := policy.ParseCaller(name)
	if err != nil {
		return "", fault.New(fault.NotAllowed, "client certificate %v: %w", leaf.Subject, err)
	}
	return caller, nil
}

// identifyPeer identifies the caller of an RPC.
func (s *Server) identifyPeer(ctx context.Context) (policy.Caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", fault.New(fault.NotAllowed, "the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", fault.New(fault.NotAllowed, "the connection is not TLS")
	}
	return identify(info.State, s.credentials.Load(), s.clock())
}
