package hsm

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Token signs with one key in one token, and comes back by itself when the token
// was lost. All its methods are safe for concurrent use.
type Token struct {
	keeper *keeper
	loader loader
	log    *slog.Logger

	requests  chan *request
	pool      atomic.Pointer[[]*worker] // nil until the token is found first
	inFlight  atomic.Int64
	abandoned atomic.Int64
	outlived  atomic.Int64 // calls so far that took longer than their callers waited
	spare     atomic.Int64 // workers for whom the token has no session
	losses    atomic.Int64 // how often it went out of service
	last      atomic.Pointer[Trouble]
	state     atomic.Pointer[state]

	made    time.Time
	tending atomic.Int64 // since when tend is in the library, in nanoseconds after made; 0 when it is not
	stuck   atomic.Int64 // since when calls that hang keep the token from coming back, likewise

	found slot                 // of tend until it is over: where the token stood at first
	hired []*worker            // of tend likewise
	begun chan error           // takes how the first try to bring the token up went
	goOn  chan struct{}        // closed when others are to follow a first try that failed
	looks chan chan<- struct{} // asks tend for a look; what it takes is closed after that

	refused chan struct{} // closed when the token is out for good
	life    context.Context
	end     context.CancelFunc // of life; Close calls it
	owned   sync.WaitGroup     // tend and the workers
	once    sync.Once
	closed  chan struct{} // closed when nothing is left
	err     error         // of closing; written before closed is closed
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
	t, err := newToken(config, certificate, load, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, opening(config, err)
	}
	select {
	case err := <-t.begun:
		if err != nil {
			return nil, opening(config, errors.Join(err, t.Close(context.Background())))
		}
		return t, nil
	case <-ctx.Done():
		t.abandon()
		return nil, opening(config, ctx.Err())
	}
}

func opening(config Config, err error) error {
	return withKind(fmt.Errorf("opening token %s: %w", config.tokenName(), err))
}

// newToken makes a token that tries to come up by itself, until it is closed.
// How the first try goes is told to begun; others wait for goOn.
func newToken(config Config, certificate *x509.Certificate, load loader, log *slog.Logger) (*Token, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	public, err := publicKeyOf(certificate)
	if err != nil {
		return nil, err
	}
	if err := config.checkNext(); err != nil {
		return nil, err
	}
	t := &Token{
		keeper:   &keeper{config: config, public: public},
		loader:   load,
		log:      log,
		requests: make(chan *request),
		made:     time.Now(),
		begun:    make(chan error, 1),
		goOn:     make(chan struct{}),
		looks:    make(chan chan<- struct{}),
		refused:  make(chan struct{}),
		closed:   make(chan struct{}),
	}
	t.keeper.next.Store(config.next)
	t.life, t.end = context.WithCancel(context.Background())
	t.state.Store(newState(errOpening, t.made))
	t.owned.Add(1)
	go t.tend()
	return t, nil
}

// name says which token it is.
func (t *Token) name() string { return t.keeper.config.tokenName() }

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

// Close lets calls in flight finish, closes the sessions, which logs out, and
// finalises the module if no other Token uses it. Requests that wait for a
// session fail with [ErrClosed].
//
// When ctx ends first Close returns an error, and the module is left as it is,
// because C_Finalize under a running call crashes the process. Should the calls
// return, closing goes on by itself; Close may be called again, to wait for that.
func (t *Token) Close(ctx context.Context) error {
	t.abandon()
	select {
	case <-t.closed:
		return withKind(t.err)
	case <-ctx.Done():
		return withKind(fmt.Errorf("closing token %s: calls are still running in the library, which is left as it is: %w",
			t.name(), ctx.Err()))
	}
}

// abandon is Close without waiting.
func (t *Token) abandon() {
	t.once.Do(func() {
		t.end()
		go func() {
			t.owned.Wait()
			t.err = t.finish()
			close(t.closed)
		}()
	})
}

// finish undoes what Open did, after the last worker.
func (t *Token) finish() error {
	m := t.keeper.module.Load()
	if m == nil {
		return nil
	}
	rest := make([]*session, len(t.hired))
	for i, w := range t.hired {
		rest[i] = w.session
	}
	return errors.Join(t.keeper.close(rest), process.exit(m, t.found))
}
