package signer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

// queue admits signatures to the key's sessions, in the order of their coming.
// It is bounded, and refuses at once what its deadline would not let finish.
// Safe for concurrent use.
type queue struct {
	sessions chan struct{} // holds one element for each session in use
	limit    int           // how many may wait

	mu      sync.Mutex
	waiting int
	cost    time.Duration // moving average of one signature; 0 until one is made
}

func newQueue(sessions, limit int) *queue {
	return &queue{sessions: make(chan struct{}, sessions), limit: limit}
}

// enter waits for a session, no longer than ctx allows. Who enters calls leave
// once, with how the signature went. The error is of kind Overloaded where
// waiting is pointless, else the context's.
func (q *queue) enter(ctx context.Context) (leave func(error), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case q.sessions <- struct{}{}:
		return q.leaver(), nil
	default:
	}
	if err := q.line(ctx); err != nil {
		return nil, err
	}
	defer q.unline()
	// A session set free goes to who has waited longest: the channel keeps the
	// order, and never shows a free place while somebody waits.
	select {
	case q.sessions <- struct{}{}:
		return q.leaver(), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a session: %w", ctx.Err())
	}
}

// line joins the queue, if that leads anywhere.
func (q *queue) line(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := q.cost * time.Duration(q.waiting+1) / time.Duration(cap(q.sessions))
	if q.waiting >= q.limit {
		return overloaded(wait, "%d signatures are waiting already", q.waiting)
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait+q.cost {
		return overloaded(wait, "the deadline is in %v, but %d wait and a signature takes %v", time.Until(deadline), q.waiting, q.cost)
	}
	q.waiting++
	return nil
}

func (q *queue) unline() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting--
}

// leaver begins a signature's time in a session.
func (q *queue) leaver() func(error) {
	since := time.Now()
	return func(err error) {
		<-q.sessions
		if err == nil { // failures come at any speed and tell nothing
			q.learn(time.Since(since))
		}
	}
}

// learn moves the average by an eighth of the way, as TCP's round-trip
// estimator does (RFC 6298).
func (q *queue) learn(took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cost == 0 {
		q.cost = took
		return
	}
	q.cost += (took - q.cost) / 8
}

// overloaded says when to come back: once those ahead are served, but neither
// at once nor in a long time.
func overloaded(wait time.Duration, format string, args ...any) error {
	wait = min(max(wait, 100*time.Millisecond), 10*time.Second)
	return &fault.Error{Kind: fault.Overloaded, RetryAfter: wait, Err: fmt.Errorf(format, args...)}
}
