package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/audit/mysql"
)

func TestSeveralSignersShareOneLog(t *testing.T) {
	t.Parallel()
	config := newShared(t)
	check(t, audit.Create(t.Context(), config))
	logs := []*audit.Log{open(t, config), open(t, config), open(t, config)}
	since := examine(t, logs[0], config, nil).Text
	const each = 300
	indices := make([]map[int]uint64, len(logs))
	var filling sync.WaitGroup
	for i, log := range logs {
		filling.Go(func() { indices[i] = fill(t, log, i*each, (i+1)*each) })
	}
	filling.Wait()
	seen := map[uint64]int{}
	for i := range logs {
		for n, index := range indices[i] {
			if other, twice := seen[index]; twice {
				t.Errorf("entries %d and %d both have index %d", n, other, index)
			}
			seen[index] = n
		}
	}
	v := verifiers(t, config)
	for i, log := range logs {
		if size := quiet(t, log).Size; size != uint64(len(logs)*each) {
			t.Errorf("signer %d: got %d entries, want %d", i, size, len(logs)*each)
		}
		for _, index := range []uint64{0, 255, 256, 899} {
			receipt, err := log.Receipt(t.Context(), index)
			check(t, err)
			proven, err := audit.VerifyReceipt(receipt, v)
			if want := entry(seen[index]).RequestID; err != nil || proven.Index != index || proven.Entry.RequestID != want {
				t.Errorf("signer %d, index %d: got %+v and %v, want %s", i, index, proven, err, want)
			}
		}
	}
	if report := examine(t, logs[1], config, since); report.Entries != uint64(len(logs)*each) {
		t.Errorf("got %d entries checked, want %d", report.Entries, len(logs)*each)
	}
	shut(t, logs[0])
	fill(t, logs[1], 2000, 2010)
}

// examine checks a log that is open, wherever it is kept.
func examine(t testing.TB, log *audit.Log, config audit.Config, since []byte) audit.Report {
	t.Helper()
	report, err := audit.Check(t.Context(), log.Source(), verifiers(t, config), audit.CheckOptions{Since: since})
	check(t, err)
	if len(report.Findings) > 0 {
		t.Errorf("the log: got %v, want no findings", report.Findings)
	}
	return report
}

func TestADatabaseThatGoesAndComesBackLosesNothing(t *testing.T) {
	config := newShared(t)
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	s := running(t)
	since := examine(t, log, config, nil).Text
	appended := map[uint64]int{}
	for round := range rounds(2, 20) {
		var mu sync.Mutex
		var callers sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		some := make(chan struct{}, 100_000)
		for caller := range 8 {
			callers.Go(func() {
				for n := round*1_000_000 + caller; ctx.Err() == nil; n += 8 {
					index, err := log.Append(t.Context(), entry(n), 0)
					if err != nil { // the server is away, or slow
						<-time.After(time.Millisecond)
						continue
					}
					mu.Lock()
					if before, twice := appended[index]; twice {
						t.Errorf("index %d was given to entry %d and to entry %d", index, before, n)
					}
					appended[index] = n
					mu.Unlock()
					some <- struct{}{}
				}
			})
		}
		for range 100 {
			<-some
		}
		check(t, s.kill())
		until(t, "not ready", func() error {
			if isUnavailable(log.Ready()) {
				return nil
			}
			return errors.New("ready")
		})
		stop()
		callers.Wait()
		refused(t, log)
		check(t, s.start())
		until(t, "ready again", log.Ready)
		for n, index := range fill(t, log, round*1_000_000+900_000, round*1_000_000+900_010) {
			appended[index] = n
		}
	}
	quiet(t, log)
	recorded(t, log, appended)
	examine(t, log, config, since)
}

// recorded asserts that each entry is in the log where it was said to be.
func recorded(t testing.TB, log *audit.Log, appended map[uint64]int) {
	t.Helper()
	if len(appended) == 0 {
		t.Error("nothing was appended: nothing is proven")
	}
	for index, n := range appended {
		got, err := log.Entry(t.Context(), index)
		if err != nil || got.RequestID != entry(n).RequestID {
			t.Errorf("index %d: got %+v and %v, want entry %d", index, got, err, n)
		}
	}
}

func TestADatabaseThatForgetsIsRefused(t *testing.T) {
	config := newShared(t)
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	s := running(t)
	forget := func() { s.do(t, "mysql", "SET GLOBAL innodb_flush_log_at_trx_commit = 2") }
	keep := func() { s.do(t, "mysql", "SET GLOBAL innodb_flush_log_at_trx_commit = 1") }
	t.Cleanup(keep)
	forget()
	if _, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler)); !errors.Is(err, audit.ErrNotDurable) {
		t.Errorf("opening: got %v, want %v", err, audit.ErrNotDurable)
	}
	if err := audit.Create(t.Context(), newShared(t)); !errors.Is(err, audit.ErrNotDurable) {
		t.Errorf("making one: got %v, want %v", err, audit.ErrNotDurable)
	}
	until(t, "not ready", func() error {
		if err := log.Ready(); !errors.Is(err, audit.ErrNotDurable) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	refused(t, log)
	keep()
	until(t, "ready again", log.Ready)
	fill(t, log, 0, 3)
	shut(t, log)
	s.do(t, nameOf(config), "ALTER TABLE TiledLeaves ENGINE=Aria")
	if _, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler)); !errors.Is(err, audit.ErrNotDurable) {
		t.Errorf("another engine: got %v, want %v", err, audit.ErrNotDurable)
	}
}

// With a binary log, MariaDB's engine leaves its own flush at a commit out: what was
// committed is on the disk with the binary log, or at the engine's next flush.
func TestADatabaseWhoseBinaryLogForgetsIsRefused(t *testing.T) {
	t.Parallel()
	s, err := startServer("--log-bin=binary", "--sync-binlog=0")
	t.Cleanup(s.remove)
	check(t, err)
	config := sharedOn(t, s)
	if err := audit.Create(t.Context(), config); !errors.Is(err, audit.ErrNotDurable) || !strings.Contains(err.Error(), "sync_binlog is 0") {
		t.Errorf("making a log: got %v, want %v", err, audit.ErrNotDurable)
	}
	s.do(t, "mysql", "SET GLOBAL sync_binlog = 1")
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	fill(t, log, 0, 3)
	s.do(t, "mysql", "SET GLOBAL sync_binlog = 1000")
	until(t, "not ready", func() error {
		if err := log.Ready(); !errors.Is(err, audit.ErrNotDurable) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	refused(t, log)
	s.do(t, "mysql", "SET GLOBAL innodb_flush_log_at_trx_commit = 3") // which flushes for itself
	until(t, "ready again", log.Ready)
	fill(t, log, 3, 6)
	shut(t, log)
}

// What is wrong for good ends Open; what may pass leaves a log that is not ready.
func TestADatabaseThatMustNotBeContinuedIsNotOpened(t *testing.T) {
	original := newShared(t)
	check(t, audit.Create(t.Context(), original))
	log := open(t, original)
	fill(t, log, 0, 300)
	shut(t, log)
	for name, row := range map[string]struct{ statement, want string }{
		"no tables":            {"DROP TABLE TreeState", ""},
		"no state":             {"DELETE FROM TreeState", ""},
		"no checkpoint":        {"DELETE FROM Checkpoint", ""},
		"a damaged state":      {"UPDATE TreeState SET root = REVERSE(root)", "damaged"},
		"an older state":       {"UPDATE TreeState SET size = 17", "older copy"},
		"a damaged tile":       {"UPDATE Subtree SET nodes = CONCAT(nodes, 'x') WHERE level = 0 AND `index` = 1", "damaged"},
		"a tile too short":     {"UPDATE Subtree SET nodes = LEFT(nodes, 32) WHERE level = 0 AND `index` = 1", "damaged"},
		"a changed tile":       {"UPDATE Subtree SET nodes = REVERSE(nodes) WHERE level = 0 AND `index` = 1", "damaged"},
		"a changed bundle":     {"UPDATE TiledLeaves SET data = REPLACE(data, 'INV', 'XNV') WHERE tile_index = 1", "damaged"},
		"a changed checkpoint": {"UPDATE Checkpoint SET note = REPLACE(note, '\n300\n', '\n299\n')", "checkpoint"},
		"an unknown version":   {"UPDATE Tessera SET compatibilityVersion = 99", ""},
	} {
		t.Run(name, func(t *testing.T) {
			config := another(t, original)
			running(t).do(t, nameOf(config), row.statement)
			again, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("got %v, want an error about %q", err, row.want)
				}
				return
			}
			check(t, err)
			defer shut(t, again)
			refused(t, again)
		})
	}
}

// refused asserts that a log is not ready, and that nothing can be appended.
func refused(t testing.TB, log *audit.Log) {
	t.Helper()
	if err := log.Ready(); !isUnavailable(err) {
		t.Errorf("got %v, want a log that is unavailable", err)
	}
	if index, err := log.Append(t.Context(), entry(0), 0); !isUnavailable(err) {
		t.Errorf("appending: got index %d and %v, want a log that is unavailable", index, err)
	}
}

func TestADatabasesPasswordIsInAFileOfItsOwn(t *testing.T) {
	t.Parallel()
	config := newShared(t)
	s := running(t)
	name := nameOf(config)
	s.do(t, "mysql", "CREATE USER "+name+"@localhost IDENTIFIED BY 'one two'")
	s.do(t, "mysql", "GRANT ALL ON "+name+".* TO "+name+"@localhost")
	config.MySQL.DSN = name + "@unix(" + s.socket() + ")/" + name
	config.MySQL.PasswordFile = filepath.Join(t.TempDir(), "password")
	check(t, os.WriteFile(config.MySQL.PasswordFile, []byte("one two\n"), 0o600))
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	fill(t, log, 0, 3)
	shut(t, log)

	check(t, os.WriteFile(config.MySQL.PasswordFile, []byte("three\n"), 0o600))
	log = open(t, config)
	if err := log.Ready(); !isUnavailable(err) || strings.Contains(err.Error(), "three") {
		t.Errorf("a wrong password: got %v, want a log that is unavailable", err)
	}
	check(t, os.WriteFile(config.MySQL.PasswordFile, []byte("one two\n"), 0o600))
	until(t, "ready", log.Ready)

	check(t, os.Chmod(config.MySQL.PasswordFile, 0o640))
	if _, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "others may use it") {
		t.Errorf("a password that others may read: got %v, want a refusal", err)
	}
	check(t, os.Chmod(config.MySQL.PasswordFile, 0o600)) // the log that is open may connect anew to close
}

func TestADatabaseIsNamedSafely(t *testing.T) {
	for dsn, want := range map[string]string{
		"audit@unix(/run/mysqld/mysqld.sock)/audit":            "",
		"audit@tcp(127.0.0.1:3306)/audit":                      "",
		"audit@tcp([::1]:3306)/audit":                          "",
		"audit@tcp(db.example:3306)/audit?tls=true":            "",
		"audit@tcp(db.example:3306)/audit":                     "tls=true",
		"audit@tcp(db.example:3306)/audit?tls=skip-verify":     "tls=true",
		"audit@tcp(127.0.0.1:3306)/":                           "names no database",
		"audit:secret@tcp(127.0.0.1:3306)/audit":               "password",
		"audit@tcp(127.0.0.1:3306)/audit?multiStatements=true": "unsafe",
		"audit@tcp(127.0.0.1:3306)/audit?allowAllFiles=true":   "unsafe",
		"what is this": "not of the form",
	} {
		db, err := mysql.Database{}.Open(audit.MySQL{DSN: dsn})
		if err == nil {
			check(t, db.Close())
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", dsn, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", dsn, err)
		}
	}
	config := newConfig(t)
	config.MySQL.DSN = "audit:secret@tcp(127.0.0.1:3306)/audit"
	err := config.Validate()
	if err == nil || !strings.Contains(err.Error(), "mysql: given beside dir") || !strings.Contains(err.Error(), "mysql.password_file") {
		t.Errorf("got %v, want faults of both", err)
	}
	config.Dir, config.MySQL, config.WitnessFile = "", audit.MySQL{PasswordFile: "password"}, "policy"
	if err := config.Validate(); err == nil || !strings.Contains(err.Error(), "mysql.dsn: missing") || !strings.Contains(err.Error(), "witness_file: not with") {
		t.Errorf("got %v, want faults of mysql.dsn and of the witnesses", err)
	}
	config.WitnessFile = ""
	config.MySQL = audit.MySQL{DSN: "audit@unix(/socket)/audit"}
	if _, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "databases") {
		t.Errorf("a program without the driver: got %v, want a refusal", err)
	}
}
