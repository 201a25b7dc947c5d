package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// systemd listens as the real one does, and yields what it is told.
func systemd(t *testing.T) (address string, told func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") //nolint:usetesting // t.TempDir's names are too long for sockets, which may have 107 bytes
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address = filepath.Join(dir, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	heard := make(chan string, 100_000) // read at once: the socket has room for ten
	go func() {
		b := make([]byte, 100)
		for n, err := conn.Read(b); err == nil; n, err = conn.Read(b) {
			heard <- string(b[:n])
		}
	}()
	return address, func() string {
		t.Helper()
		select {
		case what := <-heard:
			return what
		case <-time.After(patience):
			t.Fatal("systemd was told nothing")
			return ""
		}
	}
}

// says tells systemd something.
func says(t *testing.T, address, what string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unixgram", address)
	check(t, err)
	_, err = conn.Write([]byte(what))
	check(t, errors.Join(err, conn.Close()))
}

func environment(address string, more ...string) func(string) string {
	values := map[string]string{"NOTIFY_SOCKET": address}
	for i := 0; i < len(more); i += 2 {
		values[more[i]] = more[i+1]
	}
	return func(name string) string { return values[name] }
}

func TestSystemdIsToldOfTheLifeOfTheService(t *testing.T) {
	address, told := systemd(t)
	super, err := newSupervisor(environment(address, "WATCHDOG_USEC", "20000", "WATCHDOG_PID", strconv.Itoa(os.Getpid())))
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var asked, hung atomic.Int64
	leave := super.attend(ctx, func() bool { asked.Add(1); return hung.Load() == 1 })
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := told(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// A service that hangs is asked on, and gives no signs of life: none follows a
	// message that is sent when it was asked again.
	hung.Store(1)
	asksOn := func() {
		for before := asked.Load(); asked.Load() < before+5; {
			<-time.After(time.Millisecond)
		}
	}
	asksOn()
	says(t, address, "MARK")
	for told() != "MARK" { // those that were on their way
	}
	asksOn()
	cancel()
	if got := told(); got != "STOPPING=1" {
		t.Errorf("got %q of a service that hangs, want STOPPING=1 once it stops", got)
	}
	leave()
}

func TestSystemdThatWantsNoSignsOfLifeGetsNone(t *testing.T) {
	for name, more := range map[string][]string{
		"no watchdog":                nil,
		"another process's watchdog": {"WATCHDOG_USEC", "20000", "WATCHDOG_PID", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			address, told := systemd(t)
			super, err := newSupervisor(environment(address, more...))
			check(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			leave := super.attend(ctx, func() bool { t.Error("it was asked whether it hangs"); return false })
			if got := told(); got != "READY=1" {
				t.Errorf("got %q, want READY=1", got)
			}
			cancel()
			if got := told(); got != "STOPPING=1" {
				t.Errorf("got %q, want STOPPING=1", got)
			}
			leave()
		})
	}
}

func TestWithoutSystemdNothingIsTold(t *testing.T) {
	super, err := newSupervisor(environment(""))
	check(t, err)
	super.attend(t.Context(), func() bool { return false })()
}

func TestAWrongWatchdogTimeIsRefused(t *testing.T) {
	for _, given := range []string{"soon", "0", "-5"} {
		if _, err := newSupervisor(environment("/nowhere", "WATCHDOG_USEC", given)); err == nil {
			t.Errorf("%q: got no error", given)
		}
	}
}
