package hsm

import (
	"context"
	"errors"
	"time"
)

const (
	// quiesce is how long the calls in a library may take to end before it is
	// initialised again. Other tokens of the module wait meanwhile.
	quiesce = 250 * time.Millisecond
	// While another token of a module serves, which loses its sessions by that, it
	// is initialised again after a pause, the first of them firstPause and each
	// further one twice as long, up to neighbourly.
	firstPause  = time.Second
	neighbourly = 30 * time.Second
)

// errUninitialised: C_Initialize is still to come.
var errUninitialised = errors.New("the module is not initialised")

// errStuck: the module would have to be initialised again, and cannot be.
var errStuck = errors.New("calls that do not return keep the module from being initialised again")

// restart finalises a module and initialises it again, for a token that is lost
// without that: clients of network HSMs do not reconnect by themselves, and learn
// of new slots in no other way. Handles that were given out before seen are void
// afterwards, and may mean something else. It does nothing where somebody did it since
// seen, and refuses while the ceremony uses the module, too often while another
// token serves, and while calls run in it.
func (l *library) restart(ctx context.Context, m *module, seen uint64, t *Token) (err error) {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.turn.leave()
	if m.epoch.Load() != seen {
		return nil
	}
	disturbs, err := l.mayRestart(m, t)
	if err != nil {
		return err
	}
	m.notePause(disturbs)
	short, cancel := context.WithTimeout(ctx, quiesce)
	defer cancel()
	if !m.gate.shut(short) {
		return errStuck
	}
	defer m.gate.open()
	if err := m.finalise(); err != nil {
		return err
	}
	m.restarts.Add(1)
	return l.initialise(ctx, m)
}

// mayRestart looks after the other users of the module. It reports whether one of
// them is disturbed.
func (l *library) mayRestart(m *module, t *Token) (disturbs bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.users > len(m.claimed) {
		return false, errors.New("the module is in use otherwise, and so cannot be initialised again")
	}
	for _, other := range m.claimed {
		if other == nil {
			return false, errors.New("the module is in use by the ceremony, and so cannot be initialised again")
		}
		disturbs = disturbs || other != t && other.serves()
	}
	if disturbs && time.Since(m.renewed) < m.pause {
		return false, errors.New("another token of the module serves, so it is not initialised again yet")
	}
	return disturbs, nil
}

// notePause says when a module that is about to be initialised again may be so
// the next time. The caller holds the module's turn.
func (m *module) notePause(disturbs bool) {
	if !disturbs || time.Since(m.renewed) >= 2*neighbourly {
		m.pause = 0
	}
	if disturbs {
		m.pause = min(max(2*m.pause, firstPause), neighbourly)
	}
	m.renewed = time.Now()
}
