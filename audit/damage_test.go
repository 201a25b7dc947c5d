package audit_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/roamsign/roamsign/audit"
)

const journalSize = 2 << 20

// A log of 20 entries, with a record of three and one of two that are in its journal
// alone.
func TestADamagedJournal(t *testing.T) {
	t.Parallel()
	log := whole(t, 20)
	check(t, audit.Journal(t.Context(), log.Dir, numbered(20, 23), numbered(23, 25)))
	other := whole(t, 17)
	check(t, audit.Journal(t.Context(), other.Dir, numbered(17, 20)))
	same := filepath.Join(other.Dir, ".journal-of-20")
	check(t, os.WriteFile(same, mustRead(t, filepath.Join(other.Dir, ".journal")), 0o600))
	check(t, audit.Journal(t.Context(), other.Dir, numbered(17, 20), numbered(20, 22)))
	for name, row := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  uint64 // 0: it must not be continued
	}{
		"whole":                  {func(*testing.T, string) {}, 25},
		"the first is changed":   {func(t *testing.T, path string) { flip(t, path, 700) }, 0},
		"the last is changed":    {func(t *testing.T, path string) { flip(t, path, 4096+700) }, 23},
		"cut off":                {func(t *testing.T, path string) { check(t, os.Truncate(path, 8192)) }, 0},
		"lengthened":             {func(t *testing.T, path string) { check(t, os.Truncate(path, journalSize+4096)) }, 0},
		"empty":                  {func(t *testing.T, path string) { check(t, os.Truncate(path, 0)) }, 20},
		"not filled yet":         {func(t *testing.T, path string) { check(t, os.WriteFile(path, make([]byte, 8192), 0o600)) }, 20},
		"another log's":          {func(t *testing.T, path string) { put(t, path, filepath.Join(other.Dir, ".journal")) }, 0},
		"another's of this size": {func(t *testing.T, path string) { put(t, path, same) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := copyOf(t, log)
			row.spoil(t, filepath.Join(config.Dir, ".journal"))
			opened, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
			if err != nil {
				if row.want > 0 || !strings.Contains(err.Error(), "the journal is damaged, or of another log") {
					t.Errorf("got %v, want %d entries", err, row.want)
				}
				return
			}
			defer shut(t, opened)
			check(t, opened.Ready())
			if size, err := opened.Size(t.Context()); err != nil || size != row.want {
				t.Errorf("got %d entries and %v, want %d", size, err, row.want)
			}
			appendEach(t, opened, map[uint64]int{}, 30)
			if quiet(t, opened).Size != row.want+1 {
				t.Errorf("continued: got %d entries, want %d", quiet(t, opened).Size, row.want+1)
			}
			examine(t, opened, config, nil)
		})
	}
}

// numbered makes entries from to to-1.
func numbered(from, to int) (made []audit.Entry) {
	for n := from; n < to; n++ {
		made = append(made, entry(n))
	}
	return made
}

// put has a copy of another file where one was.
func put(t *testing.T, path, from string) {
	t.Helper()
	check(t, os.WriteFile(path, mustRead(t, from), 0o600))
}

func TestAJournalThatIsGoneIsTold(t *testing.T) {
	t.Parallel()
	config := whole(t, 20)
	journal := filepath.Join(config.Dir, ".journal")
	check(t, os.Remove(journal))
	log := open(t, config)
	if err := log.Ready(); !isUnavailable(err) || !strings.Contains(err.Error(), "an empty file in its place") {
		t.Errorf("got %v, want a log that is unavailable, and what to do", err)
	}
	if _, err := os.Stat(journal); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another one was made: %v", err)
	}
	check(t, os.WriteFile(journal, nil, 0o600))
	until(t, "ready", log.Ready)
	appendEach(t, log, map[uint64]int{}, 20)
	quiet(t, log)
	examine(t, log, config, nil)
}

// age makes a log one that was made before there was a journal: its lock is an empty file.
func age(t *testing.T, config audit.Config) (lock string) {
	t.Helper()
	lock = filepath.Join(config.Dir, ".lock")
	check(t, os.Remove(filepath.Join(config.Dir, ".journal")))
	check(t, os.Remove(lock))
	check(t, os.WriteFile(lock, nil, 0o600))
	return lock
}

// takeLock locks a log as versions do that know of no journal.
func takeLock(lock string) (*os.File, error) {
	file, err := os.OpenFile(lock, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return file, syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func TestALogWithoutAJournalIsGivenOne(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(t *testing.T, config audit.Config, lock string){
		"of before": func(*testing.T, audit.Config, string) {},
		"used by such a version afterwards": func(t *testing.T, config audit.Config, lock string) {
			shut(t, open(t, config))
			check(t, os.Remove(lock))
			check(t, os.WriteFile(lock, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := whole(t, 20)
			lock := age(t, config)
			before(t, config, lock)
			file, err := takeLock(lock)
			check(t, err)
			if _, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler)); !errors.Is(err, audit.ErrInUse) {
				t.Errorf("while it is in use: got %v, want ErrInUse", err)
			}
			check(t, file.Close())
			log := open(t, config)
			check(t, log.Ready())
			if info, err := os.Stat(filepath.Join(config.Dir, ".journal")); err != nil || info.Size() != journalSize {
				t.Errorf("got %v and %v, want a journal", info, err)
			}
			if file, err := takeLock(lock); err == nil {
				t.Errorf("who knows of no journal can use it: %v", file.Close())
			}
			appended := map[uint64]int{}
			appendEach(t, log, appended, 20, 21)
			if appended[20] != 20 || appended[21] != 21 {
				t.Errorf("got %v, want the indices that follow", appended)
			}
			quiet(t, log)
			examine(t, log, config, nil)
		})
	}
}

func TestALogWithoutAJournalThatCannotBeWrittenIsWaitedFor(t *testing.T) {
	if !secluded(t) {
		return
	}
	config := memory(t, "size=24m,mode=0700")
	age(t, config)
	volume := filepath.Dir(config.Dir)
	check(t, syscall.Mount("", volume, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	log := open(t, config)
	if err := log.Ready(); !isUnavailable(err) {
		t.Errorf("got %v, want a log that is unavailable", err)
	}
	check(t, syscall.Mount("", volume, "", syscall.MS_REMOUNT, ""))
	until(t, "ready", log.Ready)
	appendEach(t, log, map[uint64]int{}, 0)
}

func TestALogIsNotMadeOverAnothersJournal(t *testing.T) {
	t.Parallel()
	config := whole(t, 0)
	check(t, audit.Journal(t.Context(), config.Dir, numbered(0, 3)))
	check(t, os.RemoveAll(filepath.Join(config.Dir, ".state")))
	check(t, os.Remove(filepath.Join(config.Dir, "checkpoint")))
	check(t, os.RemoveAll(filepath.Join(config.Dir, "tile")))
	if err := audit.Create(t.Context(), config); err == nil || !strings.Contains(err.Error(), "journal of another log") {
		t.Errorf("got %v, want to be refused", err)
	}
}

// TestTilesThatAreChangedUnderTheLogEndIt: what Tessera makes of them is not the log
// that was recorded.
func TestTilesThatAreChangedUnderTheLogEndIt(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	check(t, audit.Create(t.Context(), config))
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	check(t, err)
	fill(t, log, 0, 300)
	quiet(t, log)
	flip(t, filepath.Join(config.Dir, "tile/1/000.p/1"), 7)
	if _, err := log.Append(t.Context(), entry(300), 0); err != nil {
		t.Errorf("the first entry, which is in the journal: got %v", err)
	}
	until(t, "not ready", func() error {
		if err := log.Ready(); err == nil || !strings.Contains(err.Error(), "another root hash") {
			return errors.New("the log is ready")
		}
		return nil
	})
	if _, err := log.Append(t.Context(), entry(301), 0); !isUnavailable(err) {
		t.Errorf("the next one: got %v, want a log that is unavailable", err)
	}
	if err := log.Close(t.Context()); err == nil {
		t.Error("closed in order, with an entry that is in no tile")
	}
	if _, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened again, with the tiles as they are")
	}
}
