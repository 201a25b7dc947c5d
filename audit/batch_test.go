package audit

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestABatchWaitsForAsManyAsTheLastHad(t *testing.T) {
	const soon, late = gatherAge / 2, 2 * gatherAge
	for name, row := range map[string]struct {
		last, waiting int
		coming        int           // more
		after         time.Duration // that much later
		want          int
		took          time.Duration
	}{
		"alone, after one that was alone":    {last: 1, want: 1},
		"the first of all":                   {last: 0, want: 1},
		"all wait already":                   {last: 4, waiting: 3, want: 4},
		"more wait than there were":          {last: 2, waiting: 5, want: 6},
		"more wait than a batch has room":    {last: 1, waiting: 2 * batchSize, want: batchSize},
		"the others are about to come":       {last: 4, coming: 3, after: soon, want: 4, took: soon},
		"the others do not come":             {last: 4, want: 1, took: gatherAge},
		"some come, and some do not":         {last: 4, waiting: 1, coming: 1, after: soon, want: 3, took: gatherAge},
		"the others come when it is written": {last: 4, coming: 3, after: late, want: 1, took: gatherAge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{queue: make(chan *pending, 3*batchSize)}
				for range row.waiting {
					s.queue <- &pending{}
				}
				var others sync.WaitGroup
				others.Go(func() {
					time.Sleep(row.after)
					for range row.coming {
						s.queue <- &pending{}
					}
				})
				began := time.Now()
				got := s.gather([]*pending{{}}, row.last)
				if took := time.Since(began); len(got) != row.want || took != row.took {
					t.Errorf("got %d entries after %v, want %d after %v", len(got), took, row.want, row.took)
				}
				others.Wait()
			})
		})
	}
}
