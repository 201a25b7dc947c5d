package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/transparency-dev/tessera"
)

// Held returns how many entries each record has that is in a directory's journal and
// not in its tiles.
func Held(dir string) ([]int, error) {
	content, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		return nil, err
	}
	s, err := readState(dir)
	if err != nil {
		return nil, err
	}
	records, err := readJournal(content, s.Size, Digest(s.Root))
	var counts []int
	for _, r := range records {
		counts = append(counts, len(r.entries))
	}
	return counts, err
}

// Journal appends batches to a log that nobody has open, and leaves them in its
// journal: from the first block on.
func Journal(ctx context.Context, dir string, batches ...[]Entry) error {
	s, err := readState(dir)
	if err != nil {
		return err
	}
	tree, err := rangeAt(ctx, Dir(dir), s.Size)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	offset := int64(0)
	for _, batch := range batches {
		r := record{first: tree.End()}
		for _, e := range batch {
			line, err := e.Encode()
			if err != nil {
				return err
			}
			r.entries = append(r.entries, line)
		}
		if r.root, err = grow(tree, r.entries); err != nil {
			return err
		}
		content := r.encode()
		if _, err := file.WriteAt(content, offset); err != nil {
			return err
		}
		offset += int64(len(content))
	}
	return nil
}

// OnWrite has f called for each write to the journal, instead of writing: that does
// write.
func (l *Log) OnWrite(f func(write func() error) error) {
	j := l.store.integrator.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.through = func(file *os.File, content []byte, offset int64) error {
		return f(func() error { return writeThrough(file, content, offset) })
	}
}

// Full errs until a record of so many blocks finds no room in the journal.
func (l *Log) Full(blocks int) error {
	j := l.store.integrator.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.place(blocks); err == nil {
		return errors.New("there is room in the journal")
	}
	return nil
}

// OnFlush has f called before what was written is confirmed by the disk.
func (l *Log) OnFlush(f func()) {
	i := l.store.integrator
	flush := i.flush
	i.flush = func() error { f(); return flush() }
}

// ForgetOnce has Tessera report a failure of the next integration, which it has done.
func (l *Log) ForgetOnce() {
	f := &forgetful{appenders: l.store.tessera.(appenders)}
	f.once.Store(true)
	l.store.tessera = f
}

type forgetful struct {
	appenders
	once atomic.Bool
}

func (f *forgetful) Appender(ctx context.Context, options *tessera.AppendOptions) (*tessera.Appender, tessera.LogReader, error) {
	appender, reader, err := f.appenders.Appender(ctx, options)
	if err != nil || !f.once.Swap(false) {
		return appender, reader, err
	}
	add := appender.Add
	appender.Add = func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
		future := add(ctx, e)
		return func() (tessera.Index, error) {
			index, err := future()
			return index, errors.Join(err, errors.New("the disk did not confirm it"))
		}
	}
	return appender, reader, nil
}
