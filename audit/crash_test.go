package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
)

// Arguments by which the test binary knows that it is not here to test: as a
// child it appends to a log until it is killed; as a secluded one it runs a test
// in a mount name space of its own.
const (
	childArgument    = "appending-child"
	secludedArgument = "secluded"
)

func TestMain(m *testing.M) {
	if at := slices.Index(os.Args, childArgument); at >= 0 {
		appendForEver(os.Args[at+1], os.Args[at+2], os.Args[at+3])
		return
	}
	audit.LogTo(slog.New(slog.DiscardHandler))
	m.Run()
	if databases.Load() > 0 {
		s, _ := mariadb()
		s.remove()
	}
}

// appendForEver opens a log and appends to it with some callers at once. It prints
// a line for each entry once Append returned: its index and its number; "up" once
// the log was opened, and "error" for an entry that was refused.
func appendForEver(dir, key, first string) {
	from, err := strconv.Atoi(first)
	if err != nil {
		panic(err)
	}
	log, err := audit.Open(context.Background(), audit.Config{Dir: dir, KeyFiles: []string{key}}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	lines := make(chan string)
	const callers = 16
	for caller := range callers {
		go func() {
			for n := from + caller; ; n += callers {
				index, err := log.Append(context.Background(), entry(n), 0)
				if err != nil {
					lines <- "error"
					<-time.After(20 * time.Millisecond)
					continue
				}
				lines <- fmt.Sprint(index, " ", n)
			}
		}()
	}
	_, _ = fmt.Fprintln(os.Stdout, "up")
	for line := range lines {
		if _, err := fmt.Fprintln(os.Stdout, line); err != nil {
			return
		}
	}
}

// child is a process that appends, and what it printed.
type child struct {
	t       *testing.T
	command *exec.Cmd
	lines   *bufio.Scanner
	stderr  bytes.Buffer
	printed map[uint64]int // index → number, of all children of a drill
}

// spawn starts a child; its output is added to printed.
func spawn(t *testing.T, config audit.Config, first int, printed map[uint64]int) *child {
	t.Helper()
	program, err := os.Executable()
	check(t, err)
	c := &child{t: t, printed: printed}
	c.command = exec.CommandContext(t.Context(), program, childArgument, config.Dir, config.KeyFiles[0], strconv.Itoa(first))
	c.command.Stderr = &c.stderr
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.command.StdoutPipe()
	check(t, err)
	c.lines = bufio.NewScanner(out)
	check(t, c.command.Start())
	return c
}

// next reads a line; ok is false at the end. An entry counts as printed only when
// its line came whole.
func (c *child) next() (line string, ok bool) {
	if !c.lines.Scan() {
		return "", false
	}
	line = c.lines.Text()
	var index uint64
	var n int
	if read, _ := fmt.Sscan(line, &index, &n); read == 2 {
		if before, twice := c.printed[index]; twice {
			c.t.Errorf("index %d was given to entry %d and to entry %d", index, before, n)
		}
		c.printed[index] = n
	}
	return line, true
}

// until reads lines until so many are of a kind: "up", "error", or "entry".
func (c *child) until(kind string, count int) bool {
	for count > 0 {
		line, ok := c.next()
		if !ok {
			return false
		}
		if line == kind || kind == "entry" && line != "up" && line != "error" {
			count--
		}
	}
	return true
}

// end kills the child, reads what it still printed, and returns its exit code, -1
// for one that was killed.
func (c *child) end() int {
	c.t.Helper()
	_ = c.command.Process.Kill()
	for {
		if _, ok := c.next(); !ok {
			break
		}
	}
	_ = c.command.Wait()
	return c.command.ProcessState.ExitCode()
}

// rounds is how often a drill is repeated.
func rounds(few, many int) int {
	if os.Getenv("ROAMSIGN_SOAK") != "" {
		return many
	}
	return few
}

// holds asserts that every entry that was printed is in the log, and that the
// log is whole.
func holds(t *testing.T, config audit.Config, printed map[uint64]int, since []byte) {
	t.Helper()
	log := open(t, config)
	defer shut(t, log)
	check(t, log.Ready())
	if len(printed) == 0 {
		t.Error("nothing was appended: nothing is proven")
	}
	lines := entries(t, config.Dir, quiet(t, log).Size)
	for index, n := range printed {
		if index >= uint64(len(lines)) {
			t.Errorf("entry %d was given index %d, the log has %d entries", n, index, len(lines))
			continue
		}
		got, err := audit.ParseEntry(lines[index])
		if err != nil || got.RequestID != entry(n).RequestID {
			t.Errorf("index %d: got %+v and %v, want entry %d", index, got, err, n)
		}
	}
	report := inspect(t, config, audit.CheckOptions{Since: since})
	if len(report.Findings) > 0 || report.Entries != uint64(len(lines)) {
		t.Errorf("the log: got %v and %d entries, want none and %d", report.Findings, report.Entries, len(lines))
	}
}

func TestWhatWasReturnedSurvivesKills(t *testing.T) {
	config := newConfig(t)
	check(t, audit.Create(t.Context(), config))
	since := inspect(t, config, audit.CheckOptions{}).Text
	printed := map[uint64]int{}
	for round := range rounds(10, 200) {
		c := spawn(t, config, round*1_000_000, printed)
		// Some die right after they began, some while many entries are under way.
		if !c.until("up", 1) || !c.until("entry", rand.IntN(150)) {
			t.Errorf("round %d: ended by itself: %s", round, c.stderr.String())
		}
		if code := c.end(); code != -1 {
			t.Errorf("round %d: ended by itself with code %d", round, code)
		}
		if round%10 == 9 {
			holds(t, config, printed, since)
			since = inspect(t, config, audit.CheckOptions{}).Text
		}
	}
}

// secluded returns true in a process that has mounts of its own. Elsewhere it runs
// this very test in such a process, and returns false.
func secluded(t *testing.T) bool {
	t.Helper()
	if slices.Contains(os.Args, secludedArgument) {
		return true
	}
	program, err := os.Executable()
	check(t, err)
	again := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v", secludedArgument)
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
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

// memory mounts a small file system where a log is to be, in a secluded process.
func memory(t *testing.T, options string) audit.Config {
	t.Helper()
	config := newConfig(t)
	volume := filepath.Dir(config.Dir) + "/volume"
	check(t, os.Mkdir(volume, 0o700))
	check(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	check(t, syscall.Mount("tmpfs", volume, "tmpfs", 0, options))
	t.Cleanup(func() { _ = syscall.Unmount(volume, syscall.MNT_DETACH) })
	config.Dir = volume + "/log"
	check(t, audit.Create(t.Context(), config))
	return config
}

func TestAFullDiskReleasesNothingAndHeals(t *testing.T) {
	if !secluded(t) {
		return
	}
	config := memory(t, "size=24m,mode=0700")
	since := inspect(t, config, audit.CheckOptions{}).Text
	printed := map[uint64]int{}
	c := spawn(t, config, 0, printed)
	filler := filepath.Join(filepath.Dir(config.Dir), "filler")
	for round := range rounds(3, 30) {
		if !c.until("entry", 50) {
			t.Fatalf("round %d: ended by itself: %s", round, c.stderr.String())
		}
		file, err := os.Create(filler)
		check(t, err)
		written, err := io.Copy(file, &zeros{})
		if err == nil {
			t.Fatalf("round %d: %d bytes did not fill the disk", round, written)
		}
		check(t, file.Close())
		if !c.until("error", 100) {
			t.Fatalf("round %d: ended by itself: %s", round, c.stderr.String())
		}
		check(t, os.Remove(filler))
	}
	if !c.until("entry", 50) {
		t.Errorf("at last: ended by itself: %s", c.stderr.String())
	}
	if code := c.end(); code != -1 {
		t.Errorf("ended by itself with code %d", code)
	}
	holds(t, config, printed, since)
}

// zeros never ends.
type zeros struct{}

func (*zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Whoever runs the process starts it again when it ends: here the test does.
func TestADirectoryThatGoesUnderLoadReleasesNothing(t *testing.T) {
	if !secluded(t) {
		return
	}
	config := memory(t, "size=256m,mode=0700")
	since := inspect(t, config, audit.CheckOptions{}).Text
	volume := filepath.Dir(config.Dir)
	faults := []struct {
		name        string
		spoil, mend func() error
	}{
		{
			"read-only",
			func() error { return syscall.Mount("", volume, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") },
			func() error { return syscall.Mount("", volume, "", syscall.MS_REMOUNT, "") },
		},
		{
			"moved away",
			func() error { return os.Rename(config.Dir, config.Dir+"-away") },
			func() (err error) { // Tessera may have made another in its place, and may again
				for n := range 1000 {
					_ = os.Rename(config.Dir, fmt.Sprint(config.Dir, "-aside-", time.Now().UnixNano(), n))
					if err = os.Rename(config.Dir+"-away", config.Dir); err == nil {
						break
					}
				}
				return err
			},
		},
	}
	printed := map[uint64]int{}
	starts, died := 0, 0
	start := func() *child {
		starts++
		c := spawn(t, config, starts*1_000_000, printed)
		if !c.until("up", 1) {
			t.Fatalf("start %d: not up: %s", starts, c.stderr.String())
		}
		return c
	}
	c := start()
	for round := range rounds(4, 40) {
		fault := faults[round%len(faults)]
		if !c.until("entry", 100) {
			t.Fatalf("round %d: ended by itself: %s", round, c.stderr.String())
		}
		c.spoil(fault.spoil)
		if !c.until("error", 40) {
			// Tessera's panic, and nothing else, may end it.
			if code := c.end(); code != 2 || !strings.Contains(c.stderr.String(), "tessera/storage/posix") {
				t.Errorf("%s: ended with code %d: %s", fault.name, code, c.stderr.String())
			}
			died++
			c = start()
			if !c.until("error", 40) {
				t.Errorf("%s: started again, ended by itself: %s", fault.name, c.stderr.String())
			}
		}
		check(t, fault.mend())
	}
	if !c.until("entry", 100) {
		t.Errorf("at last: ended by itself: %s", c.stderr.String())
	}
	c.end()
	t.Logf("%d of %d processes ended in a panic of Tessera's, %d entries were appended", died, starts, len(printed))
	holds(t, config, printed, since)
}

// spoil does what cannot be done at every moment (nothing may be open for
// writing), while the child's output goes on being read.
func (c *child) spoil(f func() error) {
	c.t.Helper()
	for range 100_000 {
		err := f()
		if err == nil {
			return
		}
		if _, ok := c.next(); !ok {
			c.t.Fatalf("ended by itself: %s", c.stderr.String())
		}
	}
	c.t.Fatal("never could")
}
