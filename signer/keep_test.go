package signer

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// spender names the folder that this test program, started as a child, spends a
// quota in until it is killed.
const spender = "ROAMSIGN_TEST_SPENDER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(spender); folder != "" {
		panic(spend(folder))
	}
	m.Run()
}

// spend writes a line for each signature that may be released, without end.
func spend(folder string) error {
	p, err := policy.Parse([]byte(limitedRules(spenderLimits, erp)))
	if err != nil {
		return err
	}
	grant, err := p.Decide(erp, policy.SignDigest, ownTIN, [32]byte{1}, noon)
	if err != nil {
		return err
	}
	a := newAdmission(slog.New(slog.DiscardHandler))
	if _, err := a.keep(folder, noon); err != nil {
		return err
	}
	for i := 0; ; i++ {
		c, err := a.charge(context.Background(), grant, requestID(fmt.Sprint(os.Getpid(), "-", i)), [32]byte{}, noon)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(os.Stdout, "released"); err != nil {
			return err
		}
		a.settle(c, true, nil, noon)
	}
}

const spenderLimits = "    limits: {daily: 100000}\n"

// TestKillingGivesNoQuotaTwice kills a process that spends a quota, again and
// again. What is on disk afterwards is never less than what was released, and
// at most a block more for each time.
func TestKillingGivesNoQuotaTwice(t *testing.T) {
	folder, released := t.TempDir(), 0
	for kill := 1; kill <= 5; kill++ {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), spender+"="+folder)
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			released++
			if n == 777*kill {
				must(t, child.Process.Kill())
			}
		}
		if err := child.Wait(); err == nil || child.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		kept, before, err := openLedger(folder)
		must(t, err)
		must(t, kept.close())
		if len(before.Used) != 1 {
			t.Fatalf("kept: got %v, want one count", before)
		}
		block := (&tally{limits: policy.Limits{Daily: 100000}}).block()
		if got := before.Used[0].Count; got < released || got > released+kill*block {
			t.Errorf("kept after %d kills: got %d, want %d to %d", kill, got, released, released+kill*block)
		}
	}
}

// keeps has a desk keep its counts in a folder, until the returned function.
func (d *desk) keeps(folder string) (end func() error) {
	d.t.Helper()
	end, err := d.open.keep(folder, d.now)
	must(d.t, err)
	return end
}

// keepsOn has a desk keep its counts in a folder until the test ends.
func (d *desk) keepsOn(folder string) {
	d.t.Helper()
	end := d.keeps(folder)
	d.t.Cleanup(func() { must(d.t, end()) })
}

func TestAQuotaSurvivesARestart(t *testing.T) {
	folder := t.TempDir()
	const limits = "    limits: {daily: 1000}\n    method_limits: {SignDocument: {daily: 3}, blind: {daily: 950}}\n"
	for range 3 { // restarts
		d := newDesk(t)
		end := d.keeps(folder)
		grant := d.granted(limits, erp, policy.SignDigest)
		for range 300 {
			d.is("of the day's", d.signs(grant), granted, nil)
		}
		d.is("of the method's", d.signs(d.granted(limits, erp, policy.SignDocument)), granted, nil)
		must(t, end())
	}
	d := newDesk(t)
	d.keepsOn(folder)
	d.is("the method's fourth", d.signs(d.granted(limits, erp, policy.SignDocument)), fault.QuotaExceeded, nil)
	grant := d.granted(limits, erp, policy.SignDigest)
	n := 0
	for d.signs(grant) == nil {
		n++
	}
	if want := 950 - 900; n != want { // to the last: nothing was lost by stopping in order
		t.Errorf("left of the blind methods' after 900 of 950: got %d, want %d", n, want)
	}
	grant = d.granted("    limits: {daily: 1000}\n", erp, policy.SignDigest)
	for n = 0; d.signs(grant) == nil; n++ {
	}
	if want := 1000 - 953; n != want {
		t.Errorf("left after 953 of 1000: got %d, want %d", n, want)
	}
}

func TestANewDayBeginsAtNothing(t *testing.T) {
	folder := t.TempDir()
	const limits = "    limits: {daily: 2}\n"
	for _, row := range []struct {
		name string
		at   time.Time
		left int
	}{
		{"at first", noon, 2},
		{"later that day", noon.Add(time.Hour), 0},
		{"the next day", noon.AddDate(0, 0, 1), 2},
		{"with a clock put back by a day", noon, 0},
		{"with a clock that was days ahead", noon.AddDate(0, 0, -2), 2},
		{"days later", noon.AddDate(0, 0, 9), 2},
	} {
		d := newDesk(t)
		d.now = row.at
		end := d.keeps(folder)
		left := 0
		for grant := d.granted(limits, erp, policy.SignDigest); d.signs(grant) == nil; left++ {
		}
		if left != row.left {
			t.Errorf("%s: got %d left, want %d", row.name, left, row.left)
		}
		must(t, end())
	}
}

// A caller that does nothing after a restart is not forgotten at the next one.
func TestWhoIsAwayIsKept(t *testing.T) {
	folder := t.TempDir()
	const limits = "    limits: {daily: 1}\n"
	d := newDesk(t)
	end := d.keeps(folder)
	must(t, d.signs(d.granted(limits, erp, policy.SignDigest)))
	must(t, end())
	d = newDesk(t)
	end = d.keeps(folder)
	must(t, d.signs(d.granted(limits, portal, policy.SignDigest)))
	must(t, end())
	d = newDesk(t)
	d.keepsOn(folder)
	for _, caller := range []policy.Caller{erp, portal} {
		d.is(string(caller), d.signs(d.granted(limits, caller, policy.SignDigest)), fault.QuotaExceeded, nil)
	}
}

func TestHardlyAnySignatureWaitsForTheDisk(t *testing.T) {
	folder := t.TempDir()
	d := newDesk(t)
	d.keepsOn(folder)
	grant := d.granted("    limits: {daily: 100000}\n", erp, policy.SignDigest)
	waited := 0
	for i := range 20_000 {
		c, kept, err := d.open.enter(grant, keyOf(grant, requestID(strconv.Itoa(i)), [32]byte{}), d.now)
		must(t, err)
		if kept != nil {
			waited++
			<-kept.done
			must(t, kept.err)
		}
		d.open.settle(c, true, nil, d.now)
	}
	if most := 20_000 / 1000; waited < 1 || waited > most {
		t.Errorf("waited for the disk: got %d of 20000, want 1 to %d", waited, most)
	}
}

// obstruct makes a folder one in which usage.json cannot be replaced, even by
// root, until it is undone.
func obstruct(t *testing.T, folder string) (undo func()) {
	t.Helper()
	path := filepath.Join(folder, "usage.json")
	must(t, os.Rename(path, path+".aside"))
	must(t, os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
	return func() {
		must(t, os.RemoveAll(path))
		must(t, os.Rename(path+".aside", path))
	}
}

func TestWithoutTheDiskWhatIsCappedIsRefused(t *testing.T) {
	folder := t.TempDir()
	d := newDesk(t)
	end := d.keeps(folder)
	capped := d.granted("    limits: {daily: 10}\n", erp, policy.SignDigest)
	free := d.granted("    limits: {rate: 1000}\n", portal, policy.SignDigest)
	large := d.granted("    limits: {daily: 100000}\n", "large.example.com", policy.SignDigest)
	must(t, d.signs(capped))
	must(t, d.signs(large))
	undo := obstruct(t, folder)
	d.is("capped", d.signs(capped), fault.StateUnavailable, nil)
	_, _, err := d.open.enter(capped, keyOf(capped, "again", [32]byte{}), d.now) // which waits for nothing
	d.is("capped, again", err, fault.StateUnavailable, nil)
	d.is("without a quota", d.signs(free), granted, nil)
	d.is("from what is put down already", d.signs(large), granted, nil)
	if used := d.open.accounts[erp].tallies[""].used; used != 1 {
		t.Errorf("used: got %d, want 1: what was refused is not charged", used)
	}
	undo()
	// Nobody has to ask for it to be found out.
	for {
		d.open.mu.Lock()
		next := d.open.next
		mended := d.open.failed == nil
		d.open.mu.Unlock()
		if mended {
			break
		}
		select {
		case <-next.done:
		case <-time.After(time.Minute):
			t.Fatal("a minute after the folder was mended it has not been tried")
		}
	}
	d.is("once it can be written", d.signs(capped), granted, nil)
	must(t, end())
	text, err := os.ReadFile(filepath.Join(folder, "usage.json"))
	must(t, err)
	if want := `{"caller":"` + erp + `","count":2}`; !strings.Contains(string(text), want) {
		t.Errorf("kept: got %s, want %s in it", text, want)
	}
}

func TestWhoGivesUpWaitingForTheDiskIsLetGo(t *testing.T) {
	d := newDesk(t)
	d.open.wake = make(chan struct{}, 1) // asked, and never answered
	grant := d.granted("    limits: {daily: 10, concurrent: 1}\n", erp, policy.SignDigest)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.open.charge(ctx, grant, "a", [32]byte{}, d.now); kindOf(err) != fault.Canceled {
		t.Errorf("got %v, want CANCELED", err)
	}
	if own := d.open.accounts[erp]; own.making != 0 {
		t.Errorf("in the making: got %d, want none", own.making)
	}
}

func TestAFolderThatCannotBeUsedIsToldAtTheStart(t *testing.T) {
	for _, row := range []struct {
		name, want string
		make       func(folder string) string
	}{
		{"no folder around it", "no such file", func(folder string) string { return filepath.Join(folder, "none", "state") }},
		{"a file", "not a directory", func(folder string) string {
			path := filepath.Join(folder, "file")
			must(t, os.WriteFile(path, nil, 0o600))
			return path
		}},
		{"not to be written", "usage.json", func(folder string) string {
			must(t, os.MkdirAll(filepath.Join(folder, "usage.json.new", "in the way"), 0o700))
			return folder
		}},
		{"another's", "another process", func(folder string) string {
			kept, _, err := openLedger(folder)
			must(t, err)
			t.Cleanup(func() { must(t, kept.close()) })
			return folder
		}},
	} {
		_, err := newDesk(t).open.keep(row.make(t.TempDir()), noon)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q in it", row.name, err, row.want)
		}
	}
}

func TestOnlyWhatWasWrittenIsRead(t *testing.T) {
	const day, one = `"day":"2026-11-22T00:00:00+08:00"`, `{"caller":"a","count":5}`
	for _, row := range []struct{ name, text, want string }{
		{"as it is written", `{` + day + `,"used":[` + one + `,{"caller":"a","method":"blind","count":3}]}` + "\n", ""},
		{"nothing used", `{` + day + `,"used":null}` + "\n", ""},
		{"of no day yet", `{"day":"0001-01-01T00:00:00Z","used":null}`, ""},
		{"laid out by hand", `{ ` + day + `,` + "\n" + `  "used": [ ` + one + ` ] }`, ""},
		{"cut off", `{"day":"2026-11-2`, "unexpected end"},
		{"empty", "", "unexpected end"},
		{"nothing", "null", "in the form"},
		{"an empty object", "{}", "in the form"},
		{"without its day", `{"used":[` + one + `]}`, "in the form"},
		{"of no day", `{"day":"0001-01-01T00:00:00Z","used":[` + one + `]}`, "no day"},
		{"a key that nobody knows", `{` + day + `,"used":null,"more":1}`, "in the form"},
		{"a key twice", `{` + day + `,"used":[` + one + `],"used":null}`, "in the form"},
		{"a key in capitals", `{` + day + `,"USED":[` + one + `]}`, "in the form"},
		{"text after it", `{` + day + `,"used":null} {}`, "after top-level value"},
		{"half of an older file after it", `{` + day + `,"used":null}` + "\n" + `ount":5}]}`, "after top-level value"},
		{"less than nothing used", `{` + day + `,"used":[{"caller":"a","count":-5}]}`, `caller "a" has used -5`},
		{"nobody's", `{` + day + `,"used":[{"caller":"","count":5}]}`, `caller ""`},
		{"one caller twice", `{` + day + `,"used":[` + one + `,{"caller":"a","count":1}]}`, "twice"},
	} {
		folder := t.TempDir()
		path := filepath.Join(folder, "usage.json")
		must(t, os.WriteFile(path, []byte(row.text), 0o600))
		end, err := newDesk(t).open.keep(folder, noon)
		if row.want == "" {
			must(t, err)
			must(t, end())
			continue
		}
		for _, part := range []string{path, row.want, "remove it"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %v, want %q in it", row.name, err, part)
			}
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != row.text {
			t.Errorf("%s: the file was changed to %q, %v", row.name, after, err)
		}
	}
	folder := t.TempDir()
	must(t, os.Symlink("/dev/zero", filepath.Join(folder, "usage.json")))
	if _, err := newDesk(t).open.keep(folder, noon); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device without an end: got %v, want it refused", err)
	}
}

func TestAFolderIsMadeForItsOwnerAlone(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	d := newDesk(t)
	must(t, d.keeps(folder)())
	for _, path := range []string{folder, filepath.Join(folder, "usage.json"), filepath.Join(folder, "usage.lock")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: got %v, %v, want it closed to others", path, info, err)
		}
	}
}
