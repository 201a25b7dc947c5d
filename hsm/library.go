package hsm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// library lists the modules that this process uses.
//
// It is the package's one variable, because what it guards belongs to the
// process: a library takes one C_Initialize and falls to one C_Finalize
// (section 5.4), whoever calls them; a login is shared by all sessions of the
// process with a token (section 5.6); and modules are configured through the
// process's environment.
type library struct {
	mu      sync.Mutex
	modules []*module

	environment turn // of whoever sets the process's environment and has a module read it
}

var process = library{}

// acquire returns the module of the config, initialised. Each acquire wants one release.
func (l *library) acquire(ctx context.Context, config Config, load loader) (*module, error) {
	m, err := l.use(config)
	if err != nil {
		return nil, err
	}
	if err := l.ready(ctx, m, config, load); err != nil {
		return nil, errors.Join(err, l.release(m))
	}
	return m, nil
}

// use counts one more user of the config's module, which it may have to list.
func (l *library) use(config Config) (*module, error) {
	if err := config.checkModule(); err != nil {
		return nil, err
	}
	file, err := os.Stat(config.Module)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.modules {
		if m.is(config.Module, file) {
			m.users++
			return m, nil
		}
	}
	m := &module{path: config.Module, file: file, users: 1, claimed: make(map[string]*Token)}
	m.setDown(errUninitialised)
	l.modules = append(l.modules, m)
	return m, nil
}

// ready loads and initialises a module, unless somebody has.
func (l *library) ready(ctx context.Context, m *module, config Config, load loader) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.turn.leave()
	switch {
	case m.load == nil:
		m.environment, m.load = maps.Clone(config.Environment), load
	case !maps.Equal(m.environment, config.Environment):
		return fmt.Errorf("%w: %s is in use already with another environment", ErrModule, m.path)
	}
	return l.initialise(ctx, m)
}

// initialise calls C_Initialize, unless that was done, in the module's environment,
// which some libraries read as soon as they are loaded. The caller holds the
// module's turn.
func (l *library) initialise(ctx context.Context, m *module) (err error) {
	if m.down.Load() == nil {
		return nil
	}
	defer func() {
		if err != nil {
			m.setDown(err)
		}
	}()
	return l.within(ctx, m.environment, m.initialise)
}

// within runs f in the environment that it wants, one f at a time. Where f hangs
// the next is let in nevertheless: by then it has read what it reads.
func (l *library) within(ctx context.Context, environment map[string]string, f func() error) error {
	if err := l.environment.take(ctx); err != nil {
		return fmt.Errorf("waiting for the initialisation of another module: %w", err)
	}
	leave := sync.OnceFunc(l.environment.leave)
	defer leave()
	defer time.AfterFunc(stallTime, leave).Stop()
	if err := setEnvironment(environment); err != nil {
		return err
	}
	return f()
}

// setEnvironment leaves alone what is as it is to be: other threads may read the
// environment in C meanwhile, which setenv(3) does not bear well.
func setEnvironment(environment map[string]string) error {
	for name, value := range environment {
		if now, given := os.LookupEnv(name); given && now == value {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%w: setting environment variable %s: %w", ErrModule, name, err)
		}
	}
	return nil
}

// release gives back what acquire gave, and finalises the module after its last
// user. No call may be running in it for this user. The library stays loaded.
func (l *library) release(m *module) error {
	if !l.unused(m, 1) {
		return nil
	}
	_ = m.take(context.Background()) // which never ends
	defer m.turn.leave()
	var err error
	if l.unused(m, 0) {
		err = m.finalise()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.users == 0 {
		l.modules = slices.DeleteFunc(l.modules, func(one *module) bool { return one == m })
	}
	return err
}

// unused reports whether nobody uses a module any more, when so many have left.
func (l *library) unused(m *module, leaving int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.users -= leaving
	return m.users == 0
}

// enter acquires the module of the config, finds the token in it and claims it,
// for t or, where that is nil, for the ceremony. Each enter wants one exit.
func (l *library) enter(ctx context.Context, t *Token, config Config, load loader) (_ *module, _ slot, err error) {
	m, err := l.acquire(ctx, config, load)
	if err != nil {
		return nil, slot{}, err
	}
	s, err := m.findSlot(ctx, config)
	if err == nil {
		err = l.claim(m, s, t)
	}
	if err != nil {
		return nil, slot{}, errors.Join(err, l.release(m))
	}
	return m, s, nil
}

// exit gives back what enter gave.
func (l *library) exit(m *module, s slot) error {
	l.mu.Lock()
	delete(m.claimed, s.identity())
	l.mu.Unlock()
	return l.release(m)
}

// claim reserves a token for one login. A second login would find the user
// logged in already, and succeed even with a wrong PIN.
func (l *library) claim(m *module, s slot, t *Token) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := m.claimed[s.identity()]; taken {
		return errTwice
	}
	m.claimed[s.identity()] = t
	return nil
}

// exclusively runs f while the module of the config is nobody else's in this
// process. It is for crypto11, which calls C_Initialize and C_Finalize itself, and
// unloads the library as far as it can: not at all, once it was loaded here and stayed.
func (l *library) exclusively(ctx context.Context, config Config, f func() error) error {
	m, err := l.use(config)
	if err != nil {
		return err
	}
	defer func() { _ = l.release(m) }() // never initialised, so never finalised
	l.mu.Lock()
	others := m.users - 1
	l.mu.Unlock()
	if others > 0 {
		return fmt.Errorf("%w: %s is in use in this process: close its tokens first", ErrModule, m.path)
	}
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.turn.leave()
	return l.within(ctx, config.Environment, f)
}
