package softhsmtest_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait.
const patience = 2 * time.Minute

// scratch holds what all tests share: the two programs, and a folder of dev
// mode's.
var scratch string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "roamsign-e2e-*")
	if err != nil {
		panic(err)
	}
	scratch = folder
	m.Run()
	if err := os.RemoveAll(folder); err != nil {
		panic(err)
	}
}

// programs builds both, once: roamsign as it is shipped, roamsignd with the race
// detector, which ends it with a code of its own if it finds something.
var programs = sync.OnceValue(func() error {
	for name, how := range map[string][]string{"roamsign": {"-trimpath"}, "roamsignd": {"-race"}} {
		build := exec.Command("go", append(append([]string{"build", "-o", filepath.Join(scratch, name)}, how...), "../cmd/"+name)...)
		build.Env = append(os.Environ(), "CGO_ENABLED="+map[string]string{"roamsign": "0", "roamsignd": "1"}[name])
		if out, err := build.CombinedOutput(); err != nil {
			return errors.New("building " + name + ": " + err.Error() + "\n" + string(out))
		}
	}
	return nil
})

// result is what a run of a program shows.
type result struct {
	code      int
	out, errs string
}

// roamsign runs the client as a user would, in a folder of its own.
func roamsign(t *testing.T, args ...string) result {
	t.Helper()
	return piped(t, nil, args...)
}

// piped is roamsign with something on standard input.
func piped(t *testing.T, input []byte, args ...string) result {
	t.Helper()
	check(t, programs())
	client := exec.CommandContext(t.Context(), filepath.Join(scratch, "roamsign"), args...)
	client.Dir = t.TempDir()
	client.Env = []string{"HOME=" + client.Dir}
	client.Stdin = bytes.NewReader(input)
	return ran(t, client)
}

// ran runs a command to its end.
func ran(t *testing.T, command *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	err := command.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("running %v: %v", command, err)
	}
	return result{command.ProcessState.ExitCode(), out.String(), errs.String()}
}

// daemon is a running roamsignd.
type daemon struct {
	dir     string
	address string
	process *os.Process
	out     *output
	errs    *output
	ended   chan struct{}
	code    int // once ended; -1 if a signal ended it
}

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// from returns what was written after the first n bytes, as far as whole lines go.
func (o *output) from(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	news := o.text.Bytes()[n:]
	return string(news[:bytes.LastIndexByte(news, '\n')+1])
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// launch starts a roamsignd in dev mode, which may not serve yet. It ends with
// the test at the latest.
func launch(t *testing.T, dir string, args ...string) *daemon {
	t.Helper()
	return begin(t, dir, nil, append([]string{"dev", "--dir", dir}, args...)...)
}

// begin starts a roamsignd whose folder that is, likewise, with more in its
// environment.
func begin(t *testing.T, dir string, environment []string, args ...string) *daemon {
	t.Helper()
	return beginUnder(t, dir, nil, environment, args...)
}

// beginUnder is begin, by a program that becomes it, or that stands beside it.
func beginUnder(t *testing.T, dir string, under, environment []string, args ...string) *daemon {
	t.Helper()
	check(t, programs())
	line := append(append(slices.Clone(under), filepath.Join(scratch, "roamsignd")), args...)
	command := exec.Command(line[0], line[1:]...)
	command.Env = append(command.Environ(), environment...)
	return watch(t, dir, command)
}

// watch starts a command that becomes a roamsignd, likewise.
func watch(t *testing.T, dir string, command *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{dir: dir, out: &output{}, errs: &output{}, ended: make(chan struct{})}
	command.Stdout, command.Stderr = d.out, d.errs
	check(t, command.Start())
	d.process = command.Process
	go func() {
		defer close(d.ended)
		_ = command.Wait() // how it ended is told by its code
		d.code = command.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		d.signal(t, syscall.SIGKILL)
		d.wait(t)
		if strings.Contains(d.errs.String(), "DATA RACE") {
			t.Errorf("roamsignd:\n%s", d.errs)
		}
	})
	return d
}

// serve starts a roamsignd on a folder and returns once it serves.
func serve(t *testing.T, dir string, args ...string) *daemon {
	t.Helper()
	stale, err := os.ReadFile(filepath.Join(dir, "ready"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	check(t, os.RemoveAll(filepath.Join(dir, "ready")))
	d := launch(t, dir, args...)
	d.await(t, "serve", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "ready"))
		d.address = strings.TrimSpace(string(text))
		return err == nil
	})
	if len(stale) > 0 && len(args) == 0 && string(stale) != d.address+"\n" {
		t.Errorf("serves on %s, want %s as before", d.address, stale)
	}
	return d
}

// fresh starts a roamsignd that nobody else uses, on a copy of a folder that dev
// mode has made once. A folder that was copied is as good as one that was moved.
func fresh(t *testing.T, args ...string) *daemon {
	t.Helper()
	return serve(t, copied(t), append([]string{"--listen", "127.0.0.1:0"}, args...)...)
}

// copied is a copy of the model.
func copied(t *testing.T) (dir string) {
	t.Helper()
	from, err := model()
	check(t, err)
	dir = filepath.Join(t.TempDir(), "dev")
	check(t, os.CopyFS(dir, os.DirFS(from)))
	for _, secret := range []string{"pin", "server.key", "audit.key", filepath.Join("clients", "ca.key")} {
		check(t, os.Chmod(filepath.Join(dir, secret), 0o600))
	}
	return dir
}

// model is the folder that copies are made of.
var model = sync.OnceValues(func() (string, error) {
	if err := programs(); err != nil {
		return "", err
	}
	dir := filepath.Join(scratch, "model")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(scratch, "roamsignd"), "dev", "--dir", dir, "--listen", "127.0.0.1:0")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	errs := &output{}
	command.Stderr = errs
	if err := command.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case err := <-ended:
			if command.ProcessState.Success() {
				return dir, nil
			}
			return "", errors.Join(errors.New("roamsignd dev: "+errs.String()), err)
		case <-ticks.C:
			if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
				cancel()
			}
		}
	}
})

// await waits until the daemon has done something, and fails the test if it ends
// before.
func (d *daemon) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticks, late := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer ticks.Stop()
	for !done() {
		select {
		case <-ticks.C:
		case <-d.ended:
			t.Fatalf("roamsignd ended with code %d before it did what was awaited (%s):\n%s", d.code, what, d.errs)
		case <-late:
			t.Fatalf("roamsignd has not done what was awaited (%s) after %v:\n%s", what, patience, d.errs)
		}
	}
}

// signal sends a signal, unless it has ended.
func (d *daemon) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := d.process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("sending %v: %v", signal, err)
	}
}

// wait waits for its end.
func (d *daemon) wait(t *testing.T) {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience):
		t.Errorf("roamsignd has not ended after %v:\n%s", patience, d.errs)
	}
}

// stop ends it as a supervisor would, and returns its whole log.
func (d *daemon) stop(t *testing.T) string {
	t.Helper()
	d.signal(t, syscall.SIGTERM)
	d.wait(t)
	if d.code != 0 {
		t.Errorf("roamsignd, told to stop: got exit code %d, want 0:\n%s", d.code, d.errs)
	}
	return d.errs.String()
}

// file is the path of a file in its folder.
func (d *daemon) file(name string) string { return filepath.Join(d.dir, name) }

// sign runs "roamsign sign" as its client.
func (d *daemon) sign(t *testing.T, args ...string) result {
	t.Helper()
	return roamsign(t, append([]string{"--config", d.file("client.yaml"), "sign"}, args...)...)
}

// pin is the PIN of its token.
func (d *daemon) pin(t *testing.T) string {
	t.Helper()
	pin := strings.TrimSpace(string(read(t, d.file("pin"))))
	if len(pin) < 8 {
		t.Fatalf("the PIN has %d characters, so it proves nothing that none shows it", len(pin))
	}
	return pin
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	return content
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	check(t, os.WriteFile(path, content, 0o600))
	return path
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
