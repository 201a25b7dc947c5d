package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"roamsign": main})
}

// TestScripts runs the program as a terminal would. Each script finds in its
// folder the invoices of package client's tests, the configuration of a client
// of a running signer (client.yaml), one of a client that nobody knows
// (stranger.yaml), one of a signer that does not run (dead.yaml), the root of
// the signing certificates (roots.pem), and the configuration of a sandbox's
// clients (platform.yaml). In those files, exits N stands for exec,
// and checks the exit code.
func TestScripts(t *testing.T) {
	desk := openDesk(t)
	desk.openPlatform(t)
	invoices, err := filepath.Glob(filepath.Join("..", "..", "client", "testdata", "*"))
	if err != nil || len(invoices) == 0 {
		t.Fatalf("finding the invoices: got %d, %v", len(invoices), err)
	}
	files := slices.Concat(desk.files, invoices)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("LOG", desk.path("log"))
			for _, file := range files {
				content, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, filepath.Base(file)), content, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "issued": reissued},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENT]...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		ended, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Check(err)
		}
		got = ended.ExitCode()
	}
	if got != want {
		ts.Fatalf("got exit code %d, want %d", got, want)
	}
}
