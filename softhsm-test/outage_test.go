package softhsmtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestDrillOutage: the device is away for a time, in the ways of several vendors.
func TestDrillOutage(t *testing.T) {
	token := softhsmtest.New(t)
	for _, row := range []struct {
		name   string
		outage softhsmtest.Outage
	}{
		{"it comes back as it was", softhsmtest.Outage{KeepsSessions: true}},
		{"it forgets its sessions", softhsmtest.Outage{}},
		{"the token is not present", softhsmtest.Outage{Value: pkcs11.CKR_TOKEN_NOT_PRESENT}},
		{"its client wants to be initialised again", softhsmtest.Outage{WantsInitialize: true}},
		{"its client fails in general", softhsmtest.Outage{Value: pkcs11.CKR_GENERAL_ERROR, WantsInitialize: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := drill(t, token, 5*time.Second)
			for range atFull(1, 4) {
				d.survives(row.outage, atFull(800*time.Millisecond, 5*time.Second))
			}
			d.wantWhole()
		})
	}
}

// survives takes the device away for a time. Requests fail at once and say that
// waiting helps, the token is not ready within a second, and within a second of
// the device's return it signs.
func (d *drilled) survives(outage softhsmtest.Outage, away time.Duration) {
	d.t.Helper()
	d.shim.Away(outage)
	gone := time.Now()
	outOfOrder := d.within(time.Second, func() bool { return d.open.Ready() != nil })
	if !outOfOrder {
		d.t.Error("the device is away for a second, and the token says that it is ready")
	}
	<-time.After(away - time.Since(gone)) // the outage's length is what is tested
	if d.open.Ready() == nil {
		d.t.Error("the device is away, and the token says that it is ready")
	}
	d.shim.Back()
	back := time.Now()
	if !d.within(time.Second, func() bool { return d.signedSince(back) }) {
		d.t.Errorf("a second after the device's return nothing is signed; ready: %v", d.open.Ready())
	}
	d.t.Logf("signed again %v after its return", time.Since(back))
	d.refused(gone, back)
}

func (l *load) signedSince(back time.Time) bool { return len(l.all(back)) > len(l.failed(back)) }

// refused looks at the requests that were made while the device was away: each is
// answered within 100 ms, but for those under way when it went, and for one in a
// hundred, which the machine may have held up where nobody measures it.
func (l *load) refused(gone, back time.Time) {
	l.t.Helper()
	count, late := 0, 0
	for _, r := range l.all(gone) {
		if r.ended.After(back) {
			continue
		}
		count++
		known, _ := errors.AsType[*fault.Error](r.err)
		if r.err != nil && (fault.Of(r.err) != fault.TokenUnavailable || known.RetryAfter <= 0) {
			l.t.Errorf("got %v, want %v and when to try again", r.err, fault.TokenUnavailable)
			return
		}
		fair := l.fair(r)
		if fair > time.Second {
			l.t.Errorf("it took %v to say %v, %v of it without the machine's stalls", r.took(), r.err, fair)
			return
		}
		if fair > 100*time.Millisecond {
			late++
		}
	}
	if late > callers+count/100 {
		l.t.Errorf("%d of %d requests were answered after more than 100ms without the machine's stalls", late, count)
	}
	if count < callers {
		l.t.Errorf("got %d requests while the device was away, want many", count)
	}
}

// oneCall is how many sessions a token behind p11-kit has while its server is
// killed. Where several calls wait in p11-kit 0.24.1's client when the server goes,
// about once in forty times one of them never returns, which no service can mend
// in its process; hung calls have drills of their own.
const oneCall = 1

// TestDrillOutageOfARemoteToken: the process that holds the token is killed and
// started again under load, as a network HSM is lost and regained. Callers get
// UNAVAILABLE at once and nothing else, and signatures within a second of its return.
func TestDrillOutageOfARemoteToken(t *testing.T) {
	token := softhsmtest.New(t)
	token.Config.Sessions = oneCall
	remote := softhsmtest.NewRemote(t, token)
	t.Cleanup(func() { leavesNothing(t) })
	open := opens(t, remote.Token)
	l := ask(t, open, remote.Token, 5*time.Second)
	for range atFull(3, 20) {
		l.goesOn(5)
		gone := time.Now()
		remote.Kill()
		if !l.within(time.Second, func() bool { return open.Ready() != nil }) {
			t.Error("the server is gone for a second, and the token says that it is ready")
		}
		<-time.After(200 * time.Millisecond) // the outage's length
		down := time.Now()
		remote.Restart()
		back := time.Now()
		if !l.within(time.Second, func() bool { return l.signedSince(back) }) {
			t.Fatalf("a second after the server's return nothing is signed; ready: %v", open.Ready())
		}
		t.Logf("away for %v, signed again %v after its return", down.Sub(gone), time.Since(back))
		l.refused(gone, down)
	}
	l.goesOn(5)
	l.end()
	until(t, "the token is ready", 10*time.Second, func() bool { return open.Ready() == nil })
}
