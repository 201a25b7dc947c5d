// Package pkcs1 verifies many RSA signatures under one key. It stands beside
// crypto/rsa, which takes a third longer and more, since it computes anew for each
// signature what depends on the modulus alone.
package pkcs1

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"filippo.io/bigmod"
)

// Sizes of a modulus, in bits: those that crypto/rsa takes without a murmur, up to
// the largest that HSMs make.
const (
	minBits = 2048
	maxBits = 8192
)

// digestInfo is the DER of a DigestInfo of SHA-256 up to the digest (RFC 8017,
// section 9.2, note 1).
const digestInfo = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"

// ErrSignature is the error of a signature that does not verify.
var ErrSignature = errors.New("it does not verify")

// Verifier verifies RSASSA-PKCS1-v1_5 signatures over SHA-256 digests under one
// public key. It is immutable and safe for concurrent use.
type Verifier struct {
	modulus  *bigmod.Modulus
	exponent uint
	padding  []byte // of an encoded message, all that stands before the digest
}

// New makes a Verifier of a public key: a modulus of 2,048 to 8,192 bits, and an
// exponent that is odd, from 3 to 2³¹-1.
func New(key *rsa.PublicKey) (*Verifier, error) {
	if key.N == nil || key.N.BitLen() < minBits || key.N.BitLen() > maxBits {
		return nil, fmt.Errorf("the key's modulus must have %d to %d bits", minBits, maxBits)
	}
	if key.E < 3 || key.E > 1<<31-1 || key.E%2 == 0 {
		return nil, fmt.Errorf("the key's exponent %d must be odd, from 3 to 2³¹-1", key.E)
	}
	if key.N.Bit(0) == 0 {
		return nil, errors.New("the key's modulus is even")
	}
	modulus, err := bigmod.NewModulus(key.N.Bytes())
	if err != nil {
		return nil, fmt.Errorf("the key's modulus: %w", err)
	}
	padding := make([]byte, modulus.Size()-sha256.Size)
	for i := range padding {
		padding[i] = 0xff
	}
	padding[0], padding[1] = 0, 1
	copy(padding[len(padding)-len(digestInfo):], digestInfo)
	padding[len(padding)-len(digestInfo)-1] = 0
	return &Verifier{modulus: modulus, exponent: uint(key.E), padding: padding}, nil
}

// Verify returns nil for the one encoding of the digest, signed, and [ErrSignature]
// for all else. A signature is as long as the modulus. As RFC 8017 has it (section
// 8.2.2), what the signature holds is not taken apart, but compared with what it
// must hold.
func (v *Verifier) Verify(digest [sha256.Size]byte, signature []byte) error {
	if len(signature) != v.modulus.Size() {
		return ErrSignature
	}
	s, err := bigmod.NewNat().SetBytes(signature, v.modulus)
	if err != nil { // not below the modulus
		return ErrSignature
	}
	message := bigmod.NewNat().ExpShortVarTime(s, v.exponent, v.modulus).Bytes(v.modulus)
	at := len(v.padding)
	if !bytes.Equal(message[:at], v.padding) || !bytes.Equal(message[at:], digest[:]) {
		return ErrSignature
	}
	return nil
}
