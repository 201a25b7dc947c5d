package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// several puts the lines in the place of the configuration's token section.
func several(t *testing.T, dir string, sections ...string) (config string) {
	t.Helper()
	config = filepath.Join(dir, devConfig)
	before, _, found := strings.Cut(read(t, config), "\ntoken:")
	if !found {
		t.Fatal("the configuration has no token section to replace")
	}
	write(t, config, before+"\n"+strings.Join(sections, ""))
	return config
}

// section is the token that dev made, as an item of a list.
func section(t *testing.T, dir string) string {
	t.Helper()
	_, token, _ := strings.Cut(read(t, filepath.Join(dir, devConfig)), "\ntoken:\n")
	var lines []string
	for line := range strings.Lines(token) {
		lines = append(lines, "  "+line)
	}
	return "  - " + strings.TrimLeft(strings.Join(lines, ""), " ")
}

// twin is a copy of that token, in a module of its own, which a copy of the
// library is.
func twin(t *testing.T, dir string) string {
	t.Helper()
	other := t.TempDir()
	library, conf := filepath.Join(other, "libsofthsm2.so"), filepath.Join(other, devSoftHSM)
	write(t, library, read(t, softhsmtest.Library(t)))
	write(t, conf, softHSMText(filepath.Join(other, devTokens)))
	check(t, os.CopyFS(filepath.Join(other, devTokens), os.DirFS(filepath.Join(dir, devTokens))))
	lines := strings.SplitAfter(section(t, dir), "\n")
	for i := range lines {
		if key, _, found := strings.Cut(lines[i], "module:"); found {
			lines[i] = key + "module: " + library + "\n"
		}
	}
	return strings.ReplaceAll(strings.Join(lines, ""), filepath.Join(dir, devSoftHSM), conf)
}

func TestServesWithSeveralTokens(t *testing.T) {
	dir := folder(t)
	config := several(t, dir, "tokens:\n", section(t, dir), twin(t, dir))
	if code, _, errs := ends(t, "check", "--config", config, "--login"); code != 0 {
		t.Errorf("check --login: got code %d and %q, want 0", code, errs)
	}
	d := start(t, "serve", "--config", config)
	if got := strings.Count(d.errs.String(), `msg="token in service"`); got != 2 {
		t.Errorf("got %d tokens in service, want 2:\n%s", got, d.errs)
	}
}

func TestOneTokenIsEnoughToServeAndNotToPassACheck(t *testing.T) {
	dir := folder(t)
	wrong := filepath.Join(dir, "wrong")
	write(t, wrong, "13572468\n")
	check(t, os.Chmod(wrong, 0o600))
	config := several(t, dir, "tokens:\n", section(t, dir), strings.Replace(twin(t, dir), "pin_file: pin", "pin_file: wrong", 1))
	if code, _, errs := ends(t, "check", "--config", config, "--login"); code != exitPIN {
		t.Errorf("check --login: got code %d and %q, want %d", code, errs, exitPIN)
	}
	d := start(t, "serve", "--config", config)
	if !strings.Contains(d.errs.String(), "PIN incorrect") {
		t.Errorf("got a log that does not tell of the other token:\n%s", d.errs)
	}
}

func TestTokensFaultsHaveTheirLines(t *testing.T) {
	for _, row := range []struct {
		name     string
		sections []string
		want     string
	}{
		{"an empty list", []string{"tokens: []\n"}, "tokens: the list is empty: name at least one token"},
		{"both", []string{"token: {label: a}\ntokens:\n  - {label: b}\n"}, "tokens: token is given, too: put all of them under tokens"},
		{"an unknown key", []string{"tokens:\n  - label: b\n    pin: 1\n"}, "tokens[0].pin is not a key here"},
		{"what is missing", []string{"tokens:\n  - label: b\n"}, "tokens[0].module: missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := several(t, folder(t), row.sections...)
			code, _, errs := ends(t, "check", "--config", config)
			if code != 1 || !strings.Contains(errs, row.want) || !strings.Contains(errs, config+": line ") {
				t.Errorf("got code %d and a difference (-want +got):\n%s", code, cmp.Diff(row.want, errs))
			}
		})
	}
}

// TestServeEndsWhenThePINIsRefusedLater: a login that is lost is the token's last,
// if the PIN was changed meanwhile. It is tried once.
func TestServeEndsWhenThePINIsRefusedLater(t *testing.T) {
	dir := folder(t)
	shim := softhsmtest.NewShim(t, &softhsmtest.Token{Config: hsm.Config{Module: softhsmtest.Library(t)}})
	replaceLine(t, filepath.Join(dir, devConfig), "module:", "  module: "+shim.Token.Config.Module)
	d := start(t, "serve", "--config", filepath.Join(dir, devConfig))
	write(t, filepath.Join(dir, devPIN), "13572468\n")
	before := shim.Calls("C_Login")
	shim.Logout()
	select {
	case <-d.ended: // without a request: idle tokens are looked at
	case <-time.After(patience):
		t.Fatalf("it goes on:\n%s", d.errs)
	}
	if d.code != exitPIN || !strings.Contains(d.errs.String(), "PIN incorrect") {
		t.Errorf("got code %d and\n%s\nwant %d", d.code, d.errs, exitPIN)
	}
	if got := shim.Calls("C_Login") - before; got != 1 {
		t.Errorf("the PIN was tried %d times, want once", got)
	}
}
