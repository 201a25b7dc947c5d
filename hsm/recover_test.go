package hsm_test

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestDeviceAwayAndBack: while it is away each request fails at once, with the
// time to retry after, and within a second of its return it is ready without a
// request, whatever it says and whatever it wants.
func TestDeviceAwayAndBack(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	for _, row := range []struct {
		name  string
		rv    uint
		wants bool // C_Finalize and C_Initialize before it works again
	}{
		{"the device errs", pkcs11.CKR_DEVICE_ERROR, false},
		{"the device errs until it is initialised again", pkcs11.CKR_DEVICE_ERROR, true},
		{"the device was removed", pkcs11.CKR_DEVICE_REMOVED, false},
		{"the token is not in its slot", pkcs11.CKR_TOKEN_NOT_PRESENT, true},
		{"the library fails in general", pkcs11.CKR_GENERAL_ERROR, true},
		{"the library says that it was finalised", pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, true},
		{"the vendor says something of its own", pkcs11.CKR_VENDOR_DEFINED + 7, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, token)
				f.takesAway(row.rv)
				failAtOnce(t, open, row.rv)
				time.Sleep(5 * time.Second)
				failAtOnce(t, open, row.rv)
				if row.wants {
					f.set("Initialize", func(_ int, do func() error) error { f.givesBack(); return do() })
				} else {
					f.givesBack()
				}
				time.Sleep(time.Second)
				wantWhole(t, f, open, token)
				closeToken(t, open)
			})
		})
	}
}

// failAtOnce wants errors that are told without a moment's wait.
func failAtOnce(t *testing.T, open *hsm.Token, rv uint) {
	t.Helper()
	start := time.Now()
	for range 5 {
		_, err := open.SignDigest(t.Context(), randomDigest())
		wantError(t, err, pkcs11.Error(rv), fault.TokenUnavailable)
		if retry := retryAfter(err); retry <= 0 {
			t.Errorf("got retry after %v, want some time", retry)
		}
	}
	if waited := time.Since(start); waited != 0 {
		t.Errorf("got errors after %v, want them at once", waited)
	}
	wantError(t, open.Ready(), pkcs11.Error(rv), fault.TokenUnavailable)
}

// TestModuleThatCannotBeInitialisedIsTriedAgain: C_Initialize fails for as long
// as the device is away.
func TestModuleThatCannotBeInitialisedIsTriedAgain(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		f.takesAway(pkcs11.CKR_DEVICE_ERROR)
		f.set("Initialize", always(pkcs11.CKR_DEVICE_ERROR))
		f.set("Finalize", nil)
		failAtOnce(t, open, pkcs11.CKR_DEVICE_ERROR)
		time.Sleep(5 * time.Second)
		if got := f.count("Initialize"); got < 5 || got > 30 {
			t.Errorf("got %d tries in 5 s, want one in less than a second, and no storm of them", got)
		}
		if got := f.count("Finalize"); got != 1 {
			t.Errorf("got %d calls of C_Finalize, want one: it stays finalised", got)
		}
		f.givesBack()
		f.set("Initialize", nil)
		time.Sleep(time.Second)
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

// TestModuleIsNotFinalisedUnderAHungCall, which would crash the process: the
// token stays away, and says that it hangs, until the call returns.
func TestModuleIsNotFinalisedUnderAHungCall(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		release := make(chan struct{})
		f.set("Sign", hang(1, release))
		leaves(t, open)
		f.takesAway(pkcs11.CKR_DEVICE_ERROR)
		f.set("Finalize", nil)
		failAtOnce(t, open, pkcs11.CKR_DEVICE_ERROR)
		if open.Hung() {
			t.Error("it hangs already, want some patience")
		}
		time.Sleep(20 * time.Second)
		failAtOnce(t, open, pkcs11.CKR_DEVICE_ERROR)
		if got := f.count("Finalize"); got != 0 {
			t.Errorf("got %d calls of C_Finalize under a running call", got)
		}
		if !open.Hung() {
			t.Error("it does not say that it hangs")
		}
		close(release)
		f.givesBack()
		time.Sleep(time.Second)
		wantWhole(t, f, open, token)
		if open.Hung() {
			t.Error("it hangs for ever")
		}
		closeToken(t, open)
	})
}

// TestNeighboursSurviveTheModulesRestart: two tokens of one module. One is lost
// and has the module initialised again, and callers of the other notice nothing.
func TestNeighboursSurviveTheModulesRestart(t *testing.T) {
	token, twin := twins(t)
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		neighbour, err := hsm.Open(t.Context(), twin.Config, twin.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		f.away = true
		f.set("Finalize", nil)
		f.broken = token.Config.TokenLabel // so that logging in fails
		f.logOut()
		if err := trySign(t.Context(), open, token.Public); fault.Of(err) != fault.TokenUnavailable {
			t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
		}
		for range 20 {
			time.Sleep(time.Second)
			signAtOnce(t, neighbour, twin.Public, 4, 3)
		}
		if got := f.count("Finalize"); got < 3 || got > 5 {
			t.Errorf("got the module initialised again %d times in 20 s, want a few, with growing pauses for the neighbour's sake", got)
		}
		f.mu.Lock()
		f.broken = ""
		f.mu.Unlock()
		time.Sleep(time.Second)
		signs(t, open, token.Public)
		signs(t, neighbour, twin.Public)
		closeToken(t, open)
		closeToken(t, neighbour)
	})
}

// twins makes two tokens with the same key in one module.
func twins(t *testing.T) (_, _ *softhsmtest.Token) {
	t.Helper()
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	key := newRSA(t, 2048)
	twin := *token
	twin.Config.TokenLabel = "twin"
	initialise(t, &twin)
	for _, one := range []*softhsmtest.Token{token, &twin} {
		one.Public, one.Certificate = &key.PublicKey, softhsmtest.Certificate(t, &key.PublicKey)
		one.Config.KeyLabel, one.Config.KeyID = "shared", "5a"
		importKey(t, one, key, "shared", []byte{0x5a})
	}
	return token, &twin
}

// TestIdleTokenIsLookedAfter: its session and login are asked after, and what is
// lost is mended before a request comes.
func TestIdleTokenIsLookedAfter(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	for name, row := range map[string]struct {
		lose  func(*faulty)
		ready bool
	}{
		"nothing is lost":     {func(*faulty) {}, true},
		"all sessions closed": {(*faulty).loseSessions, true},
		"user logged out":     {(*faulty).logOut, true},
		"the device is away":  {func(f *faulty) { f.takesAway(pkcs11.CKR_DEVICE_ERROR) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, token)
				f.set("GetSessionInfo", nil)
				row.lose(f)
				time.Sleep(15 * time.Second)
				synctest.Wait()
				if f.count("GetSessionInfo") == 0 {
					t.Error("nobody asked after the session")
				}
				if got := open.Ready() == nil; got != row.ready {
					t.Errorf("got %v, want ready %v", open.Ready(), row.ready)
				}
				f.givesBack()
				time.Sleep(time.Second)
				wantWhole(t, f, open, token)
				closeToken(t, open)
			})
		})
	}
}

// TestOneLookIsInTheLibrary: when it hangs no other follows, and requests go on.
func TestOneLookIsInTheLibrary(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		release := make(chan struct{})
		f.set("GetSessionInfo", hang(100, release))
		time.Sleep(time.Minute)
		if got := f.count("GetSessionInfo"); got != 1 {
			t.Errorf("got %d looks at a session, want one", got)
		}
		signAtOnce(t, open, token.Public, 4, 3)
		close(release)
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

// TestWrongPINWhileReconnectingIsTheEnd: of this token, in this process. It is
// tried once, whatever else comes back.
func TestWrongPINWhileReconnectingIsTheEnd(t *testing.T) {
	token := softhsmtest.Shared(t)
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		f.takesAway(pkcs11.CKR_DEVICE_ERROR)
		failAtOnce(t, open, pkcs11.CKR_DEVICE_ERROR)
		if err := os.WriteFile(token.Config.PINFile, []byte("wrong"), 0o600); err != nil {
			t.Fatal(err)
		}
		f.givesBack()
		f.loseSessions()
		time.Sleep(time.Hour)
		wantError(t, open.Ready(), hsm.ErrPINIncorrect, fault.TokenUnavailable)
		if got := f.count("Login"); got != 1 {
			t.Errorf("got %d tries of a wrong PIN, want 1", got)
		}
		closeToken(t, open)
	})
}

// TestClosingWhileReconnecting neither waits nor leaves anything.
func TestClosingWhileReconnecting(t *testing.T) {
	token := softhsmtest.Shared(t)
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		f.takesAway(pkcs11.CKR_DEVICE_ERROR)
		failAtOnce(t, open, pkcs11.CKR_DEVICE_ERROR)
		time.Sleep(5 * time.Second)
		start := time.Now()
		if err := open.Close(context.Background()); err != nil {
			t.Errorf("closing: %v", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("closing took %v", waited)
		}
		f.givesBack()
	})
}

// TestEnvironmentIsSetBeforeLoading: p11-kit's client reads where its server is
// as soon as it is loaded.
func TestEnvironmentIsSetBeforeLoading(t *testing.T) {
	token := softhsmtest.Shared(t)
	const variable = "SOFTHSM2_CONF"
	t.Setenv(variable, "")
	open, err := hsm.OpenThrough(t.Context(), token.Config, token.Certificate, func(p11 hsm.Cryptoki) hsm.Cryptoki {
		if got, want := os.Getenv(variable), token.Config.Environment[variable]; got != want {
			t.Errorf("when loaded: got %s=%q, want %q", variable, got, want)
		}
		return p11
	})
	if err != nil {
		t.Fatal(err)
	}
	closeToken(t, open)
}

// TestTheReturnTakesASecondAtMost: whatever class of error any call of the recovery
// gave while the device was away or coming back, outage after outage, so that no
// pause between tries grows with them. Only a refused login ends it.
func TestTheReturnTakesASecondAtMost(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	for name, rv := range map[string]uint{
		"session": pkcs11.CKR_SESSION_HANDLE_INVALID, "login": pkcs11.CKR_USER_NOT_LOGGED_IN, "device": pkcs11.CKR_DEVICE_ERROR,
		"request": pkcs11.CKR_ARGUMENTS_BAD, "permanent": pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
	} {
		for _, function := range append(everything, "Initialize") {
			if function == "Login" && name == "permanent" {
				continue
			}
			t.Run(function+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, open := faultyToken(t, token)
					for range 3 {
						f.loseSessions()
						f.takesAway(pkcs11.CKR_DEVICE_ERROR)
						f.set(function, always(rv))
						if trySign(t.Context(), open, token.Public) == nil {
							t.Error("got a signature while the device is away")
						}
						time.Sleep(2 * time.Second)
						f.givesBack()
						f.set(function, always(rv))
						time.Sleep(1500 * time.Millisecond)
						f.set(function, nil)
						time.Sleep(time.Second)
						if err := open.Ready(); err != nil {
							t.Errorf("a second after the device's return: %v", err)
						}
					}
					wantWhole(t, f, open, token)
					closeToken(t, open)
				})
			})
		}
	}
}
