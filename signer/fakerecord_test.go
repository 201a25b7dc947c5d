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
type manner func(r *fakeRecord, entry audit.Entry, done func(uint64, error))

// The named manners.
var (
	keeps manner = func(r *fakeRecord, entry audit.Entry, done func(uint64, error)) { done(r.put(entry), nil) }

	losesIt                  = loses(fault.New(fault.LogUnavailable, "secret detail of the disk"))
	keepsAndSaysNot          = keepsAndSays(fault.New(fault.LogUnavailable, "secret detail of the disk"))
	errsWithoutAKind         = loses(errors.New("secret detail of the disk"))
	keepsAndErrsWithoutAKind = keepsAndSays(errors.New("secret detail of the disk"))
	blamesTheEntry           = loses(fault.New(fault.NotAllowed, "secret detail of the record"))
	timesOutByItself         = loses(fault.Wrap(fault.LogUnavailable, context.DeadlineExceeded))

	losesItAndHangs manner = func(r *fakeRecord, _ audit.Entry, done func(uint64, error)) { go r.hang(done) }
	keepsItAndHangs manner = func(r *fakeRecord, entry audit.Entry, done func(uint64, error)) {
		r.put(entry)
		go r.hang(done)
	}
	losesItAndPanics manner = func(*fakeRecord, audit.Entry, func(uint64, error)) {
		panic("secret detail of the record")
	}
	keepsItAndPanics manner = func(r *fakeRecord, entry audit.Entry, _ func(uint64, error)) {
		r.put(entry)
		panic("secret detail of the record")
	}
	keepsSaysSoAndPanics manner = func(r *fakeRecord, entry audit.Entry, done func(uint64, error)) {
		done(r.put(entry), nil)
		panic("secret detail of the record")
	}
)

// loses does not keep entries, and says so.
func loses(err error) manner {
	return func(_ *fakeRecord, _ audit.Entry, done func(uint64, error)) { done(0, err) }
}

// keepsAndSays keeps entries, and says that it did not.
func keepsAndSays(err error) manner {
	return func(r *fakeRecord, entry audit.Entry, done func(uint64, error)) {
		r.put(entry)
		done(0, err)
	}
}

// slow keeps entries, once the gate lets it.
func slow(gate <-chan struct{}) manner {
	return func(r *fakeRecord, entry audit.Entry, done func(uint64, error)) {
		go func() {
			select {
			case <-gate:
				done(r.put(entry), nil)
			case <-r.let:
				done(0, errors.New("let go"))
			}
		}()
	}
}

// fakeRecord is a [Record] in memory, that fails in named ways, and complains
// when it is asked for what it cannot put down, or after the server has returned.
type fakeRecord struct {
	t       testing.TB
	entered chan struct{} // gets one element for each call, if there is room
	let     chan struct{} // closed when what hangs is let go
	letting sync.Once

	mu      sync.Mutex
	manner  manner
	down    error
	calls   int
	spare   time.Duration // the longest that it might take
	closed  bool
	entries []audit.Entry
}

func newFakeRecord(t testing.TB) *fakeRecord {
	return &fakeRecord{t: t, entered: make(chan struct{}, 10_000), let: make(chan struct{}), manner: keeps}
}

func (r *fakeRecord) Begin(entry audit.Entry, spare time.Duration, done func(uint64, error)) {
	r.begin(entry, spare)(r, entry, func(index uint64, err error) {
		r.end()
		done(index, err)
	})
}

func (r *fakeRecord) begin(entry audit.Entry, spare time.Duration) manner {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.spare = max(r.spare, spare)
	if r.closed {
		r.t.Error("the record was used after the server had returned")
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
	if r.closed {
		r.t.Error("the server had returned while the record was used")
	}
}

// hang waits until it is let go.
func (r *fakeRecord) hang(done func(uint64, error)) {
	<-r.let
	done(0, errors.New("let go"))
}

// letGo ends what hangs, now and later.
func (r *fakeRecord) letGo() { r.letting.Do(func() { close(r.let) }) }

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
