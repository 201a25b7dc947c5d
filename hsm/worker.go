package hsm

import (
	"context"
	"fmt"

	"github.com/roamsign/roamsign/internal/fault"
)

// worker owns one session and makes the calls in it, one at a time, so that
// there are never more calls in the library than sessions.
type worker struct {
	token   *Token
	session *session    // nil when there is none
	broken  bool        // the session must be replaced before it is used
	used    *generation // by the last attempt
}

// run serves requests until the token's life ends.
func (w *worker) run() {
	defer w.token.workers.Done()
	for {
		select {
		case <-w.token.life.Done():
			return
		case r := <-w.token.requests:
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
	k := w.token.keeper
	w.used = k.current.Load()
	if w.broken || w.session == nil || w.session.epoch != w.used.epoch {
		if err := w.replace(ctx); err != nil {
			return nil, err
		}
		w.used = k.current.Load()
	}
	w.broken = true
	signature, err := sign(k.slot.p11, w.session.handle, w.used.key, input)
	if err != nil {
		return nil, err
	}
	if len(signature) != k.public.Size() {
		return nil, fault.New(fault.SignatureWrong, "the token gave a signature of %d bytes, want %d", len(signature), k.public.Size())
	}
	w.broken = false
	return signature, nil
}

// replace gives the worker a fresh session.
func (w *worker) replace(ctx context.Context) error {
	err := w.token.keeper.replace(ctx, &w.session)
	w.broken = w.session != nil && err != nil
	return err
}
