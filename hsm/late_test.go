package hsm_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

func TestWaitingForASessionEndsWithTheContext(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 1
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		release := make(chan struct{})
		f.set("Sign", hang(1, release))
		first := make(chan error)
		go func() { first <- trySign(t.Context(), open, token.Public) }()
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error)
		go func() {
			_, err := open.SignDigest(ctx, randomDigest())
			second <- err
		}()
		synctest.Wait()
		cancel()
		wantError(t, <-second, context.Canceled, fault.Canceled, "waiting for a session")
		if got := open.Abandoned(); got != 0 {
			t.Errorf("got %d abandoned calls, want none: it never had a session", got)
		}

		close(release)
		if err := <-first; err != nil {
			t.Errorf("the one with the session: %v", err)
		}
		closeToken(t, open)
	})
}

func TestCallerWhoHasLeftAlreadyCostsNothing(t *testing.T) {
	token := softhsmtest.Shared(t)
	f, open := faultyToken(t, token)
	f.set("Sign", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		_, err := open.SignDigest(ctx, randomDigest())
		wantError(t, err, context.Canceled, fault.Canceled)
	}
	closeToken(t, open)
	if got := f.count("Sign"); got != 0 {
		t.Errorf("got %d signatures for nobody, want none", got)
	}
}

// TestHungCallCostsOneSession: the caller leaves at its deadline, the others go
// on, the call is counted, and its session is replaced when it comes back.
func TestHungCallCostsOneSession(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		release := make(chan struct{})
		f.set("Sign", hang(1, release))
		f.set("OpenSession", nil)
		leaves(t, open)
		if got := open.Abandoned(); got != 1 {
			t.Errorf("got %d abandoned calls, want 1", got)
		}
		signAtOnce(t, open, token.Public, 8, 5)
		if err := open.Ready(); err != nil {
			t.Errorf("got %v, want ready: one session is left", err)
		}

		close(release)
		synctest.Wait()
		if got := f.count("OpenSession"); got != 1 {
			t.Errorf("got %d sessions opened, want 1 for the one that was late", got)
		}
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

// leaves signs with a deadline of a second that the token does not keep.
func leaves(t *testing.T, open *hsm.Token) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	_, err := open.SignDigest(ctx, randomDigest())
	wantError(t, err, context.DeadlineExceeded, fault.DeadlineExceeded, "waiting for the token")
	if waited := time.Since(start); waited != time.Second {
		t.Errorf("got an answer after %v, want it at the deadline", waited)
	}
}

func TestTokenWhoseSessionsAllHangIsNotReady(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		release := make(chan struct{})
		f.set("Sign", hang(2, release))
		leaves(t, open)
		leaves(t, open)
		if err := open.Ready(); fault.Of(err) != fault.TokenUnavailable {
			t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
		}
		close(release)
		synctest.Wait()
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

// TestHungTendingStopsOnlyWhoNeedsIt: a session that cannot be replaced, because
// C_OpenSession hangs, leaves the others alone.
func TestHungTendingStopsOnlyWhoNeedsIt(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		sign, replace := make(chan struct{}), make(chan struct{})
		f.set("Sign", hang(1, sign))
		f.set("OpenSession", hang(1, replace))
		leaves(t, open)
		close(sign)
		synctest.Wait()
		if got := open.Abandoned(); got != 1 {
			t.Errorf("got %d sessions that nobody waits for, want the one that is being replaced", got)
		}
		signAtOnce(t, open, token.Public, 4, 5)
		close(replace)
		synctest.Wait()
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}

func TestCloseIsBoundedAndLeavesARunningCallAlone(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		release := make(chan struct{})
		f.set("Sign", hang(1, release))
		leaves(t, open)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantError(t, open.Close(ctx), context.DeadlineExceeded, fault.DeadlineExceeded, "left as it is")
		if got := f.count("Finalize"); got != 0 {
			t.Errorf("got C_Finalize under a running call")
		}
		_, err := hsm.Open(t.Context(), token.Config, token.Certificate)
		if fault.Of(err) != fault.TokenUnavailable {
			t.Errorf("got %v, want a refusal to open what is not closed", err)
		}

		close(release)
		closeToken(t, open)
		if got := f.count("Finalize"); got != 1 {
			t.Errorf("got %d calls of C_Finalize, want 1", got)
		}
	})
}

func TestCloseLetsCallsInFlightFinish(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 1
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		release := make(chan struct{})
		f.set("Sign", hang(1, release))
		signed, waiting, closed := make(chan error), make(chan error), make(chan error)
		go func() { signed <- trySign(t.Context(), open, token.Public) }()
		synctest.Wait()
		go func() { waiting <- trySign(t.Context(), open, token.Public) }()
		synctest.Wait()
		go func() { closed <- open.Close(t.Context()) }()
		wantError(t, <-waiting, hsm.ErrClosed, fault.TokenUnavailable)
		close(release)
		if err := <-signed; err != nil {
			t.Errorf("the call in flight: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("closing: %v", err)
		}
	})
}

// TestOpenGivesUpWithItsContext: and what it began is undone when the library
// lets go, so that the module can be opened again.
func TestOpenGivesUpWithItsContext(t *testing.T) {
	token := softhsmtest.Shared(t)
	for _, function := range []string{"Initialize", "GetTokenInfo", "OpenSession", "Login", "Sign"} {
		t.Run(function, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				f := newFaulty(t, map[string]mishap{function: hang(1, release)})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := f.opens(ctx, token)
				wantError(t, err, context.DeadlineExceeded, fault.DeadlineExceeded)
				close(release)
				synctest.Wait()
				if got := f.count("Finalize"); got != 1 {
					t.Errorf("got %d calls of C_Finalize, want 1", got)
				}
				open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
				if err != nil {
					t.Fatal(err)
				}
				closeToken(t, open)
			})
		})
	}
}

// TestCallersMayLeaveAtAnyMoment: each gets a right signature or is told that it
// left, and the sessions are whole afterwards.
func TestCallersMayLeaveAtAnyMoment(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 3
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		errs := make(chan error)
		for range 16 {
			go func() {
				for range 25 {
					ctx, cancel := context.WithCancel(t.Context())
					go cancel()
					errs <- trySign(ctx, open, token.Public)
				}
			}()
		}
		left := 0
		for range 16 * 25 {
			if err := <-errs; err != nil {
				wantError(t, err, context.Canceled, fault.Canceled)
				left++
			}
		}
		if left == 0 {
			t.Error("nobody left")
		}
		wantWhole(t, f, open, token)
		closeToken(t, open)
	})
}
