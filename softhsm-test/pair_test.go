package softhsmtest_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// pair is two tokens with the same key, each behind a shim, open as a group,
// with four callers at it.
type pair struct {
	*load
	shims []*softhsmtest.Shim
	open  *hsm.Group
}

// drillPair opens a pair and lets the callers begin. At the end nothing is left
// of it: no session, no goroutine.
func drillPair(t *testing.T, deadline time.Duration) *pair {
	t.Helper()
	token := softhsmtest.New(t)
	p := &pair{}
	t.Cleanup(func() { leavesNothing(t) })
	for _, each := range []*softhsmtest.Token{token, softhsmtest.Twin(t, token)} {
		p.shims = append(p.shims, softhsmtest.NewShim(t, each))
	}
	t.Cleanup(func() {
		for i, shim := range p.shims {
			if got := shim.Sessions(); got != 0 {
				t.Errorf("token %d: got %d sessions after closing, want none", i, got)
			}
		}
	})
	p.open = opensGroup(t, p.shims[0].Token, p.shims[1].Token)
	p.load = ask(t, &verifier{p.open, token.Public}, token, deadline)
	p.goesOn(5)
	return p
}

// opensGroup opens the tokens together until the end of the test.
func opensGroup(t *testing.T, tokens ...*softhsmtest.Token) *hsm.Group {
	t.Helper()
	var configs []hsm.Config
	for _, each := range tokens {
		configs = append(configs, each.Config)
	}
	open, err := hsm.OpenGroup(t.Context(), configs, tokens[0].Certificate, slog.New(slog.DiscardHandler))
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := open.Close(ctx); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	until(t, "all tokens are ready", 10*time.Second, func() bool {
		for _, health := range open.Health() {
			if health.Err != nil {
				return false
			}
		}
		return true
	})
	return open
}

// verifier does what the service does with a group: it verifies each signature,
// and reports a wrong one instead of letting it leave.
type verifier struct {
	*hsm.Group
	public *rsa.PublicKey
}

func (v *verifier) SignDigest(ctx context.Context, digest [sha256.Size]byte) ([]byte, error) {
	signature, err := v.Group.SignDigest(ctx, digest)
	if err == nil && rsa.VerifyPKCS1v15(v.public, crypto.SHA256, digest[:], signature) != nil {
		v.Suspect(digest)
		return nil, fault.New(fault.SignatureWrong, "the token gave a wrong signature")
	}
	return signature, err
}

// ready waits until a token of the pair is in service, or out of it.
func (p *pair) ready(token int, want bool) {
	p.t.Helper()
	so := func() bool { return (p.open.Health()[token].Err == nil) == want }
	if !p.within(time.Second, so) {
		p.t.Errorf("after a second token %d is not as wanted: got %v, want ready %v", token, p.open.Health()[token].Err, want)
	}
}

// wantWhole fails the test unless both tokens are ready, and have as many
// sessions as they began with.
func (p *pair) wantWhole() {
	p.t.Helper()
	p.goesOn(5)
	for i, shim := range p.shims {
		p.ready(i, true)
		until(p.t, "no call is abandoned", 10*time.Second, func() bool { return p.open.Health()[i].Abandoned == 0 })
		most := p.open.Health()[i].Sessions + 1
		until(p.t, fmt.Sprintf("token %d has at most %d sessions", i, most), 10*time.Second, func() bool { return shim.Sessions() <= most })
		until(p.t, "each fault has met its call", 10*time.Second, func() bool { return shim.Pending() == 0 })
	}
	p.end()
}

func TestDrillEveryFaultInOneOfTwo(t *testing.T) {
	p := drillPair(t, 5*time.Second)
	for i, row := range values {
		if row.ours {
			continue // the other token would say the same
		}
		for _, function := range []string{"C_SignInit", "C_Sign"} {
			for _, fail := range variants {
				fail(p.shims[i%2], function, row.value, 1)
				p.goesOn(2)
			}
		}
		p.ready(i%2, true)
		p.settles()
	}
	p.wantWhole()
	p.unharmed(time.Time{}, 2*time.Second)
}

func TestDrillOutageOfOneOfTwo(t *testing.T) {
	p := drillPair(t, 5*time.Second)
	for i := range atFull(4, 20) {
		away := i % 2
		p.shims[away].Away(softhsmtest.Outage{WantsInitialize: i%4 >= 2})
		p.ready(away, false)
		p.goesOn(20)
		p.shims[away].Back()
		p.ready(away, true)
		p.goesOn(5)
		p.settles()
	}
	p.wantWhole()
	p.unharmed(time.Time{}, 2*time.Second)
}

func TestDrillOutageOfBoth(t *testing.T) {
	p := drillPair(t, 5*time.Second)
	for i := range atFull(2, 10) {
		for _, shim := range p.shims {
			shim.Away(softhsmtest.Outage{WantsInitialize: i%2 == 1})
		}
		gone := time.Now()
		if !p.within(time.Second, func() bool { return p.open.Ready() != nil }) {
			t.Error("both are away for a second, and the group says that it is ready")
		}
		<-time.After(500 * time.Millisecond) // the outage's length
		back := time.Now()
		for _, shim := range p.shims {
			shim.Back()
		}
		if !p.within(time.Second, func() bool { return p.signedSince(back) }) {
			t.Errorf("a second after their return nothing is signed; ready: %v", p.open.Ready())
		}
		p.refused(gone, back)
	}
	p.wantWhole()
}

// TestDrillOneOfTwoHangs: its callers go on to the other, all of them.
func TestDrillOneOfTwoHangs(t *testing.T) {
	p := drillPair(t, 4*time.Second)
	var releases []func()
	for range p.open.Health()[0].Sessions {
		hung, release := p.shims[0].Hang("C_Sign")
		releases = append(releases, release)
		<-hung
	}
	p.ready(0, true) // until the calls are abandoned
	until(t, "the token is out of service", 10*time.Second, func() bool { return p.open.Health()[0].Err != nil })
	since := time.Now()
	p.goesOn(20)
	p.unharmed(since, 500*time.Millisecond)
	for _, release := range releases {
		release()
	}
	p.wantWhole()
	p.unharmed(time.Time{}, 2500*time.Millisecond) // half of the deadline for the first, and the other's turn
}

// TestDrillNoWrongSignatureLeaves: the token that gave it is out of service until
// it has proved itself, and the other goes on.
func TestDrillNoWrongSignatureLeaves(t *testing.T) {
	p := drillPair(t, 5*time.Second)
	logins := p.shims[0].Calls("C_Login")
	p.shims[0].CorruptSignature(1)
	until(t, "a signature is spoilt", 10*time.Second, func() bool { return p.shims[0].Pending() == 0 })
	p.goesOn(5)
	p.wantWhole()
	failed := p.failed(time.Time{})
	if len(failed) != 1 || fault.Of(failed[0].err) != fault.SignatureWrong {
		t.Errorf("got the errors %v, want one of kind %v", failed, fault.SignatureWrong)
	}
	t.Logf("%d logins since", p.shims[0].Calls("C_Login")-logins)
}

// TestDrillOutageOfOneOfTwoRemoteTokens: servers are killed and started again in
// turn, and no caller sees it.
func TestDrillOutageOfOneOfTwoRemoteTokens(t *testing.T) {
	token := softhsmtest.New(t)
	token.Config.Sessions = oneCall
	remotes := []*softhsmtest.Remote{softhsmtest.NewRemote(t, token), softhsmtest.NewRemote(t, softhsmtest.Twin(t, token))}
	t.Cleanup(func() { leavesNothing(t) })
	p := &pair{open: opensGroup(t, remotes[0].Token, remotes[1].Token)}
	p.load = ask(t, &verifier{p.open, token.Public}, token, 5*time.Second)
	p.goesOn(5)
	for i := range atFull(3, 20) {
		remotes[i%2].Kill()
		p.ready(i%2, false)
		p.goesOn(10)
		remotes[i%2].Restart()
		p.ready(i%2, true)
		p.goesOn(10)
		p.settles()
	}
	p.end()
	p.unharmed(time.Time{}, 2*time.Second)
}
