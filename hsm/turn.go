package hsm

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turn is held by one at a time, and those who wait for it obey their contexts,
// which they could not with a mutex. Whoever holds it may be in a call that hangs:
// who gives up waiting then is told so ([errHeld]), however short of time he was.
// They get it in the order in which they came. The zero turn is free. Safe for
// concurrent use.
type turn struct {
	mu      sync.Mutex
	held    bool
	since   time.Time       // when its holder took it
	waiting []chan struct{} // each is closed when the turn is its owner's
}

// take waits for the turn. Each take without an error wants one leave. The error
// is the cause of the context's end, or errHeld.
func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.held {
		t.held, t.since = true, time.Now()
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting = append(t.waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	hangs := time.Since(t.since) >= stallTime
	i := slices.Index(t.waiting, mine)
	if i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	t.mu.Unlock()
	switch {
	case i < 0:
		t.leave() // it came in the same moment
	case hangs:
		return errHeld
	}
	return context.Cause(ctx)
}

func (t *turn) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.held = false
		return
	}
	t.since = time.Now()
	close(t.waiting[0])
	t.waiting = t.waiting[1:]
}
