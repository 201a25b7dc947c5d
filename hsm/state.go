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

// shrink lets one worker do without a session, unless it is the last one that has one.
func (t *Token) shrink() bool {
	size := int64(len(*t.pool.Load()))
	for {
		n := t.spare.Load()
		switch {
		case n+1 >= size:
			return false
		case t.spare.CompareAndSwap(n, n+1):
			t.log.Warn("token gives fewer sessions than it was asked for", "token", t.name(), "sessions", size-n-1, "asked", size)
			return true
		}
	}
}

// grow is the end of one shrink.
func (t *Token) grow() {
	n := t.spare.Add(-1)
	size := int64(len(*t.pool.Load()))
	t.log.Info("token gives a session again", "token", t.name(), "sessions", size-n, "asked", size)
}

// fall takes a token that serves out of service. Those who wait for a session
// learn of it at once, and tend begins to reconnect.
func (t *Token) fall(err error) {
	up := t.state.Load()
	if up.err != nil || !t.state.CompareAndSwap(up, newState(err, time.Now())) {
		return
	}
	close(up.over)
	t.losses.Add(1)
	t.last.Store(&Trouble{Err: err, At: time.Now()})
	t.log.Warn("token out of service", "token", t.name(), "error", err.Error())
}

// worsen renews the reason why a token is out of service. Only tend calls it.
func (t *Token) worsen(err error) {
	down := t.state.Load()
	t.state.Store(newState(err, down.since))
	close(down.over)
	t.last.Store(&Trouble{Err: err, At: time.Now()})
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
	if pool == nil || t.Abandoned() < t.Sessions() {
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

// State is what a token is doing, in a word.
type State string

// The states of a token. Only one that is serving is ready.
const (
	Opening State = "opening" // it was never in service
	Serving State = "serving" // it signs
	Lost    State = "lost"    // it is being reconnected
	Hanging State = "hung"    // calls do not return, see [Token.Hung]; it may come back with them
	Refused State = "refused" // its PIN was refused: it is out until this process ends
	Closed  State = "closed"
)

// Trouble is an error and its time.
type Trouble struct {
	Err error
	At  time.Time
}

// Health is what is known of a token at one moment, for people and metrics.
type Health struct {
	Label, Serial string // as configured
	State         State
	Since         time.Time // when it came to serve, or ceased to
	Err           error     // why it is not ready; nil when it is
	Last          Trouble   // what last took it out of service or kept it there; zero when nothing did
	Sessions      int       // how many signatures it makes at once, see [Token.Sessions]
	Asked         int       // how many it would, if the token gave all sessions that it was asked for
	InFlight      int       // requests that were given to it and have no answer yet
	Abandoned     int       // sessions in calls that nobody waits for, see [Token.Abandoned]
	Outlived      int64     // calls so far that their callers did not wait to the end of
	Losses        int64     // how often it went out of service
	Restarts      int64     // how often its module was initialised again
	Hung          bool      // see [Token.Hung]
	Next          error     // why it cannot sign with the next key; nil when it can, and when there is none
}

// Health returns how the token is. It does not block.
func (t *Token) Health() Health {
	h := Health{
		Label: t.keeper.config.TokenLabel, Serial: t.keeper.config.TokenSerial,
		Since: t.state.Load().since, Err: t.Ready(),
		Sessions: t.Sessions(), Asked: t.asked(), InFlight: int(t.inFlight.Load()), Abandoned: t.Abandoned(),
		Outlived: t.outlived.Load(), Losses: t.losses.Load(), Hung: t.Hung(),
	}
	if t.keeper.next.Load() != nil {
		h.Next = t.readyBy(nextOne)
	}
	if last := t.last.Load(); last != nil {
		h.Last = *last
	}
	if m := t.keeper.module.Load(); m != nil {
		h.Restarts = m.restarts.Load()
	}
	h.State = t.describe(h)
	return h
}

// describe puts what is known of a token into a word.
func (t *Token) describe(h Health) State {
	select {
	case <-t.life.Done():
		return Closed
	case <-t.refused:
		return Refused
	default:
	}
	switch {
	case h.Hung:
		return Hanging
	case h.Err == nil:
		return Serving
	case t.pool.Load() == nil:
		return Opening
	}
	return Lost
}

// Sessions returns how many signatures are made at once: fewer than were asked
// for where the token has no more sessions to give, which it is asked for again and
// again. Until the token is found for the first time, that is what the config asks for.
func (t *Token) Sessions() int { return t.asked() - int(t.spare.Load()) }

func (t *Token) asked() int {
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
