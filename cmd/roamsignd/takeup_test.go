package main

import (
	"crypto/rsa"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/ca"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// certified is the key that a folder's signing certificate is for.
func certified(t *testing.T, dir string) *rsa.PublicKey {
	t.Helper()
	chain, err := ca.LoadCertificates(filepath.Join(dir, devSigning))
	check(t, err)
	return chain[0].PublicKey.(*rsa.PublicKey)
}

func TestASetUpThatWasKilledIsTakenUp(t *testing.T) {
	// Backwards, in the order in which they are made.
	late := []string{devClient, devConfig, devSigning, devRoots}
	tls := append(late[:len(late):len(late)], "client.pem", "client.key")
	token := append(tls[:len(tls):len(tls)], "server.pem", "server.key", "tls-ca.pem", devClients, devTokens, devSoftHSM)
	for _, row := range []struct {
		name    string
		missing []string
		newKey  bool
		prepare func(t *testing.T, dir string)
	}{
		{name: "before the client's configuration", missing: late[:1]},
		{name: "before both configurations", missing: late[:2]},
		{name: "before the signing certificate", missing: late[:3]},
		{name: "between the client's key and its certificate", missing: tls[:5]},
		{name: "between the server's key and its certificate", missing: token[:7]},
		{name: "before the token was in place", missing: token, newKey: true, prepare: leaveHalfAToken},
		{name: "before all but the lock", missing: append(token, devPIN, devPolicy), newKey: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := folder(t)
			before := certified(t, dir)
			for _, name := range row.missing {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				check(t, os.RemoveAll(filepath.Join(dir, name)))
			}
			if row.prepare != nil {
				row.prepare(t, dir)
			}
			d := start(t, "dev", "--dir", dir, "--listen", quiet)
			greets(t, dir, d.address(t))
			if same := before.Equal(certified(t, dir)); same == row.newKey {
				t.Errorf("the key is the same: %t, want %t", same, !row.newKey)
			}
			d.stop(t)
			for name := range snapshot(t, dir) {
				if base := filepath.Base(name); strings.HasSuffix(base, ".new") || strings.HasPrefix(base, ".new") {
					t.Errorf("%s was left", name)
				}
			}
		})
	}
}

// leaveHalfAToken leaves what a run leaves that is killed between making the
// token and giving it its PIN.
func leaveHalfAToken(t *testing.T, dir string) {
	t.Helper()
	aside := filepath.Join(dir, devTokens+".new")
	check(t, os.Mkdir(aside, 0o700))
	conf := filepath.Join(dir, devSoftHSM+".new")
	write(t, conf, softHSMText(aside))
	tool := exec.CommandContext(t.Context(), "pkcs11-tool", "--module", softhsmtest.Library(t),
		"--init-token", "--slot-index", "0", "--label", devToken, "--so-pin", "87654321")
	tool.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf)
	if out, err := tool.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", tool, err, out)
	}
}

func TestAFolderMayBeMoved(t *testing.T) {
	dir := folder(t)
	moved := filepath.Join(t.TempDir(), "moved")
	check(t, os.Rename(dir, moved))
	before := certified(t, moved)
	d := start(t, "dev", "--dir", moved)
	greets(t, moved, d.address(t))
	if !before.Equal(certified(t, moved)) {
		t.Error("the key is another one")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is back", dir)
	}
}

func TestServeReadsTheVeryFilesOfDev(t *testing.T) {
	dir := folder(t)
	before := snapshot(t, dir)
	t.Chdir(t.TempDir()) // paths start from the file's folder, not from here
	d := start(t, "serve", "--config", filepath.Join(dir, devConfig))
	greets(t, dir, d.address(t))
	if code := d.stop(t); code != 0 {
		t.Errorf("interrupted: got exit code %d, want 0:\n%s", code, d.errs)
	}
	unchanged(t, dir, before)
	keepsPIN(t, dir, d.out.String(), d.errs.String())
	if d.out.String() != "" {
		t.Errorf("serve says %q on standard output, want nothing", d.out)
	}
}
