package signer

import (
	"context"
	"fmt"
	"sync"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/tap"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// flights bounds requests in flight over all connections, from their headers on:
// before any of their bytes take memory, which is where gRPC's own bound, streams
// by connection, leaves off. Half of them is the most that one caller has, so that
// it cannot keep out all others. Safe for concurrent use.
//
// There are three: health watches last, and keep no signature out; and who has a
// certificate, but is not in the policy, keeps out nobody who is.
type flights struct {
	most, each int

	mu  sync.Mutex
	all int
	by  map[policy.Caller]int
}

// strangersShare is the part of the requests that callers whom the policy does not
// know have beside them: one in so many.
const strangersShare = 16

func newFlights(most int) *flights {
	most = max(2, most)
	return &flights{most: most, each: most / 2, by: map[policy.Caller]int{}}
}

// enter takes a request on; whoever enters leaves.
func (f *flights) enter(caller policy.Caller) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= f.most || f.by[caller] >= f.each {
		return &fault.Error{
			Kind: fault.Overloaded, RetryAfter: time.Second,
			Err: fmt.Errorf("%d requests are in flight, %d of them of caller %q; at most %d and %d", f.all, f.by[caller], caller, f.most, f.each),
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

// share returns the flights among which a caller's request is counted.
func (s *Server) share(caller policy.Caller, method string) *flights {
	switch {
	case !s.policy.Load().Knows(caller):
		return s.strangers
	case !ours(method):
		return s.asides
	}
	return s.flights
}

// tap judges a request by its headers: who is not identified, or has too many in
// flight, is refused before the body comes; and all but a health watch has no
// longer than a request may take. It must not block.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	began := time.Now()
	c := &call{}
	var err error
	if c.caller, err = s.identifyPeer(ctx); err != nil {
		return nil, s.finish(ctx, info.FullMethodName, c, err, began)
	}
	share := s.share(c.caller, info.FullMethodName)
	if err := share.enter(c.caller); err != nil {
		return nil, s.finish(ctx, info.FullMethodName, c, err, began)
	}
	bounded, cancel := context.WithCancel(ctx)
	if info.FullMethodName != healthv1.Health_Watch_FullMethodName {
		bounded, cancel = context.WithTimeout(ctx, s.config.Limits.Request)
	}
	context.AfterFunc(ctx, func() {
		cancel()
		share.leave(c.caller)
	})
	return bounded, nil
}
