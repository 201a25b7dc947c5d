package signer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// admission holds callers to their limits: rate, signatures in the making, and
// the day's number, each of the caller, of the blind methods, and of the method. It counts for this
// signer alone. Safe for concurrent use.
type admission struct {
	log *slog.Logger

	mu       sync.Mutex
	begins   time.Time // of the day that is counted
	ends     time.Time
	accounts map[policy.Caller]*account
	wake     chan struct{} // has room for one; nil: what is used is not kept
	next     *round        // that the next writing settles
	failed   error         // why the last writing was in vain
	told     bool          // that quotas are not kept
}

// round is one writing of what was used, for those who wait for it.
type round struct {
	done chan struct{} // closed when it is over
	err  error         // of use once done
}

func newAdmission(log *slog.Logger) *admission {
	return &admission{log: log, accounts: map[policy.Caller]*account{}, next: &round{done: make(chan struct{})}}
}

// charge is a signature in the making, on its caller's account, until it is
// settled. A nil one is of a caller without limits.
type charge struct {
	account *account
	request *request
	counts
}

// charge charges a granted request. The error is of kind QuotaExceeded or
// RateLimited, or StateUnavailable where a quota's use cannot be kept, or a
// context's. Without an error the caller settles the charge.
func (a *admission) charge(ctx context.Context, grant policy.Grant, id requestID, digest [32]byte, now time.Time) (*charge, error) {
	if !charged(grant) {
		return nil, nil //nolint:nilnil // a caller without limits is not charged
	}
	c, kept, err := a.enter(grant, keyOf(grant, id, digest), now)
	if err != nil || kept == nil {
		return c, err
	}
	select {
	case <-kept.done:
		err = kept.err
	case <-ctx.Done():
		err = fmt.Errorf("putting down a quota's use: %w", ctx.Err())
	}
	if err != nil {
		a.settle(c, false, err, now)
		return nil, err
	}
	return c, nil
}

// charged tells whether a grant's requests are charged at all.
func charged(grant policy.Grant) bool {
	return limited(grant.Limits()) || limited(grant.BlindLimits()) || limited(grant.MethodLimits())
}

// keyOf hashes what makes a request the same as another: all but the time.
func keyOf(grant policy.Grant, id requestID, digest [32]byte) requestKey {
	text := make([]byte, 0, 256)
	for _, part := range []string{string(grant.Method()), string(grant.Taxpayer()), string(id)} {
		text = append(append(text, part...), 0)
	}
	sum := sha256.Sum256(append(text, digest[:]...))
	return requestKey(sum[:])
}

// enter charges the account. With a round the charge holds once that is done.
func (a *admission) enter(grant policy.Grant, key requestKey, now time.Time) (*charge, *round, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn(now)
	own := a.accounts[grant.Caller()]
	if own == nil {
		own = newAccount()
		a.accounts[grant.Caller()] = own
	}
	c := &charge{account: own}
	for _, of := range []struct {
		method policy.Method
		limits policy.Limits
	}{{"", grant.Limits()}, {policy.Blind, grant.BlindLimits()}, {grant.Method(), grant.MethodLimits()}} {
		if of.method == policy.Blind && !grant.Method().Blind() {
			continue
		}
		if limited(of.limits) || own.tallies[of.method] != nil {
			t := own.tally(of.method)
			t.apply(of.limits, now)
			c.add(t)
		}
	}
	if err := a.take(c, key, now); err != nil {
		return nil, nil, err
	}
	own.making++
	own.recent.begin(c.request)
	for _, t := range c.counted() {
		t.making++
	}
	kept, err := a.keeping(c)
	if err != nil {
		a.release(c, false, now)
		return nil, nil, err
	}
	return c, kept, nil
}

// take finds the request's place in all limits, or takes nothing.
func (a *admission) take(c *charge, key requestKey, now time.Time) error {
	for _, t := range c.counted() {
		if most := t.limits.Concurrent; most > 0 && t.making >= most {
			return beyond(t, fault.RateLimited, "concurrent", concurrentPause, now, "%d signatures are in the making, which is the most", t.making)
		}
	}
	known := c.account.recent.recall(key)
	if known == nil {
		for _, t := range c.counted() {
			if most := t.limits.Daily; most > 0 && t.used >= most {
				return beyond(t, fault.QuotaExceeded, "daily", a.ends.Sub(now), now, "the day's %d signatures are used up", most)
			}
		}
	}
	if known == nil || known.retries >= freeRetries {
		if err := takeRates(c.counted(), now); err != nil {
			return err
		}
	}
	if known != nil {
		known.retries += min(1, math.MaxUint8-known.retries)
		c.request = known
		return nil
	}
	c.request = &request{key: key, day: a.begins, counts: c.counts}
	for _, t := range c.counted() {
		t.used++
	}
	return nil
}

// concurrentPause is when to try again where nobody can know.
const concurrentPause = 100 * time.Millisecond

// takeRates takes one from every bucket, or from none.
func takeRates(tallies []*tally, now time.Time) error {
	for i, t := range tallies {
		wait := t.take(now)
		if wait == 0 {
			continue
		}
		for _, taken := range tallies[:i] {
			taken.putBack(now)
		}
		return beyond(t, fault.RateLimited, "rate", wait, now, "more than %g signatures a second", t.limits.Rate)
	}
	return nil
}

// beyond is the error of what is over a limit, and works again after a while.
func beyond(t *tally, kind fault.Kind, limit string, after time.Duration, now time.Time, format string, args ...any) error {
	again := now.Add(after + time.Millisecond - 1).Truncate(time.Millisecond).UTC()
	metadata := map[string]string{"limit": limit, "retry_at": again.Format(time.RFC3339Nano)}
	whose := "caller"
	switch t.method {
	case "":
	case policy.Blind:
		metadata["method"] = string(t.method)
		whose = "blind methods"
	default:
		metadata["method"] = string(t.method)
		whose = "method " + string(t.method)
	}
	return &fault.Error{
		Kind: kind, RetryAfter: again.Sub(now), Metadata: metadata,
		Err: fmt.Errorf("over the limits of the %s: %w", whose, fmt.Errorf(format, args...)),
	}
}

// settle ends a charge, by how the signature went. What was released stays
// charged, and so does what its caller broke off (its retry is free). What this
// service refused or failed to do is given back.
func (a *admission) settle(c *charge, released bool, err error, now time.Time) {
	if c == nil {
		return
	}
	kind := kindOf(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release(c, released || kind == fault.Canceled || kind == fault.DeadlineExceeded, now)
}

// release ends a charge, which stays if it is to, or if a retry's does.
func (a *admission) release(c *charge, stays bool, now time.Time) {
	c.account.making--
	for _, t := range c.counted() {
		t.making--
	}
	r := c.request
	r.settled = r.settled || stays
	c.account.recent.end(r)
	if r.making > 0 || r.settled {
		return
	}
	for _, t := range r.counted() {
		t.putBack(now)
		if r.day.Equal(a.begins) {
			t.used--
		}
	}
}

// turn begins a new day once there is one. Accounts of which nothing is in the
// making begin anew. A clock that is put back by a day or less begins none: a
// quota is not had twice by that.
func (a *admission) turn(now time.Time) {
	if !now.Before(a.begins.AddDate(0, 0, -1)) && now.Before(a.ends) {
		return
	}
	a.begins, a.ends = policy.Day(now)
	for caller, own := range a.accounts {
		if own.making == 0 {
			delete(a.accounts, caller)
			continue
		}
		for _, t := range own.tallies {
			t.used, t.kept = 0, 0
		}
	}
}
