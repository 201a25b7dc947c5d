package signer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/roamsign/roamsign/internal/strict"
	"github.com/roamsign/roamsign/policy"
)

// usage is what callers have used of a day's quotas: the content of usage.json.
type usage struct {
	// Day is the first instant of the day.
	Day time.Time `json:"day"`
	// Used is in no order.
	Used []used `json:"used"`
}

// used is one count: of a caller's method, or of all its methods.
type used struct {
	Caller policy.Caller `json:"caller"`
	Method policy.Method `json:"method,omitempty"`
	Count  int           `json:"count"`
}

// ledger is a folder that one process keeps usage in. Its file holds one day and
// is replaced as a whole, so that it is always one that was written. It is for
// one goroutine.
type ledger struct {
	folder string
	lock   *os.File
}

// openLedger opens a folder, or makes it in one that exists, and reads what it
// says. A file that cannot be read is an error: to begin at nothing would give
// every caller its quota once more.
func openLedger(folder string) (*ledger, usage, error) {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, usage{}, err
	}
	lock, err := os.OpenFile(filepath.Join(folder, "usage.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, usage{}, err
	}
	l := &ledger{folder: folder, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, usage{}, errors.Join(fmt.Errorf("%s: another process keeps its state there: %w", folder, err), lock.Close())
	}
	before, err := l.read()
	if err != nil {
		return nil, usage{}, errors.Join(err, lock.Close())
	}
	// What cannot be written is told at the start rather than at the first quota.
	if err := l.write(before); err != nil {
		return nil, usage{}, errors.Join(err, lock.Close())
	}
	return l, before, nil
}

func (l *ledger) path() string { return filepath.Join(l.folder, "usage.json") }

// read reads the file; without one nothing was used.
func (l *ledger) read() (usage, error) {
	text, err := strict.ReadFile(l.path(), strict.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return usage{}, nil
	}
	if err != nil {
		return usage{}, err
	}
	u, err := parseUsage(text)
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w (remove it to begin the day's quotas anew)", l.path(), err)
	}
	return u, nil
}

// parseUsage reads a file's content. But for white space it must be what
// [ledger.write] writes: nothing after it, no key twice, none left out.
func parseUsage(text []byte) (u usage, err error) {
	if err := json.Unmarshal(text, &u); err != nil {
		return usage{}, err
	}
	again, err := json.Marshal(u)
	if err != nil {
		return usage{}, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return usage{}, err
	}
	if !bytes.Equal(again, compact.Bytes()) {
		return usage{}, errors.New("it is not in the form in which it is written")
	}
	if u.Day.IsZero() && len(u.Used) > 0 {
		return usage{}, errors.New("it names no day")
	}
	seen := map[used]bool{}
	for _, each := range u.Used {
		if each.Count < 0 || each.Caller == "" {
			return usage{}, fmt.Errorf("caller %q has used %d", each.Caller, each.Count)
		}
		key := used{Caller: each.Caller, Method: each.Method}
		if seen[key] {
			return usage{}, fmt.Errorf("caller %q stands in it twice", each.Caller)
		}
		seen[key] = true
	}
	return u, nil
}

// write replaces the file. Once it returns nil, that outlives a loss of power.
func (l *ledger) write(u usage) error {
	text, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("writing down quotas: %w", err)
	}
	draft := l.path() + ".new"
	if err := writeDurably(draft, append(text, '\n')); err != nil {
		return err
	}
	if err := os.Rename(draft, l.path()); err != nil {
		return err
	}
	folder, err := os.Open(l.folder)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func writeDurably(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// close lets another process have the folder.
func (l *ledger) close() error { return l.lock.Close() }
