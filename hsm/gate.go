package hsm

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// gate counts the calls that run in a library, and keeps others out while it is
// initialised anew: C_Finalize under a running call crashes the process.
//
// Whoever is inside never waits for anything but the library, or the gate could
// not be shut. The zero gate is open. Safe for concurrent use.
type gate struct {
	mu     sync.Mutex
	inside int
	opened chan struct{} // not nil while the gate is shut; closed when it opens
	since  time.Time     // when it was shut
	empty  chan struct{} // takes a value when the last one has left a shut gate
}

// enter waits while the gate is shut, but not for long: C_Finalize or C_Initialize
// may hang ([errHeld]). Each enter wants one leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		opened := g.opened
		if opened == nil {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		since := g.since
		g.mu.Unlock()
		if err := wait(ctx, opened); err != nil {
			if time.Since(since) >= stallTime {
				err = errHeld // however short of time the caller was
			}
			return fmt.Errorf("waiting for the module to be initialised again: %w", err)
		}
	}
}

// wait waits for a channel, for as long as ctx allows and not for long.
func wait(ctx context.Context, until <-chan struct{}) error {
	ctx, cancel := briefly(ctx)
	defer cancel()
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.opened != nil {
		g.empty <- struct{}{}
	}
}

// shut keeps others out and waits until nobody is inside. It reports false when
// ctx ends first; the gate is open again then. One at a time may call it.
func (g *gate) shut(ctx context.Context) bool {
	g.mu.Lock()
	g.opened, g.empty, g.since = make(chan struct{}), make(chan struct{}, 1), time.Now()
	if g.inside == 0 {
		g.empty <- struct{}{}
	}
	g.mu.Unlock()
	select {
	case <-g.empty:
		return true
	case <-ctx.Done():
		g.open()
		return false
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.opened)
	g.opened = nil
}
