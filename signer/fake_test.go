package signer

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/roamsign/roamsign/internal/fault"
)

// way is how the fake key behaves.
type way func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error)

// The named ways. Those that lie give bytes that must never be seen outside.
var (
	honest way = func(_ context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		return rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, digest[:])
	}
	flipsABit way = func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		signature, err := honest(ctx, k, digest)
		if err == nil {
			signature[100] ^= 1
		}
		return signature, err
	}
	signsAnother way = func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		digest[0] ^= 1
		return honest(ctx, k, digest)
	}
	withAnotherKey way = func(_ context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		return rsa.SignPKCS1v15(nil, k.other, crypto.SHA256, digest[:])
	}
	withoutDigestInfo way = func(_ context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		return rsa.SignPKCS1v15(nil, k.private, 0, digest[:])
	}
	// flipsABitOnce is right at the second try of the same digest.
	flipsABitOnce way = func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		if k.suspected(digest) > 0 {
			return honest(ctx, k, digest)
		}
		return flipsABit(ctx, k, digest)
	}
	// isAwayAfterALie is out of service once its lie is known.
	isAwayAfterALie way = func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		if k.suspected(digest) > 0 {
			k.forgive()
			return isAway(ctx, k, digest)
		}
		return flipsABit(ctx, k, digest)
	}
	withPSS way = func(_ context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		return rsa.SignPSS(rand.Reader, k.private, crypto.SHA256, digest[:], nil)
	}
	givesNothing way = func(context.Context, *fakeKey, [32]byte) ([]byte, error) { return nil, nil }
	isAway       way = func(context.Context, *fakeKey, [32]byte) ([]byte, error) {
		return nil, fault.New(fault.TokenUnavailable, "signing with key \"k\": CKR_DEVICE_ERROR")
	}
	seesItself way = func(context.Context, *fakeKey, [32]byte) ([]byte, error) {
		return nil, fault.New(fault.SignatureWrong, "secret detail of the token")
	}
	breaks way = func(context.Context, *fakeKey, [32]byte) ([]byte, error) {
		return nil, errors.New("secret detail of the token")
	}
	blamesTheCaller way = func(context.Context, *fakeKey, [32]byte) ([]byte, error) {
		return nil, fault.New(fault.InvalidRequest, "secret detail of the token")
	}
	panics way = func(context.Context, *fakeKey, [32]byte) ([]byte, error) { panic("secret detail of the token") }
	hangs  way = func(ctx context.Context, _ *fakeKey, _ [32]byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
)

// remembering signs each digest honestly, but once, since RSA takes its time.
func remembering() way {
	var known sync.Map
	return func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		if signature, ok := known.Load(digest); ok {
			return slices.Clone(signature.([]byte)), nil
		}
		signature, err := honest(ctx, k, digest)
		known.Store(digest, signature)
		return signature, err
	}
}

// gated signs honestly, once the gate lets it.
func gated(gate <-chan struct{}) way {
	return func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		select {
		case <-gate:
			return honest(ctx, k, digest)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// digestsStarting behaves one way for digests with that first byte, and
// honestly for others.
func digestsStarting(first byte, one way) way {
	return func(ctx context.Context, k *fakeKey, digest [32]byte) ([]byte, error) {
		if digest[0] == first {
			return one(ctx, k, digest)
		}
		return honest(ctx, k, digest)
	}
}

// fakeKey is a [Key] in memory, that fails in named ways, and complains when
// it is asked for more than its sessions, without a deadline, or after the
// server has returned.
type fakeKey struct {
	t              testing.TB
	private, other *rsa.PrivateKey
	sessions       int
	entered        chan struct{} // gets one element for each call, if there is room

	mu      sync.Mutex
	way     way
	down    error
	busy    int
	calls   int
	closed  bool
	suspect map[[32]byte]int  // digests that were reported
	given   map[[32]byte]bool // SHA-256 of what was given out
}

func newFakeKey(t testing.TB, m *material, sessions int) *fakeKey {
	return &fakeKey{
		t: t, private: m.key, other: m.otherKey, sessions: sessions,
		entered: make(chan struct{}, 10_000), way: honest, given: map[[32]byte]bool{}, suspect: map[[32]byte]int{},
	}
}

func (k *fakeKey) SignDigest(ctx context.Context, digest [32]byte) ([]byte, error) {
	do := k.begin(ctx)
	defer k.end()
	signature, err := do(ctx, k, digest)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.given[sha256.Sum256(signature)] = true
	return signature, err
}

func (k *fakeKey) begin(ctx context.Context) way {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	k.busy++
	if k.busy > k.sessions {
		k.t.Errorf("the key got %d calls at a time, of %d sessions", k.busy, k.sessions)
	}
	if k.closed {
		k.t.Error("the key was used after the server had returned")
	}
	if _, ok := ctx.Deadline(); !ok {
		k.t.Error("the key was used without a deadline")
	}
	select {
	case k.entered <- struct{}{}:
	default:
	}
	return k.way
}

func (k *fakeKey) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy--
}

func (k *fakeKey) Suspect(digest [32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.suspect[digest]++
}

// forgive forgets all reports.
func (k *fakeKey) forgive() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.suspect)
}

// suspected returns how often a digest was reported.
func (k *fakeKey) suspected(digest [32]byte) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.suspect[digest]
}

func (k *fakeKey) Ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.down
}

// behave changes how the key behaves from now on.
func (k *fakeKey) behave(w way) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.way = w
	clear(k.suspect)
}

// goDown makes Ready give an error; nil brings the key back.
func (k *fakeKey) goDown(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = err
}

func (k *fakeKey) used() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls
}

func (k *fakeKey) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
}
