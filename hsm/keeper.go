package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// keeper holds what all sessions with a token share: the login, the key's
// handle, and one session for life, because closing the last one logs out
// (section 5.6). It opens and closes the sessions of others, too.
//
// One goroutine at a time works through it, whoever holds the turn; waiting for
// the turn obeys a context. Signing does not need it.
type keeper struct {
	slot   slot
	public *rsa.PublicKey // of the certificate

	turn    chan struct{}
	current atomic.Pointer[generation] // stored by the holder of the turn
	refused error                      // a login that may not be tried again; of the turn
}

// generation is what holds between one loss and the next. A loss of the login
// makes the key's handle worthless, and a loss of the keeper's session makes
// every session so: their numbers may be given out again, so that closing an old
// one would close somebody's live one.
type generation struct {
	session pkcs11.SessionHandle // the keeper's
	key     pkcs11.ObjectHandle
	epoch   uint64 // grows with each new session of the keeper's
}

// session is an open session and the epoch that its handle is good for.
type session struct {
	handle pkcs11.SessionHandle
	epoch  uint64
}

func (k *keeper) take(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the token to be tended: %w", ctx.Err())
	}
}

func (k *keeper) leave() { <-k.turn }

// start makes the first generation.
func (k *keeper) start(ctx context.Context) error { return k.renew(ctx, nil, loginClass) }

// renew makes sure that the generation is another than lost, which gave an error
// of the class, or that nothing is wrong with lost but the one session. Many may
// call it at once after a loss: the first does it, the others find it done.
func (k *keeper) renew(ctx context.Context, lost *generation, why class) (err error) {
	if err := k.take(ctx); err != nil {
		return err
	}
	defer k.leave()
	defer rescue(&err)
	if k.refused != nil {
		return k.refused
	}
	if k.current.Load() != lost {
		return nil
	}
	next := generation{}
	alive, loggedIn := k.inspect(lost)
	if alive {
		if loggedIn && why != loginClass {
			return nil
		}
		next = *lost
	} else if next, err = k.open(lost); err != nil {
		return err
	}
	next.key, err = k.enter(next.session)
	if err != nil {
		if !alive {
			_ = k.slot.p11.CloseSession(next.session)
		}
		return err
	}
	k.current.Store(&next)
	return nil
}

// inspect asks whether the keeper's session lives, and whether the user is
// logged in there (section 5.6, C_GetSessionInfo).
func (k *keeper) inspect(g *generation) (alive, loggedIn bool) {
	if g == nil {
		return false, false
	}
	info, err := k.slot.p11.GetSessionInfo(g.session)
	if err != nil {
		return false, false
	}
	return true, info.State == pkcs11.CKS_RO_USER_FUNCTIONS || info.State == pkcs11.CKS_RW_USER_FUNCTIONS
}

// open begins an epoch with a new session of the keeper's.
func (k *keeper) open(lost *generation) (generation, error) {
	next := generation{epoch: 1}
	if lost != nil {
		next.epoch = lost.epoch + 1
	}
	var err error
	next.session, err = k.slot.p11.OpenSession(k.slot.id, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return generation{}, called("C_OpenSession", err)
	}
	return next, nil
}

// enter logs in, finds the key and proves that it is the certificate's.
func (k *keeper) enter(session pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	if err := k.slot.login(session); err != nil {
		if classOf(err) == permanentClass {
			k.refused = err
		}
		return 0, fmt.Errorf("logging in: %w", err)
	}
	key, err := k.slot.findKey(session)
	if err != nil {
		return 0, err
	}
	public, err := k.slot.publicKey(session, key)
	if err != nil {
		return 0, fmt.Errorf("reading key %s: %w", k.slot.config.keyName(), err)
	}
	if !public.Equal(k.public) {
		return 0, fmt.Errorf("%w: key %s has another modulus than the certificate", ErrKeyMismatch, k.slot.config.keyName())
	}
	if err := k.slot.prove(session, key, k.public); err != nil {
		return 0, err
	}
	return key, nil
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
	if err := k.take(ctx); err != nil {
		return err
	}
	defer k.leave()
	defer rescue(&err)
	old, epoch := *s, k.current.Load().epoch
	*s = nil
	if old != nil && old.epoch == epoch {
		// An error here means that it is gone, which is what was wanted.
		_ = k.slot.p11.CloseSession(old.handle)
	}
	handle, err := k.slot.p11.OpenSession(k.slot.id, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return called("C_OpenSession", err)
	}
	*s = &session{handle: handle, epoch: epoch}
	return nil
}

// close closes the last sessions, the keeper's own at the end. Nobody else
// works with the token any more.
func (k *keeper) close(rest []*session) (err error) {
	defer rescue(&err)
	last := k.current.Load()
	if last == nil {
		return nil
	}
	for _, s := range rest {
		if s != nil && s.epoch == last.epoch {
			_ = k.slot.p11.CloseSession(s.handle)
		}
	}
	_ = k.slot.p11.CloseSession(last.session)
	return nil
}
