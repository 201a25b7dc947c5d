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
	due   time.Time     // when it is wanted on record; nobody minds it sooner
	done  chan appended // has room for one
	over  func()        // lets the next one in
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

// work hands entries to Tessera, batch by batch, until the log is closed: whatever
// came while one batch was being written is the next. Tessera by itself cuts a
// batch off at every batchAge, however many wait for the disk already, so that a
// slow disk gets ever smaller ones.
//
// It waits for Tessera, which obeys no context: when the disk hangs, so does it.
func (s *store) work(ctx context.Context) {
	batch := make([]*pending, 0, batchSize)
	expected := 0
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-s.queue:
			batch = s.gather(append(batch[:0], first), expected)
		}
		s.write(ctx, batch)
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
	began, due := time.Now(), batch[0].due
	add := func(p *pending) {
		batch = append(batch, p)
		if p.due.Before(due) {
			due = p.due
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(batch) < batchSize {
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

// write has a batch written, and tells each append what became of it.
func (s *store) write(ctx context.Context, batch []*pending) {
	results, began := make([]appended, len(batch)), time.Now()
	err := s.usable() // Tessera would panic over what this finds
	if err == nil {
		err = s.add(ctx, batch, results)
	}
	if err == nil {
		s.pace.learn(time.Since(began))
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
