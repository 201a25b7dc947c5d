package hsm

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/miekg/pkcs11"
)

// slot is a token where it stands in a module now.
type slot struct {
	p11    cryptoki
	id     uint
	info   pkcs11.TokenInfo // as found; the flags are read anew before each login
	config Config
}

// identity tells a token from others of its module, in whatever slot it stands.
func (s slot) identity() string { return s.info.Label + "\x00" + s.info.SerialNumber }

// findSlot finds the one token that the config names. Slots that err are passed
// over: one broken reader does not hide the others.
func findSlot(p11 cryptoki, config Config) (_ slot, err error) {
	defer rescue(&err)
	ids, err := p11.GetSlotList(true)
	if err != nil {
		return slot{}, called("C_GetSlotList", err)
	}
	var found []slot
	var others []string
	for _, id := range ids {
		info, err := p11.GetTokenInfo(id)
		switch {
		case err != nil:
			others = append(others, fmt.Sprintf("slot %d: %v", id, called("C_GetTokenInfo", err)))
		case info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0:
		case (config.TokenLabel == "" || config.TokenLabel == info.Label) &&
			(config.TokenSerial == "" || config.TokenSerial == info.SerialNumber):
			found = append(found, slot{p11: p11, id: id, info: info, config: config})
		default:
			others = append(others, fmt.Sprintf("label %q serial %q", info.Label, info.SerialNumber))
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return slot{}, fmt.Errorf("%w: %s; the module has %s", ErrNoToken, config.tokenName(), list(others, "no initialised token"))
	}
	serials := make([]string, len(found))
	for i, s := range found {
		serials[i] = fmt.Sprintf("%q", s.info.SerialNumber)
	}
	return slot{}, fmt.Errorf("%w: %s fits %d tokens, with the serials %s: give the serial", ErrNoToken,
		config.tokenName(), len(found), strings.Join(serials, ", "))
}

func list(items []string, none string) string {
	if len(items) == 0 {
		return none
	}
	return strings.Join(items, "; ")
}

// tokenName says which token the config names.
func (c Config) tokenName() string { return name(c.TokenLabel, "serial", c.TokenSerial) }

// keyName says which key the config names.
func (c Config) keyName() string { return name(c.KeyLabel, "ID", c.KeyID) }

func name(label, second, value string) string {
	switch {
	case value == "":
		return fmt.Sprintf("label %q", label)
	case label == "":
		return fmt.Sprintf("%s %q", second, value)
	}
	return fmt.Sprintf("label %q %s %q", label, second, value)
}

// login logs the user in for all sessions that this process has with the token
// (section 5.6). It tries the PIN at most once, and not at all when a wrong one
// could lock the token.
func (s slot) login(session pkcs11.SessionHandle) error {
	info, err := s.p11.GetTokenInfo(s.id)
	if err != nil {
		return called("C_GetTokenInfo", err)
	}
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("%w: the token says that its user PIN is locked: the security officer must set a new one", ErrPINLocked)
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("%w: the token says that one more wrong PIN locks it, so none was tried: "+
			"log in once with the vendor's tool and the right PIN", ErrPINLocked)
	}
	pin, err := s.config.readPIN()
	if err != nil {
		return err
	}
	defer pin.Wipe()
	err = s.p11.Login(session, pkcs11.CKU_USER, pin.reveal())
	switch {
	case err == nil, errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)):
		return nil
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)):
		return fmt.Errorf("%w: the token refused the PIN %s; it was tried once and will not be tried again; %s: %w",
			ErrPINIncorrect, s.config.pinSource(), s.tries(info.Flags), called("C_Login", err))
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LOCKED)):
		return fmt.Errorf("%w: the security officer must set a new one: %w", ErrPINLocked, called("C_Login", err))
	}
	return called("C_Login", err)
}

// loginRefused reports whether an error of login is the token's last word on the
// PIN or its user, after which trying again may lock it. What other calls on the way
// there say may sound final, too, and pass with an outage.
func loginRefused(err error) bool {
	if errors.Is(err, ErrPINIncorrect) || errors.Is(err, ErrPINLocked) {
		return true
	}
	call, ok := errors.AsType[*callError](err)
	return ok && call.function == "C_Login" && classOf(err) == permanentClass
}

// tries says what the token's flags tell after a wrong PIN, given the flags before.
func (s slot) tries(before uint) string {
	info, err := s.p11.GetTokenInfo(s.id)
	if err != nil {
		return "the token does not say how many tries are left"
	}
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return "the token is locked now"
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return "one more wrong try locks the token"
	case before&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
		return "there were wrong tries before this one"
	case info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
		return "it was the first wrong try since the last login"
	}
	return "the token does not say how many tries are left"
}

// find returns the handles of all objects that fit the template, up to a hundred.
func (s slot) find(session pkcs11.SessionHandle, template ...*pkcs11.Attribute) (handles []pkcs11.ObjectHandle, err error) {
	if err := s.p11.FindObjectsInit(session, template); err != nil {
		return nil, called("C_FindObjectsInit", err)
	}
	defer func() {
		if ferr := s.p11.FindObjectsFinal(session); err == nil && ferr != nil {
			err = called("C_FindObjectsFinal", ferr)
		}
	}()
	for len(handles) < 100 {
		more, _, err := s.p11.FindObjects(session, 16)
		if err != nil {
			return nil, called("C_FindObjects", err)
		}
		if len(more) == 0 {
			break
		}
		handles = append(handles, more...)
	}
	return handles, nil
}

// keyTemplate describes RSA keys of a class by the given label and ID.
func keyTemplate(class uint, label string, id []byte) []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
	}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if len(id) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	return template
}

// findKey finds the one private key that the config names.
func (s slot) findKey(session pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	found, err := s.findKeys(session)
	switch {
	case err != nil:
		return 0, err
	case len(found) == 1:
		return found[0], nil
	}
	return 0, fmt.Errorf("%w: %s fits %d keys: %s: give both label and ID", ErrNoKey, s.config.keyName(), len(found),
		list(s.describe(session, found), ""))
}

// findKeys finds the private keys that the config names, one at least.
func (s slot) findKeys(session pkcs11.SessionHandle) ([]pkcs11.ObjectHandle, error) {
	found, err := s.find(session, keyTemplate(pkcs11.CKO_PRIVATE_KEY, s.config.KeyLabel, s.config.keyID())...)
	if err != nil || len(found) > 0 {
		return found, err
	}
	all, err := s.find(session, keyTemplate(pkcs11.CKO_PRIVATE_KEY, "", nil)...)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %s; the token has %s", ErrNoKey, s.config.keyName(),
		list(s.describe(session, all), "no RSA private key"))
}

// describe names keys by label and ID, as far as the token tells.
func (s slot) describe(session pkcs11.SessionHandle, keys []pkcs11.ObjectHandle) []string {
	names := make([]string, len(keys))
	for i, key := range keys {
		a, err := s.p11.GetAttributeValue(session, key, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil), pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
		if err != nil {
			names[i] = "a key that does not tell its label"
			continue
		}
		names[i] = fmt.Sprintf("label %q ID \"%x\"", a[0].Value, a[1].Value)
	}
	return names
}

// publicKey reads the public half of a key from the object itself. The exponent
// is optional on private keys (PKCS#11 Mechanisms, section 2.1.3): where a token
// does not give it, it is taken to be 65537, which the probe then proves.
func (s slot) publicKey(session pkcs11.SessionHandle, key pkcs11.ObjectHandle) (*rsa.PublicKey, error) {
	modulus, err := s.p11.GetAttributeValue(session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil)})
	if err != nil {
		return nil, called("C_GetAttributeValue of CKA_MODULUS", err)
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus[0].Value), E: exponent}
	e, err := s.p11.GetAttributeValue(session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil)})
	switch {
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)):
	case err != nil:
		return nil, called("C_GetAttributeValue of CKA_PUBLIC_EXPONENT", err)
	case new(big.Int).SetBytes(e[0].Value).Cmp(big.NewInt(exponent)) != 0:
		return nil, fmt.Errorf("the key's public exponent is %x, want %d", e[0].Value, exponent)
	}
	if err := checkSize(public); err != nil {
		return nil, err
	}
	return public, nil
}

const exponent = 65537

// checkSize admits RSA 2048, 3072 and 4096 with exponent 65537.
func checkSize(public *rsa.PublicKey) error {
	switch bits := public.N.BitLen(); {
	case bits != 2048 && bits != 3072 && bits != 4096:
		return fmt.Errorf("RSA key of %d bits, want 2048, 3072 or 4096", bits)
	case public.E != exponent:
		return fmt.Errorf("RSA key with public exponent %d, want %d", public.E, exponent)
	}
	return nil
}
