package hsm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

// module is one PKCS#11 library, initialised once, with the tokens open on it.
// What stands below users belongs to whoever holds [library].turn.
type module struct {
	path        string
	file        os.FileInfo // which file that is
	environment map[string]string
	p11         cryptoki
	gate        gate          // around every call but C_Initialize and C_Finalize
	epoch       atomic.Uint64 // grows with each C_Initialize and C_Finalize; handles are good for one epoch

	down atomic.Pointer[error] // why it is not initialised; nil when it is; stored by the holder of the turn

	users   int               // who have acquired it
	claimed map[string]*Token // logins of ours, by the token's identity; nil for the ceremony's
	renewed time.Time         // when it was initialised again
}

// library lists the modules that this process has initialised.
//
// It is the package's one variable, because what it guards belongs to the
// process: a library takes one C_Initialize and falls to one C_Finalize
// (section 5.4), whoever calls them; a login is shared by all sessions of the
// process with a token (section 5.6); and modules are configured through the
// process's environment.
type library struct {
	turn    chan struct{} // holds a value while somebody initialises, finalises or reads the list
	modules []*module
}

var process = library{turn: make(chan struct{}, 1)}

// take waits for the turn. It is a channel and no mutex since C_Initialize may
// hang, and those who wait obey their contexts.
func (l *library) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the initialisation of another module: %w", ctx.Err())
	}
}

func (l *library) leave() { <-l.turn }

// acquire returns the module of the config, initialised. Each acquire wants one release.
func (l *library) acquire(ctx context.Context, config Config, load loader) (*module, error) {
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer l.leave()
	m, file, err := l.find(config)
	if err != nil {
		return nil, err
	}
	if m != nil {
		if !maps.Equal(m.environment, config.Environment) {
			return nil, fmt.Errorf("%w: %s is in use already with another environment", ErrModule, m.path)
		}
		if err := m.initialise(); err != nil {
			return nil, err
		}
		m.users++
		return m, nil
	}
	// Before loading, too: some libraries read it as soon as they are loaded.
	if err := setEnvironment(config.Environment); err != nil {
		return nil, err
	}
	p11, err := load(config.Module)
	if err != nil {
		return nil, err
	}
	m = &module{path: config.Module, file: file, environment: maps.Clone(config.Environment),
		p11: p11, users: 1, claimed: make(map[string]*Token)}
	m.setDown(errUninitialised)
	if err := m.initialise(); err != nil {
		m.p11.Destroy()
		return nil, err
	}
	l.modules = append(l.modules, m)
	return m, nil
}

// find returns the initialised module, or nil, that dlopen would take the
// config's path for: by name, or by which file it is, links of either sort
// resolved. A copy is another module.
func (l *library) find(config Config) (*module, os.FileInfo, error) {
	if err := config.checkModule(); err != nil {
		return nil, nil, err
	}
	file, err := os.Stat(config.Module)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	for _, m := range l.modules {
		if m.path == config.Module || os.SameFile(m.file, file) {
			return m, file, nil
		}
	}
	return nil, file, nil
}

func setEnvironment(environment map[string]string) error {
	for name, value := range environment {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%w: setting environment variable %s: %w", ErrModule, name, err)
		}
	}
	return nil
}

// initialise calls C_Initialize, unless that was done.
func (m *module) initialise() (err error) {
	if m.down.Load() == nil {
		return nil
	}
	defer func() {
		if err != nil {
			m.setDown(err)
		}
	}()
	defer rescue(&err)
	if err := setEnvironment(m.environment); err != nil {
		return err
	}
	err = m.p11.Initialize()
	if err == nil {
		m.epoch.Add(1)
		m.down.Store(nil)
		return nil
	}
	err = fmt.Errorf("%w: %s: %w", ErrModule, m.path, called("C_Initialize", err))
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR)) && isSoftHSM(m.path) {
		err = fmt.Errorf("%w (SoftHSM means its configuration: set %s in environment)", err, softHSMVariable)
	}
	return err
}

// enter acquires the module of the config, finds the token in it and claims it,
// for t or for the ceremony. Each enter wants one exit.
func (l *library) enter(ctx context.Context, config Config, load loader) (*module, slot, error) {
	return l.enterAs(ctx, nil, config, load)
}

func (l *library) enterAs(ctx context.Context, t *Token, config Config, load loader) (_ *module, _ slot, err error) {
	m, err := l.acquire(ctx, config, load)
	if err != nil {
		return nil, slot{}, err
	}
	s, err := m.findSlot(ctx, config)
	if err == nil {
		err = l.claim(ctx, m, s, t)
	}
	if err != nil {
		return nil, slot{}, errors.Join(err, l.release(m))
	}
	return m, s, nil
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

// exit gives back what enter gave.
func (l *library) exit(m *module, s slot) error {
	l.unclaim(m, s)
	return l.release(m)
}

// claim reserves a token for one login. A second login would find the user
// logged in already, and succeed even with a wrong PIN.
func (l *library) claim(ctx context.Context, m *module, s slot, t *Token) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.leave()
	if _, taken := m.claimed[s.identity()]; taken {
		return errTwice
	}
	m.claimed[s.identity()] = t
	return nil
}

func (l *library) unclaim(m *module, s slot) {
	l.turn <- struct{}{}
	defer l.leave()
	delete(m.claimed, s.identity())
}

// release gives back what acquire gave, and finalises the module after its last
// user. No call may be running in it for this user.
func (l *library) release(m *module) (err error) {
	l.turn <- struct{}{}
	defer l.leave()
	defer rescue(&err)
	m.users--
	if m.users > 0 {
		return nil
	}
	for i := range l.modules {
		if l.modules[i] == m {
			l.modules = append(l.modules[:i], l.modules[i+1:]...)
			break
		}
	}
	if m.down.Load() == nil {
		if err := m.p11.Finalize(); err != nil {
			return called("C_Finalize", err)
		}
	}
	m.p11.Destroy()
	return nil
}

// exclusively runs f while the module of the config is nobody's in this process.
// It is for crypto11, which calls C_Initialize and C_Finalize itself.
func (l *library) exclusively(ctx context.Context, config Config, f func() error) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.leave()
	m, _, err := l.find(config)
	if err != nil {
		return err
	}
	if m != nil {
		return fmt.Errorf("%w: %s is in use in this process: close its tokens first", ErrModule, m.path)
	}
	if err := setEnvironment(config.Environment); err != nil {
		return err
	}
	return f()
}
