package audit

import (
	"context"
	"errors"
	"time"

	"github.com/transparency-dev/tessera"
)

// pending is an append under way.
type pending struct {
	entry *tessera.Entry
	done  chan appended // has room for one
	over  func()        // lets the next one in
}

// appended is the outcome of an append.
type appended struct {
	index uint64
	err   error
}

// work hands entries to Tessera, batch by batch, until the log is closed: whatever
// came while one batch was being written is the next. Tessera by itself cuts a
// batch off at every batchAge, however many wait for the disk already, so that a
// slow disk gets ever smaller ones.
//
// It waits for Tessera, which obeys no context: when the disk hangs, so does it.
func (s *store) work(ctx context.Context) {
	batch := make([]*pending, 0, batchSize)
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-s.queue:
			batch = s.gather(append(batch[:0], first), len(batch))
		}
		s.write(ctx, batch)
	}
}

// gather adds what waits to a batch, and what is about to come: whoever the last
// batch has answered asks again soon, and the first to do so would otherwise have
// a batch alone, and all others the next one. An entry that comes alone, as the
// last did, waits for nobody.
func (s *store) gather(batch []*pending, last int) []*pending {
	var late <-chan time.Time
	for len(batch) < batchSize {
		if len(batch) >= last {
			select {
			case p := <-s.queue:
				batch = append(batch, p)
				continue
			default:
				return batch
			}
		}
		if late == nil {
			late = time.After(gatherAge)
		}
		select {
		case p := <-s.queue:
			batch = append(batch, p)
		case <-late:
			last = 0
		}
	}
	return batch
}

// write has a batch written, and tells each append what became of it.
func (s *store) write(ctx context.Context, batch []*pending) {
	results := make([]appended, len(batch))
	err := s.usable() // Tessera would panic over what this finds
	if err == nil {
		err = s.add(ctx, batch, results)
	}
	for i, p := range batch {
		if err != nil {
			results[i].err = errors.Join(err, results[i].err)
		}
		p.done <- results[i]
		p.over()
	}
}

// add hands a batch to Tessera and waits for the outcome of each entry. The error is
// of the whole batch.
func (s *store) add(ctx context.Context, batch []*pending, results []appended) error {
	defer s.hold()()
	futures := make([]tessera.IndexFuture, len(batch))
	for i, p := range batch {
		futures[i] = s.appender.Add(ctx, p.entry)
	}
	for i, future := range futures {
		index, err := future()
		results[i] = appended{index.Index, err}
	}
	// Where the directory was moved away meanwhile, Tessera made another in its
	// place and wrote to that one.
	return s.same()
}
