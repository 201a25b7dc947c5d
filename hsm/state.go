package hsm

import (
	"context"
	"errors"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

const (
	stallTime = time.Second      // in a call that nobody waits for: the session hangs
	stuckTime = 10 * time.Second // in reconnecting, without an end to it in sight: the token hangs
)

// state is whether a token serves. It is replaced, never changed.
type state struct {
	err   error         // why it does not; nil when it does
	since time.Time     // when it came to serve, or ceased to
	over  chan struct{} // closed when the state is replaced
}

func newState(err error, since time.Time) *state {
	return &state{err: err, since: since, over: make(chan struct{})}
}

var errOpening = errors.New("the token is being opened")

// serves reports whether requests are let in, as far as the state goes.
func (t *Token) serves() bool { return t.state.Load().err == nil }

// note takes down how a request ended.
func (t *Token) note(err error) {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), classOf(err) == requestClass:
	default:
		t.fall(err)
	}
}

// fall takes a token that serves out of service. Those who wait for a session
// learn of it at once, and tend begins to reconnect.
func (t *Token) fall(err error) {
	up := t.state.Load()
	if up.err != nil || !t.state.CompareAndSwap(up, newState(err, time.Now())) {
		return
	}
	close(up.over)
	t.log.Warn("token out of service", "token", t.name(), "error", err.Error())
}

// worsen renews the reason why a token is out of service. Only tend calls it.
func (t *Token) worsen(err error) {
	down := t.state.Load()
	t.state.Store(newState(err, down.since))
	close(down.over)
}

// rise takes a token into service. Only tend calls it.
func (t *Token) rise() {
	down := t.state.Load()
	t.state.Store(newState(nil, time.Now()))
	close(down.over)
	t.log.Info("token in service", "token", t.name(), "sessions", t.Sessions(), "after", time.Since(down.since).Round(time.Millisecond))
}

// Ready returns nil when the token can sign as far as is known: it is open, it is
// not lost, and not all its sessions hang. Else it says why not. It does not
// block. A lost token becomes ready by itself, as soon as it has signed a probe,
// unless its PIN was refused.
func (t *Token) Ready() error {
	if t.life.Err() != nil {
		return withKind(ErrClosed)
	}
	if err := t.state.Load().err; err != nil {
		return withKind(err)
	}
	if t.stalled() {
		return &fault.Error{Kind: fault.TokenUnavailable, RetryAfter: retryAfter, Err: errors.New("all sessions are in calls that do not return")}
	}
	return nil
}

// stalled reports whether every session is in a call that nobody waits for any
// more, and that has taken long.
func (t *Token) stalled() bool {
	pool := t.pool.Load()
	if pool == nil || t.Abandoned() < len(*pool) {
		return false
	}
	now := time.Since(t.made)
	for _, w := range *pool {
		if now-time.Duration(w.began.Load()) < stallTime {
			return false
		}
	}
	return true
}

// Hung reports whether the token cannot come back in this process, because calls
// into the library do not return: all its sessions hang, or reconnecting does, or
// calls that hang keep the module from being initialised again. Ready errs then.
func (t *Token) Hung() bool {
	if t.stalled() {
		return true
	}
	now := time.Since(t.made)
	late := func(began int64) bool { return began != 0 && now-time.Duration(began) >= stuckTime }
	return !t.serves() && (late(t.tending.Load()) || late(t.stuck.Load()))
}

// Health is what is known of a token at one moment, for people and metrics.
type Health struct {
	Label, Serial string // as configured
	Err           error  // why it is not ready; nil when it is
	Sessions      int    // how many signatures it makes at once
	InFlight      int    // requests that were given to it and have no answer yet
	Abandoned     int    // sessions in calls that nobody waits for, see [Token.Abandoned]
	Hung          bool   // see [Token.Hung]
}

// Health returns how the token is. It does not block.
func (t *Token) Health() Health {
	return Health{Label: t.keeper.config.TokenLabel, Serial: t.keeper.config.TokenSerial, Err: t.Ready(), Sessions: t.Sessions(),
		InFlight: int(t.inFlight.Load()), Abandoned: t.Abandoned(), Hung: t.Hung()}
}

// Sessions returns how many signatures are made at once. Until the token is found
// for the first time, that is what the config asks for.
func (t *Token) Sessions() int {
	if pool := t.pool.Load(); pool != nil {
		return len(*pool)
	}
	size, _ := t.keeper.config.sessions(0)
	return size
}

// Abandoned returns how many sessions are in calls that no caller waits for any
// more: because they outlived their callers, or to be replaced after an error.
// It is never more than [Token.Sessions]; when it stays there the token hangs.
func (t *Token) Abandoned() int { return int(t.abandoned.Load()) }
