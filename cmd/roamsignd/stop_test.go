package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/internal/command"
)

// TestStopSigningActsAtOnceAndOutlivesARestart: nothing is signed under the certificate
// until somebody says so and means it.
func TestStopSigningActsAtOnceAndOutlivesARestart(t *testing.T) {
	r := newRenewing(t)
	replace(t, r.config, "tls:\n", "metrics: "+strconv.Quote(quiet)+"\ntls:\n")
	d := start(t, "serve", "--config", r.config)
	api := r.caller(d)
	if told := r.asks(api, r.first, "one"); told != "" {
		t.Fatalf("before: %q", told)
	}
	code, out, errs := ends(t, "stop-signing", r.file(devSigning), "--config", r.config)
	if code != 0 || !strings.Contains(out, "Stopped signing under certificate "+fingerprintOf(r.first)) {
		t.Fatalf("got %d, %s%s", code, out, errs)
	}
	r.becomes(api, r.first, toldStopped)
	now := await(t, d, "roamsign_serving", 0)
	if got := now.values[`roamsign_certificate_usable{certificate="`+fingerprintOf(r.first)[:16]+`",which="signing"}`]; got != 0 {
		t.Errorf("the metric tells %v, want 0", got)
	}
	for _, line := range []string{"signing under a certificate is stopped", "nothing is signed: the certificate may not be signed under"} {
		eventually(t, func() bool { return strings.Contains(d.errs.String(), line) })
	}
	code, out, _ = ends(t, "stop-signing", strings.ToUpper(fingerprintOf(r.first)), "--config", r.config)
	if code != 0 || !strings.Contains(out, "Was stopped already") {
		t.Errorf("again: got %d, %s", code, out)
	}
	if code, _, errs := ends(t, "check", "--config", r.config); code != 1 || !strings.Contains(errs, "signing under it was stopped") {
		t.Errorf("check: got %d, %s", code, errs)
	}
	d.stop(t)

	d = start(t, "serve", "--config", r.config)
	api = r.caller(d)
	if told := r.asks(api, r.first, "two"); told != toldStopped {
		t.Errorf("after a restart: got %q", told)
	}
	resume := []string{"stop-signing", fingerprintOf(r.first), "--config", r.config, "--resume"}
	if code, _, errs := ends(t, resume...); code != 1 || !strings.Contains(errs, "it stays stopped") {
		t.Errorf("without a word: got %d, %s", code, errs)
	}
	if code, _, errs := typing(t, "no\n", resume...); code != 1 || !strings.Contains(errs, "it stays stopped") {
		t.Errorf("with another word: got %d, %s", code, errs)
	}
	if told := r.asks(api, r.first, "three"); told != toldStopped {
		t.Errorf("after these: got %q", told)
	}
	if code, out, errs := typing(t, fingerprintOf(r.first)[:8]+"\n", resume...); code != 0 || !strings.Contains(out, "Resumed signing") {
		t.Fatalf("confirmed: got %d, %s%s", code, out, errs)
	}
	r.becomes(api, r.first, "")
	if code, _, errs := ends(t, resume...); code != 1 || !strings.Contains(errs, "is not stopped") {
		t.Errorf("once more: got %d, %s", code, errs)
	}
}

// typing runs the program with something typed.
func typing(t *testing.T, text string, args ...string) (code int, out, errs string) {
	t.Helper()
	told, asked := awaiting("-"), awaiting("-")
	code = run(t.Context(), args, command.Streams{In: strings.NewReader(text), Out: told, Err: asked})
	return code, told.String(), asked.String()
}

// TestARevocationListStopsTheCertificateThatItNames as soon as it is there, and only
// one of its issuer does.
func TestARevocationListStopsTheCertificateThatItNames(t *testing.T) {
	r := newRenewing(t)
	r.lists()
	replace(t, r.config, "signing:\n", "signing:\n  crl: signing.crl\n")
	d := start(t, "serve", "--config", r.config)
	api := r.caller(d)
	if told := r.asks(api, r.first, "one"); told != "" {
		t.Fatalf("before: %q", told)
	}
	r.lists(r.first.SerialNumber)
	r.becomes(api, r.first, toldRevoked)
	if code, _, errs := ends(t, "check", "--config", r.config); code != 1 || !strings.Contains(errs, devSigning+": revoked") {
		t.Errorf("check: got %d, %s", code, errs)
	}
	other := newRenewing(t)
	other.lists()
	check(t, writeFile(r.file("signing.crl"), read(t, other.file("signing.crl")), 0o600))
	eventually(t, func() bool { return strings.Contains(d.errs.String(), "what=signing.crl error=") })
	if told := r.asks(api, r.first, "two"); told != toldRevoked {
		t.Errorf("with somebody else's list: got %q, want that the one before stays in force", told)
	}
	if code, _, errs := ends(t, "serve", "--config", r.config); code != 1 || !strings.Contains(errs, "signing.crl: ") {
		t.Errorf("starting with somebody else's list: got %d, %s", code, errs)
	}
	r.lists()
	r.becomes(api, r.first, "")
}

// TestAStopListThatCannotBeReadKeepsTheOneBefore and keeps the service from starting.
func TestAStopListThatCannotBeReadKeepsTheOneBefore(t *testing.T) {
	name := strings.Repeat("5a", 32)
	d := newLookout(t, func(dir string) { write(t, filepath.Join(dir, devState, "stopped"), name+" # the first\n\n# none\n") })
	list := d.file(filepath.Join(devState, "stopped"))
	if got := d.told.stopped; len(got) != 1 || len(got[0]) != 1 {
		t.Fatalf("got %v, want one certificate", got)
	}
	check(t, writeFile(list, name+"\nnonsense\n", 0o644))
	d.look()
	d.expect("level=WARN|what=stopped|line 2")
	if len(d.told.stopped) != 1 || d.told.report == nil {
		t.Errorf("got %+v, want the list before, and health told", d.told)
	}
	if _, err := load(d.file(devConfig)); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("starting: got %v, want that the list is refused", err)
	}
	if code, _, errs := ends(t, "stop-signing", name, "--config", d.file(devConfig)); code != 1 || !strings.Contains(errs, "nonsense") {
		t.Errorf("stop-signing: got %d, %s", code, errs)
	}
	check(t, os.Remove(list))
	d.look() // at the first look: it is never half written
	d.expect("signing under a certificate is resumed|"+name, "in force|what=stopped")
	other := strings.Repeat("a5", 32)
	if code, out, errs := ends(t, "stop-signing", other, "--config", d.file(devConfig)); code != 0 || !strings.Contains(out, "names another signing certificate") {
		t.Errorf("a certificate that is nobody's here: got %d, %s%s", code, out, errs)
	}
	d.look()
	d.expect("signing under a certificate is stopped|"+other, "in force|what=stopped")
	if info, err := os.Stat(list); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("got %v, %v, want a list that the service can read", info, err)
	}
}
