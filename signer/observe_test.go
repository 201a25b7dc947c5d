package signer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// witness writes down what it is told.
type witness struct {
	mu       sync.Mutex
	endings  []Ending
	answered map[string][]time.Duration
	waited   map[string][]time.Duration
}

func newWitness() *witness {
	return &witness{answered: map[string][]time.Duration{}, waited: map[string][]time.Duration{}}
}

func (w *witness) Ended(e Ending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endings = append(w.endings, e)
}

func (w *witness) Answered(method string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered[method] = append(w.answered[method], took)
}

func (w *witness) Waited(caller string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waited[caller] = append(w.waited[caller], took)
}

func TestTheObserverIsToldHowRequestsEnd(t *testing.T) {
	refusal := func(kind fault.Kind) item { return item{err: fault.New(kind, "no")} }
	for _, row := range []struct {
		name  string
		items []item // of a batch
		err   error
		want  map[string]int // outcome → count
	}{
		{"an answer", nil, nil, map[string]int{"OK": 1}},
		{"a refusal", nil, fault.New(fault.NotAllowed, "no"), map[string]int{"NOT_ALLOWED": 1}},
		{"an error without a kind", nil, errors.New("broken"), map[string]int{"INTERNAL": 1}},
		{"a deadline", nil, context.DeadlineExceeded, map[string]int{"DEADLINE_EXCEEDED": 1}},
		{"a batch that is signed", []item{{}, {}}, nil, map[string]int{"OK": 2}},
		{
			"a batch in parts", []item{{}, refusal(fault.NotAllowed), refusal(fault.NotAllowed), refusal(fault.Overloaded)}, nil,
			map[string]int{"OK": 1, "NOT_ALLOWED": 2, "OVERLOADED": 1},
		},
		{"a batch of which nothing is signed", []item{refusal(fault.Overloaded)}, nil, map[string]int{"OVERLOADED": 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			told := newWitness()
			s := &Server{observer: told}
			s.current.Store(&certificate{fingerprint: [32]byte{7}})
			c := &call{caller: erp}
			if row.items != nil {
				c.tally(row.items)
			}
			s.observe("SignDigest", c, row.err, time.Second)
			got := map[string]int{}
			for _, e := range told.endings {
				if e.Caller != erp || e.Method != "SignDigest" || e.Certificate != [32]byte{7} {
					t.Errorf("got %+v, want the caller, the method and the certificate", e)
				}
				got[e.Outcome] += e.Count
			}
			if diff := cmp.Diff(row.want, got); diff != "" || len(told.endings) != len(row.want) {
				t.Errorf("endings (-want +got):\n%s\n%+v", diff, told.endings)
			}
			if !slices.Equal(told.answered["SignDigest"], []time.Duration{time.Second}) {
				t.Errorf("answered: got %v, want once, after a second", told.answered)
			}
		})
	}
}

func TestTheObserverIsToldOfEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := newWitness()
		q := newQueue(1, 100, 100)
		q.observer = told
		first := hold(t, q)
		var all sync.WaitGroup
		all.Go(func() {
			own, err := q.enter(t.Context(), portal, 1)
			if err != nil {
				t.Errorf("enter: %v", err)
				return
			}
			own.end(nil)
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.enter(ctx, stranger, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the time is over", err)
		}
		time.Sleep(time.Second) // of the bubble's clock
		first.end(nil)
		all.Wait()
		want := map[string][]time.Duration{erp: {0}, portal: {2 * time.Second}, stranger: {time.Second}}
		if diff := cmp.Diff(want, told.waited); diff != "" {
			t.Errorf("waits (-want +got):\n%s", diff)
		}
	})
}

func TestStatsTellWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{queue: newQueue(2, 100, 100), flights: newFlights(10), sessions: 2}
		held := []turn{hold(t, s.queue), hold(t, s.queue)}
		var all sync.WaitGroup
		for _, caller := range []policy.Caller{erp, erp, portal} {
			all.Go(func() {
				own, err := s.queue.enter(t.Context(), caller, 1)
				if err != nil {
					t.Errorf("enter: %v", err)
					return
				}
				own.end(nil)
			})
		}
		synctest.Wait()
		must(t, s.flights.enter(erp))
		want := Stats{Sessions: 2, Busy: 2, Waiting: map[policy.Caller]int{erp: 2, portal: 1}, Requests: 1}
		if diff := cmp.Diff(want, s.Stats()); diff != "" {
			t.Errorf("while three wait (-want +got):\n%s", diff)
		}
		s.flights.leave(erp)
		for _, own := range held {
			own.end(nil)
		}
		all.Wait()
		if diff := cmp.Diff(Stats{Sessions: 2, Waiting: map[policy.Caller]int{}}, s.Stats()); diff != "" {
			t.Errorf("afterwards (-want +got):\n%s", diff)
		}
	})
}

func TestStatsTellOpenConnections(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	_, err := client.SignDigest(t.Context(), r.request())
	must(t, err)
	now := r.server.Stats()
	if now.Connections != 1 || now.Sessions != 4 || now.Busy != 0 || len(now.Waiting) != 0 {
		t.Errorf("got %+v, want one connection, four sessions, and nobody who waits", now)
	}
}
