package softhsmtest

import (
	"context"
	_ "embed"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
)

//go:embed shim/shim.c
var shimSource []byte

// Shim is a PKCS#11 module that stands in front of a token's own and does what a
// network HSM does on a bad day, when the test says so. It counts the calls too.
//
// Functions are named as in PKCS#11 ("C_Sign"), return values are miekg's
// (pkcs11.CKR_DEVICE_ERROR). The nth call is counted from when it is asked for,
// from 1; mind that miekg's Sign may be two calls of C_Sign. Where several faults
// meet a call, the first one asked for wins. All methods are safe for concurrent use.
//
// It complains by itself of C_Finalize under a running call, which crashes a
// real module, and does not let it through.
type Shim struct {
	// Token is the token behind the shim; its Config leads through it. The
	// original's Config must not be open at the same time.
	Token *Token

	t        testing.TB
	listener *net.UnixListener
	serving  sync.WaitGroup
	over     chan struct{} // closed at the end of the test

	mu          sync.Mutex
	connections map[net.Conn]bool
	faults      []*mishap
	delays      map[string]time.Duration
	calls       map[string]int
	open        map[uint64]uint64 // sessions, and the epoch that they were opened in
	epoch       uint64
	limit       int     // of open sessions; 0 for none
	up          bool    // initialised
	upset       uint64  // what is to be taken away before the next call: lose, logout
	away        *Outage // nil when the device is there
	stale       uint    // after an outage: what all functions return until C_Initialize, 0 for nothing
}

// mishap is one fault, waiting for its call.
type mishap struct {
	function string
	in       int // calls until it happens, 1 for the next one
	stage    uint64
	answer   answer
	signing  bool          // only calls that ask for more than a length count
	met      chan struct{} // closed when it happens; nil where nobody waits
	release  chan struct{} // closed when the call may go on; nil where it may at once
}

// NewShim puts a shim in front of the token's module. It goes with the test; the
// module must be closed by then, and hung calls are released.
func NewShim(t testing.TB, token *Token) *Shim {
	t.Helper()
	library, err := shimLibrary()
	check(t, err)
	dir := shortDir(t)
	path := filepath.Join(dir, "shim.so")
	check(t, os.WriteFile(path, library, 0o600))
	check(t, os.Symlink(token.Config.Module, path+".module"))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + ".control", Net: "unix"})
	check(t, err)
	behind := *token
	behind.Config.Module = path
	s := &Shim{Token: &behind, t: t, listener: listener, over: make(chan struct{}), connections: make(map[net.Conn]bool),
		delays: make(map[string]time.Duration), calls: make(map[string]int), open: make(map[uint64]uint64)}
	s.serving.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

// shortDir makes a folder that goes with the test and has a short name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsm") //nolint:usetesting // t.TempDir's names are too long for sockets, which may have 107 bytes
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// shimLibrary is compiled once a run.
var shimLibrary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source, library := filepath.Join(dir, "shim.c"), filepath.Join(dir, "shim.so")
	if err := os.WriteFile(source, shimSource, 0o600); err != nil {
		return nil, err
	}
	return compile(source, library)
})

func compile(source, library string) ([]byte, error) {
	gcc := exec.CommandContext(context.Background(), "gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror",
		"-shared", "-fPIC", "-pthread", "-I/usr/include/p11-kit-1", "-o", library, source)
	gcc.Stderr = os.Stderr
	if err := gcc.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(library)
}

// Fail makes the nth call of a function fail, without the real module's knowing of it.
func (s *Shim) Fail(function string, value uint, nth int) {
	s.add(&mishap{function: function, in: nth, answer: refuse(value)})
}

// FailAfter makes the nth call of a function fail after the real module has done it.
func (s *Shim) FailAfter(function string, value uint, nth int) {
	s.add(&mishap{function: function, in: nth, stage: after, answer: refuse(value)})
}

// Hang makes the next call of a function hang. The channel is closed when it
// does; release lets the call go on, as if nothing had been. Every hang is
// released at the end of the test at the latest.
func (s *Shim) Hang(function string) (hung <-chan struct{}, release func()) {
	m := &mishap{function: function, in: 1, answer: s.plain(function), met: make(chan struct{}), release: make(chan struct{})}
	s.add(m)
	return m.met, sync.OnceFunc(func() { close(m.release) })
}

// Delay makes all calls of a function take that much longer; 0 ends it.
func (s *Shim) Delay(function string, by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delays[function] = by
}

// Limit makes the token refuse to have more sessions open than so many; 0 ends it.
// Those that are open already stay so.
func (s *Shim) Limit(sessions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = sessions
}

// CorruptSignature flips a bit of the nth signature.
func (s *Shim) CorruptSignature(nth int) {
	s.add(&mishap{function: "C_Sign", in: nth, signing: true, answer: answer{Actions: doIt | corrupt}})
}

// LoseSessions closes all sessions behind everybody's back, which logs out, too,
// in the instant before the next call of any function.
func (s *Shim) LoseSessions() { s.take(lose) }

// LoseSessionsAt is LoseSessions in the instant before the next call of that
// function.
func (s *Shim) LoseSessionsAt(function string) {
	a := s.plain(function)
	a.Actions |= lose
	s.add(&mishap{function: function, in: 1, answer: a})
}

// Logout logs the user out, in the instant before the next call of any function.
func (s *Shim) Logout() { s.take(logout) }

func (s *Shim) take(what uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upset |= what
}

// Outage is how a device is away. The zero Outage is one that answers
// CKR_DEVICE_ERROR, forgets its sessions, and comes back by itself.
type Outage struct {
	// Value is what every function returns but C_Finalize. Default: CKR_DEVICE_ERROR.
	Value uint
	// KeepsSessions: the device comes back with its sessions and its login.
	KeepsSessions bool
	// WantsInitialize: even after its return every function returns Value until
	// C_Finalize and C_Initialize were called, as clients of network HSMs do.
	WantsInitialize bool
}

// Away takes the device away, until [Shim.Back]. Calls that hang or are in the
// real module go on.
func (s *Shim) Away(outage Outage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if outage.Value == 0 {
		outage.Value = pkcs11.CKR_DEVICE_ERROR
	}
	if !outage.KeepsSessions {
		s.upset |= lose
	}
	if outage.WantsInitialize && s.up {
		s.stale = outage.Value
	}
	s.away = &outage
}

// Back gives the device back.
func (s *Shim) Back() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = nil
}

// Calls returns how often a function was called so far, whatever came of it.
func (s *Shim) Calls(function string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[function]
}

// Sessions returns how many sessions are open in the real module.
func (s *Shim) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Pending returns how many faults still wait for their call.
func (s *Shim) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.faults)
}

// Mend forgets all faults that still wait for their call, and all delays.
func (s *Shim) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.upset = nil, 0
	clear(s.delays)
}

func (s *Shim) add(m *mishap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, m)
}
