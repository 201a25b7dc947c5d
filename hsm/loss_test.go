package hsm_test

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestOneLossCostsNoCallerAnything: whatever is lost once, at whatever call,
// before or after that call did its work, the request is signed, the token is
// ready, and no session is left behind (the faulty module looks for that).
func TestOneLossCostsNoCallerAnything(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	losses := []struct {
		name   string
		rv     uint
		logins int
	}{
		{"the session is not known", pkcs11.CKR_SESSION_HANDLE_INVALID, 0},
		{"the session was closed", pkcs11.CKR_SESSION_CLOSED, 0},
		{"an operation is active", pkcs11.CKR_OPERATION_ACTIVE, 0},
		{"the function failed", pkcs11.CKR_FUNCTION_FAILED, 0},
		{"the device erred", pkcs11.CKR_DEVICE_ERROR, 0},
		{"the vendor says something of its own", pkcs11.CKR_VENDOR_DEFINED + 7, 0},
		{"the user is not logged in", pkcs11.CKR_USER_NOT_LOGGED_IN, 1},
		{"the key's handle is gone", pkcs11.CKR_KEY_HANDLE_INVALID, 1},
	}
	for _, loss := range losses {
		for _, function := range []string{"SignInit", "Sign"} {
			for variant, m := range map[string]mishap{"not applied": once(loss.rv), "applied": onceApplied(loss.rv)} {
				t.Run(fmt.Sprintf("%s/%s/%s", loss.name, function, variant), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						f, open := faultyToken(t, token)
						f.set("Login", nil)
						f.set(function, m)
						signs(t, open, token.Public)
						wantWhole(t, f, open, token)
						if got := f.count("Login"); got != loss.logins {
							t.Errorf("got %d logins, want %d", got, loss.logins)
						}
						closeToken(t, open)
					})
				})
			}
		}
	}
}

// wantWhole fails the test unless the token is ready, signs on all its sessions,
// and has that many and the keeper's.
func wantWhole(t *testing.T, f *faulty, open *hsm.Token, token *softhsmtest.Token) {
	t.Helper()
	synctest.Wait()
	signAtOnce(t, open, token.Public, 2*open.Sessions(), 5)
	synctest.Wait()
	if err := open.Ready(); err != nil {
		t.Errorf("got %v, want ready", err)
	}
	if got, want := f.sessions(), open.Sessions()+1; got != want {
		t.Errorf("got %d open sessions, want %d", got, want)
	}
	if got := open.Abandoned(); got != 0 {
		t.Errorf("got %d abandoned calls, want none", got)
	}
}

func TestLostSessionsAndLoginComeBack(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 3
	for name, lose := range map[string]func(*faulty){
		"all sessions closed": (*faulty).loseSessions,
		"user logged out":     (*faulty).logOut,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, token)
				f.set("Login", nil)
				lose(f)
				signAtOnce(t, open, token.Public, 16, 5)
				if got := f.count("Login"); got != 1 {
					t.Errorf("got %d logins, want 1, whoever met the loss", got)
				}
				wantWhole(t, f, open, token)
				closeToken(t, open)
			})
		})
	}
}

func TestPanicInTheWrapperIsAnError(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 1
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		f.set("Sign", func(n int, do func() error) error {
			if n <= 2 {
				panic("nonsense from the token")
			}
			return do()
		})
		_, err := open.SignDigest(t.Context(), randomDigest())
		if fault.Of(err) != fault.TokenUnavailable {
			t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
		}
		time.Sleep(time.Second) // of the bubble
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

func TestSignatureOfAnotherLengthIsRefused(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 1
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		f.alters(func(signature []byte) []byte { return signature[1:] })
		_, err := open.SignDigest(t.Context(), randomDigest())
		if fault.Of(err) != fault.SignatureWrong {
			t.Errorf("got %v, want an error of kind %v", err, fault.SignatureWrong)
		}

		if err := open.Ready(); fault.Of(err) != fault.SignatureWrong {
			t.Errorf("got %v, want an error of kind %v", err, fault.SignatureWrong)
		}

		// The next probes find signatures of the right length that are wrong.
		f.alters(func(signature []byte) []byte { signature[0] ^= 1; return signature })
		f.away = true
		time.Sleep(5 * time.Second)
		wantError(t, open.Ready(), hsm.ErrKeyMismatch, fault.TokenUnavailable, "a probe")

		f.alters(nil)
		time.Sleep(time.Minute)
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

// TestLossesUnderLoad: all sessions are closed behind everybody's back again and
// again, in the midst of other requests, and no caller sees it.
func TestLossesUnderLoad(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 3
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		f.set("Login", nil)
		f.set("Sign", func(n int, do func() error) error {
			if n%50 == 0 {
				f.loseSessions()
			}
			return do()
		})
		signAtOnce(t, open, token.Public, 16, 30)
		losses := f.count("Sign") / 50
		if got := f.count("Login"); losses < 5 || got < losses-1 || got > losses {
			t.Errorf("got %d logins after %d losses, want one each", got, losses)
		}
		f.set("Sign", nil)
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

// TestWhatCannotHelpIsNotRepeated: the answer would be the same.
func TestWhatCannotHelpIsNotRepeated(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 1
	for _, row := range []struct {
		name  string
		rv    uint
		kind  fault.Kind
		ready bool
	}{
		{"the key may not sign", pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, fault.TokenUnavailable, false},
		{"the mechanism is not offered", pkcs11.CKR_MECHANISM_INVALID, fault.TokenUnavailable, false},
		{"the data do not fit", pkcs11.CKR_DATA_LEN_RANGE, fault.Internal, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, token)
				f.set("Sign", once(row.rv))
				_, err := open.SignDigest(t.Context(), randomDigest())
				wantError(t, err, pkcs11.Error(row.rv), row.kind, "signing with key", "C_Sign: CKR_")
				if got := f.count("Sign"); got != 1 {
					t.Errorf("got %d attempts, want 1", got)
				}
				if got := open.Ready() == nil; got != row.ready {
					t.Errorf("got ready %v, want %v", got, row.ready)
				}
				time.Sleep(2 * time.Second) // of the bubble: a token out of order is probed
				wantWhole(t, f, open, token)
				closeToken(t, open)
			})
		})
	}
}

// TestWrongPINIsNotTriedTwiceWhileServing: not by the next request, and not by
// the probes either.
func TestWrongPINIsNotTriedTwiceWhileServing(t *testing.T) {
	token := softhsmtest.Shared(t)
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		if err := os.WriteFile(token.Config.PINFile, []byte("wrong"), 0o600); err != nil {
			t.Fatal(err)
		}
		f.set("Login", nil)
		f.logOut()
		for range 3 {
			_, err := open.SignDigest(t.Context(), randomDigest())
			wantError(t, err, hsm.ErrPINIncorrect, fault.TokenUnavailable, "tried once")
			if retry := retryAfter(err); retry != 0 {
				t.Errorf("got retry after %v, want none: only people can help", retry)
			}
		}
		time.Sleep(time.Minute)
		wantError(t, open.Ready(), hsm.ErrPINIncorrect, fault.TokenUnavailable)
		if got := f.count("Login"); got != 1 {
			t.Errorf("got %d tries of a wrong PIN, want 1", got)
		}
		closeToken(t, open)
	})
}
