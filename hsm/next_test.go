package hsm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestASecondKeyComesAndGoesBesideTheFirst: the first signs whatever becomes of the
// second, and the token is never out of service for it.
func TestASecondKeyComesAndGoesBesideTheFirst(t *testing.T) {
	v := newVault(t)
	next := named{newRSA(t, 2048), "next", otherID}
	certificate := softhsmtest.Certificate(t, &next.key.PublicKey)
	for _, row := range []struct {
		name    string
		at, end []named
		before  bool // it signs with the second key at the start
	}{
		{"there from the start, and taken away", []named{v.own, next}, []named{v.own}, true},
		{"not there, and put there", []named{v.own}, []named{v.own, next}, false},
		{"another one of that name, and put right", []named{v.own, {v.other, "next", otherID}}, []named{v.own, next}, false},
	} {
		v.hold(t, row.at...)
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				group, err := hsm.OpenGroup(t.Context(), []hsm.Config{v.Config.WithNext("next", "0b", certificate)}, v.Certificate, slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				signsWith(t, group, &v.own.key.PublicKey, &next.key.PublicKey, row.before)
				v.hold(t, row.end...)
				if row.before {
					_, _ = group.SignNext(t.Context(), randomDigest()) // learns of it
				}
				time.Sleep(11 * time.Second)
				signsWith(t, group, &v.own.key.PublicKey, &next.key.PublicKey, !row.before)
				if losses := group.Health()[0].Losses; losses != 0 {
					t.Errorf("the token was out of service %d times, want never:\n%s", losses, &log)
				}
				if err := group.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// signsWith tries both keys, of which the second one must be there or not.
func signsWith(t *testing.T, group *hsm.Group, first, second *rsa.PublicKey, there bool) {
	t.Helper()
	digest := randomDigest()
	signature, err := group.SignDigest(t.Context(), digest)
	if err == nil {
		err = rsa.VerifyPKCS1v15(first, crypto.SHA256, digest[:], signature)
	}
	if err != nil {
		t.Errorf("with the first key: %v", err)
	}
	signature, err = group.SignNext(t.Context(), digest)
	if there && err == nil {
		err = rsa.VerifyPKCS1v15(second, crypto.SHA256, digest[:], signature)
	}
	switch ready, health := group.NextReady(), group.Health()[0].Next; {
	case there && errors.Join(err, ready, health) != nil:
		t.Errorf("with the second key: got %v, ready: %v, health: %v", err, ready, health)
	case !there && (fault.Of(err) != fault.TokenUnavailable || ready == nil || health == nil):
		t.Errorf("without the second key: got %v, ready: %v, health: %v; want that it is not there", err, ready, health)
	}
	if err := group.Ready(); err != nil {
		t.Errorf("the token is not ready: %v", err)
	}
}

// TestANextKeyThatNoTokenCouldHaveIsRefused before the token is touched.
func TestANextKeyThatNoTokenCouldHaveIsRefused(t *testing.T) {
	token := softhsmtest.Shared(t)
	for name, config := range map[string]hsm.Config{
		"without a certificate": token.Config.WithNext("next", "", nil),
		"without a name":        token.Config.WithNext("", "", token.Certificate),
		"no hexadecimal":        token.Config.WithNext("next", "xyz", token.Certificate),
	} {
		if _, err := hsm.Open(t.Context(), config, token.Certificate); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestASecondKeyIsUsedWhereItIs: one of two tokens has it, and signs all that is
// asked of it.
func TestASecondKeyIsUsedWhereItIs(t *testing.T) {
	v := newVault(t)
	next := named{newRSA(t, 2048), "next", otherID}
	certificate := softhsmtest.Certificate(t, &next.key.PublicKey)
	v.hold(t, v.own)
	twin := softhsmtest.Twin(t, v.Token)
	v.hold(t, v.own, next)
	configs := []hsm.Config{twin.Config.WithNext("next", "0b", certificate), v.Config.WithNext("next", "0b", certificate)}
	group, err := hsm.OpenGroup(t.Context(), configs, v.Certificate, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		digest := randomDigest()
		signature, err := group.SignNext(t.Context(), digest)
		if err == nil {
			err = rsa.VerifyPKCS1v15(&next.key.PublicKey, crypto.SHA256, digest[:], signature)
		}
		if err != nil {
			t.Errorf("with the second key: %v", err)
		}
	}
	if health := group.Health(); group.NextReady() != nil || health[0].Next == nil || health[1].Next != nil || health[0].Err != nil || health[1].Err != nil {
		t.Errorf("got ready %v and %+v, want the second key in the second token alone, and both in service", group.NextReady(), health)
	}
	if err := group.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestAnotherSecondKeyIsTakenUpWhileTheTokenServes, at once where it is in the token,
// and what is signed with it is never of the one before.
func TestAnotherSecondKeyIsTakenUpWhileTheTokenServes(t *testing.T) {
	v := newVault(t)
	next, later := named{newRSA(t, 2048), "next", otherID}, named{newRSA(t, 2048), "later", otherID}
	issued := map[string]*x509.Certificate{}
	for _, each := range []named{next, later} {
		issued[each.label] = softhsmtest.Certificate(t, &each.key.PublicKey)
	}
	v.hold(t, v.own, next)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		group, err := hsm.OpenGroup(t.Context(), []hsm.Config{v.Config}, v.Certificate, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if group.NextReady() == nil {
			t.Error("there is a second key although none was named")
		}
		follow := func(key named, id string) error {
			return group.SetNext(t.Context(), key.label, id, issued[key.label])
		}
		for _, row := range []struct {
			name  string
			key   named
			there bool
		}{{"the first to follow", next, true}, {"one that is not there", later, false}, {"that one again", next, true}} {
			if err := follow(row.key, "0b"); err != nil {
				t.Errorf("%s: %v", row.name, err)
			}
			signsWith(t, group, &v.own.key.PublicKey, &row.key.key.PublicKey, row.there)
		}
		if err := follow(later, "no hexadecimal"); err == nil {
			t.Error("a key was taken that no token could have")
		}
		signsWith(t, group, &v.own.key.PublicKey, &next.key.PublicKey, true)
		if err := follow(later, "0b"); err != nil {
			t.Error(err)
		}
		v.hold(t, v.own, later)
		time.Sleep(11 * time.Second)
		signsWith(t, group, &v.own.key.PublicKey, &later.key.PublicKey, true)
		if losses := group.Health()[0].Losses; losses != 0 {
			t.Errorf("the token was out of service %d times, want never:\n%s", losses, &log)
		}
		if err := group.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestNobodyWaitsForASecondKeyLongerThanHeCaresTo, nor for that of a token which is closed.
func TestNobodyWaitsForASecondKeyLongerThanHeCaresTo(t *testing.T) {
	v := newVault(t)
	next := named{newRSA(t, 2048), "next", otherID}
	v.hold(t, v.own, next)
	group, err := hsm.OpenGroup(t.Context(), []hsm.Config{v.Config}, v.Certificate, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := group.SetNext(over, "next", "0b", softhsmtest.Certificate(t, &next.key.PublicKey)); err != nil {
		t.Errorf("without time to wait: got %v, want that it is taken up later", err)
	}
	if err := group.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := group.SetNext(t.Context(), "next", "0b", softhsmtest.Certificate(t, &next.key.PublicKey)); err != nil {
		t.Errorf("closed: got %v", err)
	}
}
