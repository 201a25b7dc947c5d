package hsm

import (
	"context"
	"errors"
	"time"

	"github.com/miekg/pkcs11"
)

const (
	// quiesce is how long the calls in a library may take to end before it is
	// initialised again. Other tokens of the module wait meanwhile.
	quiesce = 250 * time.Millisecond
	// neighbourly is how often a module is initialised again while another token
	// of it serves, which loses its sessions by that.
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
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.leave()
	if m.epoch.Load() != seen {
		return nil
	}
	if err := m.mayRestart(t); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quiesce)
	defer cancel()
	if !m.gate.shut(ctx) {
		return errStuck
	}
	defer m.gate.open()
	defer rescue(&err)
	if m.down.Load() == nil {
		m.epoch.Add(1) // first: whatever becomes of it, the old handles are not to be trusted
		if err := m.p11.Finalize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
			return called("C_Finalize", err)
		}
		m.setDown(errUninitialised)
	}
	m.renewed = time.Now()
	return m.initialise()
}

// mayRestart looks after the other users of the module.
func (m *module) mayRestart(t *Token) error {
	if m.users > len(m.claimed) {
		return errors.New("the module is in use otherwise, and so cannot be initialised again")
	}
	for _, other := range m.claimed {
		switch {
		case other == nil:
			return errors.New("the module is in use by the ceremony, and so cannot be initialised again")
		case other != t && other.serves() && time.Since(m.renewed) < neighbourly:
			return errors.New("another token of the module serves, so it is not initialised again")
		}
	}
	return nil
}
