package hsm

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/roamsign/roamsign/internal/fault"
)

// which is one of the keys that a token signs with.
type which uint8

const (
	firstKey which = iota // that of the config
	nextOne               // that of [Config.WithNext]
)

// nextKey names a second key in the same token, and whose it is.
type nextKey struct {
	label, id   string
	certificate *x509.Certificate
}

// WithNext returns the config with a second key, which is in the same token: that
// of the certificate which is to follow. The two share the login and the sessions.
// A token serves without it, and looks for it again every ten seconds; see
// [Group.NextReady]. The label and the ID are as KeyLabel and KeyID.
func (c Config) WithNext(label, id string, certificate *x509.Certificate) Config {
	c.next = &nextKey{label: label, id: id, certificate: certificate}
	return c
}

// of returns the config by which a second key is found.
func (c Config) of(next *nextKey) Config {
	c.KeyLabel, c.KeyID = next.label, next.id
	return c
}

// checkNext refuses a second key that no token could have.
func (c Config) checkNext() error {
	if c.next == nil {
		return nil
	}
	if err := c.of(c.next).Validate(); err != nil {
		return fmt.Errorf("the next key: %w", err)
	}
	if _, err := publicKeyOf(c.next.certificate); err != nil {
		return fmt.Errorf("the next key: %w", err)
	}
	return nil
}

// succession is the second key, in one generation.
type succession struct {
	of  *nextKey // nil: none was looked for
	key pkcs11.ObjectHandle
	err error // why it cannot be used; nil when it can
}

// errNoNext: no second key is configured, or it was not looked for yet.
var errNoNext = errors.New("there is no next key")

// errNotSought: it was asked for just now.
var errNotSought = errors.New("the next key was not looked for yet")

// succeed finds the second key and proves it. Whoever calls it is in the library.
// That the key is not there harms nobody who signs with the first.
func (k *keeper) succeed(s slot, session pkcs11.SessionHandle) (found succession) {
	next := k.next.Load()
	if next == nil {
		return succession{err: errNoNext}
	}
	found.of = next
	defer rescue(&found.err)
	public, err := publicKeyOf(next.certificate)
	if err != nil {
		return succession{of: next, err: err}
	}
	s.config = k.config.of(next)
	key, err := s.pick(session, public)
	if err != nil {
		return succession{of: next, err: fmt.Errorf("the next key: %w", err)}
	}
	return succession{of: next, key: key}
}

// seek looks once more for a second key that was not there.
func (k *keeper) seek(ctx context.Context) (err error) {
	if k.next.Load() == nil {
		return nil
	}
	if err := k.enter(ctx); err != nil {
		return err
	}
	defer k.leave()
	now := k.current.Load()
	if k.void(now) || now == k.lost || k.lacks(now) == nil {
		return nil
	}
	again := *now
	again.next = k.succeed(now.slot, now.session)
	if again.next.err == nil || again.next.of != now.next.of {
		k.current.Store(&again)
	}
	return nil
}

// keyOf returns one of the keys in a generation. The lack of the second one is
// the request's misfortune, and no loss of the token.
func (k *keeper) keyOf(g *generation, by which) (pkcs11.ObjectHandle, *rsa.PublicKey, error) {
	if by == firstKey {
		return g.key, k.public, nil
	}
	if err := k.lacks(g); err != nil {
		return 0, nil, lacking(err)
	}
	public, err := publicKeyOf(g.next.of.certificate)
	return g.next.key, public, err
}

// lacks tells why a generation cannot sign with the second key that is wanted now,
// or nil. A handle is never that of a key which was wanted before.
func (k *keeper) lacks(g *generation) error {
	switch wanted := k.next.Load(); {
	case wanted == nil:
		return errNoNext
	case g.next.of != wanted:
		return errNotSought
	}
	return g.next.err
}

// lackError is the lack of the second key.
type lackError struct{ err error }

func (e *lackError) Error() string { return e.err.Error() }

func (e *lackError) Unwrap() error { return e.err }

// lacking has the request tried again later, perhaps in another token.
func lacking(err error) error {
	return &fault.Error{Kind: fault.TokenUnavailable, RetryAfter: retryAfter, Err: &lackError{err}}
}

// readyBy is Ready for one of the keys.
func (t *Token) readyBy(by which) error {
	if err := t.Ready(); err != nil || by == firstKey {
		return err
	}
	g := t.keeper.current.Load()
	switch {
	case t.keeper.next.Load() == nil:
		return lacking(errNoNext)
	case g != nil && g.module != 0:
		if err := t.keeper.lacks(g); err != nil {
			return lacking(err)
		}
	}
	return nil
}

// SetNext has the tokens hold another second key in the place of the one that
// [Config.WithNext] or SetNext named before, with which nobody may sign any more.
// The label and the ID are as KeyLabel and KeyID. It returns once each token that
// serves has looked for the key, or when ctx ends; whether they found it
// [Group.NextReady] tells, and they look again as WithNext says. An error means that
// no token could have such a key, and that all is as before.
func (g *Group) SetNext(ctx context.Context, label, id string, certificate *x509.Certificate) error {
	for _, t := range g.tokens {
		if err := t.keeper.config.WithNext(label, id, certificate).checkNext(); err != nil {
			return err
		}
	}
	next := &nextKey{label: label, id: id, certificate: certificate}
	var looking sync.WaitGroup
	for _, t := range g.tokens {
		t.keeper.next.Store(next)
		if t.serves() { // else it looks when it comes back
			looking.Go(func() { t.lookNow(ctx) })
		}
	}
	looking.Wait()
	return nil
}

// lookNow has tend look at the token, and waits for that.
func (t *Token) lookNow(ctx context.Context) {
	done := make(chan struct{})
	select {
	case t.looks <- done:
	case <-ctx.Done():
		return
	case <-t.life.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// SignNext is [Group.SignDigest] with the second key, in tokens that have it.
func (g *Group) SignNext(ctx context.Context, digest [sha256.Size]byte) ([]byte, error) {
	return g.signBy(ctx, digest, nextOne)
}

// NextReady returns nil when any token is ready to sign with the second key, else
// why none is. It does not block.
func (g *Group) NextReady() error { return g.readyBy(nextOne) }
