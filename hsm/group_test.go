package hsm_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

func TestGroupOfTwo(t *testing.T) {
	p := newPair(t)
	p.inBubble(t, "both take their share", func(t *testing.T) {
		for _, f := range p.faulty {
			f.set("Sign", nil)
		}
		p.signs(t, 8)
		for i, f := range p.faulty {
			if got := f.count("Sign"); got < 5 {
				t.Errorf("token %d: got %d of 40 signatures, want a share", i, got)
			}
		}
		if got := p.group.Sessions(); got != 4 {
			t.Errorf("got %d sessions, want 4", got)
		}
	})
	p.inBubble(t, "one that is lost costs no caller anything", func(t *testing.T) {
		for i, f := range p.faulty {
			f.takesAway(pkcs11.CKR_DEVICE_ERROR)
			p.signs(t, 8)
			if got, want := p.ready(), [2]bool{i != 0, i != 1}; got != want {
				t.Errorf("got ready %v, want %v", got, want)
			}
			f.givesBack()
			time.Sleep(time.Second)
			if got, want := p.ready(), [2]bool{true, true}; got != want {
				t.Errorf("got ready %v, want %v: %v", got, want, p.group.Health())
			}
		}
		p.signs(t, 8)
		for _, line := range []string{"token out of service", "CKR_DEVICE_ERROR", "token in service"} {
			if !strings.Contains(p.log.String(), line) {
				t.Errorf("got log %s, want %q in it", &p.log, line)
			}
		}
	})
	p.inBubble(t, "both lost is an error at once", func(t *testing.T) {
		p.faulty[0].takesAway(pkcs11.CKR_DEVICE_ERROR)
		p.faulty[1].takesAway(pkcs11.CKR_TOKEN_NOT_PRESENT)
		start := time.Now()
		for range 5 {
			if err := p.sign(t.Context()); fault.Of(err) != fault.TokenUnavailable || retryAfter(err) <= 0 {
				t.Errorf("got %v, want %v and when to try again", err, fault.TokenUnavailable)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("got errors after %v, want them at once", waited)
		}
		wantError(t, p.group.Ready(), pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), fault.TokenUnavailable, "CKR_TOKEN_NOT_PRESENT")
		p.faulty[1].givesBack()
		time.Sleep(time.Second)
		p.signs(t, 4)
		p.faulty[0].givesBack()
	})
}

// TestHungTokenDoesNotHoldTheRequest: another signs within the caller's deadline.
func TestHungTokenDoesNotHoldTheRequest(t *testing.T) {
	p := newPair(t)
	p.inBubble(t, "all of one token's sessions", func(t *testing.T) {
		release := make(chan struct{})
		p.faulty[0].set("Sign", hang(2, release))
		p.faulty[1].set("Sign", func(_ int, do func() error) error { time.Sleep(time.Second); return do() })
		errs := make(chan error)
		for range 4 {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				errs <- p.sign(ctx)
			}()
			synctest.Wait() // so that half of them go to either token
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Second)
		if got, want := p.ready(), [2]bool{false, true}; got != want {
			t.Errorf("got ready %v, want %v", got, want)
		}
		if h := p.group.Health()[0]; !h.Hung || p.group.Hung() {
			t.Errorf("got %+v and hung %v, want the token to hang and the group not", h, p.group.Hung())
		}
		p.faulty[1].takesAway(pkcs11.CKR_DEVICE_ERROR)
		if err := p.sign(t.Context()); fault.Of(err) != fault.TokenUnavailable {
			t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
		}
		if !p.group.Hung() {
			t.Error("one token hangs, the other is away, and the group does not say that it hangs")
		}
		close(release)
		p.faulty[1].givesBack()
		time.Sleep(time.Second)
		p.signs(t, 8)
		if got, want := p.ready(), [2]bool{true, true}; got != want {
			t.Errorf("got ready %v, want %v", got, want)
		}
	})
}

func TestSuspectedTokenIsOutOfServiceUntilItIsProven(t *testing.T) {
	p := newPair(t)
	spoil := func(signature []byte) []byte { signature[9] ^= 1; return signature }
	p.inBubble(t, "one that lies for a while", func(t *testing.T) {
		p.faulty[0].alters(spoil)
		p.faulty[0].away = true
		wrong := 0
		for range 50 {
			digest := randomDigest()
			signature, err := p.group.SignDigest(t.Context(), digest)
			if err != nil {
				t.Fatal(err)
			}
			if rsa.VerifyPKCS1v15(p.tokens[0].Public, crypto.SHA256, digest[:], signature) != nil {
				wrong++
				p.group.Suspect(digest)
				if got, want := p.ready(), [2]bool{false, true}; got != want {
					t.Errorf("got ready %v, want %v", got, want)
				}
			}
		}
		if wrong != 1 {
			t.Errorf("got %d wrong signatures, want one, and the liar out of service then", wrong)
		}
		time.Sleep(time.Minute)
		if got, want := p.ready(), [2]bool{false, true}; got != want {
			t.Errorf("got ready %v, want %v: it still lies", got, want)
		}
		p.faulty[0].alters(nil)
		time.Sleep(time.Minute)
		if got, want := p.ready(), [2]bool{true, true}; got != want {
			t.Errorf("got ready %v, want %v: it signs right again", got, want)
		}
	})
	p.inBubble(t, "nobody", func(t *testing.T) {
		p.group.Suspect(randomDigest())
		if got, want := p.ready(), [2]bool{true, true}; got != want {
			t.Errorf("got ready %v, want %v: nobody signed that", got, want)
		}
	})
}

// TestGroupStartsWithWhatWorks, and the rest comes later, or never.
func TestGroupStartsWithWhatWorks(t *testing.T) {
	p := newPair(t)
	late := func(failures int) mishap {
		return func(n int, do func() error) error {
			if n <= failures {
				return pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
			}
			return do()
		}
	}
	for _, row := range []struct {
		name     string
		function string
		m        mishap
		later    bool
	}{
		{"its module is not initialised at first", "Initialize", late(3), true},
		{"it has no slots at first", "GetSlotList", late(3), true},
		{"it opens no session at first", "OpenSession", late(4), true},
		{"it cannot open all sessions at first", "Sign", late(2), true},
		{"its PIN is refused", "Login", always(pkcs11.CKR_PIN_INCORRECT), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := p.opens(t, nil, map[string]mishap{row.function: row.m}); err != nil {
					t.Fatal(err)
				}
				if got, want := p.ready(), [2]bool{true, false}; got != want {
					t.Errorf("got ready %v, want %v", got, want)
				}
				p.signs(t, 4)
				time.Sleep(time.Minute)
				if got, want := p.ready(), [2]bool{true, row.later}; got != want {
					t.Errorf("got ready %v, want %v: %v", got, want, p.group.Health())
				}
				if got := p.faulty[1].count("Login"); !row.later && got != 1 {
					t.Errorf("got %d tries of a refused PIN, want 1", got)
				}
				p.close(t)
			})
		})
	}
}

// TestGroupThatHangsAtStartDoesNotHoldTheOther: for long.
func TestGroupThatHangsAtStartDoesNotHoldTheOther(t *testing.T) {
	p := newPair(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		start := time.Now()
		if err := p.opens(t, nil, map[string]mishap{"Login": hang(1, release)}); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("it took %v", waited)
		}
		p.signs(t, 4)
		close(release)
		time.Sleep(time.Second)
		if got, want := p.ready(), [2]bool{true, true}; got != want {
			t.Errorf("got ready %v, want %v", got, want)
		}
		p.close(t)
	})
}

func TestGroupRefusesToStart(t *testing.T) {
	p := newPair(t)
	away := map[string]mishap{"GetSlotList": always(pkcs11.CKR_DEVICE_ERROR)}
	synctest.Test(t, func(t *testing.T) {
		err := p.opens(t, away, away)
		wantError(t, err, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), fault.Of(err), "opening token")
	})
	t.Run("with another key", func(t *testing.T) {
		other := softhsmtest.New(t)
		config := other.Config
		_, err := hsm.OpenGroup(t.Context(), []hsm.Config{p.tokens[0].Config, config}, p.tokens[0].Certificate, slog.New(slog.DiscardHandler))
		wantError(t, err, hsm.ErrKeyMismatch, fault.TokenUnavailable)
	})
	t.Run("with the same token twice", func(t *testing.T) {
		_, err := hsm.OpenGroup(t.Context(), []hsm.Config{p.tokens[0].Config, p.tokens[0].Config}, p.tokens[0].Certificate, slog.New(slog.DiscardHandler))
		wantError(t, err, err, fault.TokenUnavailable, "open already")
	})
	t.Run("with none", func(t *testing.T) {
		if _, err := hsm.OpenGroup(t.Context(), nil, p.tokens[0].Certificate, slog.New(slog.DiscardHandler)); err == nil {
			t.Error("got a group of none")
		}
	})
}

// TestGroupIsOverWhenAllPINsAreRefused, and not before.
func TestGroupIsOverWhenAllPINsAreRefused(t *testing.T) {
	p := newPair(t)
	p.tokens[1].Config.PINFile = filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(p.tokens[1].Config.PINFile, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p.mustOpen(t)
		over := func() bool {
			time.Sleep(time.Minute)
			select {
			case <-p.group.Over():
				return true
			default:
				return false
			}
		}
		if over() {
			t.Error("one token is left, and the group says that it is over")
		}
		p.faulty[0].set("Login", always(pkcs11.CKR_PIN_LOCKED))
		p.faulty[0].logOut()
		if err := p.sign(t.Context()); !errors.Is(err, hsm.ErrPINLocked) {
			t.Errorf("got %v, want %v", err, hsm.ErrPINLocked)
		}
		if !over() {
			t.Error("no token will ever serve, and the group does not say that it is over")
		}
		wantError(t, p.group.Ready(), hsm.ErrPINIncorrect, fault.TokenUnavailable)
		p.close(t)
	})
}
