package signer

import (
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// Observer is told what the service does, for metrics. It is called on the way
// of every signature, by any number of goroutines, and must not block. Callers
// and methods are named as their requests do, so whoever keeps one value a name
// bounds them.
type Observer interface {
	// Ended tells how requests ended, or the items of a batch that ended alike.
	Ended(Ending)

	// Answered tells how long one request of the API took, a batch as a whole.
	Answered(method string, took time.Duration)

	// Waited tells how long a caller's signature stood in the queue, also where that
	// was in vain. Where a session was free it is no time at all.
	Waited(caller string, took time.Duration)
}

// Ending is how requests of one caller and method ended.
type Ending struct {
	Caller      string   // empty where nobody was identified
	Method      string   // as the API names it: SignDigest
	Certificate [32]byte // the SHA-256 of the signing certificate
	Outcome     string   // [OutcomeOK], or the reason that the caller was told
	Count       int      // 1 but for items of a batch
}

// OutcomeOK is the outcome of what was answered without an error.
const OutcomeOK = "OK"

// unobserved is what a server without an observer tells.
type unobserved struct{}

// Ended, Answered and Waited do nothing.
func (unobserved) Ended(Ending)                   {}
func (unobserved) Answered(string, time.Duration) {}
func (unobserved) Waited(string, time.Duration)   {}

// observe tells the observer of a request that has ended. A batch that was
// answered ends item by item.
func (s *Server) observe(method string, c *call, err error, took time.Duration) {
	s.observer.Answered(method, took)
	under := c.certificate
	if under == nil {
		under = s.current.Load()
	}
	end := func(outcome string, count int) {
		if count > 0 {
			s.observer.Ended(Ending{Caller: string(c.caller), Method: method, Certificate: under.fingerprint, Outcome: outcome, Count: count})
		}
	}
	switch {
	case err != nil:
		end(kindOf(err).Reason(), 1)
	case c.refused == nil:
		end(OutcomeOK, 1)
	default:
		end(OutcomeOK, c.signed)
		for kind, each := range c.refused {
			end(kind.Reason(), len(each))
		}
	}
}

// batch is what became of a batch's items: of each kind of error those that met it.
type batch struct {
	signed  int
	refused map[fault.Kind][]error // not nil: the call is a batch
}

// Stats is what the service is doing at one moment.
type Stats struct {
	Serving     bool                  // what the health service says
	Sessions    int                   // how many signatures the key makes at a time
	Busy        int                   // how many of them are taken
	Waiting     map[policy.Caller]int // signatures that wait for one; who has none is left out
	Requests    int                   // requests of the API in flight
	Connections int                   // that are open
}

// Stats returns what the service is doing. It does not block.
func (s *Server) Stats() Stats {
	now := Stats{Serving: s.serving.Load(), Sessions: s.sessions}
	now.Busy, now.Waiting = s.queue.stats()
	now.Requests = s.flights.inFlight()
	now.Connections = s.open.count()
	return now
}

func (q *queue) stats() (busy int, waiting map[policy.Caller]int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting = make(map[policy.Caller]int, len(q.line.waiting))
	for _, f := range q.line.waiting {
		waiting[f.caller] = f.length
	}
	return q.busy, waiting
}

func (f *flights) inFlight() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}
