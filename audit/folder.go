package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/sys/unix"
)

// Files of a log's directory beside what tlog-tiles names. All but the first are
// Tessera's.
const (
	journalFile = ".journal" // which is the lock, too
	lockFile    = ".lock"    // the lock of logs without a journal; then a directory
	stateFile   = ".state/treeState"
	tesseraLock = ".state/treeState.lock"
)

// folder is a log's directory, locked.
type folder struct {
	dir     string
	lock    *os.File
	journal *journal
	content []byte // of the journal, as it was found
}

// openFolder locks a directory that has a log.
func openFolder(dir string) (*folder, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, ErrNoLog
		}
		return nil, err
	}
	if err := giveJournal(dir); err != nil {
		return nil, err
	}
	return lockFolder(dir, 0)
}

// giveJournal lets a log that was made without a journal have one: what was its lock.
func giveJournal(dir string) error {
	path := filepath.Join(dir, lockFile)
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil // it has one, or none at all: whoever opens it finds out
	}
	old, err := os.Open(path)
	if err != nil {
		return err
	}
	defer old.Close()
	if err := syscall.Flock(int(old.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return ErrInUse
	}
	if _, err := os.Stat(filepath.Join(dir, journalFile)); err == nil {
		return os.Remove(path) // of a version that knows of no journal
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(path, filepath.Join(dir, journalFile)); err != nil {
		return machineError{err}
	}
	return nil
}

// bar keeps versions out of a directory that know of no journal: they make their lock
// where it is missing, and would give out indices that entries in the journal have.
func bar(dir string) error {
	err := os.Mkdir(filepath.Join(dir, lockFile), 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

func createFolder(ctx context.Context, config Config, keys []Key) error {
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(config.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if name := f.Name(); name != journalFile && name != lockFile && name != filepath.Dir(stateFile) && name != "lost+found" {
			return fmt.Errorf("the directory is not empty: there is %s", name)
		}
	}
	if err := seclude(config.Dir); err != nil {
		return err
	}
	f, err := lockFolder(config.Dir, os.O_CREATE)
	if err != nil {
		return err
	}
	s := &store{place: f}
	if _, err := os.Stat(filepath.Join(config.Dir, stateFile)); err == nil {
		return errors.Join(errors.New("the directory has one already"), s.abandon())
	}
	if len(bytes.Trim(f.content, "\x00")) > 0 {
		return errors.Join(fmt.Errorf("the directory has the journal of another log: %s", f.journal.path), s.abandon())
	}
	if err := s.run(ctx, config, keys); err != nil {
		return errors.Join(err, s.abandon())
	}
	return s.close(ctx, func(context.Context) error { return nil })
}

// seclude closes a directory to other users: the log tells every caller's taxpayers,
// and Tessera makes its files readable by all.
func seclude(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("others may enter the directory, and read every caller's taxpayers there: chmod 700 %s: %w", dir, err)
	}
	return nil
}

// lockFolder takes the directory for this process, as long as it lives, reads its
// journal, and makes durable whatever a process before it wrote and did not live to
// fsync. With os.O_CREATE it makes the journal.
func lockFolder(dir string, create int) (*folder, error) {
	path := filepath.Join(dir, journalFile)
	lock, err := os.OpenFile(path, os.O_RDONLY|create, 0o600) // a writer would hold off a remount
	if errors.Is(err, os.ErrNotExist) {
		return nil, machineError{fmt.Errorf("the journal %s is missing, and with it entries that may have been released: put it back; if it is lost for good, an empty file in its place lets the log go on without it", path)}
	}
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, lock: lock, journal: &journal{path: path, through: writeThrough}}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(err, f.release())
	}
	if f.content, err = fillJournal(path); errors.Is(err, errJournal) {
		return nil, errors.Join(err, f.release())
	}
	if err == nil {
		f.journal.identity, err = lock.Stat()
	}
	if err == nil {
		err = bar(dir)
	}
	if err == nil {
		err = f.flush()
	}
	if err != nil {
		return nil, errors.Join(machineError{err}, f.release())
	}
	return f, nil
}

func (f *folder) driver(ctx context.Context) (tessera.Driver, error) {
	return posix.New(ctx, posix.Config{Path: f.dir})
}

func (f *folder) source() Source { return Dir(f.dir) }

func (f *folder) release() error { return f.lock.Close() }

// flush has on the disk all that was written to its file system.
func (f *folder) flush() error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.lock.Fd())))
}

// usable finds what would make Tessera panic, or begin anew, at the next append:
// the directory gone, replaced, or read-only.
func (f *folder) usable() error {
	if err := f.same(); err != nil {
		return err
	}
	for path, mode := range map[string]uint32{tesseraLock: unix.R_OK | unix.W_OK, stateFile: unix.R_OK} {
		if err := access(filepath.Join(f.dir, path), mode); err != nil && (path != tesseraLock || !errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return access(f.dir, unix.W_OK)
}

// same reports whether the directory is still the one that was opened.
func (f *folder) same() error {
	now, err := os.Stat(f.journal.path)
	if err == nil && !os.SameFile(now, f.journal.identity) {
		err = fmt.Errorf("%s is not the directory that was opened: start again to use it", f.dir)
	}
	return err
}

func (f *folder) look(context.Context) error {
	if err := f.usable(); err != nil {
		return err
	}
	path, now := filepath.Join(f.dir, layout.CheckpointPath), time.Now()
	if info, err := os.Stat(path); err == nil && info.ModTime().After(now.Add(clockSlack)) {
		_ = os.Chtimes(path, now, now) // else it is published late
	}
	return nil
}

// access reports whether this process may use a file so.
func access(path string, mode uint32) error {
	if err := unix.Access(path, mode); err != nil {
		return &os.PathError{Op: "access", Path: path, Err: err}
	}
	return nil
}

// probe finds out whether a log that could not be written can be again: by
// writing as much as an append does, and by its size.
func (f *folder) probe(_ context.Context, size uint64) (err error) {
	if err := f.usable(); err != nil {
		return err
	}
	state, err := readState(f.dir)
	switch {
	case err != nil:
		return err
	case state.Size < size:
		return fmt.Errorf("the log has %d entries, and had %d: it was replaced", state.Size, size)
	}
	file, err := os.CreateTemp(filepath.Join(f.dir, filepath.Dir(stateFile)), "probe")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close(), os.Remove(file.Name()))
	}()
	if _, err := file.Write(make([]byte, maxTile+tileWidth<<10)); err != nil {
		return err
	}
	return file.Sync()
}

func (f *folder) state(context.Context) (state, error) { return readState(f.dir) }

func readState(dir string) (state, error) {
	var s state
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil || !s.valid() {
		return s, fmt.Errorf("%s is damaged", stateFile)
	}
	return s, nil
}
