package hsm

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

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

// of returns the config by which one of the keys is found.
func (c Config) of(by which) Config {
	if by == nextOne && c.next != nil {
		c.KeyLabel, c.KeyID = c.next.label, c.next.id
	}
	return c
}

// checkNext refuses a second key that no token could have.
func (c Config) checkNext() error {
	if c.next == nil {
		return nil
	}
	if err := c.of(nextOne).Validate(); err != nil {
		return fmt.Errorf("the next key: %w", err)
	}
	if _, err := publicKeyOf(c.next.certificate); err != nil {
		return fmt.Errorf("the next key: %w", err)
	}
	return nil
}

// succession is the second key, in one generation.
type succession struct {
	key pkcs11.ObjectHandle
	err error // why it cannot be used; nil when it can
}

// errNoNext: no second key is configured, or it was not looked for yet.
var errNoNext = errors.New("there is no next key")

// succeed finds the second key and proves it. Whoever calls it is in the library.
// That the key is not there harms nobody who signs with the first.
func (k *keeper) succeed(s slot, session pkcs11.SessionHandle) (found succession) {
	if k.config.next == nil {
		return succession{err: errNoNext}
	}
	defer rescue(&found.err)
	public, err := publicKeyOf(k.config.next.certificate)
	if err != nil {
		return succession{err: err}
	}
	s.config = k.config.of(nextOne)
	key, err := s.pick(session, public)
	if err != nil {
		return succession{err: fmt.Errorf("the next key: %w", err)}
	}
	return succession{key: key}
}

// seek looks once more for a second key that was not there.
func (k *keeper) seek(ctx context.Context) (err error) {
	if k.config.next == nil {
		return nil
	}
	if err := k.enter(ctx); err != nil {
		return err
	}
	defer k.leave()
	now := k.current.Load()
	if k.void(now) || now == k.lost || now.next.err == nil {
		return nil
	}
	again := *now
	again.next = k.succeed(now.slot, now.session)
	if again.next.err == nil {
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
	if g.next.err != nil {
		return 0, nil, lacking(g.next.err)
	}
	public, err := publicKeyOf(k.config.next.certificate)
	return g.next.key, public, err
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
	case t.keeper.config.next == nil:
		return lacking(errNoNext)
	case g != nil && g.module != 0 && g.next.err != nil:
		return lacking(g.next.err)
	}
	return nil
}

// SignNext is [Group.SignDigest] with the second key, in tokens that have it.
func (g *Group) SignNext(ctx context.Context, digest [sha256.Size]byte) ([]byte, error) {
	return g.signBy(ctx, digest, nextOne)
}

// NextReady returns nil when any token is ready to sign with the second key, else
// why none is. It does not block.
func (g *Group) NextReady() error { return g.readyBy(nextOne) }
