package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/tessera"
)

// The integrator's pace: how soon what is in the journal comes into the tiles when
// nothing did lately, how often at most, and how much at once.
const (
	integrateSoon  = 2 * time.Millisecond
	integrateEvery = 500 * time.Millisecond // sooner for who reads, or where the journal is half full
	integrateAgain = watchInterval          // after it failed
	integrateMost  = 2048                   // entries
)

// integrator puts entries on record in the journal of a directory, and brings them
// into the tiles behind the back of who appends: Tessera makes three files for that
// and has each confirmed by the disk, whether for one entry or for a thousand. An
// entry has its index, and the log its root hash with it, once it is in the journal.
type integrator struct {
	store   *store
	journal *journal
	flush   func() error   // has on the disk all that was written so far
	tree    *compact.Range // of all that is on record; the worker's

	hurry chan struct{} // has room for one; so does came
	came  chan struct{}

	mu         sync.Mutex
	records    []record // on record, and not in the tiles
	recorded   uint64   // entries on record
	integrated uint64   // entries in the tiles
	broken     error    // why they do not come into the tiles
	changed    chan struct{}
}

// newIntegrator goes on from a log of this size and what its journal holds.
func newIntegrator(ctx context.Context, s *store, f *folder, size uint64) (*integrator, error) {
	tree, err := rangeAt(ctx, s.source(), size)
	if err != nil {
		return nil, err
	}
	root, err := rootOf(tree)
	if err != nil {
		return nil, err
	}
	records, err := readJournal(f.content, size, root)
	if err != nil {
		return nil, err
	}
	i := &integrator{
		store: s, journal: f.journal, flush: f.flush, tree: tree,
		hurry: make(chan struct{}, 1), came: make(chan struct{}, 1), changed: make(chan struct{}),
		records: records, recorded: size, integrated: size,
	}
	for _, r := range records {
		root, err := grow(tree, r.entries[i.recorded-r.first:])
		if err != nil || root != r.root {
			return nil, fmt.Errorf("%w: with entries %d to %d the log would not have the root hash that it had", errJournal, i.recorded, r.end-1)
		}
		i.recorded = r.end
	}
	return i, nil
}

// grow appends entries to a tree and returns its root hash.
func grow(tree *compact.Range, entries [][]byte) (Digest, error) {
	for _, entry := range entries {
		if err := tree.Append(leafHash(entry), nil); err != nil {
			return Digest{}, err
		}
	}
	return rootOf(tree)
}

// record puts a batch into the journal, and returns the indices once it is on the
// disk. The error is of the whole batch. It is for one goroutine.
func (i *integrator) record(ctx context.Context, entries [][]byte) ([]appended, error) {
	if _, _, broken := i.progress(); broken != nil {
		return nil, broken
	}
	tree, err := ranges().NewRange(0, i.tree.End(), slices.Clone(i.tree.Hashes()))
	if err != nil {
		return nil, err
	}
	r := record{first: tree.End(), end: tree.End() + uint64(len(entries)), entries: entries}
	if r.root, err = grow(tree, entries); err != nil {
		return nil, err
	}
	for {
		integrated, changed, err := i.progress()
		if err == nil {
			err = i.journal.write(&r, integrated)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errJournalFull) {
			return nil, err
		}
		signal(i.hurry)
		select {
		case <-ctx.Done():
			return nil, errClosed
		case <-changed:
		}
	}
	i.tree = tree
	i.mu.Lock()
	i.records, i.recorded = append(i.records, r), r.end
	i.mu.Unlock()
	signal(i.came)
	if i.journal.halfFull() {
		signal(i.hurry)
	}
	results := make([]appended, len(entries))
	for n := range results {
		results[n].index = r.first + uint64(n)
	}
	return results, nil
}

// signal tells who waits, now or later.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// progress returns how many entries are in the tiles, what is closed when that
// changes, and why no more come there.
func (i *integrator) progress() (integrated uint64, changed <-chan struct{}, broken error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.integrated, i.changed, i.broken
}

// settle waits until so many of the entries that are on record now are in the tiles,
// where whoever reads the log finds them.
func (i *integrator) settle(ctx context.Context, entries uint64) error {
	i.mu.Lock()
	wanted := min(entries, i.recorded)
	i.mu.Unlock()
	for {
		integrated, changed, broken := i.progress()
		switch {
		case integrated >= wanted:
			return nil
		case broken != nil:
			return broken
		}
		signal(i.hurry)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-i.store.ended:
			return errClosed
		case <-changed:
		}
	}
}

// run brings into the tiles what comes into the journal, until ctx ends.
func (i *integrator) run(ctx context.Context) {
	var last time.Time
	for wait(ctx, i.came, -1) && wait(ctx, i.hurry, max(integrateSoon, time.Until(last.Add(integrateEvery)))) {
		last = time.Now()
		for {
			err := i.catchUp(ctx)
			i.outcome(err)
			if err == nil || !wait(ctx, nil, integrateAgain) {
				break
			}
		}
	}
}

// wait waits for a signal, no longer than this if it is not negative, and tells
// whether ctx goes on.
func wait(ctx context.Context, signal <-chan struct{}, most time.Duration) bool {
	var over <-chan time.Time
	if most >= 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
	case <-signal:
	case <-over:
	}
	return ctx.Err() == nil
}

// outcome keeps why nothing comes into the tiles, for whoever appends.
func (i *integrator) outcome(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.broken = err
	i.announce()
}

// announce tells those who wait. The caller holds mu.
func (i *integrator) announce() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// catchUp brings all into the tiles that is in the journal.
func (i *integrator) catchUp(ctx context.Context) error {
	for ctx.Err() == nil {
		records := i.next()
		if len(records) == 0 {
			return nil
		}
		err := i.integrate(ctx, records)
		if _, _, broken := i.progress(); err == nil && broken != nil {
			// What Tessera wrote and was not confirmed when it failed, it does not
			// write again.
			err = i.flush()
		}
		if err != nil {
			return fmt.Errorf("integrating entries that are in the journal: %w", err)
		}
		end := records[len(records)-1].end
		i.mu.Lock()
		clear(records) // the array may stay
		i.records = i.records[len(records):]
		i.integrated = end
		i.announce()
		i.mu.Unlock()
	}
	return ctx.Err()
}

// next are the records to integrate at once.
func (i *integrator) next() []record {
	i.mu.Lock()
	defer i.mu.Unlock()
	count := 0
	for n, r := range i.records {
		if count += len(r.entries); count > integrateMost && n > 0 {
			return i.records[:n:n]
		}
	}
	return i.records[:len(i.records):len(i.records)]
}

// integrate has Tessera append records, those entries of them that it has not yet: it
// may have failed, or its process died, after some. What it makes of them must be the
// log that was recorded.
func (i *integrator) integrate(ctx context.Context, records []record) error {
	s := i.store
	if err := s.usable(); err != nil {
		return err
	}
	before, err := s.state(ctx)
	if err != nil {
		return err
	}
	last := records[len(records)-1]
	if before.Size < i.integrated || before.Size > last.end {
		return fmt.Errorf("the log has %d entries, and had %d: it was replaced", before.Size, i.integrated)
	}
	var entries [][]byte
	for _, r := range records {
		if before.Size < r.end {
			entries = append(entries, r.entries[max(before.Size, r.first)-r.first:]...)
		}
	}
	if err := i.append(ctx, entries); err != nil {
		return err
	}
	after, err := s.state(ctx)
	if err != nil {
		return err
	}
	if after.Size != last.end || Digest(after.Root) != last.root {
		s.cancel() // it would sign that
		return fmt.Errorf("the first %d entries have another root hash than was recorded", last.end)
	}
	return nil
}

// append has Tessera append entries, all of them or none. Of what it is given it makes
// a batch when it has so many, or after a time; were it cut in two by the time, the
// first could fail and the second take its place. So each is given to an appender of
// its own, which has its batch with the last entry and at no other time.
func (i *integrator) append(ctx context.Context, entries [][]byte) error {
	if len(entries) == 0 {
		return nil
	}
	s := i.store
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	options := *s.options
	options.WithBatching(uint(len(entries)), math.MaxInt64).
		WithCheckpointInterval(math.MaxInt64). // the store's own appender publishes, and sweeps
		WithGarbageCollectionInterval(0)
	appender, _, err := s.tessera.(appenders).Appender(ctx, &options)
	if err != nil {
		return err
	}
	futures := make([]tessera.IndexFuture, len(entries))
	for n, entry := range entries {
		futures[n] = appender.Add(ctx, tessera.NewEntry(entry))
	}
	for _, future := range futures {
		if _, err := future(); err != nil {
			return err
		}
	}
	return s.same()
}

// appenders is that of Tessera's driver of directories which makes appenders that
// share its locks.
type appenders interface {
	Appender(ctx context.Context, opts *tessera.AppendOptions) (*tessera.Appender, tessera.LogReader, error)
}
