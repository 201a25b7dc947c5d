package hsm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// pair is two tokens with the same key, each in a module of its own.
type pair struct {
	tokens [2]*softhsmtest.Token
	faulty [2]*faulty
	group  *hsm.Group
	log    journal
}

// journal is a log to read while others write.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func newPair(t *testing.T) *pair {
	t.Helper()
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	return &pair{tokens: [2]*softhsmtest.Token{token, softhsmtest.Twin(t, token)}}
}

// opens opens both through faulty modules, with the faults given to each.
func (p *pair) opens(t *testing.T, first, second map[string]mishap) error {
	t.Helper()
	p.faulty = [2]*faulty{newFaulty(t, first), newFaulty(t, second)}
	var err error
	p.group, err = hsm.OpenGroupThrough(t.Context(), []hsm.Config{p.tokens[0].Config, p.tokens[1].Config}, p.tokens[0].Certificate,
		slog.New(slog.NewTextHandler(&p.log, nil)), func(path string, p11 hsm.Cryptoki) hsm.Cryptoki {
			for i, token := range p.tokens {
				if token.Config.Module == path {
					p.faulty[i].Cryptoki = p11
					return p.faulty[i]
				}
			}
			t.Errorf("got module %s", path)
			return p11
		})
	return err
}

func (p *pair) mustOpen(t *testing.T) {
	t.Helper()
	if err := p.opens(t, nil, nil); err != nil {
		t.Fatal(err)
	}
}

func (p *pair) close(t *testing.T) {
	t.Helper()
	if err := p.group.Close(context.Background()); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// signs fails the test unless every one of so many callers gets a right signature.
func (p *pair) signs(t *testing.T, callers int) {
	t.Helper()
	errs := make(chan error)
	for range callers {
		go func() {
			for range 5 {
				if err := p.sign(t.Context()); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func (p *pair) sign(ctx context.Context) error {
	digest := randomDigest()
	signature, err := p.group.SignDigest(ctx, digest)
	if err != nil {
		return err
	}
	return rsa.VerifyPKCS1v15(p.tokens[0].Public, crypto.SHA256, digest[:], signature)
}

func (p *pair) ready() (ready [2]bool) {
	for i, h := range p.group.Health() {
		ready[i] = h.Err == nil
	}
	return ready
}

// inBubble runs a test of a pair that is open, and closes it.
func (p *pair) inBubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p.mustOpen(t)
			test(t)
			p.close(t)
		})
	})
}
