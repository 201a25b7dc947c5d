package signer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// queue admits signatures to the key's sessions, each caller in its fair turn.
// It is bounded, by caller and in all, and refuses at once what its deadline
// would not let finish. Safe for concurrent use.
type queue struct {
	sessions int
	limit    int // how many may wait
	each     int // how many of one caller
	observer Observer

	spare sync.Pool // of *waiter

	mu   sync.Mutex
	busy int           // sessions in use; nobody waits while one is free
	line line          // who waits
	cost time.Duration // moving average of one signature; 0 until one is made
}

func newQueue(sessions, limit, each int) *queue {
	return &queue{
		sessions: sessions, limit: limit, each: each, observer: unobserved{},
		spare: sync.Pool{New: func() any { return &waiter{called: make(chan error, 1)} }},
	}
}

// turn is a session that a signature may use.
type turn struct {
	queue *queue
	since time.Time
}

// enter waits for a session in the caller's turn, no longer than ctx allows. Who
// gets a turn ends it once. The error is of kind Overloaded where waiting is
// pointless, else the context's.
func (q *queue) enter(ctx context.Context, caller policy.Caller, weight int) (turn, error) {
	p, err := q.join(ctx, caller, weight)
	if err != nil {
		return turn{}, err
	}
	return p.turn(ctx)
}

// place is a session, or a place in the line for one. Who has it calls turn, once.
type place struct {
	queue  *queue
	caller policy.Caller
	waiter *waiter // nil: the session is there
	since  time.Time
	ready  time.Duration // until the signature can be expected, by the queue's own experience
}

// join takes a place in the caller's turn. The error is of kind Overloaded where
// waiting is pointless, else the context's.
func (q *queue) join(ctx context.Context, caller policy.Caller, weight int) (place, error) {
	if err := ctx.Err(); err != nil {
		return place{}, err
	}
	w, ready, err := q.take(ctx, caller, weight)
	if err != nil {
		return place{}, err
	}
	return place{queue: q, caller: caller, waiter: w, since: time.Now(), ready: ready}, nil
}

// turn waits until the session is there, no longer than ctx allows. Who gets a turn
// ends it once. The error is of kind Overloaded where another had to find room, else
// the context's.
func (p place) turn(ctx context.Context) (turn, error) {
	if p.waiter == nil {
		p.queue.observer.Waited(string(p.caller), 0)
		return turn{queue: p.queue, since: time.Now()}, nil
	}
	defer func() {
		p.queue.spare.Put(p.waiter) // nobody else knows it by then, and nothing is in called
		p.queue.observer.Waited(string(p.caller), time.Since(p.since))
	}()
	select {
	case err := <-p.waiter.called:
		if err != nil {
			return turn{}, err
		}
		return turn{queue: p.queue, since: time.Now()}, nil
	case <-ctx.Done():
		p.queue.abandon(p.waiter)
		return turn{}, fmt.Errorf("waiting for a session: %w", ctx.Err())
	}
}

// take takes a free session, or else a place in the line: with neither a waiter nor
// an error the session is taken. It tells when the signature can be expected.
func (q *queue) take(ctx context.Context, caller policy.Caller, weight int) (*waiter, time.Duration, error) {
	deadline, bounded := ctx.Deadline()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy < q.sessions {
		q.busy++
		return nil, q.cost, nil
	}
	f := q.line.flowOf(caller, weight)
	wait := time.Duration(float64(q.cost) * (q.line.turnsBefore(f) + 1) / float64(q.sessions))
	if f.length >= q.each {
		return nil, 0, overloaded(wait, "%d signatures of this caller are waiting already", f.length)
	}
	if bounded {
		if left := time.Until(deadline); left < wait+q.cost {
			return nil, 0, overloaded(wait, "the deadline is in %v, but of %d who wait some are before it, and a signature takes %v", left, q.line.length, q.cost)
		}
	}
	if err := q.makeRoom(f, wait); err != nil {
		return nil, 0, err
	}
	w := q.spare.Get().(*waiter)
	q.line.push(q.line.flowOf(caller, weight), w) // once more: the room may have emptied the line
	return w, wait + q.cost, nil
}

// estimate is how long so many signatures take, by experience.
func (q *queue) estimate(signatures int) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cost * time.Duration(signatures) / time.Duration(q.sessions)
}

// makeRoom sends the last one of the longest part away from a full line, for
// one whose caller has less in it: a flood fills its own part, not the line.
func (q *queue) makeRoom(f *flow, wait time.Duration) error {
	if q.line.length < q.limit {
		return nil
	}
	longest := q.line.longest()
	if longest == nil || f.share(1) >= longest.share(0) {
		return overloaded(wait, "%d signatures are waiting already", q.line.length)
	}
	last := longest.last
	q.line.remove(last)
	last.called <- overloaded(wait, "%d signatures were waiting, most of them this caller's, and another's had to find room", q.limit)
	return nil
}

// abandon leaves the line. A session that was handed over meanwhile goes on to
// the next one.
func (q *queue) abandon(w *waiter) {
	q.mu.Lock()
	stands := w.flow != nil
	if stands {
		q.line.remove(w)
	}
	q.mu.Unlock()
	if stands {
		return
	}
	if err := <-w.called; err == nil {
		q.pass(0)
	}
}

// end sets the session free, and learns from how the signature went.
func (t turn) end(err error) {
	var took time.Duration
	if err == nil { // failures come at any speed and tell nothing
		took = max(time.Since(t.since), 1)
	}
	t.queue.pass(took)
}

// pass hands a session to whose turn is next, or sets it free. What the
// signature took, if it is known, moves the average by an eighth of the way, as
// TCP's round-trip estimator does (RFC 6298).
func (q *queue) pass(took time.Duration) {
	q.mu.Lock()
	switch {
	case took == 0:
	case q.cost == 0:
		q.cost = took
	default:
		q.cost += (took - q.cost) / 8
	}
	next := q.line.pop()
	if next == nil {
		q.busy--
	}
	q.mu.Unlock()
	if next != nil {
		next.called <- nil
	}
}

// overloaded says when to come back: once those ahead are served, but neither
// at once nor in a long time.
func overloaded(wait time.Duration, format string, args ...any) error {
	wait = min(max(wait, 100*time.Millisecond), 10*time.Second)
	return &fault.Error{Kind: fault.Overloaded, RetryAfter: wait, Err: fmt.Errorf(format, args...)}
}
