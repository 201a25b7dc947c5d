package myinvois

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// maxSplits is how often a submission is split, with its halves and theirs, because
// the platform refuses it as a whole. Of a hundred documents, four at fault are found
// with that; what is left of a submission in which all are is not worth the requests.
const maxSplits = 28

// splits counts those of one submission.
type splits struct {
	mu   sync.Mutex
	left int
}

func (s *splits) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left--
	return s.left >= 0
}

// first tells whether there was one so far.
func (s *splits) first() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left == maxSplits-1
}

// blamesContent tells whether the platform refused what it was sent, which may be one
// document's fault, rather than who sent it.
func blamesContent(why *Error) bool {
	if why.unsent {
		return false
	}
	switch why.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// parted is the error of a submission that was refused as a whole, and is two now.
type parted struct {
	batches []*batch
	why     error
}

func (p *parted) Error() string { return "refused as a whole, and sent in halves: " + p.why.Error() }

// halve makes two submissions of one that was refused.
func (r *run) halve(why *Error) error {
	n := len(r.batch.Documents)
	batches, err := r.Journal.halve(r.batch)
	if err != nil {
		return fmt.Errorf("%w; after %s", err, why.Error()) // the journal's counts
	}
	if r.splits.first() {
		r.note("%d documents were refused together, which may be the fault of one: looking for it by sending them in parts: %v", n, why)
	}
	return &parted{batches, why}
}

// start has submissions brought on their way beside this one.
func (r *run) start(ctx context.Context, batches []*batch) {
	runs := make([]*run, len(batches))
	for i, b := range batches {
		runs[i] = r.add(b, r.splits)
	}
	for _, half := range runs {
		r.running.Go(func() {
			if r.enter(ctx) == nil {
				half.work(ctx)
			}
		})
	}
}

// halve writes down that two submissions take the place of one that was surely not
// taken.
func (j *Journal) halve(b *batch) (halves []*batch, err error) {
	middle := (len(b.Documents) + 1) / 2
	next := *b
	next.Open, next.FirstSent, next.LastSent = false, time.Time{}, time.Time{}
	err = j.update(func(tx *bbolt.Tx) error {
		for _, ids := range [][]uint64{b.Documents[:middle], b.Documents[middle:]} {
			group := make([]Entry, len(ids))
			for i, id := range ids {
				e, err := entryAt(tx, number(id))
				if err != nil {
					return err
				}
				if e.Batch != b.ID || e.State != Sending {
					return fmt.Errorf("entry %d is %s, and was to be part of submission %d", id, e.State, b.ID)
				}
				group[i] = e
			}
			half, err := newBatch(tx, group)
			if err != nil {
				return err
			}
			halves = append(halves, half)
		}
		return putBatch(tx, &next)
	})
	if err == nil {
		*b = next
	}
	return halves, err
}
