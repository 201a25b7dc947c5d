package main

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/signer"
)

// signing is the certificate that documents are signed under, and the one that
// follows it.
type signing struct {
	// Certificate is a PEM file: the certificate first, then its issuers. Needed.
	Certificate string `yaml:"certificate"`
	// CRL is a file of revocation lists, PEM or DER, each signed by an issuer that
	// stands in the files of the certificates. Left out: none is asked. One that
	// cannot be read keeps the service from starting; one that is overdue stays in
	// force.
	CRL string `yaml:"crl"`
	// Next takes the certificate's place by itself. May be left out.
	Next upcoming `yaml:"next"`
}

// upcoming is a certificate that comes into force at its time.
type upcoming struct {
	// Certificate is a PEM file as that of the certificate before. Needed.
	Certificate string `yaml:"certificate"`
	// From is when it comes into force: a date, which is a day in Malaysia from its
	// first instant, or an RFC 3339 instant. Needed.
	From string `yaml:"from"`
	// KeyLabel and KeyID name its key in the token, or in each of the tokens, as
	// those of the token do. Left out: the key is that of the certificate before.
	KeyLabel string `yaml:"key_label"`
	KeyID    string `yaml:"key_id"`
}

// malaysia is the time zone of dates: UTC+8 all the year.
var malaysia = time.FixedZone("MYT", 8*60*60)

// start is when a certificate comes into force.
func (f upcoming) start() (time.Time, error) {
	if at, err := time.ParseInLocation(time.DateOnly, f.From, malaysia); err == nil {
		return at, nil
	}
	at, err := time.Parse(time.RFC3339, f.From)
	if err != nil {
		return at, fmt.Errorf("must be a date (2026-12-01) or an instant (2026-12-01T00:00:00+08:00), not %q", f.From)
	}
	return at, nil
}

// Validate reports what is wrong with the values alone, each at its key.
func (s signing) Validate() error {
	next := s.Next
	if next == (upcoming{}) {
		return nil
	}
	var faults []error
	if next.Certificate == "" {
		faults = append(faults, errors.New("signing.next.certificate: missing: name the PEM file of the certificate that follows, its issuers after it"))
	}
	if _, err := next.start(); err != nil {
		faults = append(faults, prefixed("signing.next.from", err))
	}
	if _, err := hex.DecodeString(next.KeyID); err != nil {
		faults = append(faults, fmt.Errorf("signing.next.key_id: %q is not hexadecimal", next.KeyID))
	}
	return errors.Join(faults...)
}

// load reads the certificate and its issuers.
func (s signing) load() ([]*x509.Certificate, error) {
	if s.Certificate == "" {
		return nil, errors.New("missing: name the PEM file of the signing certificate, its issuers after it")
	}
	return loadSigning(s.Certificate)
}

func loadSigning(path string) ([]*x509.Certificate, error) {
	chain, err := ca.LoadCertificates(path)
	if err != nil {
		return nil, err
	}
	if _, ok := chain[0].PublicKey.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("%s: the key of the first certificate is %v, and MyInvois takes RSA only", path, chain[0].PublicKeyAlgorithm)
	}
	return chain, nil
}

// successor is the certificate that follows, read and found to fit.
type successor struct {
	upcoming
	chain []*x509.Certificate // the certificate first
	from  time.Time
	own   bool // it has a key of its own
}

// loadNext reads the certificate that follows, if one does. What [signing.Validate]
// tells it leaves out.
func (s signing) loadNext(current []*x509.Certificate) (*successor, error) {
	from, err := s.Next.start()
	if s.Next.Certificate == "" || err != nil {
		return nil, nil //nolint:nilnil,nilerr // none follows, or that it cannot is told
	}
	chain, err := loadSigning(s.Next.Certificate)
	if err != nil {
		return nil, prefixed("signing.next.certificate", err)
	}
	n := &successor{upcoming: s.Next, chain: chain, from: from}
	leaf := chain[0]
	if from.Before(leaf.NotBefore) || !from.Before(leaf.NotAfter) {
		return nil, fmt.Errorf("signing.next.from: at %s the certificate is not valid: it is from %s to %s", stamp(from), stamp(leaf.NotBefore), stamp(leaf.NotAfter))
	}
	if len(current) == 0 {
		return n, nil
	}
	n.own = !leaf.PublicKey.(*rsa.PublicKey).Equal(current[0].PublicKey)
	if n.own && n.KeyLabel == "" && n.KeyID == "" {
		return nil, errors.New("signing.next.key_label: missing: the certificate has another key than signing.certificate: give the key's label or its ID (key_id)")
	}
	return n, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// inTokens returns the tokens' configurations, with the key that follows.
func (n *successor) inTokens(configs []hsm.Config) []hsm.Config {
	if n == nil || !n.own {
		return configs
	}
	with := make([]hsm.Config, len(configs))
	for i, c := range configs {
		with[i] = c.WithNext(n.KeyLabel, n.KeyID, n.chain[0])
	}
	return with
}

// part is what the signer needs to know of it.
func (n *successor) part(meter *metrics, tokens *hsm.Group) *signer.Next {
	if n == nil {
		return nil
	}
	return &signer.Next{Key: meter.timed(tokens, n.own), Certificate: n.chain[0], Chain: n.chain[1:], From: n.from}
}

// loadCRLs reads the revocation lists, if there are any. Each must be of an issuer in
// the certificates' files, and the issuer of each certificate must have one.
func (s *setup) loadCRLs() (*ca.CRLs, error) {
	if s.Signing.CRL == "" || len(s.chain) == 0 {
		return nil, nil //nolint:nilnil // there are none, or the certificate's fault is told
	}
	leaves, issuers := s.chain[:1:1], s.chain[1:len(s.chain):len(s.chain)]
	if s.next != nil {
		leaves, issuers = append(leaves, s.next.chain[0]), append(issuers, s.next.chain[1:]...)
	}
	if len(issuers) == 0 {
		return nil, fmt.Errorf("no list can be checked, since %s holds no issuer: put the certificate's issuers after it", s.Signing.Certificate)
	}
	lists, err := ca.LoadCRLs(s.Signing.CRL, issuers)
	if err != nil {
		return nil, err
	}
	for _, leaf := range leaves {
		if !lists.Covers(leaf) {
			return nil, fmt.Errorf("%s: it has no list of %s, which issued a signing certificate", s.Signing.CRL, nameOf(leaf.RawIssuer))
		}
	}
	return lists, nil
}

// overdue tells whether a list should have been renewed. It stays in force.
func overdue(lists *ca.CRLs, now time.Time) error {
	if due := lists.RenewalDue(); !due.IsZero() && now.After(due) {
		return fmt.Errorf("signing.crl: a revocation list was to be renewed by %s", stamp(due))
	}
	return nil
}

// due is the certificate that is to be in force at a time, if it could be read, and
// its file.
func (s *setup) due(now time.Time) (path string, leaf *x509.Certificate) {
	switch {
	case s.next != nil && !now.Before(s.next.from):
		return s.Signing.Next.Certificate, s.next.chain[0]
	case len(s.chain) > 0:
		return s.Signing.Certificate, s.chain[0]
	}
	return "", nil
}

// barred tells which signing certificates are revoked or stopped. The service starts
// all the same, and tells those who call.
func (s *setup) barred() error {
	var faults []error
	judge := func(path string, chain []*x509.Certificate) {
		for _, link := range chain {
			if s.crls.Revokes(link) {
				faults = append(faults, fmt.Errorf("%s: revoked: serial %s of %s", path, ca.FormatSerial(link.SerialNumber), nameOf(link.RawIssuer)))
			}
		}
		if len(chain) > 0 && s.stopped[sha256.Sum256(chain[0].Raw)] {
			faults = append(faults, fmt.Errorf("%s: signing under it was stopped: see %s", path, s.stoppedFile()))
		}
	}
	judge(s.Signing.Certificate, s.chain)
	if s.next != nil {
		judge(s.Signing.Next.Certificate, s.next.chain)
	}
	return errors.Join(faults...)
}

// ending tells of a certificate that ends within 30 days with none to follow it
// before, and of a time in which none is valid.
func (s *setup) ending(now time.Time) error {
	path, leaf := s.due(now)
	if leaf == nil || now.After(leaf.NotAfter) {
		return nil
	}
	if n := s.next; n != nil && now.Before(n.from) {
		if n.from.After(leaf.NotAfter) {
			return fmt.Errorf("nothing can be signed between %s, when the signing certificate ends, and %s, when the next one comes into force", stamp(leaf.NotAfter), stamp(n.from))
		}
		return nil
	}
	if leaf.NotAfter.Sub(now) >= soon {
		return nil
	}
	return fmt.Errorf("%s: the signing certificate ends in %d days, at %s: ask for the next one now", path, daysLeft(leaf, now), stamp(leaf.NotAfter))
}
