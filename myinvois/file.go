package myinvois

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolt "go.etcd.io/bbolt/errors"
)

// Journal remembers what is to be submitted, is being submitted and was: on the
// disk before anything is sent. It is one file. One process at a time writes it,
// from [OpenJournal] to Close, which a lock on another file beside it says; others
// read it meanwhile, since the file itself is locked for each transaction only. So
// a reader sees what whole transactions left, and waits for one at most; and the
// writer waits for the reading of a page of entries at most. It is safe for
// concurrent use.
//
// It holds the documents' bytes, for good: what was submitted in whose name has
// to be kept, and the platform keeps its own for seven years only.
type Journal struct {
	path   string
	lock   *os.File // nil where it is only read
	noSync bool     // for tests

	mu     sync.Mutex // held for each transaction: each has the file open for itself
	closed bool
}

// Errors of opening a journal.
var (
	// ErrInUse is the error of a journal that another process writes.
	ErrInUse = errors.New("another process has it open")
	// ErrNoJournal is the error of reading one that is not there.
	ErrNoJournal = errors.New("there is no journal: nothing was submitted with this configuration")
)

// lockSuffix makes the name of the file whose lock is the writer's.
const lockSuffix = ".lock"

// How long one process waits for another: for the end of a transaction, and of a
// whole run; and from one try to the next.
const (
	patience = 10 * time.Second
	opening  = 2 * time.Second
	retrying = 50 * time.Millisecond
)

// OpenJournal opens a journal to write it, and makes it where there is none (0600).
// It belongs to one platform: place is that one's address, and a journal of another
// is refused.
func OpenJournal(path, place string) (*Journal, error) {
	file := behind(path)
	lock, err := locked(file + lockSuffix)
	if err != nil {
		return nil, fmt.Errorf("opening the journal %s: %w", path, unpathed(err))
	}
	j := &Journal{path: file, lock: lock}
	if err := j.make(place); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the journal %s: %w", path, err), lock.Close())
	}
	return j, nil
}

// ReadJournal opens a journal to read it, which another process may write at the
// same time. Nothing is made: where there is none, the error is [ErrNoJournal].
func ReadJournal(path, place string) (*Journal, error) {
	j := &Journal{path: path}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		err = ErrNoJournal
	}
	if err == nil {
		err = j.transact(false, func(tx *bbolt.Tx) error { return belongs(tx, place) })
	}
	if err != nil {
		return nil, fmt.Errorf("reading the journal %s: %w", path, unpathed(err))
	}
	return j, nil
}

// Close ends the use of the file: what is asked of the journal afterwards is
// [os.ErrClosed].
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || j.lock == nil {
		j.closed = true
		return nil
	}
	j.closed = true
	return j.lock.Close()
}

// behind is the file that a path's links lead to, so that all who mean one journal
// meet beside it.
func behind(path string) string {
	if file, err := filepath.EvalSymlinks(path); err == nil {
		return file
	}
	return path // not there yet
}

// locked opens a file and locks it, until it is closed or the process ends.
func locked(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return file, nil
		case errors.Is(err, syscall.EWOULDBLOCK) && time.Since(began) < opening:
			<-time.After(retrying)
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			err = ErrInUse
		}
		return nil, errors.Join(err, file.Close())
	}
}

// make makes what is not there yet.
func (j *Journal) make(place string) error {
	file, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return unpathed(err)
	}
	if err := file.Close(); err != nil {
		return err
	}
	return j.transact(true, func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{aboutBucket, entryBucket, contentBucket, inputBucket, numberBucket, batchBucket, openBucket, uidBucket, claimBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if about := tx.Bucket(aboutBucket); about.Get(placeKey()) == nil {
			return about.Put(placeKey(), []byte(place))
		}
		return belongs(tx, place)
	})
}

func placeKey() []byte { return []byte("place") }

// belongs refuses a journal of another platform.
func belongs(tx *bbolt.Tx, place string) error {
	about := tx.Bucket(aboutBucket)
	if about == nil {
		return ErrNoJournal
	}
	if known := string(about.Get(placeKey())); known != place {
		return fmt.Errorf("it is of submissions to %s, not to %s: name another file in the configuration (journal)", known, place)
	}
	return nil
}

// transact opens the file for one transaction, and locks it as long: for this
// process alone if it writes.
func (j *Journal) transact(writes bool, do func(*bbolt.Tx) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return os.ErrClosed
	}
	db, err := bbolt.Open(j.path, 0o600, &bbolt.Options{
		Timeout: patience, ReadOnly: !writes, FreelistType: bbolt.FreelistMapType, NoSync: j.noSync, OpenFile: existing,
	})
	if errors.Is(err, bolt.ErrTimeout) {
		err = ErrInUse
	}
	if err != nil {
		return unpathed(err)
	}
	if writes {
		err = db.Update(do)
	} else {
		err = db.View(do)
	}
	return errors.Join(err, db.Close())
}

// existing opens a file that is there: one that was taken away under a run must not
// come back empty.
func existing(name string, flag int, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag&^os.O_CREATE, mode)
}

func unpathed(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// update changes entries, all or none, and what else change writes.
func (j *Journal) update(change func(*bbolt.Tx) error) error {
	if j.lock == nil {
		return errors.New("writing the journal: it was opened to be read")
	}
	if err := j.transact(true, change); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// view reads.
func (j *Journal) view(read func(*bbolt.Tx) error) error {
	if err := j.transact(false, read); err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	return nil
}

// page is how many entries are read at a time.
const page = 500

// Entries yields all entries, the oldest first, until the first error: a page at a
// time, each as one moment had it. The journal may be used meanwhile, and may
// change.
func (j *Journal) Entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for next := uint64(0); ; {
			var read []Entry
			err := j.view(func(tx *bbolt.Tx) error {
				cursor := tx.Bucket(entryBucket).Cursor()
				for id, _ := cursor.Seek(number(next)); id != nil && len(read) < page; id, _ = cursor.Next() {
					e, err := entryAt(tx, id)
					if err != nil {
						return err
					}
					read = append(read, e)
				}
				return nil
			})
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range read {
				if !yield(e, nil) {
					return
				}
			}
			if len(read) < page {
				return
			}
			next = read[len(read)-1].ID + 1
		}
	}
}
