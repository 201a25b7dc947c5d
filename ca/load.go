package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/roamsign/roamsign/internal/strict"
)

// Load reads an authority that [Authority.Save] wrote. Its key must be
// [Guarded].
func Load(certificateFile, keyFile string) (*Authority, error) {
	if err := Guarded(keyFile); err != nil {
		return nil, err
	}
	pair, err := LoadPair(certificateFile, keyFile)
	if err != nil {
		return nil, err
	}
	if !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s: the certificate is not an authority's", certificateFile)
	}
	return &Authority{certificate: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}, nil
}

// LoadPair reads a certificate, its issuers if any, and the key that belongs to
// it.
func LoadPair(certificateFile, keyFile string) (tls.Certificate, error) {
	chain, err := LoadCertificates(certificateFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := LoadKey(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !sameKey(chain[0].PublicKey, key.Public()) {
		return tls.Certificate{}, fmt.Errorf("the key in %s does not belong to the first certificate in %s", keyFile, certificateFile)
	}
	pair := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	public, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(b)
}

// LoadPool reads the certificates of authorities to trust, in any order. There
// must be at least one, and each must be an authority's.
func LoadPool(path string) (*x509.CertPool, error) {
	certificates, err := LoadAuthorities(path)
	if err != nil {
		return nil, err
	}
	return PoolOf(certificates), nil
}

// LoadAuthorities is [LoadPool] for those who need the certificates themselves.
func LoadAuthorities(path string) ([]*x509.Certificate, error) {
	certificates, err := loadAll(path)
	if err != nil {
		return nil, err
	}
	for i, c := range certificates {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("%s: certificate %d (%s) is not an authority's, so nothing can be trusted by it", path, i+1, c.Subject)
		}
	}
	return certificates, nil
}

// PoolOf returns the certificates as a pool to verify with.
func PoolOf(certificates []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}

// LoadCertificates reads a chain: the leaf first, then each certificate's
// issuer. The root may be left out. Validity is not looked at.
func LoadCertificates(path string) ([]*x509.Certificate, error) {
	chain, err := loadAll(path)
	if err != nil {
		return nil, err
	}
	for i, issuer := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(issuer); err != nil {
			return nil, fmt.Errorf("%s: certificate %d (%s) did not issue certificate %d (%s): put the leaf first, then its issuers, each once",
				path, i+2, issuer.Subject, i+1, chain[i].Subject)
		}
	}
	return chain, nil
}

func loadAll(path string) ([]*x509.Certificate, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	certificates, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certificates, nil
}

// ParseCertificates reads PEM certificates, at least one and nothing else.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	block, rest := pem.Decode(text)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s where only certificates are expected", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, c)
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("a PEM block after certificate %d is damaged or cut off", len(certificates))
	}
	if len(certificates) == 0 {
		return nil, errors.New(`no PEM certificate in it (-----BEGIN CERTIFICATE-----); DER is converted with "openssl x509 -inform DER -in FILE"`)
	}
	return certificates, nil
}

// LoadKey reads a private key, RSA or ECDSA, in PEM: PKCS#8, or the older forms
// that OpenSSL writes.
func LoadKey(path string) (crypto.Signer, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ParseKey reads the one private key in a PEM text. Parameters of its curve may
// stand before it, as OpenSSL writes them.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	for block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("no PEM key in it (-----BEGIN PRIVATE KEY-----)")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("a %s follows the key: the file must hold one key alone", more.Type)
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["Proc-Type"] != "" {
		return nil, errors.New(`the key is encrypted: decrypt it with "openssl pkey -in FILE -out FILE.key" and protect the file instead`)
	}
	key, err := parseKey(block)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	default:
		return nil, fmt.Errorf("a key of type %T, neither RSA nor ECDSA", key)
	}
}

func parseKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("it holds a %s where a private key is expected", block.Type)
	}
}

// The bounds of what is read: the largest chains are a few kilobytes, and
// revocation lists of a million entries are not for a signer's clients.
const (
	maxFile = 1 << 20
	maxList = 16 << 20
)

func read(path string) ([]byte, error) { return strict.ReadFile(path, maxFile) }
