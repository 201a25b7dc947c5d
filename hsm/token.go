package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

const (
	probeInterval = time.Second // between questions to a token out of order whether it can sign again
	stallTime     = time.Second // without any answer, while all sessions are abandoned: the token hangs
)

// Token signs with one key in one token. All its methods are safe for
// concurrent use.
type Token struct {
	module *module
	keeper *keeper

	requests  chan *request
	pool      []*worker
	workers   sync.WaitGroup
	abandoned atomic.Int64

	opened   time.Time
	answered atomic.Int64          // when the token last answered, in nanoseconds after opened
	failure  atomic.Pointer[error] // why the last request could not be signed, nil when it was
	failing  chan struct{}         // wakes watch

	life   context.Context // ends with Close
	end    context.CancelFunc
	once   sync.Once
	closed chan struct{} // closed when nothing is left
	err    error         // of closing; written before closed is closed
}

// Open finds the token and the key that the config names, logs in, and proves
// that the key belongs to the certificate: same modulus and exponent, and a probe
// signature that verifies. RSA of 2048, 3072 and 4096 bits with exponent 65537.
//
// It sets the config's environment in the process, and initialises the module,
// unless another Token of this process has. When ctx ends first, Open returns
// and what it began is undone as soon as the library lets go. The PIN is tried
// once at most. The caller closes the Token.
//
// Errors wrap [ErrModule], [ErrNoToken], [ErrPINIncorrect], [ErrPINLocked],
// [ErrNoKey] or [ErrKeyMismatch] where one fits, and have a kind.
func Open(ctx context.Context, config Config, certificate *x509.Certificate) (*Token, error) {
	return open(ctx, config, certificate, load)
}

func open(ctx context.Context, config Config, certificate *x509.Certificate, load loader) (*Token, error) {
	type result struct {
		token *Token
		err   error
	}
	done := make(chan result, 1)
	go func() {
		token, err := begin(ctx, config, certificate, load)
		done <- result{token, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, withKind(fmt.Errorf("opening token %s: %w", config.tokenName(), r.err))
		}
		return r.token, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.token != nil {
				_ = r.token.Close(context.Background())
			}
		}()
		return nil, withKind(fmt.Errorf("opening token %s: %w", config.tokenName(), ctx.Err()))
	}
}

// begin is Open without the clock.
func begin(ctx context.Context, config Config, certificate *x509.Certificate, load loader) (*Token, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	public, err := publicKeyOf(certificate)
	if err != nil {
		return nil, err
	}
	m, s, err := process.enter(ctx, config, load)
	if err != nil {
		return nil, err
	}
	t := &Token{
		module:   m,
		keeper:   &keeper{slot: s, public: public, turn: make(chan struct{}, 1)},
		requests: make(chan *request),
		opened:   time.Now(),
		failing:  make(chan struct{}, 1),
		closed:   make(chan struct{}),
	}
	t.life, t.end = context.WithCancel(context.Background())
	if err := t.start(ctx); err != nil {
		return nil, errors.Join(err, t.Close(context.Background()))
	}
	return t, nil
}

// start logs in, opens the sessions and lets the workers run.
func (t *Token) start(ctx context.Context) error {
	size, err := t.keeper.slot.config.sessions(t.keeper.slot.info.MaxSessionCount)
	if err != nil {
		return err
	}
	if err := t.keeper.start(ctx); err != nil {
		return err
	}
	for len(t.pool) < size {
		w := &worker{token: t}
		if err := w.replace(ctx); err != nil {
			return fmt.Errorf("opening session %d of %d: %w", len(t.pool)+1, size, err)
		}
		t.pool = append(t.pool, w)
	}
	t.workers.Add(len(t.pool) + 1)
	for _, w := range t.pool {
		go w.run()
	}
	go t.watch()
	return nil
}

func publicKeyOf(certificate *x509.Certificate) (*rsa.PublicKey, error) {
	if certificate == nil {
		return nil, errors.New("no certificate given")
	}
	public, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: it certifies a %T, want RSA", ErrKeyMismatch, certificate.PublicKey)
	}
	if err := checkSize(public); err != nil {
		return nil, fmt.Errorf("%w: it certifies an %w", ErrKeyMismatch, err)
	}
	return public, nil
}

// Sessions returns how many signatures are made at once.
func (t *Token) Sessions() int { return len(t.pool) }

// Abandoned returns how many sessions are in calls that no caller waits for any
// more: because they outlived their callers, or to be replaced after an error.
// When it stays at [Token.Sessions] the token has stopped.
func (t *Token) Abandoned() int { return int(t.abandoned.Load()) }

// Ready returns nil when the token can sign as far as is known: it is open, the
// last request that the token answered was signed, and it has not stalled, with
// all sessions abandoned and no answer for a second. Else it says why not. It
// does not block. A token that is not ready is probed every second and becomes
// ready by itself, unless its PIN was refused.
func (t *Token) Ready() error {
	if t.life.Err() != nil {
		return withKind(ErrClosed)
	}
	if failure := t.failure.Load(); failure != nil {
		return withKind(*failure)
	}
	silence := time.Since(t.opened) - time.Duration(t.answered.Load())
	if n := t.Abandoned(); n >= t.Sessions() && silence >= stallTime {
		return fault.New(fault.TokenUnavailable, "all %d sessions are in calls that do not return", n)
	}
	return nil
}

// note takes down how a request ended, for Ready.
func (t *Token) note(err error) {
	t.answered.Store(int64(time.Since(t.opened)))
	switch {
	case err == nil:
		if t.failure.Load() != nil {
			t.failure.Store(nil)
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), classOf(err) == requestClass:
	default:
		t.failure.Store(&err)
		select {
		case t.failing <- struct{}{}:
		default:
		}
	}
}

// watch probes a token that is out of order until it signs again, because
// nobody sends requests to a token that is not ready.
func (t *Token) watch() {
	defer t.workers.Done()
	for {
		select {
		case <-t.life.Done():
			return
		case <-t.failing:
		}
		for t.failure.Load() != nil {
			select {
			case <-t.life.Done():
				return
			case <-time.After(probeInterval):
			}
			// Without a deadline: a probe that hangs must not be followed by
			// others until every session hangs.
			t.probe(t.life)
		}
	}
}

// probe signs a random digest, and verifies it, since a token may come back with
// another key. What it finds is noted.
func (t *Token) probe(ctx context.Context) {
	var digest [sha256.Size]byte
	_, _ = rand.Read(digest[:]) // never fails
	signature, err := t.SignDigest(ctx, digest)
	if err != nil {
		return // noted by the worker
	}
	if rsa.VerifyPKCS1v15(t.keeper.public, crypto.SHA256, digest[:], signature) != nil {
		t.note(fault.New(fault.SignatureWrong, "the token gave a wrong signature"))
	}
}

// Close lets calls in flight finish, closes the sessions, which logs out, and
// finalises the module if no other Token uses it. Requests that wait for a
// session fail with [ErrClosed].
//
// When ctx ends first Close returns an error, and the module is left as it is,
// because C_Finalize under a running call crashes the process. Should the calls
// return, closing goes on by itself; Close may be called again, to wait for that.
func (t *Token) Close(ctx context.Context) error {
	t.once.Do(func() {
		t.end()
		go func() {
			t.workers.Wait()
			t.err = t.finish()
			close(t.closed)
		}()
	})
	select {
	case <-t.closed:
		return withKind(t.err)
	case <-ctx.Done():
		return withKind(fmt.Errorf("closing token %s: calls are still running in the library, which is left as it is: %w",
			t.keeper.slot.config.tokenName(), ctx.Err()))
	}
}

// finish undoes what Open did, after the last worker.
func (t *Token) finish() error {
	rest := make([]*session, len(t.pool))
	for i, w := range t.pool {
		rest[i] = w.session
	}
	return errors.Join(t.keeper.close(rest), process.exit(t.module, t.keeper.slot))
}
