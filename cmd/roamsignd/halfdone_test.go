package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/internal/command"
)

// TestAnInterruptedCeremonyDoesNothing: no step is begun, and at the question
// whether a key is to go, an interrupt is no answer.
func TestAnInterruptedCeremonyDoesNothing(t *testing.T) {
	d := made(t)
	d.issue(t, d.request(t), d.path("issued.pem"), profile...)
	before := read(t, d.path(ceremonyLogName))
	ctx, interrupt := context.WithCancel(t.Context())
	args := []string{"--config", d.path("roamsignd.yaml"), "--label", "signing-2026", "--id", "2026"}
	stdin, typing := io.Pipe()
	defer typing.Close()
	asked := awaiting("Type its label to go on: ")
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"key", "delete"}, args...), command.Streams{In: stdin, Out: io.Discard, Err: asked})
	}()
	<-asked.seen
	interrupt()
	if code := <-ended; code != command.Failed || !strings.Contains(asked.String(), "nothing was deleted") {
		t.Errorf("got code %d and %q, want %d", code, asked, command.Failed)
	}
	for _, step := range [][]string{
		{"key", "generate", "--label", "next", "--id", "02"},
		{"key", "csr", "--subject", d.path("subject.yaml"), "--out", d.path("late.pem")},
		{"cert", "import", d.path("issued.pem"), "--out", d.path("late.pem")},
		{"key", "delete", "--label", "signing-2026", "--id", "2026", "--confirm", "signing-2026"},
	} {
		var errs bytes.Buffer
		code := run(ctx, append(step, "--config", d.path("roamsignd.yaml")), command.Streams{In: strings.NewReader(""), Out: io.Discard, Err: &errs})
		if code != command.Failed || !strings.Contains(errs.String(), "nothing was done") {
			t.Errorf("%q: got code %d and %q", step, code, &errs)
		}
	}
	if isThere(d.path("late.pem")) || read(t, d.path(ceremonyLogName)) != before {
		t.Error("something was done all the same")
	}
	if out := d.does(t, "key", "list"); strings.Count(out, "Key label") != 1 || strings.Contains(out, "certificate ") {
		t.Errorf("key list says %q, want the one key as it was", out)
	}
}

// TestAFileThatIsThereStays: though it came after the first look, and nothing but
// it is left where it lies.
func TestAFileThatIsThereStays(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "request.pem")
	check(t, writeNew(path, []byte("first")))
	if err := writeNew(path, []byte("second")); !errors.Is(err, os.ErrExist) {
		t.Errorf("got error %v, want that it is there", err)
	}
	if got := read(t, path); got != "first" {
		t.Errorf("got %q, want what was there", got)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 {
		t.Errorf("got the files %q, want one", names)
	}
	if hidden, _ := filepath.Glob(filepath.Join(dir, ".*")); len(hidden) != 0 {
		t.Errorf("%q is left", hidden)
	}
}

// TestHalfAStepSaysWhatToDo: the token took it, and the file cannot be written.
// The log has the failure, and doing what is said ends it well.
func TestHalfAStepSaysWhatToDo(t *testing.T) {
	d := made(t)
	d.issue(t, d.request(t), d.path("issued.pem"), profile...)
	d.refuses(t, 1, "the certificate is in the token, and not in the file: repeat this: ",
		"cert", "import", d.path("issued.pem"), "--out", d.path("missing/signing.pem"))
	if steps, last := d.log(t); steps[len(steps)-1] != "cert import: failed" || !strings.Contains(last.Error, "in the token") {
		t.Errorf("the log ends with %+v", last)
	}
	d.does(t, "cert", "import", d.path("issued.pem"), "--out", d.path("signing.pem"))
	if out := d.does(t, "key", "list"); strings.Count(out, "certificate ") != 1 {
		t.Errorf("key list says %q, want one certificate", out)
	}

	file, soft := softP12(t, d), []string{"--label", "soft", "--id", "0b"}
	write(t, d.path("password"), "throwaway\n")
	d.refuses(t, 1, "the key and its certificate are in the token (roamsignd cert import --out writes the file): ",
		append([]string{"key", "import-p12", file, "--password-file", d.path("password"), "--out", d.path("missing/soft.pem")}, soft...)...)
	d.does(t, append([]string{"cert", "import", d.path("soft.pem"), "--out", d.path("soft-signing.pem")}, soft...)...)
	d.refuses(t, 1, "no such file", append([]string{"key", "csr", "--subject", d.path("subject.yaml"), "--out", d.path("missing/request.pem")}, soft...)...)
}

// TestATokenIsNotInitialisedWithPINsThatItRefuses: the label would be taken then.
func TestATokenIsNotInitialisedWithPINsThatItRefuses(t *testing.T) {
	d := newDesk(t)
	write(t, d.path("short"), "123\n")
	d.refuses(t, 1, "the token takes 4 to 255 bytes", "token", "init", "--so-pin-file", d.path("so-pin"), "--pin-file", d.path("short"))
	d.does(t, "token", "init", "--so-pin-file", d.path("so-pin"))
}
