package hsm_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// randomDigest returns a digest that nobody has signed yet.
func randomDigest() (digest [sha256.Size]byte) {
	_, _ = rand.Read(digest[:]) // never fails
	return digest
}

// signs fails the test unless the token signs a random digest rightly.
func signs(t testing.TB, token *hsm.Token, public *rsa.PublicKey) {
	t.Helper()
	if err := trySign(t.Context(), token, public); err != nil {
		t.Error(err)
	}
}

func trySign(ctx context.Context, token *hsm.Token, public *rsa.PublicKey) error {
	digest := randomDigest()
	signature, err := token.SignDigest(ctx, digest)
	if err != nil {
		return err
	}
	if len(signature) != public.Size() {
		return fmt.Errorf("got a signature of %d bytes, want %d", len(signature), public.Size())
	}
	return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature)
}

func TestSignaturesVerifyForEveryKeySize(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			token := softhsmtest.NewBits(t, bits)
			if got := token.Public.N.BitLen(); got != bits {
				t.Errorf("got a key of %d bits, want %d", got, bits)
			}
			open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			defer closeToken(t, open)
			signs(t, open, token.Public)
		})
	}
}

// TestContract runs over a module as it is and over the faulty one without
// faults, so that what the latter shows holds for the former.
func TestContract(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 3
	for name, open := range map[string]func(*testing.T) (*hsm.Token, error){
		"SoftHSM": func(t *testing.T) (*hsm.Token, error) { return hsm.Open(t.Context(), token.Config, token.Certificate) },
		"SoftHSM through the faulty module": func(t *testing.T) (*hsm.Token, error) {
			return newFaulty(t, nil).opens(t.Context(), token)
		},
	} {
		for claim, holds := range map[string]func(*testing.T, *hsm.Token){
			"many sign at once": func(t *testing.T, open *hsm.Token) { signAtOnce(t, open, token.Public, 64, 4) },
			"the same digest gives the same signature": func(t *testing.T, open *hsm.Token) {
				digest := randomDigest()
				one, err1 := open.SignDigest(t.Context(), digest)
				two, err2 := open.SignDigest(t.Context(), digest)
				if err1 != nil || err2 != nil || string(one) != string(two) {
					t.Errorf("got %x (%v) and %x (%v), want the same twice", one, err1, two, err2)
				}
			},
			"a cancelled caller gets nothing": func(t *testing.T, open *hsm.Token) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_, err := open.SignDigest(ctx, randomDigest())
				wantError(t, err, context.Canceled, fault.Canceled)
			},
			"it is ready while open and not when closed": func(t *testing.T, open *hsm.Token) {
				if err := open.Ready(); err != nil {
					t.Errorf("got %v, want ready", err)
				}
				closeToken(t, open)
				wantError(t, open.Ready(), hsm.ErrClosed, fault.TokenUnavailable)
				_, err := open.SignDigest(t.Context(), randomDigest())
				wantError(t, err, hsm.ErrClosed, fault.TokenUnavailable)
			},
			"it has the sessions asked for": func(t *testing.T, open *hsm.Token) {
				if got := open.Sessions(); got != 3 {
					t.Errorf("got %d sessions, want 3", got)
				}
			},
		} {
			t.Run(name+"/"+claim, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { // which finds goroutines that stay behind
					token, err := open(t)
					if err != nil {
						t.Fatal(err)
					}
					holds(t, token)
					closeToken(t, token)
				})
			})
		}
	}
}

func signAtOnce(t *testing.T, token *hsm.Token, public *rsa.PublicKey, callers, each int) {
	t.Helper()
	errs := make(chan error, callers)
	for range callers {
		go func() {
			for range each {
				if err := trySign(t.Context(), token, public); err != nil {
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
