package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// section is the token that dev made, as an item of a list, with another module.
func section(dir, module string) string {
	_, token, _ := strings.Cut(string(must(os.ReadFile(filepath.Join(dir, devConfig)))), "\ntoken:\n")
	var lines []string
	for line := range strings.Lines(token) {
		if strings.HasPrefix(line, "  module:") {
			line = "  module: " + module + "\n"
		}
		lines = append(lines, "  "+line)
	}
	lines[0] = "  - " + strings.TrimSpace(lines[0]) + "\n"
	return strings.Join(lines, "")
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// copied is a second module: a copy of the library is one of its own.
func copied(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libsofthsm2.so")
	write(t, path, read(t, softhsmtest.Library(t)))
	return path
}

func TestServesWithSeveralTokens(t *testing.T) {
	dir := folder(t)
	items := section(dir, softhsmtest.Library(t)) + section(dir, copied(t))
	config := several(t, dir, "tokens:\n", items)
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
	second := strings.Replace(section(dir, copied(t)), "pin_file: pin", "pin_file: wrong", 1)
	config := several(t, dir, "tokens:\n", section(dir, softhsmtest.Library(t)), second)
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
