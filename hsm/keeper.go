package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// keeper holds what all sessions with a token share: the login, the key's
// handle, and one session for life, because closing the last one logs out
// (section 5.6). It opens and closes the sessions of others, too.
//
// One goroutine at a time works through it, whoever holds the turn; waiting for
// the turn obeys a context. Signing does not need it. The turn is taken before the
// module's gate, never the other way round.
type keeper struct {
	config Config
	public *rsa.PublicKey          // of the certificate
	module atomic.Pointer[module]  // nil until the token is found first
	next   atomic.Pointer[nextKey] // the second key; nil: there is none

	turn    turn
	current atomic.Pointer[generation] // stored by the holder of the turn
	refused atomic.Pointer[error]      // a login that may not be tried again; stored by the same
	lost    *generation                // one whose renewal failed: no session is opened for it; of the turn
}

// generation is what holds between one loss and the next. A loss of the login
// makes the key's handle worthless, and a loss of the keeper's session makes
// every session so: their numbers may be given out again, so that closing an old
// one would close somebody's live one. All of it is void in another epoch of the
// module.
type generation struct {
	slot    slot
	session pkcs11.SessionHandle // the keeper's
	key     pkcs11.ObjectHandle
	next    succession
	epoch   uint64 // grows with each new session of the keeper's
	module  uint64 // the module's epoch; 0 is none of them
}

// session is an open session and the epoch that its handle is good for.
type session struct {
	handle pkcs11.SessionHandle
	epoch  uint64
}

var (
	// errLost: the generation is of an earlier epoch of the module, or about to end.
	errLost = errors.New("the token is being reconnected")
	// errUnseen: the generation is of before a loss that is noticed only now.
	errUnseen = errors.New("the token has lost its sessions")
	// errHeld: somebody else is at it, in a call that does not return.
	errHeld = errors.New("a call that does not return keeps the token from being mended")
	// errFull: the token gives no further session.
	errFull = errors.New("the token gives fewer sessions than it was asked for")
)

// briefly bounds a wait for somebody who is in the library and may hang there, by
// errHeld.
func briefly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, stallTime, errHeld)
}

// enter waits for the turn and goes into the library. Each enter wants one leave.
func (k *keeper) enter(ctx context.Context) error {
	if err := k.turn.take(ctx); err != nil {
		return fmt.Errorf("waiting for the token to be tended: %w", err)
	}
	err := k.module.Load().enter(ctx)
	if err != nil {
		k.turn.leave()
	}
	return err
}

func (k *keeper) leave() {
	k.module.Load().leave()
	k.turn.leave()
}

// void reports whether a generation's handles mean nothing any more. Who is in
// the library can rely on it.
func (k *keeper) void(g *generation) bool {
	return g == nil || g.module != k.module.Load().epoch.Load()
}

// renew makes sure that the generation is another than lost, which gave an error
// of the class, or that nothing is wrong with lost but the one session. Many may
// call it at once after a loss: the first does it, the others find it done.
func (k *keeper) renew(ctx context.Context, lost *generation, why class) (err error) {
	if err := k.enter(ctx); err != nil {
		return err
	}
	defer k.leave()
	defer rescue(&err)
	if refused := k.refused.Load(); refused != nil {
		return *refused
	}
	if k.current.Load() != lost {
		return nil
	}
	next, loggedIn, err := k.reopen(lost)
	if err != nil {
		k.lost = lost
		return err
	}
	k.lost = nil
	if loggedIn && why != loginClass {
		return nil
	}
	anew := lost == nil || next.epoch != lost.epoch
	if anew {
		k.current.Store(&generation{epoch: next.epoch}) // void, as lost is now, whatever comes
	}
	next.key, err = k.admit(next.slot, next.session)
	if err != nil {
		if anew {
			_ = next.slot.p11.CloseSession(next.session)
		}
		return err
	}
	next.next = k.succeed(next.slot, next.session)
	k.current.Store(&next)
	return nil
}

// reopen returns the generation with a session of the keeper's that lives: the
// one it has, or else a new one.
func (k *keeper) reopen(lost *generation) (next generation, loggedIn bool, err error) {
	alive, loggedIn := k.inspect(lost)
	if alive {
		return *lost, loggedIn, nil
	}
	if next, err = k.open(lost); err != nil || lost == nil || next.session == lost.session {
		return next, false, err
	}
	// A device that is back may still know the old session: dropped, it would
	// take up room there for ever.
	if alive, loggedIn = k.inspect(lost); alive {
		return *lost, loggedIn, k.discard(next.slot, next.session)
	}
	return next, false, nil
}

// discard closes a session. That it is gone already is no error.
func (k *keeper) discard(s slot, session pkcs11.SessionHandle) error {
	err := s.p11.CloseSession(session)
	if classOf(err) == sessionClass {
		return nil
	}
	return called("C_CloseSession", err)
}

// inspect asks whether the keeper's session lives, and whether the user is
// logged in there (section 5.6, C_GetSessionInfo).
func (k *keeper) inspect(g *generation) (alive, loggedIn bool) {
	if k.void(g) {
		return false, false
	}
	info, err := g.slot.p11.GetSessionInfo(g.session)
	if err != nil {
		return false, false
	}
	return true, info.State == pkcs11.CKS_RO_USER_FUNCTIONS || info.State == pkcs11.CKS_RW_USER_FUNCTIONS
}

// open begins an epoch with a new session of the keeper's, in whatever slot the
// token stands now.
func (k *keeper) open(lost *generation) (next generation, err error) {
	m := k.module.Load()
	next.epoch, next.module = 1, m.epoch.Load()
	if lost != nil {
		next.epoch = lost.epoch + 1
	}
	if next.slot, err = findSlot(m.p11, k.config); err != nil {
		return generation{}, err
	}
	next.session, err = m.p11.OpenSession(next.slot.id, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return generation{}, called("C_OpenSession", err)
	}
	return next, nil
}

// admit logs in, finds the key and proves that it is the certificate's.
func (k *keeper) admit(s slot, session pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	if err := s.login(session); err != nil {
		if loginRefused(err) {
			k.refused.Store(&err)
		}
		return 0, fmt.Errorf("logging in: %w", err)
	}
	return s.pick(session, k.public)
}

// pick finds the key that the slot's config names and that has that modulus, and
// proves it.
func (s slot) pick(session pkcs11.SessionHandle, public *rsa.PublicKey) (pkcs11.ObjectHandle, error) {
	found, err := s.findKeys(session)
	if err != nil {
		return 0, err
	}
	var others []error
	for _, key := range found {
		err := s.recognise(session, key, public)
		switch {
		case err == nil:
			return key, nil
		case classOf(err) != permanentClass:
			return 0, err
		}
		others = append(others, err)
	}
	if len(others) == 1 {
		return 0, others[0]
	}
	return 0, fmt.Errorf("none of the %d keys that fit is the certificate's: %w", len(others), errors.Join(others...))
}

// recognise returns nil when a key that the config names is the certificate's. Who
// can write to the token can give any key that name, so its modulus and a signature tell.
func (s slot) recognise(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, wanted *rsa.PublicKey) error {
	public, err := s.publicKey(session, key)
	_, told := errors.AsType[pkcs11.Error](err)
	switch {
	case told:
		return fmt.Errorf("reading key %s: %w", s.config.keyName(), err)
	case err != nil:
		return fmt.Errorf("%w: key %s: %w", ErrKeyMismatch, s.config.keyName(), err)
	case !public.Equal(wanted):
		return fmt.Errorf("%w: key %s has another modulus than the certificate", ErrKeyMismatch, s.config.keyName())
	}
	return s.prove(session, key, wanted)
}

// prove signs a random digest and verifies the signature.
func (s slot) prove(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, public *rsa.PublicKey) error {
	var digest [sha256.Size]byte
	_, _ = rand.Read(digest[:]) // never fails
	input := digestInfo(digest)
	signature, err := sign(s.p11, session, key, input[:])
	if err != nil {
		return fmt.Errorf("signing a probe: %w", err)
	}
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); err != nil {
		return fmt.Errorf("%w: a probe signed with key %s does not verify", ErrKeyMismatch, s.config.keyName())
	}
	return nil
}

// replace closes the session that s points to, if there is one and its number
// still means it, and puts a new one there, or nil.
func (k *keeper) replace(ctx context.Context, s **session) (err error) {
	if err := k.enter(ctx); err != nil {
		return err
	}
	defer k.leave()
	defer rescue(&err)
	old, g := *s, k.current.Load()
	if k.void(g) || g == k.lost {
		return errLost // a session opened now would be forgotten with the next epoch
	}
	if old != nil && old.epoch == g.epoch {
		if err := k.discard(g.slot, old.handle); err != nil {
			return err
		}
	}
	*s = nil
	handle, err := g.slot.p11.OpenSession(g.slot.id, pkcs11.CKF_SERIAL_SESSION)
	switch {
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_SESSION_COUNT)):
		return fmt.Errorf("%w: %w", errFull, called("C_OpenSession", err))
	case err != nil:
		return called("C_OpenSession", err)
	}
	// Opened after a loss that nobody has noticed yet, it would be taken for lost,
	// and take up room for ever.
	if alive, _ := k.inspect(g); !alive {
		return errors.Join(errUnseen, k.discard(g.slot, handle))
	}
	*s = &session{handle: handle, epoch: g.epoch}
	return nil
}

// close closes the last sessions, the keeper's own at the end. Nobody else
// works with the token any more.
func (k *keeper) close(rest []*session) (err error) {
	if k.enter(context.Background()) != nil {
		return nil // the module is not initialised: there are no sessions
	}
	defer k.leave()
	defer rescue(&err)
	last := k.current.Load()
	if k.void(last) {
		return nil
	}
	for _, s := range rest {
		if s != nil && s.epoch == last.epoch {
			_ = last.slot.p11.CloseSession(s.handle)
		}
	}
	_ = last.slot.p11.CloseSession(last.session)
	return nil
}
