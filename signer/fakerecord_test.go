package signer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

// instance is the name of the signer under test.
const instance = "signer-1"

// manner is how the fake record behaves.
type manner func(ctx context.Context, r *fakeRecord, entry audit.Entry) (uint64, error)

// The named manners.
var (
	keeps manner = func(_ context.Context, r *fakeRecord, entry audit.Entry) (uint64, error) {
		return r.put(entry), nil
	}
	losesIt manner = func(context.Context, *fakeRecord, audit.Entry) (uint64, error) {
		return 0, fault.New(fault.LogUnavailable, "secret detail of the disk")
	}
	keepsAndSaysNot manner = func(_ context.Context, r *fakeRecord, entry audit.Entry) (uint64, error) {
		r.put(entry)
		return 0, fault.New(fault.LogUnavailable, "secret detail of the disk")
	}
	errsWithoutAKind manner = func(context.Context, *fakeRecord, audit.Entry) (uint64, error) {
		return 0, errors.New("secret detail of the disk")
	}
	keepsAndErrsWithoutAKind manner = func(_ context.Context, r *fakeRecord, entry audit.Entry) (uint64, error) {
		r.put(entry)
		return 0, errors.New("secret detail of the disk")
	}
	blamesTheEntry manner = func(context.Context, *fakeRecord, audit.Entry) (uint64, error) {
		return 0, fault.New(fault.NotAllowed, "secret detail of the record")
	}
	timesOutByItself manner = func(context.Context, *fakeRecord, audit.Entry) (uint64, error) {
		return 0, fault.Wrap(fault.LogUnavailable, context.DeadlineExceeded)
	}
	losesItAndHangs manner = func(ctx context.Context, _ *fakeRecord, _ audit.Entry) (uint64, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	keepsItAndHangs manner = func(ctx context.Context, r *fakeRecord, entry audit.Entry) (uint64, error) {
		r.put(entry)
		<-ctx.Done()
		return 0, ctx.Err()
	}
	losesItAndPanics manner = func(context.Context, *fakeRecord, audit.Entry) (uint64, error) {
		panic("secret detail of the record")
	}
	keepsItAndPanics manner = func(_ context.Context, r *fakeRecord, entry audit.Entry) (uint64, error) {
		r.put(entry)
		panic("secret detail of the record")
	}
)

// slow keeps entries, once the gate lets it.
func slow(gate <-chan struct{}) manner {
	return func(ctx context.Context, r *fakeRecord, entry audit.Entry) (uint64, error) {
		select {
		case <-gate:
			return r.put(entry), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// fakeRecord is a [Record] in memory, that fails in named ways, and complains
// when it is asked for what it cannot put down, without a deadline, or after the
// server has returned.
type fakeRecord struct {
	t       testing.TB
	entered chan struct{} // gets one element for each call, if there is room

	mu      sync.Mutex
	manner  manner
	down    error
	under   int
	calls   int
	spare   time.Duration // the longest that it might take
	closed  bool
	entries []audit.Entry
}

func newFakeRecord(t testing.TB) *fakeRecord {
	return &fakeRecord{t: t, entered: make(chan struct{}, 10_000), manner: keeps}
}

func (r *fakeRecord) Append(ctx context.Context, entry audit.Entry, spare time.Duration) (uint64, error) {
	do := r.begin(ctx, entry, spare)
	defer r.end()
	return do(ctx, r, entry)
}

func (r *fakeRecord) begin(ctx context.Context, entry audit.Entry, spare time.Duration) manner {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.spare = max(r.spare, spare)
	r.under++
	if r.closed {
		r.t.Error("the record was used after the server had returned")
	}
	if _, ok := ctx.Deadline(); !ok {
		r.t.Error("the record was used without a deadline")
	}
	if _, err := entry.Encode(); err != nil {
		r.t.Errorf("an entry that has no form: %v", err)
	}
	select {
	case r.entered <- struct{}{}:
	default:
	}
	return r.manner
}

func (r *fakeRecord) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.under--
	if r.closed {
		r.t.Error("the server had returned while the record was used")
	}
}

func (r *fakeRecord) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down
}

// put puts an entry down.
func (r *fakeRecord) put(entry audit.Entry) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, entry)
	return uint64(len(r.entries) - 1)
}

// behave changes how the record behaves from now on.
func (r *fakeRecord) behave(m manner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manner = m
}

// goDown makes Ready give an error; nil brings the record back.
func (r *fakeRecord) goDown(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = err
}

// all are the entries on record.
func (r *fakeRecord) all() []audit.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entries)
}

// asked is how many entries were to come on record.
func (r *fakeRecord) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// longest is the longest time that it might take for an entry.
func (r *fakeRecord) longest() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spare
}

func (r *fakeRecord) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}
