package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
)

// The tables that Tessera's MySQL driver reads and writes. What its statements tell
// of them is their names, their columns and keys, and that there is one row of the
// versions, of the state and of the checkpoint, with id 0.
var tables = []string{
	"CREATE TABLE IF NOT EXISTS `Tessera` (" +
		"`id` TINYINT UNSIGNED NOT NULL PRIMARY KEY, `compatibilityVersion` BIGINT UNSIGNED NOT NULL)",
	"CREATE TABLE IF NOT EXISTS `TreeState` (" +
		"`id` TINYINT UNSIGNED NOT NULL PRIMARY KEY, `size` BIGINT UNSIGNED NOT NULL, `root` VARBINARY(32) NOT NULL)",
	"CREATE TABLE IF NOT EXISTS `Checkpoint` (" +
		"`id` TINYINT UNSIGNED NOT NULL PRIMARY KEY, `note` MEDIUMBLOB NOT NULL, `published_at` BIGINT NOT NULL)",
	"CREATE TABLE IF NOT EXISTS `Subtree` (" +
		"`level` TINYINT UNSIGNED NOT NULL, `index` BIGINT UNSIGNED NOT NULL, `nodes` MEDIUMBLOB NOT NULL, PRIMARY KEY (`level`, `index`))",
	"CREATE TABLE IF NOT EXISTS `TiledLeaves` (" +
		"`tile_index` BIGINT UNSIGNED NOT NULL PRIMARY KEY, `size` SMALLINT UNSIGNED NOT NULL, `data` LONGBLOB NOT NULL)",
}

// tablesVersion is the version of these tables that Tessera asks for.
const tablesVersion = 1

// flushTwice is the innodb_flush_log_at_trx_commit, which MariaDB alone has, of a
// server that flushes at each commit whatever the binary log does.
const flushTwice = 3

// answerWithin bounds a question to the database, and watching it.
const answerWithin = 5 * time.Second

// ErrNotDurable is the error of a database that loses what it said was committed
// when the machine stops.
var ErrNotDurable = errors.New("the database would lose entries")

// database is a database that a log is in, which several processes append to.
type database struct {
	db     *sql.DB
	open   func(context.Context, *sql.DB) (tessera.Driver, error)
	unsafe atomic.Pointer[error] // why it is not durable, as it was seen last
}

func (d *database) driver(ctx context.Context) (tessera.Driver, error) { return d.open(ctx, d.db) }

func (d *database) source() Source { return d }

func (d *database) release() error { return nil } // whoever opened it closes it

func (d *database) same() error { return nil }

func (d *database) usable() error {
	if why := d.unsafe.Load(); why != nil {
		return *why
	}
	return nil
}

func (d *database) look(ctx context.Context) error {
	if err := d.durable(ctx); err != nil {
		return err
	}
	return d.correct(ctx)
}

// durable asks the server whether what it commits is on the disk.
func (d *database) durable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var commit, binary, synced int
	var method string
	err := d.db.QueryRowContext(ctx, "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.innodb_flush_method,"+
		" @@GLOBAL.log_bin, @@GLOBAL.sync_binlog").Scan(&commit, &method, &binary, &synced)
	switch {
	case err != nil:
		return asked("settings", err)
	case commit != 1 && commit != flushTwice:
		err = fmt.Errorf("%w: innodb_flush_log_at_trx_commit is %d and must be 1", ErrNotDurable, commit)
	case commit != flushTwice && binary != 0 && synced != 1:
		// The engine then leaves its own flush out, and goes by the binary log.
		err = fmt.Errorf("%w: log_bin is on, and sync_binlog is %d and must be 1", ErrNotDurable, synced)
	case strings.Contains(strings.ToLower(method), "sync") && !strings.EqualFold(method, "fsync") && !strings.EqualFold(method, "O_DSYNC"):
		err = fmt.Errorf("%w: innodb_flush_method is %s", ErrNotDurable, method)
	default:
		d.unsafe.Store(nil)
		return nil
	}
	d.unsafe.Store(&err)
	return err
}

// correct gives a checkpoint the present for its time where that lies in the future.
func (d *database) correct(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	now := time.Now()
	_, err := d.db.ExecContext(ctx, "UPDATE `Checkpoint` SET `published_at` = ? WHERE `id` = 0 AND `published_at` > ?",
		now.UnixMilli(), now.Add(clockSlack).UnixMilli())
	if err != nil {
		return asked("checkpoint", err)
	}
	return nil
}

// probe commits the state as it is once more.
func (d *database) probe(ctx context.Context, size uint64) error {
	if err := d.durable(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return asked("probe", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	var s state
	err = tx.QueryRowContext(ctx, "SELECT `size`, `root` FROM `TreeState` WHERE `id` = 0 FOR UPDATE").Scan(&s.Size, &s.Root)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNoLog
	case err != nil:
		return asked("state", err)
	case s.Size < size:
		return fmt.Errorf("the log has %d entries, and had %d: it was replaced", s.Size, size)
	}
	if _, err = tx.ExecContext(ctx, "REPLACE INTO `TreeState` (`id`, `size`, `root`) VALUES (0, ?, ?)", s.Size, s.Root); err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return asked("probe", err)
	}
	return nil
}

// state reads the state of a log in tables that do not forget.
func (d *database) state(ctx context.Context) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var there, kept int
	err := d.db.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(`engine` = 'InnoDB'), 0) FROM information_schema.tables"+
		" WHERE table_schema = DATABASE() AND LOWER(table_name) IN ('tessera', 'treestate', 'checkpoint', 'subtree', 'tiledleaves')").Scan(&there, &kept)
	switch {
	case err != nil:
		return state{}, asked("tables", err)
	case there < len(tables):
		return state{}, ErrNoLog
	case kept < there:
		return state{}, fmt.Errorf("%w: a table's engine is not InnoDB", ErrNotDurable)
	}
	var s state
	err = d.db.QueryRowContext(ctx, "SELECT `size`, `root` FROM `TreeState` WHERE `id` = 0").Scan(&s.Size, &s.Root)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return state{}, ErrNoLog
	case err != nil:
		return state{}, asked("state", err)
	case !s.valid():
		return state{}, errors.New("its table TreeState is damaged")
	}
	return s, nil
}

// createShared makes a log in a database, and waits for its first checkpoint.
func createShared(ctx context.Context, config Config, d *database, keys []Key) error {
	if _, err := d.state(ctx); !errors.Is(err, ErrNoLog) {
		if err == nil {
			err = errors.New("the database has one already")
		}
		return err
	}
	if err := d.durable(ctx); err != nil {
		return err
	}
	for _, table := range tables {
		if _, err := d.db.ExecContext(ctx, table+" ENGINE=InnoDB"); err != nil {
			return asked("tables", err)
		}
	}
	if _, err := d.db.ExecContext(ctx, "INSERT IGNORE INTO `Tessera` (`id`, `compatibilityVersion`) VALUES (0, ?)", tablesVersion); err != nil {
		return asked("tables", err)
	}
	s := &store{place: d}
	if err := s.run(ctx, config, keys); err != nil {
		return errors.Join(err, s.abandon())
	}
	for {
		_, err := d.Checkpoint(ctx)
		if err == nil {
			return s.close(ctx, func(context.Context) error { return nil })
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for the first checkpoint: %w", ctx.Err()), err, s.abandon())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// asked is the error of a question: of what, and of the machine's state.
func asked(what string, err error) error {
	return machineError{fmt.Errorf("asking the database (%s): %w", what, err)}
}

// read reads one row.
func (d *database) read(ctx context.Context, what, query string, arguments []any, into ...any) error {
	err := d.db.QueryRowContext(ctx, query, arguments...).Scan(into...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	case err != nil:
		return asked(what, err)
	}
	return nil
}

// Checkpoint implements [Source].
func (d *database) Checkpoint(ctx context.Context) ([]byte, error) {
	var text []byte
	err := d.read(ctx, "checkpoint", "SELECT `note` FROM `Checkpoint` WHERE `id` = 0", nil, &text)
	return text, err
}

// Tile implements [Source].
func (d *database) Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
	var hashes []byte
	what := fmt.Sprintf("tile %d of level %d", index, level)
	err := d.read(ctx, what, "SELECT `nodes` FROM `Subtree` WHERE `level` = ? AND `index` = ?", []any{level, index}, &hashes)
	if err != nil {
		return nil, err
	}
	length := count(width) * len(Digest{})
	if len(hashes)%len(Digest{}) != 0 || len(hashes) > maxTile {
		return hashes, nil // whoever reads it finds it damaged
	}
	if len(hashes) < length {
		return nil, fmt.Errorf("%s, %d hashes wide: %w", what, count(width), fs.ErrNotExist)
	}
	return hashes[:length], nil
}

// Entries implements [Source].
func (d *database) Entries(ctx context.Context, index uint64, width uint8) ([]byte, error) {
	var bundle []byte
	what := fmt.Sprintf("bundle %d", index)
	err := d.read(ctx, what, "SELECT `data` FROM `TiledLeaves` WHERE `tile_index` = ?", []any{index}, &bundle)
	if err != nil {
		return nil, err
	}
	lines, err := split(bundle)
	if err != nil {
		return bundle, nil //nolint:nilerr // whoever reads it finds it damaged
	}
	if len(lines) < count(width) {
		return nil, fmt.Errorf("%s, %d entries wide: %w", what, count(width), fs.ErrNotExist)
	}
	length := 0
	for _, line := range lines[:count(width)] {
		length += 2 + len(line)
	}
	return bundle[:length], nil
}

// count is how many a width means.
func count(width uint8) int {
	if width == 0 {
		return tileWidth
	}
	return int(width)
}
