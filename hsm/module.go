package hsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

// module is one PKCS#11 library, initialised once, with the tokens open on it.
type module struct {
	path  string
	file  os.FileInfo   // which file that is
	gate  gate          // around every call but C_Initialize and C_Finalize
	epoch atomic.Uint64 // grows with each C_Initialize and C_Finalize; handles are good for one epoch

	restarts atomic.Int64          // how often it was initialised again
	down     atomic.Pointer[error] // why it is not initialised; nil when it is; stored by the holder of the turn

	turn        turn // of whoever initialises or finalises it, which may hang
	environment map[string]string
	load        loader
	p11         cryptoki      // nil while it is not loaded; stored with nobody inside the gate
	renewed     time.Time     // when it was last to be initialised again
	pause       time.Duration // from then to the next time, while another token serves

	// Of [library].mu:
	users   int               // who have acquired it
	claimed map[string]*Token // logins of ours, by the token's identity; nil for the ceremony's
}

// is reports whether dlopen would take a path for the module: by name, or by
// which file it is, links of either sort resolved. A copy is another module.
func (m *module) is(path string, file os.FileInfo) bool {
	return m.path == path || os.SameFile(m.file, file)
}

// take waits for the module's turn.
func (m *module) take(ctx context.Context) error {
	if err := m.turn.take(ctx); err != nil {
		return fmt.Errorf("waiting for the module to be initialised: %w", err)
	}
	return nil
}

// initialise calls C_Initialize, and loads the library before, if that was not done.
func (m *module) initialise() (err error) {
	defer rescue(&err)
	if m.p11 == nil {
		p11, err := m.load(m.path)
		if err != nil {
			return err
		}
		m.p11 = p11
	}
	err = m.p11.Initialize()
	if err == nil {
		m.epoch.Add(1)
		m.down.Store(nil)
		return nil
	}
	m.retire()
	err = fmt.Errorf("%w: %s: %w", ErrModule, m.path, called("C_Initialize", err))
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR)) && isSoftHSM(m.path) {
		err = fmt.Errorf("%w (SoftHSM means its configuration: set %s in environment)", err, softHSMVariable)
	}
	return err
}

// finalise calls C_Finalize, unless the module is not initialised. What is
// finalised already is no error.
func (m *module) finalise() (err error) {
	if m.down.Load() != nil {
		return nil
	}
	defer rescue(&err)
	m.epoch.Add(1) // first: whatever becomes of it, the old handles are not to be trusted
	if err := m.p11.Finalize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		return called("C_Finalize", err)
	}
	m.setDown(errUninitialised)
	m.retire()
	return nil
}

// retire unloads openCryptoki's library, of which C_Finalize closes a file of its
// own and forgets to say so: initialised again it locks, and finalised again it
// closes, whatever file or connection of ours has that number by then (3.8.1).
// Loaded anew it begins anew.
func (m *module) retire() {
	if path, err := filepath.EvalSymlinks(m.path); err == nil && strings.Contains(filepath.Base(path), "opencryptoki") {
		m.p11.Destroy()
		m.p11 = nil
	}
}

func (m *module) setDown(why error) { m.down.Store(&why) }

// enter goes into the library, if it is initialised. Each enter wants one leave.
func (m *module) enter(ctx context.Context) error {
	if err := m.gate.enter(ctx); err != nil {
		return err
	}
	if down := m.down.Load(); down != nil {
		m.gate.leave()
		return *down
	}
	return nil
}

func (m *module) leave() { m.gate.leave() }

func (m *module) findSlot(ctx context.Context, config Config) (slot, error) {
	if err := m.enter(ctx); err != nil {
		return slot{}, err
	}
	defer m.leave()
	return findSlot(m.p11, config)
}
