package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// writePause is how long a folder that cannot be written is left alone.
const writePause = time.Second

// keep goes on from what a state folder says was used today, and keeps it there
// until the returned function is called, once nothing is charged any more. A
// signature is counted there before it is made, a block ahead, so that
// a crash costs a caller a part of its quota and never gives it one twice.
func (a *admission) keep(folder string, now time.Time) (end func() error, err error) {
	kept, before, err := openLedger(folder)
	if err != nil {
		return nil, fmt.Errorf("opening the state folder: %w", err)
	}
	a.mu.Lock()
	a.wake = make(chan struct{}, 1)
	a.resume(before, now)
	a.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.tend(ctx, kept)
	}()
	return func() error {
		cancel()
		<-ended
		return errors.Join(a.write(kept, (*tally).spent), kept.close())
	}, nil
}

// resume takes over what was used, if it was today. Of a clock that was put
// back see turn.
func (a *admission) resume(before usage, now time.Time) {
	a.turn(now)
	begins, ends := policy.Day(before.Day)
	if begins.Before(a.begins) || begins.After(a.ends) {
		return
	}
	a.begins, a.ends = begins, ends
	for _, u := range before.Used {
		own := a.accounts[u.Caller]
		if own == nil {
			own = newAccount()
			a.accounts[u.Caller] = own
		}
		t := own.tally(u.Method)
		t.used, t.kept = u.Count, u.Count
	}
}

// spent is all that is put down once nothing is charged any more.
func (t *tally) spent() int { return t.used }

// keeping asks for a charge to be put down, if it is not yet. The charge holds
// once the round is done; without one it holds already.
func (a *admission) keeping(c *charge) (*round, error) {
	unkept, low := false, false
	for _, t := range c.counted() {
		unkept = unkept || t.unkept()
		low = low || t.low()
	}
	switch {
	case a.wake == nil:
		if unkept {
			a.remind()
		}
		return nil, nil //nolint:nilnil // there is nothing to wait for
	case unkept && a.failed != nil:
		return nil, &fault.Error{Kind: fault.StateUnavailable, RetryAfter: writePause, Err: a.failed}
	case !unkept && !low:
		return nil, nil //nolint:nilnil // there is nothing to wait for
	}
	select {
	case a.wake <- struct{}{}:
	default: // it is awake already
	}
	if !unkept {
		return nil, nil //nolint:nilnil // what was put down earlier will do
	}
	return a.next, nil
}

// tell says, once, that daily quotas are not kept.
func (a *admission) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remind()
}

func (a *admission) remind() {
	if !a.told {
		a.told = true
		a.log.Warn("daily quotas are kept in memory only, and a restart forgets them: name a folder with the key state")
	}
}

// tend writes when it is asked to, until ctx ends.
func (a *admission) tend(ctx context.Context, kept *ledger) {
	for {
		select {
		case <-a.wake:
		case <-ctx.Done():
			return
		}
		for a.write(kept, (*tally).due) != nil {
			select {
			case <-time.After(writePause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// write puts down as much of each tally as count says, and tells those who wait.
func (a *admission) write(kept *ledger, count func(*tally) int) error {
	a.mu.Lock()
	current, counts := usage{Day: a.begins}, map[*tally]int{}
	for caller, own := range a.accounts {
		for method, t := range own.tallies {
			if n := count(t); n > 0 && (t.limits.Daily > 0 || t.kept > 0) {
				counts[t] = n
				current.Used = append(current.Used, used{Caller: caller, Method: method, Count: n})
			}
		}
	}
	this := a.next
	a.next = &round{done: make(chan struct{})}
	a.mu.Unlock()

	err := kept.write(current)

	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(this.done)
	if err != nil {
		this.err = &fault.Error{Kind: fault.StateUnavailable, RetryAfter: writePause, Err: err}
		if a.failed == nil {
			a.log.Error("the state folder cannot be written; callers with a daily quota are refused", slog.String("error", err.Error()))
		}
		a.failed = err
		return err
	}
	if a.failed != nil {
		a.failed = nil
		a.log.Info("the state folder can be written again")
	}
	if current.Day.Equal(a.begins) {
		for t, n := range counts {
			t.kept = max(t.kept, n)
		}
	}
	return nil
}
