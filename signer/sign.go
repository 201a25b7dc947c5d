package signer

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// signature is a signature that verifies: only [certificate.verify] makes one.
type signature []byte

// SignDigest signs one digest for an identified caller.
func (s *service) SignDigest(ctx context.Context, in *roamsignv1.SignDigestRequest) (*roamsignv1.SignDigestResponse, error) {
	call := callOf(ctx)
	call.certificate = s.inForce()
	order, err := parseDigestOrder(in)
	call.id, call.tin = order.id, order.tin
	if err != nil {
		return nil, err
	}
	grant, err := s.policy.Load().Decide(call.caller, policy.SignDigest, order.tin, order.certificate, s.clock())
	if err != nil {
		return nil, err
	}
	done, err := s.signDigest(ctx, call.certificate, grant, order)
	if err != nil {
		return nil, err
	}
	return &roamsignv1.SignDigestResponse{Signature: done.signature, LogIndex: done.index}, nil
}

// signDigest has a granted order signed.
func (s *Server) signDigest(ctx context.Context, under *certificate, grant policy.Grant, order digestOrder) (done released, err error) {
	work, err := s.admit(ctx, under, grant, order.id, order.subject.digest)
	if err != nil {
		return released{}, err
	}
	defer func() { s.settle(work, done.signature != nil, err) }()
	made, err := s.sign(ctx, work, order.subject, 0)
	if err != nil {
		return released{}, err
	}
	return s.release(ctx, made)
}

// admitted is work that may be done: only [Server.admit] makes it, and who has
// it settles it.
type admitted struct {
	under  *certificate // until the end, whichever is in force by then
	grant  policy.Grant
	id     requestID
	at     time.Time
	charge *charge
}

// admit lets work in that is granted, for the certificate that was in force when
// the request began and may be signed under now, and within the caller's limits. Work of the same ID and digest is
// charged once.
func (s *Server) admit(ctx context.Context, under *certificate, grant policy.Grant, id requestID, digest [32]byte) (admitted, error) {
	if !grant.Valid() {
		return admitted{}, fault.New(fault.NotAllowed, "work without a grant")
	}
	now := s.clock()
	if err := cmp.Or(under.meant(grant), s.standing(under, now)); err != nil {
		return admitted{}, err
	}
	charge, err := s.admission.charge(ctx, grant, id, digest, now)
	if err != nil {
		return admitted{}, err
	}
	return admitted{under: under, grant: grant, id: id, at: now, charge: charge}, nil
}

// settle ends work that was admitted, by what became of it.
func (s *Server) settle(work admitted, released bool, err error) {
	s.admission.settle(work.charge, released, err, s.clock())
}

// sign is the only way to a signature: granted and admitted, signed in its turn
// while it is put on record, verified. [Server.release] ends it. The record may take
// until the signature is expected, and those that are made behind it for the same
// request: nobody has a use for it sooner.
//
// Where the key fails, or the turn does not come, nobody waits for the record: the
// entry stands there for a signature that was never released, if it came so far. As
// long as the key is known to be away none is begun.
func (s *Server) sign(ctx context.Context, work admitted, of subject, behind int) (pending, error) {
	if !work.grant.Valid() {
		return pending{}, fault.New(fault.NotAllowed, "signing what was not admitted")
	}
	ctx = s.tracer.of(ctx, work.id)
	var entry *appending
	begin := func(spare time.Duration) {
		entry = s.recorder.begin(ctx, s.recorder.entry(work, of), spare)
	}
	away := func() bool { return work.under.key.Ready() != nil } // nothing is made then, as a rule
	came := time.Now()
	turn, err := s.turn(ctx, work.grant, func(ready time.Duration) {
		if !away() && s.recorder.ahead.begin() {
			begin(ready + s.queue.estimate(behind))
		}
	})
	if entry != nil {
		s.recorder.ahead.end(err == nil)
	}
	if err != nil {
		return pending{}, err
	}
	if err := s.standing(work.under, s.clock()); err != nil {
		turn.end(err)
		return pending{}, err
	}
	if entry == nil && !away() { // who has waited long does not mind a little more
		begin(max(s.queue.estimate(behind+1), time.Since(came)/4))
	}
	verified, err := s.obtain(ctx, work.under, of.digest, turn)
	if fault.Of(err) == fault.SignatureWrong {
		verified, err = s.again(ctx, work, of.digest, err)
	}
	if err != nil {
		return pending{}, err
	}
	s.recorder.ahead.signed()
	if entry == nil {
		begin(0)
	}
	return pending{signature: verified, entry: entry, under: work.under}, nil
}

// again tries once more after a wrong signature: another part of the key may do
// better. If not, the first error is the truer one.
func (s *Server) again(ctx context.Context, work admitted, digest [32]byte, wrong error) (signature, error) {
	turn, err := s.turn(ctx, work.grant, func(time.Duration) {})
	if err != nil {
		return nil, wrong
	}
	verified, err := s.obtain(ctx, work.under, digest, turn)
	if err != nil {
		return nil, wrong
	}
	return verified, nil
}

// turn waits for the caller's turn. Once it is worth waiting, meanwhile is called with
// the time until the signature can be expected.
func (s *Server) turn(ctx context.Context, grant policy.Grant, meanwhile func(ready time.Duration)) (got turn, err error) {
	ctx, traced := s.tracer.begin(ctx, "queue")
	defer func() { traced.end(err) }()
	place, err := s.queue.join(ctx, grant.Caller(), grant.Limits().Weight)
	if err != nil {
		return turn{}, err
	}
	meanwhile(place.ready)
	return place.turn(ctx)
}

// obtain has a digest signed in the caller's turn, and verifies what the key
// gave.
func (s *Server) obtain(ctx context.Context, under *certificate, digest [32]byte, turn turn) (signature, error) {
	in, traced := s.tracer.begin(ctx, "hsm")
	raw, err := under.ask(in, digest, turn)
	traced.end(err)
	if err != nil {
		return nil, err
	}
	_, traced = s.tracer.begin(ctx, "verify")
	verified, err := under.verify(digest, raw)
	traced.end(err)
	if err != nil {
		under.key.Suspect(digest)
	}
	return verified, err
}

// ask has the key sign, and leaves the session whatever happens there.
func (c *certificate) ask(ctx context.Context, digest [32]byte, turn turn) (raw []byte, err error) {
	defer func() { turn.end(err) }()
	defer recovered(&err)
	if raw, err = c.key.SignDigest(ctx, digest); err != nil {
		return nil, keyFault(err)
	}
	return raw, nil
}

// verify makes a signature of what the key gave, if it is one.
func (c *certificate) verify(digest [32]byte, raw []byte) (signature, error) {
	if err := c.verifier.Verify(digest, raw); err != nil {
		return nil, &fault.Error{
			Kind: fault.SignatureWrong, RetryAfter: time.Second,
			Err: fmt.Errorf("verifying the signature under the certificate: %w", err),
		}
	}
	return raw, nil
}

// keyFault lets those kinds of a key's errors through that are a key's to
// claim: a caller is not told that its request is wrong by a token.
func keyFault(err error) error {
	err = fmt.Errorf("signing: %w", err)
	switch kindOf(err) {
	case fault.TokenUnavailable, fault.SignatureWrong, fault.Overloaded, fault.Canceled, fault.DeadlineExceeded:
		return err
	default:
		return fault.Wrap(fault.Internal, err)
	}
}
