package audit

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestABatchWaitsForThoseWhoAreExpected(t *testing.T) {
	const soon, late, slow = gatherAge / 2, 2 * gatherAge, 4 * gatherAge // at most maxGatherAge
	for name, row := range map[string]struct {
		expected, waiting int
		coming            int           // more
		after             time.Duration // that much later
		takes             time.Duration // what a batch takes
		want              int
		took              time.Duration
	}{
		"alone, after one that was alone":       {expected: 1, want: 1},
		"the first of all":                      {expected: 0, want: 1},
		"all wait already":                      {expected: 4, waiting: 3, want: 4},
		"more wait than there were":             {expected: 2, waiting: 5, want: 6},
		"more wait than a batch has room":       {expected: 1, waiting: 2 * batchSize, want: batchSize},
		"the others are about to come":          {expected: 4, coming: 3, after: soon, want: 4, took: soon},
		"the others do not come":                {expected: 4, want: 1, took: gatherAge},
		"some come, and some do not":            {expected: 4, waiting: 1, coming: 1, after: soon, want: 3, took: gatherAge},
		"the others come when it is written":    {expected: 4, coming: 3, after: late, want: 1, took: gatherAge},
		"the others come late to a slow disk":   {expected: 4, coming: 3, after: late, takes: 2 * slow, want: 4, took: late},
		"the others do not come to a slow disk": {expected: 4, takes: 2 * slow, want: 1, took: slow},
		"they do not come to one that hung":     {expected: 4, takes: time.Hour, want: 1, took: maxGatherAge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{queue: make(chan *pending, 3*batchSize), pace: pace{mean: row.takes}}
				for range row.waiting {
					s.queue <- wanted(0)
				}
				var others sync.WaitGroup
				others.Go(func() {
					time.Sleep(row.after)
					for range row.coming {
						s.queue <- wanted(0)
					}
				})
				began := time.Now()
				got := s.gather([]*pending{wanted(0)}, row.expected)
				if took := time.Since(began); len(got) != row.want || took != row.took {
					t.Errorf("got %d entries after %v, want %d after %v", len(got), took, row.want, row.took)
				}
				others.Wait()
			})
		})
	}
}

func TestABatchIsDoneWhenItsFirstEntryIsWanted(t *testing.T) {
	const takes, deviation, spare = 4 * time.Millisecond, time.Millisecond / 2, 20 * time.Millisecond
	for name, row := range map[string]struct {
		spare    time.Duration // of the first entry
		expected int
		waiting  int           // with as much to spare
		another  time.Duration // so much to spare has another
		after    time.Duration // another comes that much later
		want     int
		took     time.Duration
	}{
		"at once":                                {spare: 0, want: 1},
		"sooner than it can be":                  {spare: takes / 2, want: 1},
		"later":                                  {spare: spare, want: 1, took: spare - takes},
		"later, though others are expected":      {spare: spare, expected: 9, want: 1, took: spare - takes},
		"soon, and others are expected":          {spare: takes + gatherAge/2, expected: 9, want: 1, took: (takes - 2*deviation) / 2},
		"later, and there are enough for it":     {spare: spare, waiting: batchSize, want: batchSize},
		"later, another meanwhile":               {spare: spare, another: spare, after: spare / 2, want: 2, took: spare - takes},
		"later, another meanwhile that is hasty": {spare: spare, another: takes, after: spare / 2, want: 2, took: spare / 2},
		"later, another too late":                {spare: spare, another: spare, after: spare, want: 1, took: spare - takes},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{queue: make(chan *pending, 3*batchSize), pace: pace{mean: takes - 2*deviation, deviation: deviation}}
				for range row.waiting {
					s.queue <- wanted(row.spare)
				}
				var others sync.WaitGroup
				if row.another > 0 {
					others.Go(func() {
						time.Sleep(row.after)
						s.queue <- wanted(row.another)
					})
				}
				began := time.Now()
				got := s.gather([]*pending{wanted(row.spare)}, row.expected)
				if took := time.Since(began); len(got) != row.want || took != row.took {
					t.Errorf("got %d entries after %v, want %d after %v", len(got), took, row.want, row.took)
				}
				others.Wait()
			})
		})
	}
}

// wanted is an append that somebody wants in so long.
func wanted(spare time.Duration) *pending { return &pending{due: time.Now().Add(spare)} }

func TestThePaceFollowsTheDisk(t *testing.T) {
	var p pace
	for range 100 {
		p.learn(4 * time.Millisecond)
	}
	if p.most() != 4*time.Millisecond {
		t.Errorf("of a steady disk: got %v, want 4ms", p.most())
	}
	for n := range 100 {
		p.learn(time.Duration(4+8*(n%2)) * time.Millisecond) // 4 and 12 in turns
	}
	if p.mean < 7*time.Millisecond || p.mean > 9*time.Millisecond || p.most() < 12*time.Millisecond {
		t.Errorf("of an unsteady one: got %v and at most %v, want about 8ms and 12ms or more", p.mean, p.most())
	}
}
