package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/roamsign/roamsign/internal/fault"
)

// The log's pace. A batch waits for others that are expected for half of what one
// takes, within bounds, and where nobody has a use for it yet up to maxSpare. In a
// database Tessera gathers for batchAge, which need be no longer than it takes to hand
// it a batch.
const (
	batchAge      = 250 * time.Microsecond
	gatherAge     = time.Millisecond
	maxGatherAge  = 5 * time.Millisecond
	maxSpare      = 50 * time.Millisecond
	batchSize     = 256
	batchBytes    = 512 << 10       // or this much, and one entry
	sweepInterval = 5 * time.Second // it sweeps 100 bundles' leftovers at a time
	watchInterval = 500 * time.Millisecond
	publishedLook = 10 * time.Millisecond
	retryAfter    = time.Second

	// maxWaiting bounds the appends that wait for the disk, those included whose
	// callers have gone.
	maxWaiting = 4096
)

// Log is an open transparency log. One process has a log's directory open at a
// time. Its methods may be called concurrently.
type Log struct {
	config  Config
	shared  *database // nil: the log is in a directory
	keys    []Key
	logger  *slog.Logger
	waiting chan struct{} // one for each append under way
	size    atomic.Uint64 // entries known to be durable
	stop    context.CancelFunc
	watcher sync.WaitGroup

	mu     sync.Mutex
	store  *store // nil until the directory could be opened
	why    error  // why nothing can be appended, nil if it can
	fails  uint64 // how often that was found so far
	closed bool
}

// Open opens the log that [Create] made. Where the directory cannot be written
// now, or is missing, Open succeeds and [Log.Ready] tells why nothing can be
// appended; it is tried again twice a second until it can. Errors are for what
// waiting does not mend: a faulty configuration or key file, another process that
// has the log open, a log that is not signed with these keys, or whose files do
// not agree.
//
// A directory that becomes read-only, or goes, while Tessera writes to it may end the
// process: Tessera panics then, in a goroutine of its own. Whoever runs the process
// starts it again, and Open then waits for the directory as said.
func Open(ctx context.Context, config Config, logger *slog.Logger) (*Log, error) {
	keys, err := config.keys()
	if err != nil {
		return nil, err
	}
	database, err := config.database()
	if err != nil {
		return nil, err
	}
	l := &Log{config: config, shared: database, keys: keys, logger: logger, waiting: make(chan struct{}, maxWaiting)}
	if err := l.open(ctx); err != nil {
		if !passing(err) {
			return nil, errors.Join(err, l.disconnect())
		}
		l.fail(err)
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.watcher.Go(func() { l.watch(watching) })
	return l, nil
}

// disconnect closes the connections to a database.
func (l *Log) disconnect() error {
	if l.shared == nil {
		return nil
	}
	return l.shared.db.Close()
}

// open opens the directory, or the database.
func (l *Log) open(ctx context.Context) error {
	s, err := openStore(ctx, l.config, l.shared, l.keys)
	if err != nil {
		return fmt.Errorf("opening the audit log in %s: %w", l.config.where(), err)
	}
	l.size.Store(s.opened)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store = s
	return nil
}

// watch keeps an eye on the directory: opens it once it can be, and finds out
// when it can be written no more, or again.
func (l *Log) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		s, why, fails := l.store, l.why, l.fails
		l.mu.Unlock()
		switch {
		case s == nil:
			why = l.open(ctx)
		case why != nil:
			why = s.healed(ctx, l.size.Load())
		default:
			why = s.healthy(ctx)
		}
		if why != nil {
			l.fail(why)
		} else {
			l.mend(fails)
		}
	}
}

func (l *Log) current() (*store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store, l.why
}

// fail remembers why nothing can be appended, and says so the first time.
func (l *Log) fail(why error) {
	l.mu.Lock()
	before := l.why
	l.why = why
	l.fails++
	l.mu.Unlock()
	if before == nil || before.Error() != why.Error() {
		l.logger.Error("the audit log cannot be written: nothing is released", "error", why)
	}
}

// mend forgets it, unless it was found again since it had been found so often.
func (l *Log) mend(fails uint64) {
	l.mu.Lock()
	mended := l.why != nil && l.fails == fails
	if mended {
		l.why = nil
	}
	l.mu.Unlock()
	if mended {
		l.logger.Info("the audit log can be written again")
	}
}

// Ready returns nil if entries can be appended as far as is known, or why not: an
// error of kind LogUnavailable. It does not block.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return unavailable(errClosed)
	case l.why != nil:
		return unavailable(l.why)
	case l.store != nil && l.store.broken() != nil:
		return unavailable(l.store.broken())
	}
	return nil
}

var errClosed = errors.New("the audit log is closed")

// unavailable gives an error the kind of a log that cannot be written.
func unavailable(err error) error {
	return &fault.Error{Kind: fault.LogUnavailable, RetryAfter: retryAfter, Err: err}
}

// Begin begins to put an entry on record. It calls done with its index, or with an
// error, once and whenever that is known, before or after Begin returns; done must not
// block. Without error the entry is on disk, fsynced, and part of the log for good: a
// checkpoint that holds it follows. With one the entry may have come on record or not,
// and nothing that it speaks of may be released.
//
// The caller has no use for that before spare is over: so long, but no longer than
// 50 ms, the entry may wait for others to share its writes with. The nonce is drawn
// here. Errors are of kind LogUnavailable, or of kind Internal for an entry that has no
// form.
func (l *Log) Begin(e Entry, spare time.Duration, done func(index uint64, err error)) {
	_, _ = rand.Read(e.Nonce[:]) // never errs
	line, err := e.Encode()
	if err != nil {
		done(0, fault.New(fault.Internal, "recording: %w", err))
		return
	}
	before := l.size.Load()
	err = l.admit(&pending{line, time.Now().Add(min(max(spare, 0), maxSpare)), func(r appended) {
		<-l.waiting
		done(l.end(r, before))
	}})
	if err != nil {
		done(0, err)
	}
}

// Append is [Log.Begin] that waits, no longer than the context allows: for less than a
// millisecond on an idle disk, if there is nothing to spare.
func (l *Log) Append(ctx context.Context, e Entry, spare time.Duration) (uint64, error) {
	done := make(chan appended, 1)
	l.Begin(e, spare, func(index uint64, err error) { done <- appended{index, err} })
	select {
	case <-ctx.Done():
		return 0, fmt.Errorf("recording: %w", ctx.Err())
	case r := <-done:
		return r.index, r.err
	}
}

// admit lets an append in, if there is room, and none once the log is closed.
func (l *Log) admit(p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return unavailable(errClosed)
	case l.store == nil:
		return unavailable(l.why)
	}
	select {
	case l.waiting <- struct{}{}:
	default:
		return unavailable(errors.New("recording: too many entries wait for the disk"))
	}
	l.store.queue <- p // has as much room
	return nil
}

// end judges the outcome of an append that began when the log had so many entries.
func (l *Log) end(r appended, before uint64) (uint64, error) {
	if r.err == nil && r.index < before {
		r.err = fmt.Errorf("entry %d was assigned anew, of %d: the log was replaced", r.index, before)
	}
	if errors.Is(r.err, errClosed) {
		return 0, unavailable(errClosed)
	}
	if r.err != nil {
		l.fail(r.err)
		return 0, unavailable(fmt.Errorf("recording: %w", r.err))
	}
	for size := l.size.Load(); size <= r.index && !l.size.CompareAndSwap(size, r.index+1); {
		size = l.size.Load()
	}
	l.mu.Lock()
	fails := l.fails
	l.mu.Unlock()
	l.mend(fails)
	return r.index, nil
}

// Size returns how many entries the log has, published in a checkpoint or not yet.
// All of them can be read when it returns: those that stand in the journal alone are
// waited for, some milliseconds, unless the log cannot be written.
func (l *Log) Size(ctx context.Context) (uint64, error) { return l.readable(ctx, maxSize) }

// readable is Size, which waits for no more than the first so many entries.
func (l *Log) readable(ctx context.Context, entries uint64) (uint64, error) {
	s, why := l.current()
	if s == nil {
		return 0, unavailable(why)
	}
	if err := s.settle(ctx, entries); ctx.Err() != nil {
		return 0, unavailable(fmt.Errorf("reading the log's size: %w", err))
	}
	size, err := s.reader.IntegratedSize(ctx)
	if err != nil {
		return 0, unavailable(fmt.Errorf("reading the log's size: %w", err))
	}
	return size, nil
}

// Source returns the log for reading.
func (l *Log) Source() Source {
	if l.shared != nil {
		return l.shared
	}
	return Dir(l.config.Dir)
}

// Close waits until nothing is being appended any more and the last checkpoint is
// published, as long as the context allows, and closes the log. The error tells
// what was not waited for; the log is closed all the same, and entries whose
// Append returned are on disk in any case.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	s, closed := l.store, l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	l.stop()
	l.watcher.Wait()
	if s == nil {
		s, _ = l.current() // the watcher may have opened it last
	}
	if s == nil {
		return l.disconnect()
	}
	for range maxWaiting {
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("closing the audit log: %w", ctx.Err()), s.abandon(), l.disconnect())
		case l.waiting <- struct{}{}:
		}
	}
	return errors.Join(s.close(ctx, l.allPublished), l.disconnect())
}

// allPublished waits until a checkpoint holds all that is integrated: by this
// process, or by one before it that did not live to publish it.
func (l *Log) allPublished(ctx context.Context) error {
	size, err := l.Size(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(publishedLook)
	defer tick.Stop()
	for {
		published, err := l.Published(ctx)
		if err == nil && published.Size >= size {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// passing reports whether an error is of the machine's state, which can change,
// rather than of what is in the files.
func passing(err error) bool {
	_, path := errors.AsType[*fs.PathError](err)
	_, machine := errors.AsType[machineError](err)
	return path || machine || errors.Is(err, ErrNoLog)
}

// options are Tessera's for this log.
func options(keys []Key, witnesses tessera.WitnessGroup, interval time.Duration) (*tessera.AppendOptions, error) {
	signers, err := signersOf(keys)
	if err != nil {
		return nil, err
	}
	return tessera.NewAppendOptions().
		WithCheckpointSigner(signers[0], signers[1:]...).
		WithBatching(batchSize, batchAge).
		WithCheckpointInterval(interval).
		WithCheckpointRepublishInterval(0).
		WithGarbageCollectionInterval(sweepInterval).
		WithWitnesses(witnesses, nil), nil
}
