package audit

import (
	"context"
	"time"

	"github.com/transparency-dev/tessera"
)

// pending is an append under way.
type pending struct {
	entry []byte
	due   time.Time      // when it is wanted on record; nobody minds it sooner
	done  func(appended) // is called once
}

// appended is the outcome of an append.
type appended struct {
	index uint64
	err   error
}

// pace is what a batch takes, by experience: a moving average and its mean
// deviation, as TCP's round-trip estimator has them (RFC 6298).
type pace struct{ mean, deviation time.Duration }

func (p *pace) learn(took time.Duration) {
	if p.mean == 0 {
		p.mean = took
		return
	}
	p.deviation += ((took - p.mean).Abs() - p.deviation) / 4
	p.mean += (took - p.mean) / 8
}

// most is what few batches exceed.
func (p *pace) most() time.Duration { return p.mean + 2*p.deviation }

// write has entries recorded, batch by batch, until ctx ends: whatever came while one
// batch was being written is the next. Tessera by itself cuts a batch off at every
// batchAge, however many wait for the disk already, so that a slow disk gets ever
// smaller ones.
//
// It waits for the disk, and for Tessera, which obey no context: when they hang, so
// does it.
func (s *store) write(ctx context.Context) {
	batch := make([]*pending, 0, batchSize)
	expected := 0
	for {
		select {
		case <-ctx.Done():
			s.refuse()
			return
		case first := <-s.queue:
			batch = s.gather(append(batch[:0], first), expected)
		}
		s.writeBatch(ctx, batch)
		expected = len(batch) + len(s.queue)
	}
}

// gather adds to a batch what waits and what is about to come. It takes its time as
// long as the batch will be done before anybody wants it, going by what the last
// ones took: the fewer the batches, the less of the machine they cost. And those
// whom the last batch has answered ask again soon, beside those whom it left
// waiting: so many are expected. The first of them to come would otherwise have a
// batch alone, and all others the next one, in turns for ever. An entry that is
// wanted at once and comes alone, as the last did, waits for nobody.
func (s *store) gather(batch []*pending, expected int) []*pending {
	began, due, size := time.Now(), batch[0].due, len(batch[0].entry)
	add := func(p *pending) {
		batch, size = append(batch, p), size+len(p.entry)
		if p.due.Before(due) {
			due = p.due
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(batch) < batchSize && size < batchBytes {
		select {
		case p := <-s.queue:
			add(p)
			continue
		default:
		}
		left := time.Until(due) - s.pace.most()
		if len(batch) < expected {
			left = max(left, min(max(gatherAge, s.pace.mean/2), maxGatherAge)-time.Since(began))
		}
		if left <= 0 {
			return batch
		}
		timer.Reset(left)
		select {
		case p := <-s.queue:
			add(p)
		case <-timer.C:
		}
	}
	return batch
}

// writeBatch has a batch recorded, and tells each append what became of it.
func (s *store) writeBatch(ctx context.Context, batch []*pending) {
	entries, began := make([][]byte, len(batch)), time.Now()
	for i, p := range batch {
		entries[i] = p.entry
	}
	results := make([]appended, len(batch))
	err := s.usable() // Tessera would panic over what this finds
	if err == nil {
		results, err = s.record(ctx, entries)
	}
	if err == nil {
		s.pace.learn(time.Since(began))
	}
	for i, p := range batch {
		if err != nil {
			p.done(appended{err: err})
		} else {
			p.done(results[i])
		}
	}
	clear(batch)
}

// refuse ends the appends that nobody will write any more.
func (s *store) refuse() {
	for {
		select {
		case p := <-s.queue:
			p.done(appended{err: errClosed})
		default:
			return
		}
	}
}

// add hands entries to Tessera and waits for the outcome of each. The error is of
// all of them.
func (s *store) add(ctx context.Context, entries [][]byte) ([]appended, error) {
	futures := make([]tessera.IndexFuture, len(entries))
	for i, entry := range entries {
		futures[i] = s.appender.Add(ctx, tessera.NewEntry(entry))
	}
	results := make([]appended, len(entries))
	for i, future := range futures {
		index, err := future()
		results[i] = appended{index.Index, err}
	}
	// Where the directory was moved away meanwhile, Tessera made another in its
	// place and wrote to that one.
	return results, s.same()
}
