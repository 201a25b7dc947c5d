package hsm

import (
	"fmt"
	"path/filepath"

	"github.com/miekg/pkcs11"
)

// cryptoki is the part of PKCS#11 that this package calls; [binding] is it.
// It stands as an interface so that tests put faults between us and a real
// module. Calls block as long as the library likes, in C. Different sessions may
// be used at once, one session by one goroutine at a time; Finalize while any call
// runs crashes the process.
//
// A library stays loaded: those that have threads of their own, as clients of
// network HSMs do, crash when they are unloaded, and some crash when others were.
// Destroy, which unloads, is for the exception ([module].finalise).
type cryptoki interface {
	lifecycle
	slots
	sessions
	logins
	objects
	signatures
}

type lifecycle interface { // section 5.4
	Initialize(...pkcs11.InitializeOption) error
	Finalize() error
	Destroy()
}

type slots interface { // section 5.5
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (pkcs11.TokenInfo, error)
	InitToken(slot uint, soPIN, label string) error
}

type sessions interface { // section 5.6
	OpenSession(slot uint, flags uint) (pkcs11.SessionHandle, error)
	CloseSession(pkcs11.SessionHandle) error
	GetSessionInfo(pkcs11.SessionHandle) (pkcs11.SessionInfo, error)
}

type logins interface { // sections 5.5 and 5.6
	Login(session pkcs11.SessionHandle, user uint, pin string) error
	InitPIN(session pkcs11.SessionHandle, pin string) error
}

type objects interface { // section 5.7
	FindObjectsInit(pkcs11.SessionHandle, []*pkcs11.Attribute) error
	FindObjects(session pkcs11.SessionHandle, limit int) ([]pkcs11.ObjectHandle, bool, error)
	FindObjectsFinal(pkcs11.SessionHandle) error
	GetAttributeValue(pkcs11.SessionHandle, pkcs11.ObjectHandle, []*pkcs11.Attribute) ([]*pkcs11.Attribute, error)
}

type signatures interface { // section 5.11
	SignInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Sign(session pkcs11.SessionHandle, data []byte) ([]byte, error)
}

// loader makes a module's function table known to the process.
type loader func(path string) (cryptoki, error)

// load opens the library with dlopen, which does not say what it dislikes, and
// looks for a bare name elsewhere: hence the absolute path. One that is loaded
// already is the same one: it does not begin anew.
func load(path string) (cryptoki, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	p11 := pkcs11.New(path)
	if p11 == nil {
		return nil, fmt.Errorf("%w: %s is not a library that this machine can load, or has no C_GetFunctionList",
			ErrModule, path)
	}
	b, err := bind(p11, path)
	if err != nil {
		return nil, err
	}
	return b, nil
}
