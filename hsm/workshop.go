package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// workshop is the part of PKCS#11 that only the ceremony calls.
type workshop interface {
	GetInfo() (pkcs11.Info, error)                      // section 5.4
	GetSlotInfo(slot uint) (pkcs11.SlotInfo, error)     // section 5.5
	GetMechanismList(uint) ([]*pkcs11.Mechanism, error) // section 5.5
	GetMechanismInfo(uint, []*pkcs11.Mechanism) (pkcs11.MechanismInfo, error)
	CreateObject(pkcs11.SessionHandle, []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) // section 5.7
	DestroyObject(pkcs11.SessionHandle, pkcs11.ObjectHandle) error
	GenerateKeyPair(_ pkcs11.SessionHandle, _ []*pkcs11.Mechanism, public, private []*pkcs11.Attribute) (
		pkcs11.ObjectHandle, pkcs11.ObjectHandle, error) // section 5.13
	UnwrapKey(_ pkcs11.SessionHandle, _ []*pkcs11.Mechanism, with pkcs11.ObjectHandle, wrapped []byte,
		_ []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)
}

// tools returns the ceremony's part of a module.
func tools(p11 cryptoki) (workshop, error) {
	w, ok := p11.(workshop)
	if !ok {
		return nil, errors.New("this module is opened for serving only")
	}
	return w, nil
}

// bench is a session of the ceremony's with a token, logged in, that may write.
type bench struct {
	slot
	tools   workshop
	session pkcs11.SessionHandle
}

// work runs f at a bench with the config's token. Whatever lives in the session
// only is gone afterwards.
func work(ctx context.Context, config Config, f func(bench) error) error {
	m, s, err := process.enter(ctx, nil, config, load)
	if err != nil {
		return err
	}
	return errors.Join(s.work(f), process.exit(m, s))
}

func (s slot) work(f func(bench) error) (err error) {
	defer rescue(&err)
	w, err := tools(s.p11)
	if err != nil {
		return err
	}
	session, err := s.p11.OpenSession(s.id, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return called("C_OpenSession", err)
	}
	defer func() { _ = s.p11.CloseSession(session) }() // the last session: it logs out, too
	if err := s.login(session); err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	return f(bench{slot: s, tools: w, session: session})
}
