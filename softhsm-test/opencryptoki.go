package softhsmtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/roamsign/roamsign/hsm"
)

// secluded is the argument by which a test binary knows that it runs alone.
const secluded = "secluded"

// Secluded returns true in a process that has the machine's IPC, /run and
// openCryptoki's folders for itself. Where it is not in one it runs this very
// test once more in such a process, fails if that fails, and returns false.
//
// It needs Linux's name spaces, which need root, or user name spaces. Whatever
// the process leaves running goes with it.
func Secluded(t *testing.T) bool {
	t.Helper()
	if slices.Contains(os.Args[1:], secluded) {
		return true
	}
	program, err := os.Executable()
	check(t, err)
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	again := exec.CommandContext(t.Context(), program, "-test.run="+pattern, "-test.v", secluded)
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid := os.Geteuid(); uid != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	output, err := again.CombinedOutput()
	t.Logf("in a name space of its own:\n%s", output)
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("in a name space of its own (needs root or user name spaces): %v", err)
	}
	return false
}

// The software token of openCryptoki at birth, and its place.
const (
	birthPIN = "87654321" // of the security officer
	slotName = "3"
	slotConf = "version opencryptoki-3.1\nslot 3\n{\nstdll = libpkcs11_sw.so\n}\n"
)

// OpenCryptoki makes a token of openCryptoki's software token, with an RSA-2048
// key, served by pkcsslotd. openCryptoki keeps its state in the system's folders,
// so it works in a [Secluded] process only, and once in it.
func OpenCryptoki(t testing.TB) *Token {
	t.Helper()
	if !slices.Contains(os.Args[1:], secluded) {
		t.Fatal("openCryptoki's state is the system's: call Secluded first")
	}
	libraries, _ := filepath.Glob("/usr/lib/*/pkcs11/libopencryptoki.so")
	if len(libraries) == 0 {
		t.Fatal("openCryptoki is missing: apt-get install opencryptoki")
	}
	furnish(t)
	tool(t, "", "/usr/sbin/pkcsslotd") // it returns when it serves; its end is the process's
	dir := t.TempDir()
	officer, user := random(4), random(4)
	tool(t, lines(birthPIN, "roamsign-test"), "/usr/sbin/pkcsconf", "-c", slotName, "-I")
	tool(t, lines(birthPIN, officer, officer), "/usr/sbin/pkcsconf", "-c", slotName, "-P")
	tool(t, lines(officer, birthPIN, birthPIN), "/usr/sbin/pkcsconf", "-c", slotName, "-u")
	tool(t, lines(birthPIN, user, user), "/usr/sbin/pkcsconf", "-c", slotName, "-p")
	pin := filepath.Join(dir, "pin")
	check(t, os.WriteFile(pin, []byte(user+"\n"), 0o600))
	token := &Token{
		Config: hsm.Config{Module: libraries[0], TokenLabel: "roamsign-test", PINFile: pin, KeyLabel: "signing", KeyID: random(8)},
		Dir:    dir,
	}
	public, err := hsm.GenerateKey(context.Background(), token.Config, 2048)
	check(t, err)
	token.Public, token.Certificate = public, Certificate(t, public)
	return token
}

func lines(texts ...string) string { return strings.Join(texts, "\n") + "\n" }

// furnish puts empty folders of memory where openCryptoki keeps its state, and
// makes its group one that this process is in.
func furnish(t testing.TB) {
	t.Helper()
	check(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	for _, folder := range []string{"/run", "/dev/shm", "/var/log", "/var/lib/opencryptoki"} {
		check(t, syscall.Mount("tmpfs", folder, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0755"))
	}
	for _, folder := range []string{"/run/lock/opencryptoki/swtok", "/var/log/opencryptoki", "/var/lib/opencryptoki/swtok/TOK_OBJ"} {
		check(t, os.MkdirAll(folder, 0o770))
	}
	for path, text := range map[string]string{
		"/etc/opencryptoki/opencryptoki.conf": slotConf,
		"/etc/group":                          "root:x:0:\npkcs11:x:0:root\n",
	} {
		replacement := filepath.Join("/run", filepath.Base(path))
		check(t, os.WriteFile(replacement, []byte(text), 0o600))
		check(t, syscall.Mount(replacement, path, "", syscall.MS_BIND, ""))
	}
}

// tool runs a program of openCryptoki's. PINs go through its standard input. Its
// output goes to a file, since the daemon would keep a pipe open.
func tool(t testing.TB, input, name string, args ...string) {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	check(t, err)
	defer output.Close()
	command := exec.CommandContext(context.Background(), name, args...)
	command.Stdin = strings.NewReader(input)
	command.Stdout, command.Stderr = output, output
	if err := command.Run(); err != nil {
		text, _ := os.ReadFile(output.Name())
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
}
