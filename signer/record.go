package signer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

// Record is where every signature is put down before it is released. Safe for
// concurrent use.
type Record interface {
	// Begin begins to put an entry on record, and does not block. It calls done once,
	// from any goroutine, before or after it returns: with the entry's index when the
	// entry is durable, and outlives this process and the machine; or with an error,
	// when it may have come on record or not. Errors carry a kind of package fault:
	// LogUnavailable (with RetryAfter) or Internal; one without a kind counts as
	// LogUnavailable. done does not block.
	//
	// Nobody needs that before spare is over: the record may use it to share the
	// work among more entries.
	Begin(entry audit.Entry, spare time.Duration, done func(index uint64, err error))

	// Ready returns nil when entries can be expected to come on record, else why not.
	// It does not block: it is asked several times a second.
	Ready() error
}

// maxAppends bounds the entries on their way to the record, those included whose
// requests have ended.
const maxAppends = 4096

// appendAgain is when to try again where the record does not say.
const appendAgain = time.Second

// recorder puts entries on record beside whatever else is done for a request.
type recorder struct {
	record   Record
	instance string
	tracer   tracer
	under    chan struct{} // has one element for each append under way
	ahead    ahead
}

func newRecorder(record Record, instance string) *recorder {
	return &recorder{record: record, instance: instance, under: make(chan struct{}, maxAppends)}
}

// subject is what is signed, as the record tells of it.
type subject struct {
	digest     [32]byte
	properties [32]byte // zero: not told
	number     string
	checked    bool // the TIN was read in the document
}

// entry is what the record tells of admitted work.
func (r *recorder) entry(work admitted, of subject) audit.Entry {
	return audit.Entry{
		Time:             work.at,
		Signer:           r.instance,
		Caller:           string(work.grant.Caller()),
		TIN:              string(work.grant.Taxpayer()),
		TINChecked:       of.checked,
		Method:           string(work.grant.Method()),
		Certificate:      work.grant.Certificate(),
		Document:         of.digest,
		SignedProperties: of.properties,
		Number:           of.number,
		RequestID:        string(work.id),
	}
}

// appending is an entry on its way to the record.
type appending struct {
	recorder *recorder
	traced   span
	over     atomic.Bool
	outcome  chan appended // has room for it, so that nobody needs to wait for it
}

// appended is the outcome: the entry is durable, at that index, or not known to be.
type appended struct {
	index uint64
	err   error
}

// begin begins to put an entry on record, which nobody needs before spare is over. It
// is waited for no longer than its request is, and goes on all the same.
func (r *recorder) begin(ctx context.Context, entry audit.Entry, spare time.Duration) *appending {
	a := &appending{recorder: r, outcome: make(chan appended, 1)}
	select {
	case r.under <- struct{}{}:
	default:
		a.outcome <- appended{err: recordFault(errors.New("too many entries are on their way to the record"))}
		return a
	}
	_, a.traced = r.tracer.begin(ctx, "record")
	if err := r.hand(entry, spare, a.end); err != nil {
		a.end(0, err)
	}
	return a
}

// hand hands an entry to the record, whose panics are errors.
func (r *recorder) hand(entry audit.Entry, spare time.Duration, done func(uint64, error)) (err error) {
	defer recovered(&err)
	r.record.Begin(entry, spare, done)
	return nil
}

// end tells what became of the entry, the first time.
func (a *appending) end(index uint64, err error) {
	if !a.over.CompareAndSwap(false, true) {
		return
	}
	if err != nil {
		index, err = 0, recordFault(err)
	}
	a.traced.end(err)
	a.outcome <- appended{index, err}
	<-a.recorder.under
}

// recordFault lets those kinds of the record's errors through that are the
// record's to claim.
func recordFault(err error) error {
	err = fmt.Errorf("recording: %w", err)
	if _, kind := errors.AsType[*fault.Error](err); !kind && kindOf(err) == fault.Internal {
		return &fault.Error{Kind: fault.LogUnavailable, RetryAfter: appendAgain, Err: err}
	}
	switch kindOf(err) {
	case fault.LogUnavailable, fault.Canceled, fault.DeadlineExceeded:
		return err
	default:
		return fault.Wrap(fault.Internal, err)
	}
}

// pending is a signature that verifies, and that nobody may have yet.
type pending struct {
	signature signature
	entry     *appending
	under     *certificate
}

// released is a signature whose entry is on record: only [Server.release] makes
// one.
type released struct {
	signature signature
	index     uint64 // of its entry
}

// release waits until the signature's entry is on record, and looks once more
// whether its certificate still stands. Otherwise nobody gets it.
func (s *Server) release(ctx context.Context, p pending) (released, error) {
	select {
	case done := <-p.entry.outcome:
		if done.err != nil {
			return released{}, done.err
		}
		if err := ctx.Err(); err != nil {
			return released{}, fmt.Errorf("releasing: %w", err)
		}
		if err := s.standing(p.under, s.clock()); err != nil {
			return released{}, err
		}
		return released{signature: p.signature, index: done.index}, nil
	case <-ctx.Done():
		return released{}, fmt.Errorf("recording: %w", ctx.Err())
	}
}

// finish waits for the appends under way, as long as the patience. Meanwhile no
// other can count on finding room.
func (r *recorder) finish(patience time.Duration) error {
	late := time.After(patience)
	taken := 0
	defer func() {
		for range taken {
			<-r.under
		}
	}()
	for ; taken < cap(r.under); taken++ {
		select {
		case r.under <- struct{}{}:
		case <-late:
			return fmt.Errorf("stopping: %d entries are still on their way to the record", cap(r.under)-taken)
		}
	}
	return nil
}
