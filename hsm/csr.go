package hsm

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"
)

// WithSigner runs f with the config's key as a [crypto.Signer], for what a
// ceremony has it sign: a certificate request. It makes RSASSA-PKCS1-v1_5
// signatures over SHA-256 only, verifies each, and is good until f returns, in
// one goroutine. Like all of the ceremony it comes before serving.
func WithSigner(ctx context.Context, config Config, f func(crypto.Signer) error) error {
	err := config.Check()
	if err == nil {
		err = visit(ctx, config, func(s slot, session pkcs11.SessionHandle) error {
			key, public, err := s.provenKey(session)
			if err != nil {
				return err
			}
			signer := &tokenSigner{slot: s, session: session, key: key, public: public}
			defer func() { signer.ended = true }()
			return f(signer)
		})
	}
	if err != nil {
		return withKind(fmt.Errorf("signing with key %s of token %s: %w", config.keyName(), config.tokenName(), err))
	}
	return nil
}

// tokenSigner is a key in a token for the time of a visit.
type tokenSigner struct {
	slot    slot
	session pkcs11.SessionHandle
	key     pkcs11.ObjectHandle
	public  *rsa.PublicKey
	ended   bool
}

// Public returns the key's public half.
func (t *tokenSigner) Public() crypto.PublicKey { return t.public }

// Sign signs a SHA-256 digest. The first argument, randomness, is not needed.
func (t *tokenSigner) Sign(_ io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if t.ended {
		return nil, ErrClosed
	}
	if _, pss := options.(*rsa.PSSOptions); pss || options == nil || options.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("this key signs SHA-256 digests, padded by PKCS#1 v1.5, and nothing else")
	}
	input := digestInfo([sha256.Size]byte(digest))
	signature, err := sign(t.slot.p11, t.session, t.key, input[:])
	if err != nil {
		return nil, err
	}
	if err := rsa.VerifyPKCS1v15(t.public, crypto.SHA256, digest, signature); err != nil {
		return nil, fmt.Errorf("the token gave a wrong signature: %w", err)
	}
	return signature, nil
}
