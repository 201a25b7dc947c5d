package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/roamsign/roamsign/internal/command"
)

// terminal is a pseudo-terminal: what a person at it types, and what it shows.
type terminal struct {
	hands, screen *os.File // the person's end, and the program's
}

func newTerminal(t *testing.T) terminal {
	t.Helper()
	hands, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	check(t, err)
	t.Cleanup(func() { hands.Close() })
	var number, unlocked int32
	ioctl(t, hands, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	ioctl(t, hands, syscall.TIOCGPTN, unsafe.Pointer(&number))
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	check(t, err)
	t.Cleanup(func() { screen.Close() })
	return terminal{hands, screen}
}

func ioctl(t *testing.T, file *os.File, request uintptr, argument unsafe.Pointer) {
	t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), request, uintptr(argument)); errno != 0 {
		t.Fatal(errno)
	}
}

// shows reports whether the terminal shows what is typed.
func (x terminal) shows(t *testing.T) bool {
	t.Helper()
	var state syscall.Termios
	ioctl(t, x.screen, syscall.TCGETS, unsafe.Pointer(&state))
	return state.Lflag&syscall.ECHO != 0
}

// eventually waits for what the terminal tells nobody about.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !is(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v the prompt is not what it is to be", patience)
		}
	}
}

// answers runs the program at the terminal and types an answer at each prompt.
func (x terminal) answers(t *testing.T, args []string, answers ...string) (code int, out, errs string) {
	t.Helper()
	told, asked := awaiting("-"), awaiting("-")
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), args, command.Streams{In: x.screen, Out: told, Err: asked})
	}()
	for i, answer := range answers {
		// When a prompt is shown, the echo is on again after the one before it.
		eventually(t, func() bool { return strings.Count(asked.String(), "Type ") > i && !x.shows(t) })
		_, err := io.WriteString(x.hands, answer+"\n")
		check(t, err)
	}
	select {
	case code = <-ended:
	case <-time.After(patience):
		t.Fatalf("roamsignd %s: has not ended: %s", strings.Join(args, " "), asked)
	}
	return code, told.String(), asked.String()
}

// TestPINsAreAskedForAndNotShown: a whole ceremony without any PIN file.
func TestPINsAreAskedForAndNotShown(t *testing.T) {
	d := newDesk(t)
	config := []string{"--config", d.path("roamsignd.yaml"), "--ask-pin"}
	const officer, pin = "typed-officer-pin", "typed-user-pin"
	init := append([]string{"token", "init"}, config...)
	x := newTerminal(t)
	if code, _, errs := x.answers(t, init, officer, "something else"); code != 1 || !strings.Contains(errs, "the two differ") {
		t.Errorf("two that differ: got code %d and %q", code, errs)
	}
	code, _, errs := newTerminal(t).answers(t, init, officer, officer, pin, pin)
	if code != 0 || strings.Count(errs, "Type ") != 4 {
		t.Fatalf("token init: got code %d and %q", code, errs)
	}
	x = newTerminal(t)
	code, out, errs := x.answers(t, append([]string{"key", "generate"}, config...), pin)
	if code != 0 || !strings.Contains(errs, "Type the user PIN of token ceremony: ") || !x.shows(t) {
		t.Errorf("key generate: got code %d, %q and %q", code, out, errs)
	}
	if strings.Contains(out+errs, pin) {
		t.Error("the PIN is shown")
	}
	_, err := io.WriteString(x.screen, "end") // all that the terminal has shown before is what was typed
	check(t, err)
	shown := make([]byte, 64)
	n, err := x.hands.Read(shown)
	check(t, err)
	if got := string(shown[:n]); got != "end" {
		t.Errorf("the terminal shows %q", got)
	}
	if code, _, errs = newTerminal(t).answers(t, append([]string{"key", "list"}, config...), "wrong"); code != exitPIN || !strings.Contains(errs, "the PIN that was typed; it was tried once") {
		t.Errorf("a wrong one: got code %d and %q, want %d", code, errs, exitPIN)
	}
	if code, _, errs = newTerminal(t).answers(t, append([]string{"key", "list"}, config...), ""); code != 1 || !strings.Contains(errs, "nothing was typed") {
		t.Errorf("an empty one: got code %d and %q, want 1", code, errs)
	}
}

// TestAnInterruptedPromptLeavesTheTerminalAsItWas.
func TestAnInterruptedPromptLeavesTheTerminalAsItWas(t *testing.T) {
	x := newTerminal(t)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := secrets{command.Streams{In: x.screen, Err: io.Discard}}.ask(ctx, "the PIN", "--pin-file")
		ended <- err
	}()
	eventually(t, func() bool { return !x.shows(t) })
	interrupt()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Errorf("got error %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the prompt does not end")
	}
	eventually(t, func() bool { return x.shows(t) })
	_, err := io.WriteString(x.hands, "\n") // lets the reader go
	check(t, err)
}

// TestWithoutATerminalTheFileIsAskedFor.
func TestWithoutATerminalTheFileIsAskedFor(t *testing.T) {
	d := newDesk(t)
	d.refuses(t, 2, "--pin-file FILE", "key", "generate", "--ask-pin")
	d.refuses(t, 2, "--so-pin-file FILE", "token", "init")
}

// TestTheCeremonyTriesAWrongPINOnce: each command that logs in.
func TestTheCeremonyTriesAWrongPINOnce(t *testing.T) {
	d := made(t)
	d.issue(t, d.request(t), d.path("issued.pem"), profile...)
	file := softP12(t, d)
	write(t, d.path("password"), "throwaway\n")
	write(t, d.path("wrong-pin"), "13572468\n")
	module, report := spy(t)
	replace(t, d.path("roamsignd.yaml"), "module: libsofthsm2.so", "module: "+module)
	for _, args := range [][]string{
		{"key", "generate", "--label", "next", "--id", "02"},
		{"key", "list"},
		{"key", "csr", "--subject", d.path("subject.yaml")},
		{"key", "delete", "--label", "signing-2026", "--id", "2026", "--confirm", "signing-2026"},
		{"key", "import-p12", file, "--label", "next", "--id", "02", "--password-file", d.path("password")},
		{"cert", "import", d.path("issued.pem")},
	} {
		d.refuses(t, exitPIN, "it was tried once", append(args, "--pin-file", d.path("wrong-pin"))...)
		if n := logins(t, report); n != 1 {
			t.Errorf("%s: the PIN was tried %d times, want once", strings.Join(args, " "), n)
		}
	}
	for _, args := range [][]string{{"token", "list"}, {"cert", "show"}} {
		d.does(t, args...)
		if n := logins(t, report); n != 0 {
			t.Errorf("%s tried a PIN %d times, want never", strings.Join(args, " "), n)
		}
	}
}
