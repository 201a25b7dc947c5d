package signer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/tap"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// flights bounds the requests in flight over all connections, from their headers
// on: before any of their bytes take memory, which is where gRPC's own bound,
// streams by connection, leaves off. Half of them is the most that one caller
// has, so that it cannot keep out all others. Safe for concurrent use.
type flights struct {
	most int

	mu  sync.Mutex
	all int
	by  map[policy.Caller]int
}

func newFlights(most int) *flights { return &flights{most: most, by: map[policy.Caller]int{}} }

// enter takes a request on; whoever enters leaves.
func (f *flights) enter(caller policy.Caller) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if each := max(1, f.most/2); f.all >= f.most || f.by[caller] >= each {
		return &fault.Error{
			Kind: fault.Overloaded, RetryAfter: time.Second,
			Err: fmt.Errorf("%d requests are in flight, %d of them of caller %q; at most %d and %d", f.all, f.by[caller], caller, f.most, each),
		}
	}
	f.all++
	f.by[caller]++
	return nil
}

func (f *flights) leave(caller policy.Caller) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.by[caller]--; f.by[caller] == 0 {
		delete(f.by, caller)
	}
}

// tap judges a request of the API by its headers: who is not identified, or has
// too many in flight, is refused before the body comes; and the body has no longer
// than a request may take. It must not block.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if !ours(info.FullMethodName) {
		return ctx, nil
	}
	began := time.Now()
	c := &call{}
	var err error
	if c.caller, err = s.identifyPeer(ctx); err == nil {
		err = s.flights.enter(c.caller)
	}
	if err != nil {
		return nil, s.finish(ctx, info.FullMethodName, c, err, began)
	}
	bounded, cancel := context.WithTimeout(ctx, s.config.Limits.Request)
	context.AfterFunc(ctx, func() {
		cancel()
		s.flights.leave(c.caller)
	})
	return bounded, nil
}
