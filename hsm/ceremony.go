package hsm

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// InitToken initialises the module's first free slot as a token with the
// config's TokenLabel, sets both PINs, and returns the token's serial number. A
// label that is taken is refused, so nothing is ever wiped. Of the config it
// uses Module, Environment and TokenLabel. (Section 5.5, C_InitToken and C_InitPIN.)
//
// It is part of the ceremony, before serving: it obeys ctx between calls only.
func InitToken(ctx context.Context, config Config, securityOfficer, user PIN) (serial string, err error) {
	switch {
	case config.TokenLabel == "" || len(config.TokenLabel) > maxLabel:
		return "", withKind(fmt.Errorf("initialising a token: label %q, want 1 to %d bytes", config.TokenLabel, maxLabel))
	case securityOfficer.empty() || user.empty():
		return "", withKind(errors.New("initialising a token: both PINs are wanted"))
	}
	config.TokenSerial = ""
	m, err := process.acquire(ctx, config, load)
	if err != nil {
		return "", withKind(fmt.Errorf("initialising token %s: %w", config.tokenName(), err))
	}
	serial, err = initToken(m.p11, config, securityOfficer, user)
	if err = errors.Join(err, process.release(m)); err != nil {
		return "", withKind(fmt.Errorf("initialising token %s: %w", config.tokenName(), err))
	}
	return serial, nil
}

func initToken(p11 cryptoki, config Config, securityOfficer, user PIN) (_ string, err error) {
	defer rescue(&err)
	free, err := freeSlot(p11, config.TokenLabel)
	if err != nil {
		return "", err
	}
	// Refused only by C_InitPIN, a user PIN would leave a token that has none.
	if err := fits(p11, free, securityOfficer, user); err != nil {
		return "", err
	}
	if err := p11.InitToken(free, securityOfficer.reveal(), config.TokenLabel); err != nil {
		return "", called("C_InitToken", err)
	}
	s, err := findSlot(p11, config) // the slot's number may have changed
	if err != nil {
		return "", err
	}
	if err := s.initPIN(securityOfficer, user); err != nil {
		return "", fmt.Errorf("setting the user PIN of the new token, serial %q: %w", s.info.SerialNumber, err)
	}
	return s.info.SerialNumber, nil
}

// fits refuses PINs of a length that the token will not take (section 3.2, CK_TOKEN_INFO).
func fits(p11 cryptoki, id uint, pins ...PIN) error {
	info, err := p11.GetTokenInfo(id)
	if err != nil {
		return called("C_GetTokenInfo", err)
	}
	for _, pin := range pins {
		n := uint(pin.length())
		if n < info.MinPinLen || info.MaxPinLen > 0 && n > info.MaxPinLen {
			return fmt.Errorf("a PIN is too short or too long: the token takes %d to %d bytes", info.MinPinLen, info.MaxPinLen)
		}
	}
	return nil
}

// freeSlot returns the first slot whose token is not initialised, if no token
// has the label yet.
func freeSlot(p11 cryptoki, label string) (uint, error) {
	ids, err := p11.GetSlotList(true)
	if err != nil {
		return 0, called("C_GetSlotList", err)
	}
	free, found := uint(0), false
	for _, id := range ids {
		info, err := p11.GetTokenInfo(id)
		switch {
		case err != nil:
		case info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 && info.Label == label:
			return 0, fmt.Errorf("there is one already, serial %q: choose another label", info.SerialNumber)
		case info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 && !found:
			free, found = id, true
		}
	}
	if !found {
		return 0, errors.New("the module has no slot with a token that is not initialised yet")
	}
	return free, nil
}

func (s slot) initPIN(securityOfficer, user PIN) error {
	session, err := s.p11.OpenSession(s.id, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return called("C_OpenSession", err)
	}
	defer func() { _ = s.p11.CloseSession(session) }() // the last session: it logs out, too
	if err := s.p11.Login(session, pkcs11.CKU_SO, securityOfficer.reveal()); err != nil {
		return called("C_Login of the security officer", err)
	}
	return called("C_InitPIN", s.p11.InitPIN(session, user.reveal()))
}

// GenerateKey makes an RSA key pair of 2048, 3072 or 4096 bits inside the token,
// with the config's KeyLabel and KeyID, both of which it wants, and returns the
// public key. The private key is sensitive, not extractable, and good for signing
// only. A label or ID that any key of the token has is refused: [ErrKeyExists].
//
// It is part of the ceremony, before serving: no Token of the module may be open
// in this process, and ctx is obeyed between steps only.
func GenerateKey(ctx context.Context, config Config, bits int) (*rsa.PublicKey, error) {
	public, err := generateKey(ctx, config, bits)
	if err != nil {
		return nil, withKind(fmt.Errorf("generating key %s: %w", config.keyName(), err))
	}
	return public, nil
}

func generateKey(ctx context.Context, config Config, bits int) (*rsa.PublicKey, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	switch {
	case config.KeyLabel == "" || config.KeyID == "":
		return nil, errors.New("a new key wants a label and an ID")
	case bits != 2048 && bits != 3072 && bits != 4096:
		return nil, fmt.Errorf("%d bits, want 2048, 3072 or 4096", bits)
	}
	var serial string
	err := visit(ctx, config, func(s slot, session pkcs11.SessionHandle) error {
		serial = s.info.SerialNumber
		return s.vacant(session)
	})
	if err != nil {
		return nil, err
	}
	err = process.exclusively(ctx, config, func() error { return generate(config, serial, bits) })
	if err == nil {
		var public *rsa.PublicKey
		if public, err = PublicKey(ctx, config); err == nil {
			return public, nil
		}
	}
	if loginRefused(err) || errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		return nil, err // the PIN is not tried again
	}
	var left error
	_ = visit(ctx, config, func(s slot, session pkcs11.SessionHandle) error {
		left = s.left(session, err)
		return nil
	})
	return nil, cmp.Or(left, err)
}

// left adds to an error of making a key whether something of it is in the token
// all the same: a call that erred may have done its work.
func (s slot) left(session pkcs11.SessionHandle, err error) error {
	if !errors.Is(s.vacant(session), ErrKeyExists) {
		return err
	}
	return fmt.Errorf("%w; and the token has something under its names all the same: delete that", err)
}

// vacant refuses a label or ID that is taken, by either half of a key. It looks
// itself, since crypto11 does not see private keys that have no public half.
func (s slot) vacant(session pkcs11.SessionHandle) error {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		for _, template := range [][]*pkcs11.Attribute{
			keyTemplate(class, s.config.KeyLabel, nil),
			keyTemplate(class, "", s.config.keyID()),
		} {
			found, err := s.find(session, template...)
			if err != nil {
				return err
			}
			if len(found) > 0 {
				return fmt.Errorf("%w: %s: choose another label and ID", ErrKeyExists, list(s.describe(session, found), ""))
			}
		}
	}
	return nil
}

// generate lets crypto11 make the key, in an initialisation of its own that ends
// before this returns: crypto11 and a Token cannot share a module.
func generate(config Config, serial string, bits int) (err error) {
	defer rescue(&err)
	pin, err := config.readPIN()
	if err != nil {
		return err
	}
	defer pin.Wipe()
	path, err := filepath.Abs(config.Module) // see load
	if err != nil {
		return err
	}
	settings := &crypto11.Config{Path: path, TokenSerial: serial, Pin: pin.reveal(), MaxSessions: 2}
	defer func() { settings.Pin = "" }()
	if serial == "" {
		settings.TokenLabel = config.TokenLabel
	}
	token, err := crypto11.Configure(settings)
	if err != nil {
		return fmt.Errorf("opening the token: %w", err)
	}
	public, private, err := attributes(config)
	if err == nil {
		_, err = token.GenerateRSAKeyPairWithAttributes(public, private, bits)
	}
	return errors.Join(err, token.Close())
}

// attributes are those of the new key's halves. What crypto11 or a token would
// choose by itself is stated, so that the key can do nothing but sign.
func attributes(config Config) (public, private crypto11.AttributeSet, err error) {
	public, err = crypto11.NewAttributeSetWithIDAndLabel(config.keyID(), []byte(config.KeyLabel))
	if err != nil {
		return nil, nil, err
	}
	private = public.Copy()
	for attribute, value := range map[crypto11.AttributeType]bool{
		crypto11.CkaToken:       true,
		crypto11.CkaPrivate:     true,
		crypto11.CkaSensitive:   true,
		crypto11.CkaExtractable: false,
		crypto11.CkaSign:        true,
		crypto11.CkaSignRecover: false,
		crypto11.CkaDecrypt:     false,
		crypto11.CkaUnwrap:      false,
	} {
		if err := private.Set(attribute, value); err != nil {
			return nil, nil, err
		}
	}
	for attribute, value := range map[crypto11.AttributeType]bool{
		crypto11.CkaToken:         true,
		crypto11.CkaPrivate:       false,
		crypto11.CkaVerify:        true,
		crypto11.CkaVerifyRecover: false,
		crypto11.CkaEncrypt:       false,
		crypto11.CkaWrap:          false,
	} {
		if err := public.Set(attribute, value); err != nil {
			return nil, nil, err
		}
	}
	return public, private, nil
}

// PublicKey returns the public half of the private key that the config names,
// after proving with a signature that the private half is there. [ErrNoToken]
// and [ErrNoKey] tell what has still to be made. Like the rest of the ceremony it
// comes before serving: the token must not be open in this process.
func PublicKey(ctx context.Context, config Config) (*rsa.PublicKey, error) {
	var public *rsa.PublicKey
	err := config.Check()
	if err == nil {
		err = visit(ctx, config, func(s slot, session pkcs11.SessionHandle) error {
			key, err := s.findKey(session)
			if err != nil {
				return err
			}
			if public, err = s.publicKey(session, key); err != nil {
				return err
			}
			return s.prove(session, key, public)
		})
	}
	if err != nil {
		return nil, withKind(fmt.Errorf("reading key %s of token %s: %w", config.keyName(), config.tokenName(), err))
	}
	return public, nil
}

// visit runs f in a session of the config's token, logged in.
func visit(ctx context.Context, config Config, f func(slot, pkcs11.SessionHandle) error) error {
	return call(ctx, config, func(s slot, session pkcs11.SessionHandle) error {
		if err := s.login(session); err != nil {
			return fmt.Errorf("logging in: %w", err)
		}
		return f(s, session)
	})
}

// call runs f in a session of the config's token, not logged in.
func call(ctx context.Context, config Config, f func(slot, pkcs11.SessionHandle) error) error {
	m, s, err := process.enter(ctx, nil, config, load)
	if err != nil {
		return err
	}
	return errors.Join(s.call(f), process.exit(m, s))
}

func (s slot) call(f func(slot, pkcs11.SessionHandle) error) (err error) {
	defer rescue(&err)
	session, err := s.p11.OpenSession(s.id, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return called("C_OpenSession", err)
	}
	defer func() { _ = s.p11.CloseSession(session) }() // the last session: it logs out, too
	return f(s, session)
}
