package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Library is a PKCS#11 library and what it shows without a login.
type Library struct {
	Path         string
	Manufacturer string
	Description  string
	Version      string // its own
	Cryptoki     string // of PKCS#11 that it implements
	Slots        []Slot // those with a token, in the library's order
}

// Slot is a slot with a token in it.
type Slot struct {
	Number       uint // which may change: tokens are named by label and serial
	Description  string
	Label        string
	Serial       string
	Manufacturer string
	Model        string
	Initialised  bool
	UserPIN      PINState
	OfficerPIN   PINState
	// WriteProtected tokens take no keys.
	WriteProtected bool
	// Sessions is how many the token allows at once; 0 means no limit known.
	Sessions uint
	// Sign and Generate are CKM_RSA_PKCS for signing and CKM_RSA_PKCS_KEY_PAIR_GEN.
	Sign, Generate Mechanism
	// Unwrap is how a key from outside can enter without being seen on the way
	// ("" where only C_CreateObject is left); see [ImportKey].
	Unwrap string
	// Err is what the slot said instead, nil where it answered. Nothing after
	// Number is set then.
	Err error
}

// PINState is what a token's flags say of a PIN (PKCS#11 section 3.2, CK_TOKEN_INFO).
type PINState string

// The states of a PIN, the worst first where several flags are up.
const (
	PINUnknown  PINState = ""                // the token was not asked
	PINNotSet   PINState = "not set"         // nobody has set it yet
	PINLocked   PINState = "locked"          // too many wrong ones
	PINFinalTry PINState = "last try"        // one more wrong one locks it
	PINCountLow PINState = "wrong once"      // a wrong one since the last login, at least
	PINToChange PINState = "must be changed" // it has expired, or is the maker's
	PINSet      PINState = "set"             // nothing wrong
)

// Mechanism is one that a token offers or not, for the operation named.
type Mechanism struct {
	Offered          bool
	MinBits, MaxBits uint
}

// Fits reports whether the mechanism takes RSA keys of so many bits.
func (m Mechanism) Fits(bits uint) bool { return m.Offered && m.MinBits <= bits && bits <= m.MaxBits }

// Inventory looks at a module and its tokens. It logs in nowhere and changes
// nothing. Of the config it uses Module and Environment.
func Inventory(ctx context.Context, config Config) (*Library, error) {
	m, err := process.acquire(ctx, config, load)
	if err != nil {
		return nil, withKind(fmt.Errorf("looking at module %s: %w", config.Module, err))
	}
	library, err := inventory(m.p11, config.Module)
	if err = errors.Join(err, process.release(m)); err != nil {
		return nil, withKind(fmt.Errorf("looking at module %s: %w", config.Module, err))
	}
	return library, nil
}

func inventory(p11 cryptoki, path string) (_ *Library, err error) {
	defer rescue(&err)
	w, err := tools(p11)
	if err != nil {
		return nil, err
	}
	info, err := w.GetInfo()
	if err != nil {
		return nil, called("C_GetInfo", err)
	}
	library := &Library{
		Path: path, Manufacturer: info.ManufacturerID, Description: info.LibraryDescription,
		Version: version(info.LibraryVersion), Cryptoki: version(info.CryptokiVersion),
	}
	ids, err := p11.GetSlotList(true)
	if err != nil {
		return nil, called("C_GetSlotList", err)
	}
	for _, id := range ids {
		s, err := look(p11, w, id)
		if err != nil {
			s = Slot{Number: id, Err: err}
		}
		library.Slots = append(library.Slots, s)
	}
	return library, nil
}

func version(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// look reads one slot.
func look(p11 cryptoki, w workshop, id uint) (Slot, error) {
	place, err := w.GetSlotInfo(id)
	if err != nil {
		return Slot{}, called("C_GetSlotInfo", err)
	}
	token, err := p11.GetTokenInfo(id)
	if err != nil {
		return Slot{}, called("C_GetTokenInfo", err)
	}
	s := Slot{
		Number: id, Description: place.SlotDescription,
		Label: token.Label, Serial: token.SerialNumber, Manufacturer: token.ManufacturerID, Model: token.Model,
		Initialised:    token.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0,
		WriteProtected: token.Flags&pkcs11.CKF_WRITE_PROTECTED != 0,
		UserPIN:        userPIN(token.Flags),
		OfficerPIN:     officerPIN(token.Flags),
	}
	if token.MaxSessionCount <= maxSessions { // else unlimited, or not told
		s.Sessions = token.MaxSessionCount
	}
	offered, err := mechanisms(w, id)
	if err != nil {
		return Slot{}, err
	}
	s.Sign = offered.rsa(pkcs11.CKM_RSA_PKCS, pkcs11.CKF_SIGN)
	s.Generate = offered.rsa(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKF_GENERATE_KEY_PAIR)
	if way, ok := offered.unwrapping(); ok {
		s.Unwrap = way.name
	}
	return s, nil
}

func userPIN(flags uint) PINState {
	return pinState(flags, pkcs11.CKF_USER_PIN_INITIALIZED, pkcs11.CKF_USER_PIN_LOCKED,
		pkcs11.CKF_USER_PIN_FINAL_TRY, pkcs11.CKF_USER_PIN_COUNT_LOW, pkcs11.CKF_USER_PIN_TO_BE_CHANGED)
}

func officerPIN(flags uint) PINState {
	return pinState(flags, pkcs11.CKF_TOKEN_INITIALIZED, pkcs11.CKF_SO_PIN_LOCKED,
		pkcs11.CKF_SO_PIN_FINAL_TRY, pkcs11.CKF_SO_PIN_COUNT_LOW, pkcs11.CKF_SO_PIN_TO_BE_CHANGED)
}

// pinState says the worst of what the flags of a PIN say.
func pinState(flags, set, locked, final, low, expired uint) PINState {
	switch {
	case flags&set == 0:
		return PINNotSet
	case flags&locked != 0:
		return PINLocked
	case flags&final != 0:
		return PINFinalTry
	case flags&low != 0:
		return PINCountLow
	case flags&expired != 0:
		return PINToChange
	}
	return PINSet
}

// offer is what a token can do, by mechanism.
type offer map[uint]pkcs11.MechanismInfo

// mechanisms asks a token for those that the ceremony may want.
func mechanisms(w workshop, slot uint) (offer, error) {
	all, err := w.GetMechanismList(slot)
	if err != nil {
		return nil, called("C_GetMechanismList", err)
	}
	offered := offer{}
	for _, m := range all {
		switch m.Mechanism {
		case pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKM_RSA_PKCS_OAEP,
			pkcs11.CKM_AES_KEY_WRAP, pkcs11.CKM_AES_KEY_WRAP_PAD:
			info, err := w.GetMechanismInfo(slot, []*pkcs11.Mechanism{m})
			if err != nil {
				return nil, called("C_GetMechanismInfo", err)
			}
			offered[m.Mechanism] = info
		}
	}
	return offered, nil
}

func (o offer) can(mechanism, operation uint) bool { return o[mechanism].Flags&operation != 0 }

func (o offer) rsa(mechanism, operation uint) Mechanism {
	if !o.can(mechanism, operation) {
		return Mechanism{}
	}
	return Mechanism{Offered: true, MinBits: o[mechanism].MinKeySize, MaxBits: o[mechanism].MaxKeySize}
}
