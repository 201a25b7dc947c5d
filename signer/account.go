package signer

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/roamsign/roamsign/policy"
)

// account is what one caller takes of this signer. [admission] guards it.
type account struct {
	making  int                      // signatures in the making
	tallies map[policy.Method]*tally // by method; of all methods together, "", and of the blind ones, policy.Blind
	recent  memory
}

func newAccount() *account { return &account{tallies: map[policy.Method]*tally{}} }

// tally returns what is counted of a method, or of all ("").
func (a *account) tally(method policy.Method) *tally {
	t := a.tallies[method]
	if t == nil {
		t = &tally{method: method}
		a.tallies[method] = t
	}
	return t
}

// tally counts what limits are about. What it has counted outlives the limits.
type tally struct {
	method policy.Method // "": all of them; policy.Blind: those
	limits policy.Limits
	bucket *rate.Limiter // nil: there is no rate
	making int           // signatures in the making
	used   int           // of the day's
	kept   int           // what the state folder says was used: nothing beyond it is released
}

// counts are the tallies that something is on: of all methods, of the blind ones,
// of one, as far as there are any.
type counts struct {
	all [3]*tally
	n   int
}

func (c *counts) add(t *tally) {
	c.all[c.n] = t
	c.n++
}

func (c *counts) counted() []*tally { return c.all[:c.n] }

// limited tells whether limits need an account.
func limited(l policy.Limits) bool { return l.Rate > 0 || l.Daily > 0 || l.Concurrent > 0 }

// apply puts limits in force, if they are others. What was taken stays taken.
func (t *tally) apply(l policy.Limits, now time.Time) {
	if t.limits == l {
		return
	}
	burst := max(l.Burst, 1)
	switch {
	case l.Rate <= 0:
		t.bucket = nil
	case t.bucket == nil:
		t.bucket = rate.NewLimiter(rate.Limit(l.Rate), burst)
	default:
		t.bucket.SetLimitAt(now, rate.Limit(l.Rate))
		t.bucket.SetBurstAt(now, burst)
	}
	t.limits = l
}

// take takes one from the bucket, or tells how long there will be none.
func (t *tally) take(now time.Time) (wait time.Duration) {
	if t.bucket == nil {
		return 0
	}
	place := t.bucket.ReserveN(now, 1)
	if wait = place.DelayFrom(now); wait > 0 {
		place.CancelAt(now)
	}
	return wait
}

// putBack undoes a take. The bucket never holds more than its burst.
func (t *tally) putBack(now time.Time) {
	if t.bucket != nil {
		t.bucket.AllowN(now, -1)
	}
}

// block is how many signatures are put down as used at a time: a hundredth of
// the day's. It bounds both how often the state is written and what a crash
// costs the caller.
func (t *tally) block() int { return max(t.limits.Daily/100, 1) }

// due is what is to be put down now: what was used and a block ahead of it.
func (t *tally) due() int {
	return max(t.used, t.kept, min(t.used+t.block()-1, t.limits.Daily))
}

// unkept tells that there is more used than put down, where that counts.
func (t *tally) unkept() bool { return t.limits.Daily > 0 && t.used > t.kept }

// low tells that what is put down will soon be used.
func (t *tally) low() bool {
	return t.limits.Daily > t.kept && t.block() >= 8 && t.kept-t.used < t.block()/2
}

// freeRetries is how many retries of one request are spared the rate: more is a
// flood, whatever it is called.
const freeRetries = 4

// maxRecent is how many requests of a caller are remembered.
const maxRecent = 16384

// memory knows a caller's last requests, so that their retries count once. The
// zero memory is empty.
type memory struct {
	making  map[requestKey]*request // those in the making
	settled map[requestKey]uint8    // those that stay charged: how often they were tried again
	ring    []requestKey            // of these, in the order of their settling
	next    int                     // where the ring, once full, is written over
}

// requestKey is a hash of all that makes two requests the same.
type requestKey [16]byte

// request is one that was charged, and whatever of its retries is in the making.
type request struct {
	key     requestKey
	day     time.Time // on which it was charged
	counts            // on which it was charged
	making  int
	retries uint8
	settled bool // it stays charged
}

// recall returns a request that is known, or nil.
func (m *memory) recall(key requestKey) *request {
	if r := m.making[key]; r != nil {
		return r
	}
	if retries, known := m.settled[key]; known {
		return &request{key: key, retries: retries, settled: true}
	}
	return nil
}

// begin tells of a request, or a retry, that is in the making now.
func (m *memory) begin(r *request) {
	if m.making == nil {
		m.making, m.settled = map[requestKey]*request{}, map[requestKey]uint8{}
	}
	m.making[r.key] = r
	r.making++
}

// end tells of one that is not any more. The last one's request is remembered if it
// stays charged, and the oldest is forgotten where there are too many.
func (m *memory) end(r *request) {
	if r.making--; r.making > 0 {
		return
	}
	delete(m.making, r.key)
	if !r.settled {
		return
	}
	if _, known := m.settled[r.key]; !known {
		if len(m.ring) < maxRecent {
			m.ring = append(m.ring, r.key)
		} else {
			delete(m.settled, m.ring[m.next])
			m.ring[m.next] = r.key
			m.next = (m.next + 1) % maxRecent
		}
	}
	m.settled[r.key] = r.retries
}
