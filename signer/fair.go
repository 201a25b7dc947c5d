package signer

import (
	"container/heap"

	"github.com/roamsign/roamsign/policy"
)

// line keeps those who wait, and says whose turn is next: start-time fair
// queueing (Goyal, Vin and Cheng, 1996) by caller, where every signature costs
// the same. Each caller's waiters stand in the order of their coming; each turn
// has a start, in a time that passes by turns taken; the earliest start is next.
// A caller's turns follow each other by one part of its weight, so that callers
// who all wait get turns in proportion to their weights. Who comes anew starts
// at the present: idleness earns nothing, and a lone request overtakes a flood.
//
// Its steps cost the logarithm of the number of callers who wait. It knows
// no clock, and is not safe for concurrent use: [queue] guards it.
type line struct {
	flows   map[policy.Caller]*flow // those whose next start may lie ahead
	waiting flowHeap                // those of whom somebody waits
	length  int                     // how many wait, all callers together
	weight  float64                 // of the callers who wait, together
	now     float64                 // the start of the turn last given
	era     uint                    // counts the times when nobody waited any more
	comings uint64                  // how many ever came
}

// flow is one caller's part of the line.
type flow struct {
	caller      policy.Caller
	weight      float64
	start       float64 // of its first waiter's turn, or else of its next one
	era         uint    // in which start counts
	first, last *waiter
	length      int
	place       int // in the heap
}

// waiter is one signature that waits for its turn. It is used again.
type waiter struct {
	flow          *flow // nil: it does not stand in the line
	ahead, behind *waiter
	coming        uint64
	called        chan error // has room for one: nil is a session, else it must go
}

// maxFlows is how many idle callers are remembered between two busy times.
const maxFlows = 1024

// flowOf returns a caller's part, whose next turn starts now or later.
func (l *line) flowOf(caller policy.Caller, weight int) *flow {
	f := l.flows[caller]
	if f == nil {
		if l.flows == nil || l.length == 0 && len(l.flows) >= maxFlows {
			l.flows = map[policy.Caller]*flow{}
		}
		f = &flow{caller: caller}
		l.flows[caller] = f
	}
	if f.length == 0 && (f.era != l.era || f.start < l.now) {
		f.era, f.start = l.era, l.now
	}
	if share := float64(max(weight, 1)); share != f.weight {
		if f.length > 0 {
			l.weight += share - f.weight
		}
		f.weight = share
	}
	return f
}

// turnsBefore estimates how many turns others get before one more waiter of the
// flow. Those yet to come may add some.
func (l *line) turnsBefore(f *flow) float64 {
	if l.length == 0 {
		return 0
	}
	weight := l.weight
	if f.length == 0 {
		weight += f.weight
	}
	start := f.start + float64(f.length)/f.weight
	return min(float64(l.length), max(0, (start-l.waiting[0].start)*weight))
}

// push puts a waiter at the end of its caller's part.
func (l *line) push(f *flow, w *waiter) {
	l.comings++
	w.flow, w.ahead, w.behind, w.coming = f, f.last, nil, l.comings
	if f.last == nil {
		f.first = w
	} else {
		f.last.behind = w
	}
	f.last = w
	f.length++
	l.length++
	if f.length == 1 {
		l.weight += f.weight
		heap.Push(&l.waiting, f)
	}
}

// pop takes out the waiter whose turn is next; nil if nobody waits.
func (l *line) pop() *waiter {
	if l.length == 0 {
		return nil
	}
	f := l.waiting[0]
	l.now = f.start
	f.start += 1 / f.weight
	w := f.first
	l.remove(w)
	return w
}

// remove takes out a waiter from wherever it stands. Its turn goes to the next
// one of its caller.
func (l *line) remove(w *waiter) {
	f := w.flow
	if w.ahead == nil {
		f.first = w.behind
	} else {
		w.ahead.behind = w.behind
	}
	if w.behind == nil {
		f.last = w.ahead
	} else {
		w.behind.ahead = w.ahead
	}
	w.flow, w.ahead, w.behind = nil, nil, nil
	f.length--
	l.length--
	if f.length > 0 {
		heap.Fix(&l.waiting, f.place)
		return
	}
	heap.Remove(&l.waiting, f.place)
	l.weight -= f.weight
	if l.length == 0 {
		l.now, l.weight = 0, 0
		l.era++
	}
}

// longest returns the caller's part that is the longest for its weight. It
// looks at every caller who waits.
func (l *line) longest() *flow {
	var most *flow
	for _, f := range l.waiting {
		if most == nil || f.share(0) > most.share(0) {
			most = f
		}
	}
	return most
}

// share is the length for the weight, were so many more to wait.
func (f *flow) share(more int) float64 { return float64(f.length+more) / f.weight }

// flowHeap has the flow with the earliest start first; of equals, the one whose
// first waiter came first.
type flowHeap []*flow

// Len, Less, Swap, Push and Pop are for package heap.
func (h flowHeap) Len() int { return len(h) }

func (h flowHeap) Less(i, j int) bool {
	if h[i].start != h[j].start {
		return h[i].start < h[j].start
	}
	return h[i].first.coming < h[j].first.coming
}

func (h flowHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *flowHeap) Push(x any) {
	f := x.(*flow)
	f.place = len(*h)
	*h = append(*h, f)
}

func (h *flowHeap) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return f
}
