package signer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsign/roamsign/policy"
)

// stand puts one more of a caller into a line.
func stand(l *line, caller policy.Caller, weight int) *waiter {
	w := &waiter{called: make(chan error, 1)}
	l.push(l.flowOf(caller, weight), w)
	return w
}

// turns gives n turns and returns whose they were.
func turns(l *line, owner map[*waiter]policy.Caller, n int) (order []policy.Caller) {
	for range n {
		order = append(order, owner[l.pop()])
	}
	return order
}

func TestTurnsFollowTheWeights(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 1}, {1, 3}, {1, 2, 3, 4}, {1, 1, 1, 1, 1}, {1000, 1}, {7, 0, 5}} {
		var l line
		owner, total := map[*waiter]int{}, 0
		for i, weight := range weights {
			for range 2000 {
				owner[stand(&l, policy.Caller(fmt.Sprint(i)), weight)] = i
			}
			total += max(weight, 1)
		}
		got := make([]int, len(weights))
		for n := 1; n <= 2000; n++ {
			got[owner[l.pop()]]++
			for i, weight := range weights {
				// Nobody is ever more than a turn of its own and one of each other away.
				if want := float64(n*max(weight, 1)) / float64(total); math.Abs(float64(got[i])-want) > float64(len(weights)) {
					t.Fatalf("weights %v: after %d turns number %d had %d, want about %.1f", weights, n, i, got[i], want)
				}
			}
		}
	}
}

func TestALoneRequestOvertakesAFlood(t *testing.T) {
	var l line
	owner := map[*waiter]policy.Caller{}
	for range 1000 {
		owner[stand(&l, "flood", 1)] = "flood"
	}
	turns(&l, owner, 100)
	owner[stand(&l, "till", 1)] = "till"
	if got := turns(&l, owner, 3); !slices.Equal(got, []policy.Caller{"till", "flood", "flood"}) {
		t.Errorf("turns: got %v, want the lone one first", got)
	}
}

func TestIdlenessEarnsNothing(t *testing.T) {
	var l line
	owner := map[*waiter]policy.Caller{}
	add := func(caller policy.Caller, n int) {
		for range n {
			owner[stand(&l, caller, 1)] = caller
		}
	}
	add("busy", 1000)
	add("idle", 1)
	turns(&l, owner, 500) // the idle one had one turn of these
	add("idle", 100)
	count := 0
	for _, caller := range turns(&l, owner, 100) {
		if caller == "idle" {
			count++
		}
	}
	if count < 49 || count > 51 {
		t.Errorf("turns of who was idle: got %d of 100, want half", count)
	}
}

// Leaving and coming back is no way to the front: what was taken ahead of the
// others is remembered as long as they wait.
func TestComingBackGainsNothing(t *testing.T) {
	var l line
	owner := map[*waiter]policy.Caller{}
	for range 1000 {
		owner[stand(&l, "steady", 1)] = "steady"
	}
	count := 0
	for range 300 {
		owner[stand(&l, "hopper", 1)] = "hopper"
		if owner[l.pop()] == "hopper" {
			count++
		}
		for f := l.flows["hopper"]; f.length > 0; { // it leaves
			l.remove(f.last)
		}
	}
	if count > 151 {
		t.Errorf("turns of who comes and goes: got %d of 300, want no more than half", count)
	}
}

func TestIdleCallersAreForgotten(t *testing.T) {
	var l line
	for i := range 10 * maxFlows {
		stand(&l, policy.Caller(fmt.Sprint(i)), 1)
		l.pop()
	}
	if len(l.flows) > maxFlows {
		t.Errorf("callers kept: got %d, want at most %d", len(l.flows), maxFlows)
	}
}

// lineModel checks a line against what must hold whatever comes.
type lineModel struct {
	t       *testing.T
	line    line
	weights []int
	queues  [][]*waiter   // of each caller, in order
	service [][][]float64 // of each pair since both waited: the turns of either, by weight
}

func newLineModel(t *testing.T, weights ...int) *lineModel {
	m := &lineModel{t: t, weights: weights, queues: make([][]*waiter, len(weights))}
	m.service = make([][][]float64, len(weights))
	for i := range weights {
		m.service[i] = make([][]float64, len(weights))
		for j := range weights {
			m.service[i][j] = make([]float64, 2)
		}
	}
	return m
}

// step does one thing: whose and what it is, two numbers decide.
func (m *lineModel) step(whose, what int) {
	who := whose % len(m.weights)
	switch {
	case what%8 < 4:
		m.queues[who] = append(m.queues[who], stand(&m.line, policy.Caller(fmt.Sprint(who)), m.weights[who]))
	case what%8 == 4:
		if n := len(m.queues[who]); n > 0 {
			at := what / 8 % n
			m.line.remove(m.queues[who][at])
			m.queues[who] = slices.Delete(m.queues[who], at, at+1)
		}
	default:
		m.turn()
	}
	m.check()
}

func (m *lineModel) turn() {
	w := m.line.pop()
	if w == nil {
		return
	}
	who := slices.IndexFunc(m.queues, func(queue []*waiter) bool { return len(queue) > 0 && queue[0] == w })
	if who < 0 {
		m.t.Fatal("the turn went to none of those who are first of their caller")
	}
	for other := range m.weights {
		m.service[who][other][0] += 1 / float64(m.weights[who])
		m.service[other][who][1] += 1 / float64(m.weights[who])
	}
	m.queues[who] = m.queues[who][1:]
}

func (m *lineModel) check() {
	waiting, weight := 0, 0.0
	for i, queue := range m.queues {
		waiting += len(queue)
		if len(queue) > 0 {
			weight += float64(m.weights[i])
		}
		for j := range m.queues {
			both := m.service[i][j]
			if len(queue) == 0 || len(m.queues[j]) == 0 {
				both[0], both[1] = 0, 0
			}
			// The bound of start-time fair queueing.
			if bound := 1/float64(m.weights[i]) + 1/float64(m.weights[j]); math.Abs(both[0]-both[1]) > bound+1e-9 && i != j {
				m.t.Fatalf("callers %d and %d both waited: one had %.3f for its weight, the other %.3f, want at most %.3f apart", i, j, both[0], both[1], bound)
			}
		}
	}
	if m.line.length != waiting || m.line.weight != weight {
		m.t.Fatalf("got %d waiting of weight %v, want %d of %v", m.line.length, m.line.weight, waiting, weight)
	}
}

// drain shows that everybody gets a turn in the end.
func (m *lineModel) drain() {
	for m.line.length > 0 {
		m.turn()
		m.check()
	}
	for i, queue := range m.queues {
		if len(queue) > 0 {
			m.t.Errorf("caller %d: %d never had their turn", i, len(queue))
		}
	}
}

func TestWhateverComesTurnsAreFair(t *testing.T) {
	for seed := range uint64(25) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := newLineModel(t, 1, 1, 3, 10, 2)
		for range 1000 {
			m.step(random.Int(), random.Int())
		}
		m.drain()
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 0, 5, 1, 4, 0, 7})
	f.Add([]byte("\x00\x00\x00\x00\x01\x00\x00\x05\x01\x04\x01\x00\x00\x06"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		m := newLineModel(t, 1, 3, 7)
		for ; len(steps) >= 2; steps = steps[2:] {
			m.step(int(steps[0]), int(steps[1]))
		}
		m.drain()
	})
}

// Callers of all sorts, who wait, give up and are sent away: never more sessions
// are in use than there are, and in the end none is and nobody waits.
func TestSessionsAreNeitherLostNorGivenTwice(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			const sessions = 3
			q := newQueue(sessions, 20, 12)
			var using, served atomic.Int64
			var all sync.WaitGroup
			for i := range 60 {
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				caller := policy.Caller(fmt.Sprint(i % 5))
				all.Go(func() {
					for range 50 {
						time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond) // of the bubble's clock
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(60))*time.Millisecond)
						if random.IntN(3) == 0 {
							ctx, cancel = context.WithCancel(t.Context())
							time.AfterFunc(time.Duration(random.IntN(30))*time.Millisecond, cancel)
						}
						own, err := q.enter(ctx, caller, 1+i%5)
						if err == nil {
							if n := using.Add(1); n > sessions {
								t.Errorf("seed %d: %d sessions are in use, want at most %d", seed, n, sessions)
							}
							time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
							using.Add(-1)
							served.Add(1)
							own.end(ctx.Err())
						}
						cancel()
					}
				})
			}
			all.Wait()
			if served.Load() == 0 {
				t.Errorf("seed %d: nobody was served", seed)
			}
			if q.busy != 0 || q.line.length != 0 || len(q.line.waiting) != 0 {
				t.Errorf("seed %d: in the end %d sessions are in use and %d wait", seed, q.busy, q.line.length)
			}
		})
	}
}

// The same without a bubble, for the race detector.
func TestManyEnterAndLeaveAtOnce(t *testing.T) {
	const sessions = 2
	q := newQueue(sessions, 8, 5)
	var using atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		random := rand.New(rand.NewPCG(7, uint64(i)))
		all.Go(func() {
			for range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if random.IntN(2) == 0 {
					go cancel()
				}
				if own, err := q.enter(ctx, policy.Caller(fmt.Sprint(i%4)), 1); err == nil {
					if n := using.Add(1); n > sessions {
						t.Errorf("sessions in use: got %d, want at most %d", n, sessions)
					}
					using.Add(-1)
					own.end(nil)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if q.busy != 0 || q.line.length != 0 {
		t.Errorf("in the end %d sessions are in use and %d wait", q.busy, q.line.length)
	}
}

// signed is one signature in the making of 5 ms, of the bubble's clock.
func signed(ctx context.Context, q *queue, caller policy.Caller, weight int) error {
	own, err := q.enter(ctx, caller, weight)
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Millisecond)
	own.end(nil)
	return nil
}

// floods has so many of a caller's signatures asked for at any time, until ctx
// ends, and counts those made.
func floods(ctx context.Context, all *sync.WaitGroup, q *queue, caller policy.Caller, weight, inFlight int) *atomic.Int64 {
	var made atomic.Int64
	for range inFlight {
		all.Go(func() {
			for signed(ctx, q, caller, weight) == nil {
				made.Add(1)
			}
		})
	}
	return &made
}

// slowest returns the 99th percentile of single signatures, one after another.
func slowest(ctx context.Context, t *testing.T, q *queue, caller policy.Caller, n int) time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		time.Sleep(time.Duration(1+i*7%23) * time.Millisecond) // as a till does, at odd times
		began := time.Now()
		if err := signed(ctx, q, caller, 1); err != nil {
			t.Fatalf("enter: %v", err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[n*99/100]
}

func TestAFloodDelaysAnotherByOneSignatureAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(4, 2000, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		alone := slowest(ctx, t, q, "till", 200)
		var all sync.WaitGroup
		floods(ctx, &all, q, "flood", 1, 1000)
		time.Sleep(time.Second)
		beside := slowest(ctx, t, q, "till", 200)
		cancel()
		all.Wait()
		if beside > alone+5*time.Millisecond {
			t.Errorf("p99 beside a flood: got %v, want at most one signature more than alone (%v)", beside, alone)
		}
	})
}

func TestFloodsGetTheirShares(t *testing.T) {
	for _, row := range []struct{ light, heavy int }{
		{1000, 1000},
		{5, 5}, // as a batch of each does
	} {
		synctest.Test(t, func(t *testing.T) {
			q := newQueue(4, 3000, 1000)
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			light := floods(ctx, &all, q, "light", 1, row.light)
			heavy := floods(ctx, &all, q, "heavy", 3, row.heavy)
			time.Sleep(10 * time.Second)
			share := float64(light.Load()) / float64(light.Load()+heavy.Load())
			if made := light.Load() + heavy.Load(); made < 7900 {
				t.Errorf("made in 10 s: got %d, want 8000: sessions were idle", made)
			}
			cancel()
			all.Wait()
			if math.Abs(share-0.25) > 0.005 {
				t.Errorf("%d and %d in flight: got a share of %.3f, want 0.25", row.light, row.heavy, share)
			}
		})
	}
}
