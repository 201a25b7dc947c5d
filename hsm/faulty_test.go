package hsm_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// faulty stands between the package and a real module. It fails the calls that
// it is told to, in named ways, and complains about every misuse: a session used
// by two at once or after it was closed, a handle closed that is none, calls
// outside an initialisation, C_Finalize under a running call or over a session
// that was left open.
type faulty struct {
	hsm.Cryptoki
	t testing.TB

	real sync.RWMutex // held for writing while sessions are taken away, which SoftHSM cannot bear under a call

	mu      sync.Mutex
	faults  map[string]mishap
	flags   func(uint) uint     // of the token, as told
	broken  string              // label of a token that does not tell about itself
	limit   uint                // of sessions, as told
	alter   func([]byte) []byte // what becomes of signatures
	calls   map[string]int
	open    map[pkcs11.SessionHandle]bool // and whether somebody is in it
	lost    map[pkcs11.SessionHandle]bool // taken away by us
	running int
	up      bool
	away    bool // C_Finalize finds open sessions: a lost token's cannot be closed
}

// mishap is what happens instead of the nth call of a function (from 1). It may
// do the call or not.
type mishap func(n int, do func() error) error

func newFaulty(t testing.TB, faults map[string]mishap) *faulty {
	if faults == nil {
		faults = make(map[string]mishap)
	}
	return &faulty{t: t, faults: faults, calls: make(map[string]int),
		open: make(map[pkcs11.SessionHandle]bool), lost: make(map[pkcs11.SessionHandle]bool)}
}

// opens opens a token through the faulty module.
func (f *faulty) opens(ctx context.Context, token *softhsmtest.Token) (*hsm.Token, error) {
	return hsm.OpenThrough(ctx, token.Config, token.Certificate, func(p11 hsm.Cryptoki) hsm.Cryptoki {
		f.Cryptoki = p11
		return f
	})
}

// faultyToken opens a token through a faulty module that has no faults yet.
func faultyToken(t testing.TB, token *softhsmtest.Token) (*faulty, *hsm.Token) {
	t.Helper()
	f := newFaulty(t, nil)
	open, err := f.opens(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return f, open
}

// set makes a function fail from now on. Its calls are counted from one again.
func (f *faulty) set(function string, m mishap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[function], f.calls[function] = m, 0
}

// takesAway makes the device err at everything until givesBack.
func (f *faulty) takesAway(rv uint) {
	for _, function := range everything {
		f.set(function, always(rv))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = true
}

// givesBack is the device's return.
func (f *faulty) givesBack() {
	for _, function := range everything {
		f.set(function, nil)
	}
}

// everything is what a lost device errs at.
var everything = []string{"GetSlotList", "GetTokenInfo", "OpenSession", "CloseSession", "GetSessionInfo", "Login",
	"FindObjectsInit", "GetAttributeValue", "SignInit", "Sign"}

// alters says what becomes of signatures.
func (f *faulty) alters(alter func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alter = alter
}

func (f *faulty) count(function string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[function]
}

func (f *faulty) sessions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// taker is what the module can do that the package has no use for.
type taker interface {
	CloseAllSessions(slot uint) error
	Logout(session pkcs11.SessionHandle) error
}

// loseSessions closes all sessions with the token behind everybody's back.
func (f *faulty) loseSessions() {
	f.real.Lock()
	defer f.real.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	p11 := f.Cryptoki.(taker)
	ids, err := f.Cryptoki.GetSlotList(true)
	if err != nil {
		f.t.Error(err)
	}
	for _, id := range ids {
		_ = p11.CloseAllSessions(id)
	}
	for handle := range f.open {
		f.lost[handle] = true
	}
	clear(f.open)
}

// logOut logs the user out behind everybody's back: of the token that was opened
// first, where there are two.
func (f *faulty) logOut() {
	f.real.Lock()
	defer f.real.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	first := slices.Min(slices.Collect(maps.Keys(f.open)))
	if err := f.Cryptoki.(taker).Logout(first); err != nil {
		f.t.Error(err)
	}
}

// call counts a call, lets its mishap happen, and does the call.
func (f *faulty) call(function string, do func() error) error {
	f.mu.Lock()
	if !f.up && function != "Initialize" {
		f.t.Errorf("%s outside an initialisation", function)
	}
	f.calls[function]++
	n, m := f.calls[function], f.faults[function]
	f.running++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.running--
		f.mu.Unlock()
	}()
	really := func() error {
		f.real.RLock()
		defer f.real.RUnlock()
		return do()
	}
	if m == nil {
		return really()
	}
	return m(n, really)
}

// within is call in a session.
func (f *faulty) within(session pkcs11.SessionHandle, function string, do func() error) error {
	f.mu.Lock()
	busy, open := f.open[session]
	switch {
	case !open && !f.lost[session]:
		f.t.Errorf("%s in session %d, which is not open", function, session)
	case busy:
		f.t.Errorf("%s in session %d while somebody else is in it", function, session)
	}
	if open {
		f.open[session] = true
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		if _, still := f.open[session]; still {
			f.open[session] = false
		}
		f.mu.Unlock()
	}()
	return f.call(function, do)
}

func (f *faulty) Initialize(options ...pkcs11.InitializeOption) error {
	err := f.call("Initialize", func() error { return f.Cryptoki.Initialize(options...) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = err == nil
	return err
}

func (f *faulty) Finalize() error {
	f.mu.Lock()
	if f.running > 0 {
		f.t.Errorf("C_Finalize under %d running calls", f.running)
	}
	if len(f.open) > 0 && !f.away {
		f.t.Errorf("C_Finalize with %d sessions left open", len(f.open))
	}
	f.mu.Unlock()
	err := f.call("Finalize", f.Cryptoki.Finalize)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = false
	clear(f.open)
	clear(f.lost)
	return err
}

func (f *faulty) GetSlotList(present bool) (ids []uint, err error) {
	err = f.call("GetSlotList", func() error {
		ids, err = f.Cryptoki.GetSlotList(present)
		return err
	})
	return ids, err
}

func (f *faulty) GetTokenInfo(slot uint) (info pkcs11.TokenInfo, err error) {
	err = f.call("GetTokenInfo", func() error {
		info, err = f.Cryptoki.GetTokenInfo(slot)
		return err
	})
	if f.flags != nil {
		info.Flags = f.flags(info.Flags)
	}
	info.MaxSessionCount = f.limit
	if f.broken != "" && info.Label == f.broken {
		return pkcs11.TokenInfo{}, pkcs11.Error(pkcs11.CKR_TOKEN_NOT_RECOGNIZED)
	}
	return info, err
}

func (f *faulty) OpenSession(slot, flags uint) (session pkcs11.SessionHandle, err error) {
	err = f.call("OpenSession", func() error {
		session, err = f.Cryptoki.OpenSession(slot, flags)
		return err
	})
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open[session] = false
		delete(f.lost, session)
	}
	return session, err
}

func (f *faulty) CloseSession(session pkcs11.SessionHandle) error {
	return f.within(session, "CloseSession", func() error {
		f.mu.Lock()
		if f.lost[session] {
			f.t.Errorf("C_CloseSession of %d, a number that may be somebody else's by now", session)
		}
		delete(f.open, session)
		f.mu.Unlock()
		return f.Cryptoki.CloseSession(session)
	})
}

func (f *faulty) GetSessionInfo(session pkcs11.SessionHandle) (info pkcs11.SessionInfo, err error) {
	err = f.within(session, "GetSessionInfo", func() error {
		info, err = f.Cryptoki.GetSessionInfo(session)
		return err
	})
	return info, err
}

func (f *faulty) Login(session pkcs11.SessionHandle, user uint, pin string) error {
	return f.within(session, "Login", func() error { return f.Cryptoki.Login(session, user, pin) })
}

func (f *faulty) FindObjectsInit(session pkcs11.SessionHandle, template []*pkcs11.Attribute) error {
	return f.within(session, "FindObjectsInit", func() error { return f.Cryptoki.FindObjectsInit(session, template) })
}

func (f *faulty) GetAttributeValue(session pkcs11.SessionHandle, object pkcs11.ObjectHandle, wanted []*pkcs11.Attribute) (got []*pkcs11.Attribute, err error) {
	err = f.within(session, "GetAttributeValue", func() error {
		got, err = f.Cryptoki.GetAttributeValue(session, object, wanted)
		return err
	})
	return got, err
}

func (f *faulty) SignInit(session pkcs11.SessionHandle, mechanism []*pkcs11.Mechanism, key pkcs11.ObjectHandle) error {
	return f.within(session, "SignInit", func() error { return f.Cryptoki.SignInit(session, mechanism, key) })
}

func (f *faulty) Sign(session pkcs11.SessionHandle, data []byte) (signature []byte, err error) {
	err = f.within(session, "Sign", func() error {
		signature, err = f.Cryptoki.Sign(session, data)
		return err
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.alter != nil && err == nil {
		signature = f.alter(signature)
	}
	return signature, err
}

// once makes the first call fail with rv, without doing it.
func once(rv uint) mishap {
	return func(n int, do func() error) error {
		if n == 1 {
			return pkcs11.Error(rv)
		}
		return do()
	}
}

// onceApplied makes the first call fail with rv, after doing it.
func onceApplied(rv uint) mishap {
	return func(n int, do func() error) error {
		if err := do(); err != nil || n > 1 {
			return err
		}
		return pkcs11.Error(rv)
	}
}

// always makes every call fail with rv.
func always(rv uint) mishap {
	return func(int, func() error) error { return pkcs11.Error(rv) }
}

// hang makes the first calls wait for release before they are done.
func hang(calls int, release <-chan struct{}) mishap {
	return func(n int, do func() error) error {
		if n <= calls {
			<-release
		}
		return do()
	}
}

// closeToken closes within the test, and fails it where that gives an error.
func closeToken(t testing.TB, token *hsm.Token) {
	t.Helper()
	if err := token.Close(context.Background()); err != nil {
		t.Errorf("closing: %v", err)
	}
}
