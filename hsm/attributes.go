package hsm

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"
)

// Key is an RSA key in a token, or what is left of one.
type Key struct {
	Label string
	ID    string // hexadecimal
	// Public is nil where the token tells no modulus.
	Public *rsa.PublicKey
	// Private and Verifying tell which halves the token has as objects: the
	// private one signs, the public one is for other programs.
	Private, Verifying bool
	// Attributes are the private half's, as the token tells them.
	Attributes []Attribute
	// Certificates are those in the token with the same ID and the same key.
	Certificates []*x509.Certificate
}

// Attribute is a property of a key.
type Attribute struct {
	Name  string
	Value Answer
}

// Answer is what a token says of an attribute.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	NotTold Answer = "not told"
)

// promises are the attributes that make a key one that can do nothing but sign,
// and never leaves. Those without a promise tell of its past.
var promises = []struct {
	attribute uint
	name      string
	promised  Answer // "" for none
	otherwise string // what it means where the promise is not kept
}{
	{pkcs11.CKA_TOKEN, "token", Yes, "the key is gone when the session ends"},
	{pkcs11.CKA_PRIVATE, "private", Yes, "the key can be used without a login"},
	{pkcs11.CKA_SENSITIVE, "sensitive", Yes, "the key can be read in the clear"},
	{pkcs11.CKA_EXTRACTABLE, "extractable", No, "the key can leave the token, wrapped"},
	{pkcs11.CKA_SIGN, "sign", Yes, "the key cannot sign"},
	{pkcs11.CKA_SIGN_RECOVER, "sign-recover", No, "the key signs data of a caller's own making"},
	{pkcs11.CKA_DECRYPT, "decrypt", No, "the key decrypts, too"},
	{pkcs11.CKA_UNWRAP, "unwrap", No, "the key unwraps other keys, too"},
	{pkcs11.CKA_DERIVE, "derive", No, "other keys can be derived from the key"},
	{pkcs11.CKA_ALWAYS_SENSITIVE, "always-sensitive", "", ""},
	{pkcs11.CKA_NEVER_EXTRACTABLE, "never-extractable", "", ""},
	{pkcs11.CKA_LOCAL, "local", "", ""},
}

// Faults tells which promises the token does not say are kept: those that make
// the key one that can do nothing but sign, and never leaves. Empty is good. A
// token that does not tell an attribute which it must not have keeps it: it does
// not know the operation.
func (k Key) Faults() []string {
	if !k.Private {
		return []string{"there is no private half"}
	}
	var faults []string
	for _, p := range promises {
		got := k.attribute(p.name)
		kept := got == p.promised || p.promised == No && got == NotTold && p.name != "extractable"
		if p.promised != "" && !kept {
			faults = append(faults, fmt.Sprintf("%s is %q, want %q: %s", p.name, got, p.promised, p.otherwise))
		}
	}
	return faults
}

// BornInside reports whether the token says that it made the key itself and has
// never let it out.
func (k Key) BornInside() bool {
	return k.attribute("local") == Yes && k.attribute("always-sensitive") == Yes && k.attribute("never-extractable") == Yes
}

func (k Key) attribute(name string) Answer {
	for _, a := range k.Attributes {
		if a.Name == name {
			return a.Value
		}
	}
	return NotTold
}

// Fingerprint is the SHA-256 of the public key as a SubjectPublicKeyInfo, in
// hexadecimal, or "" where the token tells no public key.
func (k Key) Fingerprint() string {
	if k.Public == nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return ""
	}
	digest := sha256.Sum256(der)
	return hex.EncodeToString(digest[:])
}

// Keys returns the RSA keys that have the config's KeyLabel and KeyID, all of
// them where it names none. It changes nothing. Like all of the ceremony it logs
// in, and comes before serving.
func Keys(ctx context.Context, config Config) ([]Key, error) {
	var keys []Key
	err := config.checkToken()
	if err == nil {
		err = visit(ctx, config, func(s slot, session pkcs11.SessionHandle) error {
			keys, err = s.keys(session)
			return err
		})
	}
	if err != nil {
		return nil, withKind(fmt.Errorf("listing the keys of token %s: %w", config.tokenName(), err))
	}
	return keys, nil
}

// ShownKeys is [Keys] without a login, as far as the token shows anything then:
// public halves, and their certificates. Of the config it uses no PIN. Like all of
// the ceremony it comes before serving.
func ShownKeys(ctx context.Context, config Config) ([]Key, error) {
	var keys []Key
	err := call(ctx, config, func(s slot, session pkcs11.SessionHandle) (err error) {
		keys, err = s.keys(session)
		return err
	})
	if err != nil {
		return nil, withKind(fmt.Errorf("looking at the keys of token %s: %w", config.tokenName(), err))
	}
	return keys, nil
}

// checkToken is Check for what needs no key's name.
func (c Config) checkToken() error {
	if c.KeyLabel == "" && c.KeyID == "" {
		c.KeyLabel = "any"
	}
	return c.Check()
}

// keys reads the keys that fit the config, private halves first, each with the
// public half and the certificates that belong to it.
func (s slot) keys(session pkcs11.SessionHandle) ([]Key, error) {
	var keys []Key
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		found, err := s.find(session, keyTemplate(class, s.config.KeyLabel, s.config.keyID())...)
		if err != nil {
			return nil, err
		}
		for _, handle := range found {
			key := s.read(session, handle)
			at := -1
			if class == pkcs11.CKO_PRIVATE_KEY {
				key.Private, key.Attributes = true, s.attributes(session, handle)
			} else {
				key.Verifying = true
				at = slices.IndexFunc(keys, key.isOtherHalf)
			}
			if at >= 0 {
				keys[at].Verifying = true
				continue
			}
			keys = append(keys, key)
		}
	}
	for i := range keys {
		var err error
		if keys[i].Certificates, _, err = s.certificates(session, keys[i]); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// isOtherHalf reports whether a key is the private half of k.
func (k Key) isOtherHalf(other Key) bool {
	if !other.Private || other.Verifying || other.ID != k.ID || k.ID == "" && other.Label != k.Label {
		return false
	}
	return k.Public == nil || other.Public == nil || k.Public.Equal(other.Public)
}

// read reads what names a key.
func (s slot) read(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle) Key {
	key := Key{
		Label: string(s.value(session, handle, pkcs11.CKA_LABEL)),
		ID:    hex.EncodeToString(s.value(session, handle, pkcs11.CKA_ID)),
	}
	modulus := s.value(session, handle, pkcs11.CKA_MODULUS)
	e := new(big.Int).SetBytes(s.value(session, handle, pkcs11.CKA_PUBLIC_EXPONENT))
	if len(modulus) == 0 || e.BitLen() > 31 {
		return key
	}
	key.Public = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: exponent} // see publicKey
	if e.Sign() > 0 {
		key.Public.E = int(e.Int64())
	}
	return key
}

// attributes asks for each attribute by itself, since a token that lacks one
// answers none of those asked for together.
func (s slot) attributes(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle) []Attribute {
	all := make([]Attribute, 0, len(promises))
	for _, p := range promises {
		answer := NotTold
		if value := s.value(session, handle, p.attribute); len(value) > 0 {
			answer = No
			if !bytes.Equal(value, make([]byte, len(value))) {
				answer = Yes
			}
		}
		all = append(all, Attribute{p.name, answer})
	}
	return all
}

// value returns an attribute's value, nil where the token does not tell it.
func (s slot) value(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle, attribute uint) []byte {
	got, err := s.p11.GetAttributeValue(session, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil || len(got) != 1 {
		return nil
	}
	return got[0].Value
}

// DeleteKey destroys the private half of the key that has both the config's
// KeyLabel and its KeyID, its public half, and the certificates of that key in
// the token, and returns what it was. There is no way back. [ErrNoKey] where
// there is none, or more than one.
func DeleteKey(ctx context.Context, config Config) (Key, error) {
	var key Key
	err := config.Check()
	if err == nil && (config.KeyLabel == "" || config.KeyID == "") {
		err = errors.New("a key is deleted by its label and its ID: give both")
	}
	if err == nil {
		err = work(ctx, config, func(b bench) error {
			key, err = b.deleteKey()
			return err
		})
	}
	if err != nil {
		return Key{}, withKind(fmt.Errorf("deleting key %s: %w", config.keyName(), err))
	}
	return key, nil
}

func (b bench) deleteKey() (Key, error) {
	keys, err := b.keys(b.session)
	switch {
	case err != nil:
		return Key{}, err
	case len(keys) > 1:
		return Key{}, fmt.Errorf("%w: %d keys of the token are named so, and only one can be meant: use the vendor's tool", ErrNoKey, len(keys))
	case len(keys) == 0:
		_, err := b.findKey(b.session) // which tells what there is
		return Key{}, err
	}
	_, doomed, err := b.certificates(b.session, keys[0])
	if err != nil {
		return Key{}, err
	}
	// The private half goes last: while it is there, the key can be found and
	// deleted again.
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_PRIVATE_KEY} {
		found, err := b.find(b.session, keyTemplate(class, b.config.KeyLabel, b.config.keyID())...)
		if err != nil {
			return Key{}, err
		}
		doomed = append(doomed, found...)
	}
	for _, handle := range doomed {
		if err := b.tools.DestroyObject(b.session, handle); err != nil {
			return Key{}, called("C_DestroyObject", err)
		}
	}
	left, err := b.keys(b.session)
	if err == nil && len(left) > 0 {
		err = errors.New("the token said that it was destroyed, and it is still there")
	}
	return keys[0], err
}
