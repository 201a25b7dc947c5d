package hsm

import (
	"context"
	"slices"
	"sync"
)

// turn is held by one at a time, and those who wait for it obey their contexts,
// which they could not with a mutex. Whoever holds it may be in a call that hangs.
// They get it in the order in which they came. The zero turn is free. Safe for
// concurrent use.
type turn struct {
	mu      sync.Mutex
	held    bool
	waiting []chan struct{} // each is closed when the turn is its owner's
}

// take waits for the turn. Each take without an error wants one leave. The error
// is the cause of the context's end.
func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.held {
		t.held = true
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
	i := slices.Index(t.waiting, mine)
	if i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 {
		t.leave() // it came in the same moment
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
	close(t.waiting[0])
	t.waiting = t.waiting[1:]
}
