package audit_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamsign/roamsign/audit"
)

// heldUp keeps entries out of a log's tiles, by Tessera's lock, until release.
func heldUp(t *testing.T, config audit.Config) (release func()) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(config.Dir, ".state/treeState.lock"), os.O_RDWR, 0)
	check(t, err)
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	check(t, unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLKW, &whole))
	release = func() { _ = file.Close() }
	t.Cleanup(release)
	return release
}

// held is what is in a directory's journal alone: how many entries each record has.
func held(t *testing.T, config audit.Config) []int {
	t.Helper()
	counts, err := audit.Held(config.Dir)
	check(t, err)
	return counts
}

// appendEach appends entries one after the other, and keeps the index of each.
func appendEach(t *testing.T, log *audit.Log, appended map[uint64]int, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		index, err := log.Append(t.Context(), entry(n), 0)
		check(t, err)
		if before, twice := appended[index]; twice {
			t.Errorf("index %d was given to entry %d and to entry %d", index, before, n)
		}
		appended[index] = n
	}
}

// copyOf is the configuration of a copy of a log.
func copyOf(t *testing.T, config audit.Config) audit.Config {
	t.Helper()
	copy := audit.Config{Dir: filepath.Join(t.TempDir(), "log"), KeyFiles: config.KeyFiles}
	copied(t, copy.Dir, config.Dir)
	return copy
}

func TestAWriteThatMayHaveBeenDone(t *testing.T) {
	t.Parallel()
	for name, done := range map[string]bool{"and was": true, "and was not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, config := newLog(t)
			since := examine(t, log, config, nil).Text
			appended := map[uint64]int{}
			appendEach(t, log, appended, 0, 1, 2)
			quiet(t, log)
			var died audit.Config
			var failed atomic.Bool
			log.OnWrite(func(write func() error) error {
				if failed.Swap(true) {
					return write()
				}
				if done {
					if err := write(); err != nil {
						return err
					}
				}
				died = copyOf(t, config)
				return errors.New("fdatasync: input/output error")
			})
			if index, err := log.Append(t.Context(), entry(3), 0); !isUnavailable(err) {
				t.Fatalf("got index %d and %v, want a log that is unavailable", index, err)
			}

			onRecord := map[uint64]int{0: 0, 1: 1, 2: 2}
			if done {
				onRecord[3] = 3
			}
			if got := len(held(t, died)) > 0; got != done {
				t.Errorf("in the journal of the process that died: got %t, want %t", got, done)
			}
			next := open(t, died)
			if size, err := next.Size(t.Context()); err != nil || size != uint64(len(onRecord)) {
				t.Errorf("opened again: got %d entries and %v, want %d", size, err, len(onRecord))
			}
			appendEach(t, next, onRecord, 4, 5)
			recorded(t, next, onRecord)
			quiet(t, next)
			examine(t, next, died, since)

			appendEach(t, log, appended, 6, 7)
			if appended[3] != 6 {
				t.Errorf("going on: got %v, want entry 6 at index 3", appended)
			}
			recorded(t, log, appended)
			quiet(t, log)
			examine(t, log, config, since)
		})
	}
}

func TestWhatIsInTheJournalAloneCanBeRead(t *testing.T) {
	t.Parallel()
	log, config := newLog(t)
	index, err := audit.OpenIndex(t.Context(), t.TempDir(), log.Source(), log.Size)
	check(t, err)
	release := heldUp(t, config)
	appendEach(t, log, map[uint64]int{}, 0, 1, 2)
	if got := held(t, config); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("in the journal alone: got %v, want three records", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Entry(ctx, 2); !isUnavailable(err) {
		t.Errorf("without the time to wait: got %v, want a log that is unavailable", err)
	}
	answers := make(chan string, 3)
	go func() {
		if size, err := log.Size(t.Context()); err != nil || size != 3 {
			answers <- "its size"
		}
		answers <- ""
	}()
	go func() {
		if e, err := log.Entry(t.Context(), 2); err != nil || e.RequestID != entry(2).RequestID {
			answers <- "its entry"
		}
		answers <- ""
	}()
	go func() {
		page, err := index.Find(t.Context(), audit.Query{Document: entry(2).Document})
		if err != nil || len(page.Found) != 1 || page.Found[0].Index != 2 {
			answers <- "its place in the index"
		}
		answers <- ""
	}()
	release()
	for range cap(answers) {
		if wrong := <-answers; wrong != "" {
			t.Errorf("not what was appended: %s", wrong)
		}
	}
}

func TestAProcessThatDiesBeforeTheTiles(t *testing.T) {
	t.Parallel()
	log, config := newLog(t)
	since := examine(t, log, config, nil).Text
	appended := map[uint64]int{}
	appendEach(t, log, appended, 0, 1, 2)
	quiet(t, log)
	release := heldUp(t, config)
	appendEach(t, log, appended, 3, 4)
	for n, index := range fill(t, log, 5, 50) {
		appended[index] = n
	}
	died := copyOf(t, config)
	release()
	if got := held(t, died); len(got) < 3 || got[0] != 1 {
		t.Fatalf("in the journal of the process that died: got %v, want two records and some more", got)
	}
	next := open(t, died)
	if state := string(mustRead(t, filepath.Join(died.Dir, ".state/treeState"))); !strings.Contains(state, `"size":50,`) {
		t.Errorf("in the tiles once it is open: got %s, want 50 entries", state)
	}
	recorded(t, next, appended)
	appendEach(t, next, appended, 50)
	quiet(t, next)
	examine(t, next, died, since)
}

func TestAJournalThatIsFullReleasesNothingAndHeals(t *testing.T) {
	t.Parallel()
	log, config := newLog(t)
	since := examine(t, log, config, nil).Text
	appended := map[uint64]int{}
	appendEach(t, log, appended, 0)
	quiet(t, log)
	release := heldUp(t, config)
	const callers = 200
	type result struct {
		index uint64
		n     int
		err   error
	}
	results := make(chan result, callers)
	for n := 1; n <= callers; n++ {
		go func() {
			e := entry(n)
			e.Caller = strings.Repeat("\x01", 2048) // six bytes each: too much for the journal
			index, err := log.Append(t.Context(), e, 0)
			results <- result{index, n, err}
		}()
	}
	until(t, "a full journal", func() error { return log.Full(150) })
	tiles := directoryWithoutTiles(t, &config)
	tiles.spoil(t)
	release()
	failed := 0
	for range callers {
		r := <-results
		switch {
		case r.err == nil:
			appended[r.index] = r.n
		case isUnavailable(r.err):
			failed++
		default:
			t.Errorf("got %v, want a log that is unavailable", r.err)
		}
	}
	if failed == 0 || len(appended) < callers/2 || log.Ready() == nil {
		t.Errorf("%d appends failed, %d did not, ready: %v", failed, len(appended), log.Ready())
	}
	tiles.mend(t)
	until(t, "ready again", log.Ready)
	appendEach(t, log, appended, callers+1)
	lines := entries(t, config.Dir, quiet(t, log).Size)
	if len(lines) != len(appended) {
		t.Errorf("got %d entries, want %d", len(lines), len(appended))
	}
	for index, line := range lines {
		if e, err := audit.ParseEntry(line); err != nil || e.RequestID != entry(appended[uint64(index)]).RequestID {
			t.Errorf("index %d: got %s and %v, want entry %d", index, e.RequestID, err, appended[uint64(index)])
		}
	}
	examine(t, log, config, since)
}

func TestWhatAFailedIntegrationWroteIsConfirmed(t *testing.T) {
	t.Parallel()
	log, config := newLog(t)
	confirmed := make(chan []int, 1)
	log.OnFlush(func() {
		counts, err := audit.Held(config.Dir)
		if err != nil {
			t.Errorf("reading the journal: %v", err)
		}
		select {
		case confirmed <- counts:
		default:
		}
	})
	log.ForgetOnce()
	appended := map[uint64]int{}
	appendEach(t, log, appended, 0)
	select {
	case counts := <-confirmed:
		if len(counts) > 0 {
			t.Errorf("in the journal alone: got %v, want all in the tiles already", counts)
		}
	case <-time.After(time.Minute):
		t.Fatal("what was written is not confirmed")
	}
	until(t, "ready again", log.Ready)
	appendEach(t, log, appended, 1)
	recorded(t, log, appended)
	quiet(t, log)
	examine(t, log, config, nil)
}
