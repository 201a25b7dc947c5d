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

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
)

// Files of a log's directory beside what tlog-tiles names. All but the first are
// Tessera's.
const (
	lockFile    = ".lock"
	stateFile   = ".state/treeState"
	tesseraLock = ".state/treeState.lock"
)

// Errors of opening a log.
var (
	// ErrNoLog is the error of a directory without a log.
	ErrNoLog = errors.New("there is no log in it (is it mounted? else make one: roamsignd audit init)")
	// ErrInUse is the error of a log that another process, or this one, has open.
	ErrInUse = errors.New("another process has the log open")
)

// machineError is an error of the machine's state, which can change.
type machineError struct{ error }

// Unwrap returns the error itself.
func (e machineError) Unwrap() error { return e.error }

// store is a log's directory, locked, with Tessera over it.
type store struct {
	dir      string
	lock     *os.File
	identity os.FileInfo // of the lock
	appender *tessera.Appender
	reader   tessera.LogReader
	shutdown func(context.Context) error
	cancel   context.CancelFunc
	opened   uint64 // how many entries it had when it was opened
	queue    chan *pending
	ended    <-chan struct{}
}

// openStore locks the directory, judges what is in it, and starts Tessera.
func openStore(ctx context.Context, config Config, keys []Key) (*store, error) {
	if _, err := os.Stat(filepath.Join(config.Dir, stateFile)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, ErrNoLog
		}
		return nil, err
	}
	s, err := lockDir(config.Dir)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx, config, keys); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}

// Create makes an empty log: the directory, if it is missing (mode 0700), and in it
// a log of no entries with its first checkpoint. It refuses a directory that has
// one, and one with anything else in it.
func Create(ctx context.Context, config Config) error {
	keys, err := config.keys()
	if err != nil {
		return err
	}
	if err := create(ctx, config, keys); err != nil {
		return fmt.Errorf("making an audit log in %s: %w", config.Dir, err)
	}
	return nil
}

func create(ctx context.Context, config Config, keys []Key) error {
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(config.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if name := f.Name(); name != lockFile && name != filepath.Dir(stateFile) && name != "lost+found" {
			return fmt.Errorf("the directory is not empty: there is %s", name)
		}
	}
	s, err := lockDir(config.Dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(config.Dir, stateFile)); err == nil {
		return errors.Join(errors.New("the directory has one already"), s.abandon())
	}
	if err := s.run(ctx, config, keys); err != nil {
		return errors.Join(err, s.abandon())
	}
	return s.close(ctx)
}

// lockDir takes the directory for this process, as long as it lives, and makes
// durable whatever a process before it wrote and did not live to fsync.
func lockDir(dir string) (*store, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDONLY|os.O_CREATE, 0o600) // a writer would hold off a remount
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(err, s.abandon())
	}
	if s.identity, err = lock.Stat(); err == nil {
		err = os.NewSyscallError("syncfs", unix.Syncfs(int(lock.Fd())))
	}
	if err != nil {
		return nil, errors.Join(machineError{err}, s.abandon())
	}
	return s, nil
}

// start judges the log and starts Tessera over it.
func (s *store) start(ctx context.Context, config Config, keys []Key) error {
	size, err := judge(ctx, config.Dir, keys)
	if err != nil {
		return err
	}
	s.opened = size
	if err := s.usable(); err != nil {
		return err
	}
	return s.run(ctx, config, keys)
}

// run starts Tessera, which makes a log where there is none.
func (s *store) run(ctx context.Context, config Config, keys []Key) error {
	witnesses, err := config.witnesses()
	if err != nil {
		return err
	}
	opts, err := options(keys, witnesses)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: config.Dir})
	if err != nil {
		return machineError{err}
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.appender, s.shutdown, s.reader, err = tessera.NewAppender(running, driver, opts)
	if err != nil {
		return machineError{err}
	}
	s.queue, s.ended = make(chan *pending, maxWaiting), running.Done()
	go s.work(running)
	return nil
}

// usable finds what would make Tessera panic, or begin anew, at the next append:
// the directory gone, replaced, or read-only.
func (s *store) usable() error {
	if err := s.same(); err != nil {
		return err
	}
	for path, mode := range map[string]uint32{tesseraLock: unix.R_OK | unix.W_OK, stateFile: unix.R_OK} {
		if err := access(filepath.Join(s.dir, path), mode); err != nil && (path != tesseraLock || !errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return access(s.dir, unix.W_OK)
}

// same reports whether the directory is still the one that was opened.
func (s *store) same() error {
	now, err := os.Stat(filepath.Join(s.dir, lockFile))
	if err == nil && !os.SameFile(now, s.identity) {
		err = fmt.Errorf("%s is not the directory that was opened: start again to use it", s.dir)
	}
	return err
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
func (s *store) probe(size uint64) (err error) {
	if err := s.usable(); err != nil {
		return err
	}
	state, err := readState(s.dir)
	switch {
	case err != nil:
		return err
	case state.Size < size:
		return fmt.Errorf("the log has %d entries, and had %d: it was replaced", state.Size, size)
	}
	file, err := os.CreateTemp(filepath.Join(s.dir, filepath.Dir(stateFile)), "probe")
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

// close ends Tessera once the last checkpoint is published.
func (s *store) close(ctx context.Context) error {
	err := s.shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("waiting for the last checkpoint: %w", err)
	}
	return errors.Join(err, s.abandon())
}

// abandon ends Tessera as it is and lets go of the directory.
func (s *store) abandon() error {
	if s.cancel != nil {
		s.cancel()
	}
	return s.lock.Close()
}

// state is what Tessera keeps of a log: all that is integrated.
type state struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

func readState(dir string) (state, error) {
	var s state
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil || len(s.Root) != len(Digest{}) || s.Size > maxSize {
		return s, fmt.Errorf("%s is damaged", stateFile)
	}
	return s, nil
}

// judge reads a log before it is appended to, and returns its size. What is
// appended to must be the log of these keys, whole at its end, and not older than
// what was signed last: a copy put back would otherwise be continued as a second
// history.
func judge(ctx context.Context, dir string, keys []Key) (uint64, error) {
	s, err := readState(dir)
	if err != nil {
		return 0, err
	}
	source := Dir(dir)
	text, err := source.Checkpoint(ctx)
	switch {
	case errors.Is(err, os.ErrNotExist) && s.Size == 0:
		return 0, nil // made, and not published yet
	case errors.Is(err, os.ErrNotExist):
		return 0, fmt.Errorf("%d entries without a checkpoint: %w", s.Size, ErrNoLog)
	case err != nil:
		return 0, err
	}
	verifiers, err := verifiersOf(keys)
	if err != nil {
		return 0, err
	}
	signed, err := verifiers.Checkpoint(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w (are these the log's keys? a new key signs beside the old one first)", err)
	case signed.Size > s.Size:
		return 0, fmt.Errorf("it has %d entries, its checkpoint was signed over %d: this is an older copy, which must not be continued", s.Size, signed.Size)
	}
	for size, want := range map[uint64]Digest{signed.Size: signed.Root, s.Size: Digest(s.Root)} {
		root, err := rootAt(ctx, source, size)
		if err != nil {
			return 0, fmt.Errorf("its end is damaged: %w", err)
		}
		if root != want {
			return 0, fmt.Errorf("its end is damaged: the first %d entries have another root hash than was signed", size)
		}
	}
	return s.Size, judgeLast(ctx, source, s.Size)
}

// judgeLast holds the last bundle of entries against its hashes: the next append
// copies it.
func judgeLast(ctx context.Context, source Source, size uint64) error {
	if size == 0 {
		return nil
	}
	last := (size - 1) / tileWidth
	bundle, err := source.Entries(ctx, last, widthAt(last, size))
	if err != nil {
		return err
	}
	tile, err := source.Tile(ctx, 0, last, widthAt(last, size))
	if err != nil {
		return err
	}
	entries, err := split(bundle)
	var hashes []byte
	for _, e := range entries {
		hashes = append(hashes, leafHash(e)...)
	}
	if err != nil || !bytes.Equal(hashes, tile) {
		return fmt.Errorf("its end is damaged: %s does not have the entries that %s has the hashes of",
			layout.EntriesPath(last, widthAt(last, size)), layout.TilePath(0, last, widthAt(last, size)))
	}
	return nil
}

// signersOf returns the keys for signing.
func signersOf(keys []Key) ([]note.Signer, error) {
	signers := make([]note.Signer, len(keys))
	for i, k := range keys {
		signer, err := note.NewSigner(k.private)
		if err != nil {
			return nil, fmt.Errorf("log key %v: %w", k, errors.New("not usable"))
		}
		signers[i] = signer
	}
	return signers, nil
}

// verifiersOf returns the keys for verifying.
func verifiersOf(keys []Key) (Verifiers, error) {
	var text []byte
	for _, k := range keys {
		text = append(append(text, k.verifier...), '\n')
	}
	return ParseVerifiers(text)
}
