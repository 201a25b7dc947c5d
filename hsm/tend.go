package hsm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/internal/fault"
)

const (
	// keepAlive is the time between looks at the keeper's session: shorter than
	// tokens and networks let idle sessions live, which is 30 s and more.
	keepAlive = 10 * time.Second

	firstWait = 50 * time.Millisecond  // before the first try to reconnect; doubled for each further one
	longWait  = 500 * time.Millisecond // at most, so that service is back within a second of the device
	slowWait  = 5 * time.Second        // at most, where the token signed wrongly or holds another key

	steady = 10 * time.Second // in service for so long: the next loss has nothing to do with the last
)

// tend brings the token up, and keeps it so, until its life ends. It is one
// goroutine, so that one look at a time is in the library, and one try.
func (t *Token) tend() {
	defer t.owned.Done()
	err := t.attempt(t.begin)
	if err == nil {
		t.rise()
		t.begun <- nil
	} else {
		t.worsen(err)
		t.begun <- err
		select {
		case <-t.goOn:
		case <-t.life.Done():
		}
	}
	wait := firstWait
	for t.life.Err() == nil {
		now := t.state.Load()
		if now.err != nil {
			wait = t.reconnect(wait)
			continue
		}
		select {
		case <-t.life.Done():
		case <-now.over:
			if time.Since(now.since) >= steady {
				wait = firstWait
			}
		case <-time.After(keepAlive):
			t.tryLook()
		case done := <-t.looks:
			t.tryLook()
			close(done)
		}
	}
}

// reconnect tries until the token serves again, its life ends, or its PIN is
// refused, which ends all trying. It returns how long to wait next time, should
// the token be lost again soon.
func (t *Token) reconnect(wait time.Duration) time.Duration {
	for {
		if refused := t.keeper.refused.Load(); refused != nil {
			t.log.Error("token out of service until this process ends", "token", t.name(), "error", (*refused).Error())
			t.worsen(*refused)
			close(t.refused)
			<-t.life.Done()
			return wait
		}
		select {
		case <-t.life.Done():
			return wait
		case <-time.After(wait/2 + rand.N(wait/2)): // those who lost the same device do not come back in step
		}
		err := t.attempt(t.connect)
		wait = min(2*wait, longest(t.state.Load().err, err))
		if err == nil {
			t.rise()
			return wait
		}
		t.worsen(err)
	}
}

// longest returns how long to wait between tries, given why the token was lost
// and why it did not come back. What a token says while it comes back may sound
// final and not be so; a PIN that it refuses is another matter, and ends all tries.
func longest(lost, err error) time.Duration {
	if fault.Of(lost) == fault.SignatureWrong || errors.Is(err, ErrKeyMismatch) {
		return slowWait
	}
	return longWait
}

// attempt lets f work, and notes for Hung since when it does.
func (t *Token) attempt(f func(context.Context) error) (err error) {
	defer rescue(&err)
	t.tending.Store(int64(time.Since(t.made)))
	defer t.tending.Store(0)
	return f(t.life)
}

// tryLook looks, and takes the token out of service where it was lost.
func (t *Token) tryLook() {
	if err := t.attempt(t.look); !errors.Is(err, errHeld) {
		t.note(err)
	}
}

// look keeps an idle session alive, and learns of its loss: it logs in again
// where that mends it.
func (t *Token) look(ctx context.Context) error {
	if err := t.keeper.renew(ctx, t.keeper.current.Load(), sessionClass); err != nil {
		return err
	}
	return t.keeper.seek(ctx)
}

// begin finds the token for the first time.
func (t *Token) begin(ctx context.Context) error {
	m, s, err := process.enter(ctx, t, t.keeper.config, t.loader)
	if err != nil {
		return err
	}
	t.keeper.module.Store(m)
	t.found = s
	if err := t.keeper.renew(ctx, nil, loginClass); err != nil {
		return err
	}
	return t.staff(ctx)
}

// connect brings a token back, by a new login and, if need be, a new session, or
// else by initialising its module again.
func (t *Token) connect(ctx context.Context) error {
	m := t.keeper.module.Load()
	if m == nil {
		return t.begin(ctx)
	}
	err := t.bringBack(ctx, m)
	switch {
	case errors.Is(err, errStuck), errors.Is(err, errHeld):
		t.stuck.CompareAndSwap(0, int64(time.Since(t.made)))
		return err
	case err != nil:
		return err
	}
	t.stuck.Store(0)
	return t.staff(ctx)
}

func (t *Token) bringBack(ctx context.Context, m *module) error {
	seen := m.epoch.Load()
	err := t.keeper.renew(ctx, t.keeper.current.Load(), loginClass)
	if err == nil || !restartHelps(err) {
		return err
	}
	if rerr := process.restart(ctx, m, seen, t); rerr != nil {
		return fmt.Errorf("%w; %w", err, rerr)
	}
	return t.keeper.renew(ctx, t.keeper.current.Load(), loginClass)
}

// restartHelps reports whether an error is of the sort that initialising the
// module again may end: the module gave it, and it is not the token's last word on
// the login or the key.
func restartHelps(err error) bool {
	if errors.Is(err, ErrModule) || errors.Is(err, ErrNoToken) {
		return true
	}
	if classOf(err) != permanentClass {
		_, told := errors.AsType[pkcs11.Error](err)
		return told
	}
	call, ok := errors.AsType[*callError](err)
	return ok && call.function != "C_Login" && call.function != "C_SignInit" && call.function != "C_Sign"
}

// staff opens the sessions and lets the workers run, once.
func (t *Token) staff(ctx context.Context) error {
	if t.pool.Load() != nil {
		return nil
	}
	size, err := t.keeper.config.sessions(t.found.info.MaxSessionCount)
	if err != nil {
		return err
	}
	full := false
	for len(t.hired) < size {
		w := &worker{token: t, spare: full}
		if !full {
			err = w.replace(ctx)
			full = errors.Is(err, errFull) && len(t.hired) > 0
			w.spare = full
		}
		if err != nil && !full {
			return fmt.Errorf("opening session %d of %d: %w", len(t.hired)+1, size, err)
		}
		if w.spare {
			t.spare.Add(1)
		}
		t.hired = append(t.hired, w)
	}
	if n := t.spare.Load(); n > 0 {
		t.log.Warn("token gives fewer sessions than it was asked for", "token", t.name(), "sessions", size-int(n), "asked", size)
	}
	t.pool.Store(&t.hired)
	t.owned.Add(size)
	for _, w := range t.hired {
		go w.run()
	}
	return nil
}
