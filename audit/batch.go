package audit

import (
	"context"
	"errors"

	"github.com/transparency-dev/tessera"
)

// pending is an append under way.
type pending struct {
	line []byte
	done chan appended // has room for one
	over func()        // lets the next one in
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
	futures := make([]tessera.IndexFuture, 0, batchSize)
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-s.queue:
			batch = append(batch[:0], first)
		}
		for len(batch) < batchSize && len(s.queue) > 0 {
			batch = append(batch, <-s.queue)
		}
		futures = futures[:0]
		for _, p := range batch {
			futures = append(futures, s.appender.Add(ctx, tessera.NewEntry(p.line)))
		}
		results := make([]appended, len(batch))
		for i := range batch {
			index, err := futures[i]()
			results[i] = appended{index.Index, err}
		}
		// Where the directory was moved away meanwhile, Tessera made another in its
		// place and wrote to that one.
		moved := s.same()
		for i, p := range batch {
			if moved != nil {
				results[i].err = errors.Join(moved, results[i].err)
			}
			p.done <- results[i]
			p.over()
		}
	}
}
