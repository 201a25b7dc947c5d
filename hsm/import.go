package hsm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

// Way is how a key came into a token.
type Way string

// The ways, and what somebody sees who listens between this process and the token.
const (
	// BestWay is Wrapped where the token offers the mechanisms, else InTheClear.
	BestWay Way = ""
	// Wrapped: under an AES key that only this process and the token know,
	// itself under an RSA key that the token made for it. A listener sees nothing.
	Wrapped Way = "C_UnwrapKey"
	// InTheClear: as an object. A listener sees the key.
	InTheClear Way = "C_CreateObject"
)

// ImportKey moves a key from a file into the token, under the config's KeyLabel
// and KeyID, both of which it wants: sensitive, not extractable, and good for
// signing only. It proves that with a signature and by asking the token, and
// undoes what it did where the proof fails. A label or ID that any key of the
// token has is refused: [ErrKeyExists].
//
// It returns the way that the key took. A way that fails is not followed by
// another. The copies of the key outside the token remain what they were.
func ImportKey(ctx context.Context, config Config, soft *SoftKey, want Way) (way Way, err error) {
	err = config.Check()
	if err == nil && (config.KeyLabel == "" || config.KeyID == "") {
		err = errors.New("a new key wants a label and an ID")
	}
	if err == nil {
		err = work(ctx, config, func(b bench) error {
			way, err = b.importKey(soft, want)
			return err
		})
	}
	if err != nil {
		return "", withKind(fmt.Errorf("importing key %s: %w", config.keyName(), err))
	}
	return way, nil
}

func (b bench) importKey(soft *SoftKey, want Way) (Way, error) {
	if soft.key == nil {
		return "", errors.New("the key is wiped already")
	}
	if err := b.vacant(b.session); err != nil {
		return "", err
	}
	offered, err := mechanisms(b.tools, b.id)
	if err != nil {
		return "", err
	}
	handle, way, err := b.enter(soft, want, offered)
	if err != nil {
		return "", b.left(b.session, err)
	}
	made := []pkcs11.ObjectHandle{handle}
	public, err := b.tools.CreateObject(b.session, b.publicTemplate(&soft.key().PublicKey))
	if err == nil {
		made = append(made, public)
		err = b.accept(handle, &soft.key().PublicKey)
	} else {
		err = called("C_CreateObject of the public half", err)
	}
	if err == nil {
		return way, nil
	}
	for _, object := range made {
		if derr := b.tools.DestroyObject(b.session, object); derr != nil {
			err = fmt.Errorf("%w; and the key is in the token all the same: %w", err, called("C_DestroyObject", derr))
		}
	}
	return "", err
}

// accept refuses a key in the token that is not as promised.
func (b bench) accept(handle pkcs11.ObjectHandle, public *rsa.PublicKey) error {
	key := Key{Private: true, Attributes: b.attributes(b.session, handle)}
	if faults := key.Faults(); len(faults) > 0 {
		return fmt.Errorf("the token does not keep the key as it must be: %s", strings.Join(faults, "; "))
	}
	return b.prove(b.session, handle, public)
}

// enter brings the private half in.
func (b bench) enter(soft *SoftKey, want Way, offered offer) (pkcs11.ObjectHandle, Way, error) {
	how, ok := offered.unwrapping()
	switch {
	case ok && want != InTheClear:
		handle, err := b.unwrap(soft, how)
		return handle, Wrapped, err
	case want == Wrapped:
		return 0, "", errors.New("the token offers no mechanism that we know to unwrap a key with")
	}
	numbers := components(soft.key())
	defer func() {
		for _, n := range numbers {
			clear(n.Value)
		}
	}()
	handle, err := b.tools.CreateObject(b.session, slices.Concat(b.privateTemplate(), numbers))
	return handle, InTheClear, called("C_CreateObject of the private half", err)
}

// unwrapping is a mechanism that brings a key in under an AES key.
type unwrapping struct {
	name      string
	mechanism uint
	whole     int // the length is a multiple of
	wrap      func(under, key []byte) ([]byte, error)
}

// unwrappings are those that we know, the best first.
var unwrappings = []unwrapping{
	{"CKM_AES_KEY_WRAP_PAD", pkcs11.CKM_AES_KEY_WRAP_PAD, 1, wrapPadded},
	{"CKM_AES_KEY_WRAP", pkcs11.CKM_AES_KEY_WRAP, wrapBlock, wrap},
}

// unwrapping chooses the mechanism that the token can unwrap with, if it also
// can take an AES key that nobody sees.
func (o offer) unwrapping() (unwrapping, bool) {
	if !o.can(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.CKF_UNWRAP) || !o.can(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKF_GENERATE_KEY_PAIR) {
		return unwrapping{}, false
	}
	for _, u := range unwrappings {
		if o.can(u.mechanism, pkcs11.CKF_UNWRAP) {
			return u, true
		}
	}
	return unwrapping{}, false
}

// unwrap has the token make an RSA key for this session, sends it an AES key
// under that, and the key under the AES key.
func (b bench) unwrap(soft *SoftKey, how unwrapping) (pkcs11.ObjectHandle, error) {
	public, transport, err := b.transportKey()
	if err != nil {
		return 0, err
	}
	defer func() { _ = b.tools.DestroyObject(b.session, transport) }() // it ends with the session at the latest
	under := make([]byte, 32)
	_, _ = rand.Read(under) // never fails
	defer clear(under)
	// SHA-1 is what tokens know here. OAEP needs no more of it than that it mixes.
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, under, nil)
	if err != nil {
		return 0, err
	}
	oaep := pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil)
	middle, err := b.tools.UnwrapKey(b.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, oaep)},
		transport, sealed, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
		})
	if err != nil {
		return 0, called("C_UnwrapKey of the AES key", err)
	}
	defer func() { _ = b.tools.DestroyObject(b.session, middle) }()
	der, err := soft.pkcs8(how.whole)
	if err != nil {
		return 0, err
	}
	defer clear(der)
	wrapped, err := how.wrap(under, der)
	if err != nil {
		return 0, err
	}
	handle, err := b.tools.UnwrapKey(b.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(how.mechanism, nil)},
		middle, wrapped, b.privateTemplate())
	return handle, called("C_UnwrapKey with "+how.name, err)
}

// transportKey has the token make an RSA key pair for this session, whose
// private half unwraps and does nothing else.
func (b bench) transportKey() (*rsa.PublicKey, pkcs11.ObjectHandle, error) {
	half, private, err := b.tools.GenerateKeyPair(b.session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, true),
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 2048),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(exponent).Bytes()),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
		})
	if err != nil {
		return nil, 0, called("C_GenerateKeyPair of the transport key", err)
	}
	public, err := b.publicKey(b.session, half)
	return public, private, err
}

// privateTemplate describes the private half of an imported key; what a token
// would choose by itself is stated, as in attributes.
func (b bench) privateTemplate() []*pkcs11.Attribute {
	return append(keyTemplate(pkcs11.CKO_PRIVATE_KEY, b.config.KeyLabel, b.config.keyID()),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
	)
}

func (b bench) publicTemplate(public *rsa.PublicKey) []*pkcs11.Attribute {
	return append(keyTemplate(pkcs11.CKO_PUBLIC_KEY, b.config.KeyLabel, b.config.keyID()),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, public.N.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(public.E)).Bytes()),
	)
}

// components are the numbers of a private key (PKCS#11 Mechanisms, section 2.1.3).
func components(key *rsa.PrivateKey) []*pkcs11.Attribute {
	key.Precompute()
	p, q := key.Primes[0], key.Primes[1]
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, key.N.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE_EXPONENT, key.D.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIME_1, p.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIME_2, q.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_1, key.Precomputed.Dp.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_2, key.Precomputed.Dq.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_COEFFICIENT, key.Precomputed.Qinv.Bytes()),
	}
}
