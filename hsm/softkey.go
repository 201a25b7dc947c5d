package hsm

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"software.sslmate.com/src/go-pkcs12"
)

// SoftKey is a private key that was kept in a file, on its way into a token. It
// is not safe for concurrent use. Wipe it after use.
type SoftKey struct {
	// Certificate is the one for the key; Issuers are the others in the file.
	Certificate *x509.Certificate
	Issuers     []*x509.Certificate

	// A function, for the reason given at [PIN].
	key func() *rsa.PrivateKey
}

// ErrPassword says that the password does not open the file.
var ErrPassword = errors.New("password incorrect")

// ParseP12 reads a soft certificate: a PKCS#12 file with one RSA key of 2048, 3072
// or 4096 bits and its certificate, encrypted with AES, 3DES or RC2. The
// passwords of such files have no count of tries. [ErrPassword] where it is wrong.
func ParseP12(file []byte, password PIN) (*SoftKey, error) {
	private, first, others, err := pkcs12.DecodeChain(file, password.reveal()) // which keeps nothing of it
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, fmt.Errorf("reading the .p12 file: %w: give the one that it was exported with", ErrPassword)
	case err != nil:
		return nil, fmt.Errorf("reading the .p12 file: %w", err)
	}
	key, ok := private.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading the .p12 file: its key is a %T, and MyInvois takes RSA only", private)
	}
	if err := errors.Join(checkSize(&key.PublicKey), key.Validate()); err != nil {
		return nil, fmt.Errorf("reading the .p12 file: %w", err)
	}
	certificates := append([]*x509.Certificate{first}, others...)
	at := slices.IndexFunc(certificates, func(c *x509.Certificate) bool { return key.PublicKey.Equal(c.PublicKey) })
	if at < 0 {
		return nil, fmt.Errorf("reading the .p12 file: %w: none of its %d certificates is for its key", ErrKeyMismatch, len(certificates))
	}
	own := certificates[at]
	return &SoftKey{
		Certificate: own, Issuers: slices.Delete(certificates, at, at+1),
		key: func() *rsa.PrivateKey { return key },
	}, nil
}

// Wipe overwrites the key, as far as a program can: the libraries that it went
// through have made copies.
func (k *SoftKey) Wipe() {
	if k.key == nil {
		return
	}
	key := k.key()
	for _, secret := range append(key.Primes, key.D, key.Precomputed.Dp, key.Precomputed.Dq, key.Precomputed.Qinv) {
		if secret != nil {
			clear(secret.Bits())
		}
	}
	k.key = nil
}

// pkcs8 returns the key as PKCS#8 (RFC 5208). Where whole is above 1 it is as
// long as a multiple of whole, of at most eight, by an attribute that says
// nothing: a key wrap without padding wants that, and bytes after the end are not DER.
func (k *SoftKey) pkcs8(whole int) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.key())
	if err != nil || len(der)%whole == 0 {
		return der, err
	}
	defer clear(der)
	var info struct {
		Version    int
		Algorithm  asn1.RawValue
		PrivateKey []byte
		Attributes asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	defer clear(info.PrivateKey)
	for arcs := 1; arcs <= 8; arcs++ {
		info.Attributes, err = filler(arcs)
		if err != nil {
			return nil, err
		}
		longer, err := asn1.Marshal(info)
		if err != nil || len(longer)%whole == 0 {
			return longer, err
		}
		clear(longer)
	}
	return nil, fmt.Errorf("the key's PKCS#8 form of %d bytes cannot be made a multiple of %d", len(der), whole)
}

// filler is the attributes of a PKCS#8 key: one, without a meaning, whose type
// has so many bytes after that of the arc for examples (2.999, X.660), and whose
// value is NULL.
func filler(arcs int) (asn1.RawValue, error) {
	kind := asn1.ObjectIdentifier{2, 999}
	for range arcs {
		kind = append(kind, 1)
	}
	one, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}{kind, []asn1.RawValue{asn1.NullRawValue}})
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: one}, err
}
