package hsm

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

// worker owns one session and makes the calls in it, one at a time, so that
// there are never more calls in the library than sessions.
type worker struct {
	token   *Token
	session *session     // nil when there is none
	broken  bool         // the session must be replaced before it is used
	used    *generation  // by the last attempt
	began   atomic.Int64 // when the present request came, in nanoseconds after [Token].made
}

// run serves requests until the token's life ends.
func (w *worker) run() {
	defer w.token.owned.Done()
	for {
		select {
		case <-w.token.life.Done():
			return
		case r := <-w.token.requests:
			w.began.Store(int64(time.Since(w.token.made)))
			w.serve(r)
		}
	}
}

// serve answers one request, and replaces the session afterwards if need be,
// away from the queue, so that no caller waits for it.
func (w *worker) serve(r *request) {
	signature, err := w.sign(r)
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
		_ = w.replace(w.token.life) // the next request tries again, and says what is wrong
		w.token.abandoned.Add(-1)
	}
}

// sign makes one attempt, and a second one where the first met a loss that can
// be made good and the caller still waits.
func (w *worker) sign(r *request) ([]byte, error) {
	input := digestInfo(r.digest)
	signature, err := w.attempt(r.ctx, input[:])
	if err == nil || r.ctx.Err() != nil {
		return signature, err
	}
	why := classOf(err)
	if why == requestClass || why == permanentClass {
		return nil, err
	}
	if rerr := w.token.keeper.renew(r.ctx, w.used, why); rerr != nil {
		return nil, fmt.Errorf("%w; recovering: %w", err, rerr)
	}
	return w.attempt(r.ctx, input[:])
}

// attempt signs in a session of the present epoch. After any error the session
// is to be replaced, since an operation may have stayed active in it.
func (w *worker) attempt(ctx context.Context, input []byte) (_ []byte, err error) {
	defer rescue(&err)
	if err := w.enter(ctx); err != nil {
		return nil, err
	}
	defer w.token.keeper.module.Load().leave()
	w.broken = true
	signature, err := sign(w.used.slot.p11, w.session.handle, w.used.key, input)
	if err != nil {
		return nil, err
	}
	if size := w.token.keeper.public.Size(); len(signature) != size {
		return nil, fault.New(fault.SignatureWrong, "the token gave a signature of %d bytes, want %d", len(signature), size)
	}
	w.broken = false
	return signature, nil
}

// enter goes into the library with a session of the present epoch, however often
// somebody initialises the module again on the way.
func (w *worker) enter(ctx context.Context) error {
	k := w.token.keeper
	for {
		w.used = k.current.Load()
		if k.void(w.used) {
			if err := k.renew(ctx, w.used, sessionClass); err != nil {
				return err
			}
			w.used = k.current.Load()
		}
		if w.broken || w.session == nil || w.session.epoch != w.used.epoch {
			if err := w.replace(ctx); err != nil {
				return err
			}
			w.used = k.current.Load()
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

// replace gives the worker a fresh session.
func (w *worker) replace(ctx context.Context) error {
	err := w.token.keeper.replace(ctx, &w.session)
	w.broken = w.session != nil && err != nil
	return err
}
