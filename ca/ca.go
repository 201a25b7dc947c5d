// Package ca is a small certificate authority on files: it issues the server
// and client certificates of operators that have no authority of their own, and
// the signing certificates, of LHDN's profile, of throw-away set-ups. It also
// reads what tells which certificates are revoked: [Serials] and [CRLs].
//
// An [Authority] keeps no list of what it issued; a [Register] does. There are
// intermediates only in the reading. It never holds a signing key: of that it
// sees the public half. Its own keys lie in files that only their owner can read,
// since the certificates they make open connections, and sign no document.
//
// The one idea: nothing is implied. Names, validity and key kind are given by
// the caller, and no file that holds a key is ever overwritten.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Algorithm is the kind of an authority's key.
type Algorithm uint8

// The kinds of key. ECDSA (P-256) is for TLS. RSA (3072 bits) is for signing
// certificates, since those of Malaysia's licensed authorities are all signed
// with sha256WithRSAEncryption. The zero Algorithm is refused.
const (
	ECDSA Algorithm = iota + 1
	RSA
)

// String returns the algorithm's name.
func (a Algorithm) String() string {
	switch a {
	case ECDSA:
		return "ECDSA P-256"
	case RSA:
		return "RSA-3072"
	default:
		return "unspecified algorithm"
	}
}

func (a Algorithm) generate() (crypto.Signer, error) {
	switch a {
	case ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		return rsa.GenerateKey(rand.Reader, 3072)
	default:
		return nil, fmt.Errorf("generating a key: %v", a)
	}
}

// Validity is a certificate's: both instants belong to it, to the second.
type Validity struct {
	NotBefore, NotAfter time.Time
}

// Authority is a certificate authority: a self-signed root and its key. It is
// safe for concurrent use.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// New makes an authority with a fresh key. Nothing is written; see
// [Authority.Save].
func New(name string, algorithm Algorithm, validity Validity) (*Authority, error) {
	if name == "" {
		return nil, errors.New("making an authority: it needs a name")
	}
	key, err := algorithm.generate()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	certificate, err := create(template, nil, key.Public(), key, validity)
	if err != nil {
		return nil, fmt.Errorf("making the authority %q: %w", name, err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// Certificate returns the authority's root certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// issue signs a template, which must not outlive the authority.
func (a *Authority) issue(template *x509.Certificate, public crypto.PublicKey, validity Validity) (*x509.Certificate, error) {
	// As the certificate will state them, and the authority's does.
	validity = Validity{NotBefore: validity.NotBefore.Truncate(time.Second), NotAfter: validity.NotAfter.Truncate(time.Second)}
	if validity.NotBefore.Before(a.certificate.NotBefore) || validity.NotAfter.After(a.certificate.NotAfter) {
		return nil, fmt.Errorf("valid from %s to %s, but the authority %q only from %s to %s",
			stamp(validity.NotBefore), stamp(validity.NotAfter), a.certificate.Subject.CommonName,
			stamp(a.certificate.NotBefore), stamp(a.certificate.NotAfter))
	}
	template.BasicConstraintsValid = true
	return create(template, a.certificate, public, a.key, validity)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// create signs a template under a parent, or by itself without one.
func create(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer, validity Validity) (*x509.Certificate, error) {
	if !validity.NotBefore.Before(validity.NotAfter) {
		return nil, errors.New("the validity ends before it begins")
	}
	template.NotBefore, template.NotAfter = validity.NotBefore, validity.NotAfter
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serialNumber is 64 random bits, never zero. Longer ones are legal (RFC 5280,
// section 4.1.2.2), but MyInvois documents state the serial in decimal, and
// readers give up beyond some 28 digits.
func serialNumber() (*big.Int, error) {
	var bits [8]byte
	for {
		if _, err := rand.Read(bits[:]); err != nil {
			return nil, fmt.Errorf("drawing a serial number: %w", err)
		}
		if n := new(big.Int).SetBytes(bits[:]); n.Sign() > 0 {
			return n, nil
		}
	}
}
