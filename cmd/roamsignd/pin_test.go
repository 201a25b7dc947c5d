package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// spy is OpenSC's PKCS#11 module that passes every call on to SoftHSM2 and writes
// it down, in a report. It counts what no token tells: the tries of a PIN. It reads
// its environment once, when it is loaded, and libraries stay loaded: so each test
// has a copy, which is a module of its own.
func spy(t *testing.T) (module, report string) {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/pkcs11-spy.so", "/usr/lib/pkcs11-spy.so", "/usr/lib64/pkcs11-spy.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			dir := t.TempDir()
			module, report = filepath.Join(dir, "pkcs11-spy.so"), filepath.Join(dir, "calls")
			write(t, module, read(t, found[0]))
			t.Setenv("PKCS11SPY", softhsmtest.Library(t))
			t.Setenv("PKCS11SPY_OUTPUT", report)
			return module, report
		}
	}
	t.Fatal("pkcs11-spy is missing: apt-get install opensc")
	return "", ""
}

func TestAWrongPINIsTriedOnce(t *testing.T) {
	for _, row := range []struct {
		way  string
		args func(dir string) []string
	}{
		{"serve", func(dir string) []string { return []string{"serve", "--config", filepath.Join(dir, devConfig)} }},
		{"check --login", func(dir string) []string {
			return []string{"check", "--config", filepath.Join(dir, devConfig), "--login"}
		}},
		{"dev", func(dir string) []string { return []string{"dev", "--dir", dir} }},
	} {
		t.Run(row.way, func(t *testing.T) {
			dir := folder(t)
			module, report := spy(t)
			replaceLine(t, filepath.Join(dir, devConfig), "module:", "  module: "+module)
			right := read(t, filepath.Join(dir, devPIN))
			write(t, filepath.Join(dir, devPIN), "13572468\n")

			for _, history := range []string{"it was the first wrong try since the last login", "there were wrong tries before this one"} {
				code, _, errs := ends(t, row.args(dir)...)
				if code != exitPIN || !strings.Contains(errs, history) || strings.Count(errs, "\n") != 1 {
					t.Errorf("got code %d and %q, want %d and a line with %q", code, errs, exitPIN, history)
				}
				if n := logins(t, report); n != 1 {
					t.Errorf("the PIN was tried %d times, want once", n)
				}
			}

			write(t, filepath.Join(dir, devPIN), right)
			code, _, errs := ends(t, "check", "--config", filepath.Join(dir, devConfig), "--login")
			if code != 0 {
				t.Errorf("with the right PIN again: got code %d and %q, want 0", code, errs)
			}
		})
	}
}

// logins counts the tries in a spy's report, and empties it: the spy appends.
func logins(t *testing.T, report string) int {
	t.Helper()
	text := read(t, report)
	if !strings.Contains(text, "C_Initialize") {
		t.Fatalf("the spy saw nothing:\n%s", text)
	}
	check(t, os.Truncate(report, 0))
	return strings.Count(text, ": C_Login\n")
}
