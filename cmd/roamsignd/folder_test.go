package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scratch holds what all tests share.
var scratch string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "roamsignd-test-*")
	if err != nil {
		panic(err)
	}
	scratch = folder
	m.Run()
	if err := os.RemoveAll(folder); err != nil {
		panic(err)
	}
}

// quiet is an address of loopback where nothing but these tests listens, so that
// a port that one start was given is there for the next.
const quiet = "127.83.12.1:0"

// model is a folder that one run of dev mode has made. It is made once, since
// keys are slow to find, and only copies of it are used.
var model = sync.OnceValues(func() (folder string, err error) {
	folder = filepath.Join(scratch, "model")
	d := begin("dev", "--dir", folder, "--listen", quiet)
	select {
	case <-d.errs.seen:
	case <-d.ended:
	case <-time.After(patience):
	}
	d.interrupt()
	<-d.ended
	if d.code != 0 {
		return "", fmt.Errorf("roamsignd dev: exit code %d: %s", d.code, d.errs)
	}
	return folder, nil
})

// folder returns a copy of the model, which goes with the test. It is what the
// model would be had it been made there.
func folder(t *testing.T) string {
	t.Helper()
	from, err := model()
	check(t, err)
	to := filepath.Join(t.TempDir(), "dev")
	check(t, os.CopyFS(to, os.DirFS(from)))
	check(t, filepath.WalkDir(from, func(path string, _ fs.DirEntry, err error) error {
		check(t, err)
		info, err := os.Stat(path)
		check(t, err)
		name, err := filepath.Rel(from, path)
		check(t, err)
		return os.Chmod(filepath.Join(to, name), info.Mode().Perm())
	}))
	replace(t, filepath.Join(to, devConfig), from, to)
	replace(t, filepath.Join(to, devSoftHSM), from, to)
	return to
}

// snapshot tells all of a folder that a program could change: names, modes,
// times and contents. Of SoftHSM's own books (when somebody logged in, whether
// the last PIN was wrong) it tells the names and modes only, and of what serving
// counts nothing.
func snapshot(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	check(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		check(t, err)
		name, err := filepath.Rel(folder, path)
		check(t, err)
		// The index is made beside whatever serves, and the folder itself is as old as
		// what was made in it last: who comes and who goes shows by its name.
		if filepath.Dir(name) == devState || name == "." {
			return nil
		}
		if name == devAudit+".index" {
			return fs.SkipDir
		}
		all[name] = info.Mode().String()
		base := filepath.Base(name)
		if name == devState || base == "token.object" || base == "generation" || base == "token.lock" {
			return nil
		}
		if base != ".journal" { // it is blanked at each start
			all[name] += " " + info.ModTime().Format(time.RFC3339Nano)
		}
		if info.Mode().IsRegular() {
			all[name] += fmt.Sprintf(" %x", sha256.Sum256([]byte(read(t, path))))
		}
		return nil
	}))
	return all
}

// unchanged fails the test if the folder is not what it was.
func unchanged(t *testing.T, folder string, before map[string]string) {
	t.Helper()
	if diff := cmp.Diff(before, snapshot(t, folder)); diff != "" {
		t.Errorf("%s has changed (-before +after):\n%s", folder, diff)
	}
}

// keepsPIN fails the test if the PIN of a folder stands in a text.
func keepsPIN(t *testing.T, folder string, texts ...string) {
	t.Helper()
	pin := strings.TrimSpace(read(t, filepath.Join(folder, devPIN)))
	if len(pin) < 8 {
		t.Fatalf("the PIN has %d characters, so it proves nothing that none shows it", len(pin))
	}
	for _, text := range texts {
		if strings.Contains(text, pin) {
			t.Errorf("the PIN is shown:\n%s", text)
		}
	}
}
