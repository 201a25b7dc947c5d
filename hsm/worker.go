package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

// spareTime is after how long a worker for whom the token had no session asks again.
const spareTime = 5 * time.Second

// worker owns one session and makes the calls in it, one at a time, so that
// there are never more calls in the library than sessions.
type worker struct {
	token   *Token
	session *session     // nil when there is none
	broken  bool         // the session must be replaced before it is used
	spare   bool         // the token has no session for it, and others have theirs
	used    *generation  // by the last attempt
	began   atomic.Int64 // when the present request came, in nanoseconds after [Token].made
}

// run serves requests until the token's life ends.
func (w *worker) run() {
	defer w.token.owned.Done()
	for {
		requests, again := w.token.requests, (<-chan time.Time)(nil)
		if w.spare {
			requests, again = nil, time.After(spareTime)
		}
		select {
		case <-w.token.life.Done():
			return
		case r := <-requests:
			w.began.Store(int64(time.Since(w.token.made)))
			w.serve(r)
		case <-again:
			w.comeBack()
		}
	}
}

// serve answers one request, and replaces the session afterwards if need be,
// away from the queue, so that no caller waits for it.
func (w *worker) serve(r *request) {
	signature, err := w.sign(r)
	if w.stepBack(err) {
		w.pass(r)
		return
	}
	w.token.note(err)
	if r.settled.CompareAndSwap(false, true) {
		if w.broken {
			w.token.abandoned.Add(1)
		}
		r.done <- outcome{signature, err}
	} else {
		w.broken = true // the caller has left, and counted the call
	}
	if w.broken {
		err := w.replace(w.token.life) // should it fail, the next request tries again, and says what is wrong
		w.token.abandoned.Add(-1)
		if errors.Is(err, errHeld) {
			w.token.note(err) // callers in a hurry leave before they learn of it
		}
		w.stepBack(err)
	}
}

// stepBack makes the worker a spare one, where the token has no session for it
// and the others suffice.
func (w *worker) stepBack(err error) bool {
	if !errors.Is(err, errFull) || !w.token.shrink() {
		return false
	}
	w.spare = true
	return true
}

// comeBack asks whether the token has a session again.
func (w *worker) comeBack() {
	if w.token.serves() && w.replace(w.token.life) == nil {
		w.spare = false
		w.token.grow()
	}
}

// pass hands a request on to another worker.
func (w *worker) pass(r *request) {
	err := w.token.submit(r)
	switch {
	case err == nil:
	case r.settled.CompareAndSwap(false, true):
		r.done <- outcome{err: err}
	default:
		w.token.abandoned.Add(-1) // the caller has left, and counted it
	}
}

// sign makes one attempt, and a second one where the first met a loss that can
// be made good and the caller still waits.
func (w *worker) sign(r *request) ([]byte, error) {
	input := digestInfo(r.digest)
	signature, err := w.attempt(r, input[:])
	if err == nil || r.ctx.Err() != nil || errors.Is(err, errHeld) {
		return signature, err
	}
	why := classOf(err)
	if why == requestClass || why == permanentClass {
		return nil, err
	}
	if rerr := w.renew(r.ctx, why); rerr != nil {
		return nil, fmt.Errorf("%w; recovering: %w", err, rerr)
	}
	return w.attempt(r, input[:])
}

// attempt signs in a session of the present epoch. After any error the session
// is to be replaced, since an operation may have stayed active in it.
func (w *worker) attempt(r *request, input []byte) (_ []byte, err error) {
	defer rescue(&err)
	if err := w.enter(r.ctx); err != nil {
		return nil, err
	}
	defer w.token.keeper.module.Load().leave()
	key, public, err := w.token.keeper.keyOf(w.used, r.by)
	if err != nil {
		return nil, err
	}
	w.broken = true
	signature, err := sign(w.used.slot.p11, w.session.handle, key, input)
	if err != nil {
		return nil, err
	}
	if size := public.Size(); len(signature) != size {
		return nil, fault.New(fault.SignatureWrong, "the token gave a signature of %d bytes, want %d", len(signature), size)
	}
	w.broken = false
	return signature, nil
}

// enter goes into the library with a session of the present epoch, however often
// somebody initialises the module again on the way.
func (w *worker) enter(ctx context.Context) error {
	k := w.token.keeper
	noticed := false
	for {
		w.used = k.current.Load()
		if k.void(w.used) {
			if err := w.renew(ctx, sessionClass); err != nil {
				return err
			}
			w.used = k.current.Load()
		}
		if w.broken || w.session == nil || w.session.epoch != w.used.epoch {
			err := w.refresh(ctx)
			if errors.Is(err, errUnseen) && !noticed {
				noticed, err = true, w.renew(ctx, sessionClass)
			}
			if err != nil {
				return err
			}
			if w.used = k.current.Load(); w.session == nil {
				continue
			}
		}
		m := k.module.Load()
		if err := m.enter(ctx); err != nil {
			return err
		}
		if w.session.epoch == w.used.epoch && !k.void(w.used) {
			return nil
		}
		m.leave()
	}
}

// renew has the generation renewed that the last attempt used. A caller waits:
// where somebody is at it already, and hangs, that is told soon.
func (w *worker) renew(ctx context.Context, why class) error {
	ctx, cancel := briefly(ctx)
	defer cancel()
	return w.token.keeper.renew(ctx, w.used, why)
}

// refresh is replace while a caller waits.
func (w *worker) refresh(ctx context.Context) error {
	ctx, cancel := briefly(ctx)
	defer cancel()
	return w.replace(ctx)
}

// replace gives the worker a fresh session.
func (w *worker) replace(ctx context.Context) error {
	err := w.token.keeper.replace(ctx, &w.session)
	w.broken = w.session != nil && err != nil
	return err
}
