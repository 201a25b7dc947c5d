package hsm

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

// grace is how long the other tokens may take to open once one is open. They
// come into service later then.
const grace = 5 * time.Second

// Group signs with the same key in one or several tokens: an HA pair, a cluster's
// slots, two vendors' modules. Each request goes to the token with the least to
// do, and on to another where that does not sign it. Safe for concurrent use.
type Group struct {
	tokens []*Token
	log    *slog.Logger
	over   chan struct{}  // closed when every token is out for good
	owned  sync.WaitGroup // those who wait for tokens

	// recent tells who signed what lately, by the digest's first byte.
	recent [256]atomic.Pointer[signed]
}

type signed struct {
	digest [sha256.Size]byte
	by     *Token
}

// OpenGroup opens the tokens, as [Open] does, and returns when all are open, or
// soon after the first one is: those that could not be opened are tried again and
// again, unless their PIN was refused. It logs what becomes of them. The caller
// closes the Group.
//
// It is an error when no token opens, when one holds another key, and when two
// configs name the same token.
func OpenGroup(ctx context.Context, configs []Config, certificate *x509.Certificate, log *slog.Logger) (*Group, error) {
	return openGroup(ctx, configs, certificate, log, load)
}

func openGroup(ctx context.Context, configs []Config, certificate *x509.Certificate, log *slog.Logger, load loader) (*Group, error) {
	if len(configs) == 0 {
		return nil, errors.New("opening tokens: none is given")
	}
	g := &Group{log: log, over: make(chan struct{})}
	for _, config := range configs {
		t, err := newToken(config, certificate, load, log)
		if err != nil {
			g.undo(ctx)
			return nil, opening(config, err)
		}
		g.tokens = append(g.tokens, t)
	}
	if err := g.gather(ctx); err != nil {
		g.undo(ctx)
		return nil, err
	}
	for _, t := range g.tokens {
		close(t.goOn)
	}
	g.owned.Go(g.mourn)
	return g, nil
}

// gather waits for the tokens' first tries.
func (g *Group) gather(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		token *Token
		err   error
	}
	results := make(chan result, len(g.tokens))
	for _, t := range g.tokens {
		g.owned.Go(func() {
			select {
			case err := <-t.begun:
				results <- result{t, err}
			case <-ctx.Done():
				results <- result{t, fmt.Errorf("still trying: %w", ctx.Err())}
			}
		})
	}
	var faults []error
	for range g.tokens {
		r := <-results
		if r.err == nil {
			defer time.AfterFunc(grace, cancel).Stop()
			continue
		}
		err := opening(r.token.keeper.config, r.err)
		if errors.Is(err, ErrKeyMismatch) || errors.Is(err, errTwice) {
			return err
		}
		faults = append(faults, err)
	}
	if len(faults) == len(g.tokens) {
		return errors.Join(faults...)
	}
	for _, err := range faults {
		g.log.Warn("token not in service yet", "error", err.Error())
	}
	return nil
}

// undo closes what was opened, as far as ctx allows.
func (g *Group) undo(ctx context.Context) {
	for _, t := range g.tokens {
		_ = t.Close(ctx)
	}
	g.owned.Wait()
}

// mourn tells when all tokens are out for good.
func (g *Group) mourn() {
	for _, t := range g.tokens {
		select {
		case <-t.refused:
		case <-t.life.Done():
			return
		}
	}
	close(g.over)
}

// Over is closed when no token will ever serve in this process, since the PINs of
// all were refused. Ready says why.
func (g *Group) Over() <-chan struct{} { return g.over }

// SignDigest is [Token.SignDigest] in the token that has the least to do among
// those that are ready. Where that one fails, or takes half of the time that is
// left while another is ready, the request goes on to the other: signing is safe
// to repeat. Without a ready token it fails at once.
func (g *Group) SignDigest(ctx context.Context, digest [sha256.Size]byte) ([]byte, error) {
	return g.signBy(ctx, digest, firstKey)
}

func (g *Group) signBy(ctx context.Context, digest [sha256.Size]byte, by which) ([]byte, error) {
	var tried []*Token
	var failed error
	for {
		t, others := g.pick(tried, by)
		if t == nil {
			return nil, g.gaveUp(by, failed)
		}
		signature, err := t.signIn(ctx, digest, by, others)
		switch {
		case err == nil:
			g.remember(digest, t)
			return signature, nil
		case ctx.Err() != nil || fault.Of(err) == fault.Internal:
			return nil, err
		}
		tried, failed = append(tried, t), err
	}
}

// signIn is SignDigest with half of the time while there are others.
func (t *Token) signIn(ctx context.Context, digest [sha256.Size]byte, by which, others bool) ([]byte, error) {
	if deadline, ok := ctx.Deadline(); ok && others {
		half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
		ctx = half
	}
	return t.signBy(ctx, digest, by)
}

// pick returns the ready token that was not tried yet and has the least to do for
// its sessions, and whether there are others like it. Nil is none.
func (g *Group) pick(tried []*Token, by which) (best *Token, others bool) {
	from := rand.IntN(len(g.tokens)) // equals share
	for i := range g.tokens {
		t := g.tokens[(from+i)%len(g.tokens)]
		if t.readyBy(by) != nil || slices.Contains(tried, t) {
			continue
		}
		others = best != nil
		if best == nil || t.load()*int64(best.Sessions()) < best.load()*int64(t.Sessions()) {
			best = t
		}
	}
	return best, others
}

// load is how many sessions are taken or asked for.
func (t *Token) load() int64 { return t.inFlight.Load() + t.abandoned.Load() }

// gaveUp is the error of a request that no token signs, though its time is not over.
func (g *Group) gaveUp(by which, failed error) error {
	if failed == nil {
		failed = g.readyBy(by)
	}
	switch {
	case failed == nil:
		failed = errors.New("the tokens come and go")
	case fault.Of(failed) != fault.DeadlineExceeded:
		return failed
	}
	return &fault.Error{Kind: fault.TokenUnavailable, RetryAfter: retryAfter, Err: fmt.Errorf("no token is left to sign with: %w", failed)}
}

// remember notes who signed, in case somebody suspects it.
func (g *Group) remember(digest [sha256.Size]byte, by *Token) {
	if len(g.tokens) > 1 {
		g.recent[digest[0]].Store(&signed{digest, by})
	}
}

// Suspect reports that the signature over the digest, which was given out just
// now, does not verify. The token that gave it is out of service at once, and
// until it has found its key again and signed a probe. It does not block.
func (g *Group) Suspect(digest [sha256.Size]byte) {
	liar := g.tokens[0]
	if len(g.tokens) > 1 {
		last := g.recent[digest[0]].Load()
		if last == nil || last.digest != digest {
			g.log.Error("a wrong signature was given out, and it is not known by which token")
			return
		}
		liar = last.by
	}
	liar.fall(&fault.Error{Kind: fault.SignatureWrong, RetryAfter: retryAfter, Err: errors.New("it gave a signature that does not verify")})
}

// Ready returns nil when any token is ready, else why none is. It does not block.
func (g *Group) Ready() error { return g.readyBy(firstKey) }

func (g *Group) readyBy(by which) error {
	var faults []error
	for _, t := range g.tokens {
		err := t.readyBy(by)
		if err == nil {
			return nil
		}
		faults = append(faults, fmt.Errorf("token %s: %w", t.name(), err))
	}
	return &fault.Error{Kind: fault.TokenUnavailable, RetryAfter: soonest(faults), Err: errors.Join(faults...)}
}

// soonest returns the shortest time after which trying again may help; 0 for none.
func soonest(faults []error) (least time.Duration) {
	for _, err := range faults {
		if e, ok := errors.AsType[*fault.Error](err); ok && e.RetryAfter > 0 && (least == 0 || e.RetryAfter < least) {
			least = e.RetryAfter
		}
	}
	return least
}

// Hung reports whether no token can serve, and one of them hangs: only another
// process can help that one. See [Token.Hung].
func (g *Group) Hung() bool {
	return g.Ready() != nil && slices.ContainsFunc(g.tokens, (*Token).Hung)
}

// Sessions returns how many signatures all tokens make at once.
func (g *Group) Sessions() (sum int) {
	for _, t := range g.tokens {
		sum += t.Sessions()
	}
	return sum
}

// Health returns how each token is, in the configs' order. It does not block.
func (g *Group) Health() []Health {
	all := make([]Health, len(g.tokens))
	for i, t := range g.tokens {
		all[i] = t.Health()
	}
	return all
}

// Close closes all tokens, see [Token.Close].
func (g *Group) Close(ctx context.Context) error {
	for _, t := range g.tokens {
		t.abandon()
	}
	faults := make([]error, len(g.tokens))
	for i, t := range g.tokens {
		faults[i] = t.Close(ctx)
	}
	g.owned.Wait()
	return errors.Join(faults...)
}
