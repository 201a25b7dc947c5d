package signer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// maxItems is how many digests one SignDigests may carry.
const maxItems = 1000

// SignDigests signs many digests for an identified caller. Each item goes the
// way of a single one, under the policy that was in force when the call began.
func (s *service) SignDigests(ctx context.Context, in *roamsignv1.SignDigestsRequest) (*roamsignv1.SignDigestsResponse, error) {
	call := callOf(ctx)
	items := in.GetItems()
	if len(items) == 0 || len(items) > maxItems {
		return nil, fault.New(fault.InvalidRequest, "items must be 1 to %d", maxItems)
	}
	rules := s.policy.Load()
	results := make([]*roamsignv1.SignDigestsResult, len(items))
	errs := make([]error, len(items))
	s.fan(len(items), func(i int) {
		var released signature
		order, err := parseDigestOrder(items[i])
		if err == nil {
			released, err = s.signItem(ctx, rules, call.caller, order)
		}
		results[i], errs[i] = result(released, order.id, err), err
	})
	call.tally(errs)
	return &roamsignv1.SignDigestsResponse{Results: results}, nil
}

// signItem keeps one item's panic from the others.
func (s *Server) signItem(ctx context.Context, rules *policy.Policy, caller policy.Caller, order digestOrder) (released signature, err error) {
	defer recovered(&err)
	return s.signDigest(ctx, rules, caller, policy.SignDigests, order)
}

// fan does n things, as many at a time as keep every session busy: one is
// verifying while the others sign.
func (s *Server) fan(n int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, s.sessions+1) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	workers.Wait()
}

func result(released signature, id requestID, err error) *roamsignv1.SignDigestsResult {
	if err != nil {
		return &roamsignv1.SignDigestsResult{Outcome: &roamsignv1.SignDigestsResult_Error{Error: refuse(err, id).item()}}
	}
	return &roamsignv1.SignDigestsResult{Outcome: &roamsignv1.SignDigestsResult_Signature{Signature: released}}
}

// tally sums up a batch for its line in the log: how many were signed, and of
// each reason how many were not, with the first one's story.
func (c *call) tally(errs []error) {
	refused := map[fault.Kind][]error{}
	signed := len(errs)
	for _, err := range errs {
		if err != nil {
			refused[kindOf(err)] = append(refused[kindOf(err)], err)
			signed--
		}
	}
	if signed < len(errs) {
		c.outcome = "PARTIAL"
	}
	c.attrs = []slog.Attr{slog.Int("items", len(errs)), slog.Int("signed", signed)}
	for _, kind := range fault.Kinds() {
		if each := refused[kind]; len(each) > 0 {
			c.level = max(c.level, severity(kind))
			c.attrs = append(c.attrs, slog.Group(kind.Reason(), slog.Int("items", len(each)), slog.String("first", each[0].Error())))
		}
	}
}
