package softhsmtest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// full tells whether the drills run at their full counts: "make soak".
func full() bool { return os.Getenv("ROAMSIGN_SOAK") != "" }

// atFull chooses between a drill's short and its full measure.
func atFull[T any](short, long T) T {
	if full() {
		return long
	}
	return short
}

// drilled is a token behind a shim, open, with four callers at it.
type drilled struct {
	*load
	shim *softhsmtest.Shim
	open *hsm.Token
}

// drill opens a token through a shim and lets the callers begin. At the end
// nothing is left of it: no session, no goroutine.
func drill(t *testing.T, token *softhsmtest.Token, deadline time.Duration) *drilled {
	t.Helper()
	shim := softhsmtest.NewShim(t, token)
	t.Cleanup(func() { leavesNothing(t) })
	t.Cleanup(func() {
		if got := shim.Sessions(); got != 0 {
			t.Errorf("got %d sessions after closing, want none", got)
		}
	})
	open := opens(t, shim.Token)
	d := &drilled{load: ask(t, open, shim.Token, deadline), shim: shim, open: open}
	d.goesOn(5)
	return d
}

// settles waits until nobody meets any more what befell the token: all its sessions
// are open again, and the requests under way began after that.
func (d *drilled) settles() {
	d.t.Helper()
	until(d.t, "all sessions are open", patience, func() bool { return d.shim.Sessions() == d.open.Sessions()+1 })
	d.load.settles()
}

// wantWhole fails the test unless the token is ready, signs, and has as many
// sessions as it began with.
func (d *drilled) wantWhole() {
	d.t.Helper()
	d.goesOn(5)
	d.end()
	until(d.t, "the token is ready", 10*time.Second, func() bool { return d.open.Ready() == nil })
	until(d.t, "no call is abandoned", 10*time.Second, func() bool { return d.open.Abandoned() == 0 })
	most := d.open.Sessions() + 1
	until(d.t, fmt.Sprintf("at most %d sessions are open", most), 10*time.Second, func() bool { return d.shim.Sessions() <= most })
	if got := d.shim.Pending(); got != 0 {
		d.t.Errorf("got %d faults that met no call, want none", got)
	}
}

func TestDrillOneDeviceErrorCostsNoCallerAnything(t *testing.T) {
	token := softhsmtest.New(t)
	for _, function := range []string{"C_SignInit", "C_Sign"} {
		t.Run(function, func(t *testing.T) {
			d := drill(t, token, 5*time.Second)
			for range atFull(3, 50) {
				d.shim.Fail(function, pkcs11.CKR_DEVICE_ERROR, 1)
				d.goesOn(2)
				d.settles()
			}
			d.wantWhole()
			d.unharmed(time.Time{}, time.Second)
		})
	}
}

func TestDrillLostSessionsCostNoCallerAnything(t *testing.T) {
	token := softhsmtest.New(t)
	for name, lose := range map[string]func(*softhsmtest.Shim){
		"all sessions closed, and logged out by that": (*softhsmtest.Shim).LoseSessions,
		"user logged out": (*softhsmtest.Shim).Logout,
	} {
		t.Run(name, func(t *testing.T) {
			d := drill(t, token, 5*time.Second)
			logins := d.shim.Calls("C_Login")
			losses := atFull(3, 20)
			for i := range losses {
				lose(d.shim)
				until(t, "somebody has logged in again", 10*time.Second, func() bool { return d.shim.Calls("C_Login")-logins > i })
				d.goesOn(5)
				d.settles()
			}
			d.wantWhole()
			d.unharmed(time.Time{}, time.Second)
			if got := d.shim.Calls("C_Login") - logins; got != losses {
				t.Errorf("got %d logins after %d losses, want one each", got, losses)
			}
		})
	}
}

func TestDrillOneHungCallHarmsNobodyElse(t *testing.T) {
	token := softhsmtest.New(t)
	for _, function := range []string{"C_SignInit", "C_Sign"} {
		t.Run(function, func(t *testing.T) {
			d := drill(t, token, 3*time.Second)
			hung, release := d.shim.Hang(function)
			<-hung
			since := time.Now()
			until(t, "the call is counted", 30*time.Second, func() bool { return d.open.Abandoned() == 1 })
			<-time.After(atFull(2*time.Second, 6*time.Second) - time.Since(since)) // how long it hangs is what is tested
			d.goesOn(5)
			if got := d.open.Abandoned(); got != 1 {
				t.Errorf("got %d abandoned calls while one hangs, want 1", got)
			}
			release()
			d.wantWhole()
			failed := d.failed(time.Time{})
			if len(failed) != 1 || fault.Of(failed[0].err) != fault.DeadlineExceeded {
				t.Errorf("got %d errors, want one, of the caller whose call hung: %v", len(failed), failed)
			}
			d.unharmedBeside(failed)
		})
	}
}

// unharmedBeside fails the test if anybody but those waited for long.
func (d *drilled) unharmedBeside(failed []request) {
	d.t.Helper()
	for _, r := range d.all(time.Time{}) {
		if r.err == nil && d.fair(r) > 500*time.Millisecond {
			d.t.Errorf("beside %d hung calls another took %v, %v of it without the machine's stalls, want at most 500ms", len(failed), r.took(), d.fair(r))
		}
	}
}

// TestDrillATokenWhoseCallsAllHang: callers are told so and nobody waits for
// long, and closing neither hangs nor pulls the floor from under the calls.
func TestDrillATokenWhoseCallsAllHang(t *testing.T) {
	d := drill(t, softhsmtest.New(t), 500*time.Millisecond)
	var releases []func()
	for range d.open.Sessions() {
		hung, release := d.shim.Hang("C_Sign")
		releases = append(releases, release)
		<-hung
	}
	until(t, "the token is not ready", 10*time.Second, func() bool { return d.open.Ready() != nil })
	for _, release := range releases {
		release()
	}
	until(t, "the token is ready", 10*time.Second, func() bool { return d.open.Ready() == nil })
	d.goesOn(5)
	hung, release := d.shim.Hang("C_Sign")
	<-hung
	d.end()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := d.open.Close(ctx); fault.Of(err) != fault.DeadlineExceeded {
		t.Errorf("closing over a hung call: got %v, want an error of kind %v", err, fault.DeadlineExceeded)
	}
	release()
	closes(t, d.open)
}
