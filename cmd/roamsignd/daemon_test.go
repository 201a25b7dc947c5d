package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
)

// patience bounds every wait: a key and two authorities are made within it on a
// slow machine.
const patience = 2 * time.Minute

// transcript is an output that others may read, and wait for, while it grows.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	awaited string
	seen    chan struct{} // closed once the awaited text is there
}

func awaiting(text string) *transcript { return &transcript{awaited: text, seen: make(chan struct{})} }

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := strings.Contains(t.text.String(), t.awaited)
	t.text.Write(p)
	if !before && strings.Contains(t.text.String(), t.awaited) {
		close(t.seen)
	}
	return len(p), nil
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// daemon is a run of the program that does not end by itself.
type daemon struct {
	out, errs *transcript
	interrupt context.CancelFunc
	ended     chan struct{}
	code      int // once ended
}

// begin runs the program until it is interrupted.
func begin(args ...string) *daemon {
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{out: awaiting("Serving on"), errs: awaiting("msg=serving"), interrupt: cancel, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		d.code = run(ctx, args, command.Streams{In: strings.NewReader(""), Out: d.out, Err: d.errs})
	}()
	return d
}

// start runs the program and returns once it serves. It ends with the test.
func start(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := begin(args...)
	t.Cleanup(func() { d.stop(t) })
	select {
	case <-d.errs.seen:
	case <-d.ended:
		t.Fatalf("roamsignd %s: ended with code %d before it served:\n%s", strings.Join(args, " "), d.code, d.errs)
	case <-time.After(patience):
		t.Fatalf("roamsignd %s: does not serve after %v:\n%s", strings.Join(args, " "), patience, d.errs)
	}
	return d
}

// stop interrupts the program and returns its exit code.
func (d *daemon) stop(t *testing.T) int {
	t.Helper()
	d.interrupt()
	select {
	case <-d.ended:
	case <-time.After(patience):
		t.Fatalf("does not stop within %v:\n%s", patience, d.errs)
	}
	return d.code
}

// address is where it says that it serves.
func (d *daemon) address(t *testing.T) string {
	t.Helper()
	_, rest, found := strings.Cut(d.errs.String(), "msg=serving address=")
	address, _, _ := strings.Cut(rest, " ")
	if !found || address == "" {
		t.Fatalf("the log does not say where it serves:\n%s", d.errs)
	}
	return address
}

// ends runs the program to its end.
func ends(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	d := begin(args...)
	select {
	case <-d.ended:
	case <-d.errs.seen:
		d.stop(t)
		t.Fatalf("roamsignd %s: serves, though it should not", strings.Join(args, " "))
	case <-time.After(patience):
		t.Fatalf("roamsignd %s: has not ended after %v:\n%s", strings.Join(args, " "), patience, d.errs)
	}
	return d.code, d.out.String(), d.errs.String()
}

// greets connects as the client of a dev folder, and fails the test unless the
// server there proves who it is.
func greets(t *testing.T, dir, address string) {
	t.Helper()
	pool, err := ca.LoadPool(filepath.Join(dir, "tls-ca.pem"))
	check(t, err)
	own, err := ca.LoadPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	check(t, err)
	dialer := tls.Dialer{Config: &tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, ServerName: "localhost",
	}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatalf("connecting to %s: %v", address, err)
	}
	defer conn.Close()
	// Only a server that accepts the certificate says anything.
	check(t, conn.SetReadDeadline(time.Now().Add(patience)))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatalf("reading from %s: %v", address, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(text), 0o600))
}

// replace changes a file that must hold what is replaced.
func replace(t *testing.T, path, old, with string) {
	t.Helper()
	text := read(t, path)
	if !strings.Contains(text, old) {
		t.Fatalf("%s: no %q in it:\n%s", path, old, text)
	}
	write(t, path, strings.ReplaceAll(text, old, with))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
