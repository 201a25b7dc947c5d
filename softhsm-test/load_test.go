package softhsmtest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// signer is what signs: a token, or several.
type signer interface {
	SignDigest(ctx context.Context, digest [sha256.Size]byte) ([]byte, error)
	Ready() error
}

// callers is how many ask at once in a drill.
const callers = 4

// errWrong: a signature that is none. No caller may ever get one.
var errWrong = errors.New("got a wrong signature")

// load is a number of callers who ask for one signature after the other, and
// keep account. Each request has a deadline, and each ends before it with a right
// signature or an error that has a kind, or the test fails.
type load struct {
	t        *testing.T
	sign     func(context.Context) error // is one request
	deadline time.Duration
	stop     context.CancelFunc
	asking   sync.WaitGroup

	mu       sync.Mutex
	making   [callers]time.Time // when each caller's request began; zero between two
	requests []request
	judged   int           // how many of them were in time, or told not to have been
	beats    []time.Time   // when a plain goroutine got its turn, which wants it after each pause
	stall    time.Duration // the longest that it had to wait for it
}

// request is how one request ended.
type request struct {
	began, ended time.Time
	err          error
}

func (r request) took() time.Duration { return r.ended.Sub(r.began) }

// pause is between two requests of one caller, so that errors do not fill the machine.
const pause = 2 * time.Millisecond

// ask starts callers of a signer. They stop with the test at the latest.
func ask(t *testing.T, open signer, token *softhsmtest.Token, deadline time.Duration) *load {
	t.Helper()
	return askFor(t, deadline, digests(open.SignDigest, token.Public))
}

// digests returns a request for the signature over some digest.
func digests(sign func(context.Context, [sha256.Size]byte) ([]byte, error), public *rsa.PublicKey) func(context.Context) error {
	return func(ctx context.Context) error {
		digest := randomDigest()
		signature, err := sign(ctx, digest)
		if err == nil && rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) != nil {
			return errWrong
		}
		return err
	}
}

// askFor starts callers of whatever it is that signs.
func askFor(t *testing.T, deadline time.Duration, sign func(context.Context) error) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{t: t, sign: sign, deadline: deadline, stop: stop}
	for caller := range callers {
		l.asking.Go(func() { every(ctx, pause, func() { l.one(caller) }) })
	}
	last := time.Now()
	l.asking.Go(func() {
		every(ctx, pause, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			now := time.Now()
			l.stall = max(l.stall, now.Sub(last)-pause)
			l.beats, last = append(l.beats, now), now
		})
	})
	t.Cleanup(l.end)
	return l
}

// every does something again and again, with a pause between.
func every(ctx context.Context, pause time.Duration, do func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			do()
			timer.Reset(pause)
		}
	}
}

// end stops the callers, and returns when they have. None of their requests may have
// ended late, but for what the machine withheld.
func (l *load) end() {
	l.stop()
	l.asking.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.requests[l.judged:] {
		if late := r.took() - l.deadline - l.stall; late > 100*time.Millisecond {
			l.t.Errorf("a request ended %v after its deadline: %v", late, r.err)
		}
	}
	l.judged = len(l.requests)
}

// one makes a request.
func (l *load) one(caller int) {
	ctx, cancel := context.WithTimeout(context.Background(), l.deadline)
	defer cancel()
	began := time.Now()
	l.mu.Lock()
	l.making[caller] = began
	l.mu.Unlock()
	err := l.sign(ctx)
	r := request{began, time.Now(), err}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.making[caller] = time.Time{}
	l.requests = append(l.requests, r)
	if _, classified := errors.AsType[*fault.Error](err); err != nil && !classified {
		l.t.Errorf("got an error of no kind: %v", err)
	}
}

// all returns the requests that began since then and have ended.
func (l *load) all(since time.Time) (some []request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.requests {
		if !r.began.Before(since) {
			some = append(some, r)
		}
	}
	return some
}

// failed returns those that failed.
func (l *load) failed(since time.Time) (some []request) {
	for _, r := range l.all(since) {
		if r.err != nil {
			some = append(some, r)
		}
	}
	return some
}

// goesOn waits until every caller, on average, got so many more signatures.
func (l *load) goesOn(each int) {
	l.t.Helper()
	since := time.Now()
	until(l.t, fmt.Sprintf("%d more requests are signed", each*callers), patience, func() bool {
		return len(l.all(since))-len(l.failed(since)) >= each*callers
	})
}

// settles waits until all requests that are under way have ended, so that none of
// them meets what comes next on top of what it met before.
func (l *load) settles() {
	l.t.Helper()
	now := time.Now()
	until(l.t, "the requests under way have ended", patience, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !slices.ContainsFunc(l.making[:], func(began time.Time) bool { return !began.IsZero() && began.Before(now) })
	})
}

// stalled is the longest that a plain goroutine had to wait for its turn.
func (l *load) stalled() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stall
}

// fair is how long a request took without what the machine withheld: a plain
// goroutine that sleeps between its beats gets fewer of them on a busy machine, as
// the request's own goroutines and threads get fewer turns. An idle machine gives a
// beat a little later than asked for.
func (l *load) fair(r request) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := sort.Search(len(l.beats), func(i int) bool { return l.beats[i].After(r.began) })
	behind := sort.Search(len(l.beats), func(i int) bool { return l.beats[i].After(r.ended) })
	return min(r.took(), time.Duration(behind-first+1)*pause*5/4)
}

// within reports whether something becomes so in that time, measured as fair
// does. The callers must not have ended.
func (l *load) within(atMost time.Duration, so func() bool) bool {
	began, late := time.Now(), false
	return within(l.t.Context(), patience, func() bool {
		late = l.fair(request{began: began, ended: time.Now()}) > atMost
		return late || so()
	}) && (!late || so())
}

// worst returns the longest request since then.
func (l *load) worst(since time.Time) (worst request) {
	for _, r := range l.all(since) {
		if r.took() > worst.took() {
			worst = r
		}
	}
	return worst
}

// unharmed fails the test if a caller got an error, or waited longer than that.
func (l *load) unharmed(since time.Time, atMost time.Duration) {
	l.t.Helper()
	failed := l.failed(since)
	for _, r := range failed[:min(len(failed), 3)] {
		l.t.Errorf("a caller got an error after %v: %v", r.took(), r.err)
	}
	worst := l.worst(since)
	if fair := l.fair(worst); fair > atMost {
		l.t.Errorf("the longest request took %v, %v of it without the machine's stalls, want at most %v", worst.took(), fair, atMost)
	}
	l.t.Logf("%d requests, %d errors, the longest %v, the machine's stalls up to %v", len(l.all(since)), len(failed), worst.took(), l.stalled())
}

// leavesNothing fails the test if, when all is closed, a goroutine of the
// package is left.
func leavesNothing(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	gone := within(context.Background(), 30*time.Second, func() bool {
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("roamsign/hsm."))
	})
	if !gone {
		t.Errorf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
}
