package signer

import (
	"context"
	"log/slog"
	"math"
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
	call.certificate = s.inForce()
	all := make([]item, len(items))
	signing := s.sessions + 1 // keeps every session busy: one is verifying while the others sign
	abreast := signing + maxRecording
	for i, in := range items {
		all[i] = s.decideItem(rules, call.caller, in)
		abreast = min(abreast, atOnce(all[i].grant))
	}
	made := make(chan *item, abreast)
	going := make(chan struct{}, abreast) // one for each item in the making
	go func() {
		defer close(made)
		fan(len(items), min(signing, abreast), func(i int) {
			going <- struct{}{}
			s.signItem(ctx, call.certificate, &all[i], min(len(all)-1-i, abreast-1))
			made <- &all[i]
		})
	}()
	for i := range made {
		s.releaseItem(ctx, i)
		<-going
	}
	s.withhold(call.certificate, all)
	results := make([]*roamsignv1.SignDigestsResult, len(items))
	for i := range all {
		results[i] = all[i].result()
	}
	call.tally(all)
	return &roamsignv1.SignDigestsResponse{Results: results}, nil
}

// maxRecording is how many of a batch's signatures wait for their entries to be on
// record while others are made.
const maxRecording = 256

// item is one item of a batch on its way. Its error stays its own, as do its
// panics.
type item struct {
	order    digestOrder
	grant    policy.Grant
	work     admitted
	made     pending
	released released
	err      error
}

// decideItem reads an item and decides on it.
func (s *Server) decideItem(rules *policy.Policy, caller policy.Caller, in *roamsignv1.SignDigestRequest) (i item) {
	defer recovered(&i.err)
	if i.order, i.err = parseDigestOrder(in); i.err == nil {
		i.grant, i.err = rules.Decide(caller, policy.SignDigests, i.order.tin, i.order.certificate, s.clock())
	}
	return i
}

// signItem has an item signed if it may be, with so many of its batch behind it which
// are made before its entry is on record. It takes its turn like a single one.
func (s *Server) signItem(ctx context.Context, under *certificate, i *item, behind int) {
	defer recovered(&i.err)
	if i.err != nil {
		return
	}
	if i.work, i.err = s.admit(ctx, under, i.grant, i.order.id, i.order.subject.digest); i.err == nil {
		i.made, i.err = s.sign(ctx, i.work, i.order.subject, behind)
	}
}

// releaseItem releases an item that was signed, once its entry is on record, and
// settles what was admitted.
func (s *Server) releaseItem(ctx context.Context, i *item) {
	defer recovered(&i.err)
	defer func() { s.settle(i.work, i.released.signature != nil, i.err) }()
	if i.err == nil {
		i.released, i.err = s.release(ctx, i.made)
	}
}

// withhold takes back what was signed under a certificate that may not be signed
// under any more, before anybody has it: a batch takes its time.
func (s *Server) withhold(under *certificate, all []item) {
	err := s.standing(under, s.clock())
	if err == nil {
		return
	}
	for i := range all {
		if all[i].err == nil {
			all[i].released, all[i].err = released{}, err
		}
	}
}

// atOnce is how many of a grant's signatures may be in the making at a time. A
// batch keeps to it by itself.
func atOnce(grant policy.Grant) int {
	most := math.MaxInt
	for _, l := range []policy.Limits{grant.Limits(), grant.MethodLimits()} {
		if l.Concurrent > 0 {
			most = min(most, l.Concurrent)
		}
	}
	return most
}

// fan does n things, some at a time.
func fan(n, abreast int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, abreast) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	workers.Wait()
}

func (i *item) result() *roamsignv1.SignDigestsResult {
	if i.err != nil {
		return &roamsignv1.SignDigestsResult{Outcome: &roamsignv1.SignDigestsResult_Error{Error: refuse(i.err, i.order.id).item()}}
	}
	return &roamsignv1.SignDigestsResult{
		Outcome:  &roamsignv1.SignDigestsResult_Signature{Signature: i.released.signature},
		LogIndex: i.released.index,
	}
}

// maxNamed is how many taxpayers a batch's line in the log names.
const maxNamed = 10

// tally sums up a batch for its line in the log: for how many taxpayers and the
// first of them, how many were signed, and of each reason how many were not, with
// the first one's story.
func (c *call) tally(all []item) {
	refused := map[fault.Kind][]error{}
	signed := len(all)
	named := map[policy.TIN]bool{}
	var tins []string
	for _, i := range all {
		if i.err != nil {
			refused[kindOf(i.err)] = append(refused[kindOf(i.err)], i.err)
			signed--
		}
		if i.order.tin != "" && !named[i.order.tin] {
			named[i.order.tin] = true
			tins = append(tins, string(i.order.tin))
		}
	}
	c.batch = batch{signed: signed, refused: refused}
	if signed < len(all) {
		c.outcome = "PARTIAL"
	}
	c.attrs = []slog.Attr{
		slog.Int("taxpayers", len(tins)), slog.Any("tins", tins[:min(len(tins), maxNamed)]),
		slog.Int("items", len(all)), slog.Int("signed", signed),
	}
	for _, kind := range fault.Kinds() {
		if each := refused[kind]; len(each) > 0 {
			c.level = max(c.level, severity(kind))
			c.attrs = append(c.attrs, slog.Group(kind.Reason(), slog.Int("items", len(each)), slog.String("first", each[0].Error())))
		}
	}
}
