package signer

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/internal/pkcs1"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
)

// certificate is a signing certificate, its key, and what is derived from it.
type certificate struct {
	key         Key
	leaf        *x509.Certificate
	block       *xades.Leaf // the same, for signature blocks
	chain       []*x509.Certificate
	verifier    *pkcs1.Verifier
	fingerprint [32]byte  // SHA-256 over the DER
	from        time.Time // when it comes into force
}

// newCertificate takes a certificate of which [verifierOf] has a verifier.
func newCertificate(key Key, leaf *x509.Certificate, chain []*x509.Certificate, from time.Time) *certificate {
	verifier, _ := verifierOf(leaf)
	return &certificate{
		key: key, leaf: leaf, chain: chain, from: from,
		block:       xades.NewLeaf(leaf),
		verifier:    verifier,
		fingerprint: sha256.Sum256(leaf.Raw),
	}
}

// name is how the log names a certificate.
func (c *certificate) name() string { return hex.EncodeToString(c.fingerprint[:]) }

// Next is the certificate that follows the one in force.
type Next struct {
	// Key signs, under Certificate. It may be the key of the one before.
	Key Key
	// Certificate and Chain are as those of [Parts].
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	// From is when it comes into force: with the first request that begins then or
	// later, once its key is ready and it stands. Until it can, the one before
	// stays. It stays in force then, whatever the clock does.
	From time.Time
}

func (n *Next) check() error {
	switch {
	case n == nil:
		return nil
	case n.Key == nil || n.Certificate == nil || n.From.IsZero():
		return errors.New("the next signing certificate lacks its key or its time")
	}
	if _, err := verifierOf(n.Certificate); err != nil {
		return fmt.Errorf("the next signing certificate: %w", err)
	}
	return nil
}

func (n *Next) certificate() *certificate {
	return newCertificate(n.Key, n.Certificate, n.Chain, n.From)
}

// ErrInForce is what [Server.SetNext] returns when it is too late.
var ErrInForce = errors.New("the next signing certificate is in force already")

// SetNext has another certificate follow than the one that was to, or none: nil.
// It fails with [ErrInForce] once the next one has come into force, and when n is
// not complete; then all is as before. After a nil error nobody signs with the key
// that was to follow before, and nobody did. It does not block.
func (s *Server) SetNext(n *Next) error {
	if err := n.check(); err != nil {
		return err
	}
	s.turning.Lock()
	defer s.turning.Unlock()
	if before := s.next.Load(); before != nil && before == s.current.Load() {
		return ErrInForce
	}
	if n == nil {
		s.next.Store(nil)
		return nil
	}
	s.next.Store(n.certificate())
	return nil
}

// inForce returns the certificate that is in force for a request which begins
// now. The request keeps it to its end: what was built for a certificate is signed
// with its key, verified under it, recorded as its, or refused.
func (s *Server) inForce() *certificate {
	current, next := s.current.Load(), s.next.Load()
	if next == nil || next == current {
		return current
	}
	now := s.clock()
	if now.Before(next.from) || next.key.Ready() != nil || s.standing(next, now) != nil {
		return current
	}
	s.turning.Lock()
	defer s.turning.Unlock()
	if s.next.Load() == next && s.current.CompareAndSwap(current, next) {
		s.log.Info("the next signing certificate is in force", slog.String("certificate", next.name()), slog.String("before", current.name()))
	}
	return s.current.Load()
}

// meant checks that the grant is for this certificate.
func (c *certificate) meant(grant policy.Grant) error {
	if given := grant.Certificate(); given != c.fingerprint {
		return fault.New(fault.CertificateRotated, "built for certificate %x..., the current one is %x...", given[:8], c.fingerprint[:8])
	}
	return nil
}

// standing tells whether signatures under a certificate may be made and released
// now: it is valid, nobody has stopped it, and no list revokes it or an issuer of
// its. It does not block.
func (s *Server) standing(c *certificate, now time.Time) error {
	if stopped := s.stopped.Load(); stopped != nil && (*stopped)[c.fingerprint] {
		return fault.New(fault.CertificateStopped, "signing under certificate %s was stopped", c.name())
	}
	if lists := s.revoked.Load(); lists != nil {
		for i := -1; i < len(c.chain); i++ {
			link := c.leaf
			if i >= 0 {
				link = c.chain[i]
			}
			if lists.Revokes(link) {
				return fault.New(fault.CertificateRevoked, "the certificate of %s, serial %s, is revoked by its issuer's list", link.Subject, ca.FormatSerial(link.SerialNumber))
			}
		}
	}
	if now.Before(c.leaf.NotBefore) || now.After(c.leaf.NotAfter) {
		return fault.New(fault.CertificateExpired, "the signing certificate is valid from %s to %s",
			c.leaf.NotBefore.UTC().Format(time.RFC3339), c.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// SetStopped says under which signing certificates, by the SHA-256 of their DER,
// nothing is to be signed. It holds at once, for requests in flight, too: what is
// not released yet never is.
func (s *Server) SetStopped(certificates map[[32]byte]bool) {
	own := maps.Clone(certificates)
	s.stopped.Store(&own)
}

// SetRevocations puts revocation lists for the signing certificates in force, as
// [Server.SetStopped] does; nil revokes nothing.
func (s *Server) SetRevocations(lists *ca.CRLs) { s.revoked.Store(lists) }

// RevocationsDue returns when the first of these lists is to be renewed, or zero.
func (s *Server) RevocationsDue() time.Time { return s.revoked.Load().RenewalDue() }

// Standing is how a signing certificate is.
type Standing struct {
	Certificate *x509.Certificate
	InForce     bool
	From        time.Time // when the next one is to come into force; zero for the first
	Err         error     // why nothing can be signed under it; nil when something can
}

// Standings returns how the signing certificates are: the one in force first,
// and then the one that is to follow. A certificate that is to be valid only from
// its time on is judged by that time. It does not block.
func (s *Server) Standings() []Standing {
	current, now := s.inForce(), s.clock()
	all := []Standing{s.look(current, now)}
	all[0].InForce = true
	if next := s.next.Load(); next != nil && next != current {
		all = append(all, s.look(next, later(now, next.from)))
	}
	return all
}

func (s *Server) look(c *certificate, at time.Time) Standing {
	err := s.standing(c, at)
	if err == nil {
		err = c.key.Ready()
	}
	return Standing{Certificate: c.leaf, From: c.from, Err: err}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// overlook tells the log and [FilesService] of a next certificate that could not
// take over, as far as that is not what ails the one in force, too.
func (s *Server) overlook(current *certificate, ails error) {
	next := s.next.Load()
	if next == nil || next == current {
		s.lacking.Store(false)
		return
	}
	err := s.look(next, later(s.clock(), next.from)).Err
	if err != nil && ails != nil {
		return // what it is will show
	}
	switch before := s.lacking.Swap(err != nil); {
	case err != nil && !before:
		s.log.Warn("the next signing certificate could not take over: the one before stays in force",
			slog.String("certificate", next.name()), slog.Time("from", next.from), slog.String("error", err.Error()))
	case err == nil && before:
		s.log.Info("the next signing certificate can take over", slog.String("certificate", next.name()), slog.Time("from", next.from))
	}
}
