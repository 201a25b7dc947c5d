package softhsmtest_test

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestDrillTheService: the whole of it, from the client library to the token, while
// the processes that hold the tokens are killed and started again under load.
func TestDrillTheService(t *testing.T) {
	t.Run("tokens go in turn", tokensGoInTurn)
	t.Run("its one token goes", itsOneTokenGoes)
	if full() {
		t.Run("a call never returns", aCallNeverReturns)
	}
}

// tokensGoInTurn: with two tokens no caller sees any of it.
func tokensGoInTurn(t *testing.T) {
	t.Parallel() // with the other: both wait more than they work
	token := softhsmtest.New(t)
	token.Config.Sessions = oneCall
	remotes, reached := far(t, token, 2)
	s := host(t, token, reached)
	l := askFor(t, 5*time.Second, s.library(t))
	l.goesOn(5)
	for i := range atFull(3, 20) {
		gone := time.Now()
		remotes[i%2].Kill()
		s.logs(i%2, outOfService)
		l.goesOn(10)
		remotes[i%2].Restart()
		back := time.Now()
		s.logs(i%2, inService)
		t.Logf("token %d away for %v, in service %v after its return, the longest request %v",
			i%2, back.Sub(gone), time.Since(back), l.worst(gone).took())
		l.goesOn(10)
	}
	l.end()
	l.unharmed(time.Time{}, 2*time.Second)
	for _, change := range s.health.all()[1:] {
		t.Errorf("health was %v for a time, want SERVING throughout", change)
	}
	t.Logf("of those requests the library made %d again", len(refused.FindAllString(s.stop(t), -1)))
}

// itsOneTokenGoes: callers get UNAVAILABLE and nothing else, at once where they
// ask the service itself, health tells it, and signatures are back within a second
// of the token.
func itsOneTokenGoes(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	token.Config.Sessions = oneCall
	remotes, reached := far(t, token, 1)
	s := host(t, token, reached)
	direct := askFor(t, 5*time.Second, s.direct(t))
	through := askFor(t, 5*time.Second, s.library(t))
	direct.goesOn(5)
	through.goesOn(5)
	for range atFull(3, 20) {
		gone := time.Now()
		remotes[0].Kill()
		s.tells(direct, healthv1.HealthCheckResponse_NOT_SERVING)
		told := time.Now()
		<-time.After(atFull(1200*time.Millisecond, 3*time.Second) - time.Since(gone)) // the outage's length
		down := time.Now()
		remotes[0].Restart()
		back := time.Now()
		signs := direct.within(time.Second, func() bool { return direct.signedSince(back) })
		signed := time.Now()
		if !signs {
			t.Error("a second after the token's return nothing is signed")
		}
		s.tells(direct, healthv1.HealthCheckResponse_SERVING)
		// The library waits for as long as it is told, which is a second.
		if !direct.within(2*time.Second, func() bool { return through.signedSince(back) }) {
			t.Error("two seconds after the token's return nothing is signed through the library")
		}
		through.goesOn(5)
		direct.refused(gone, down)
		t.Logf("away for %v, told so after %v, signed again %v after its return; the longest request %v, through the library %v",
			down.Sub(gone), told.Sub(gone), signed.Sub(back), direct.worst(gone).took(), through.worst(gone).took())
	}
	direct.end()
	through.end()
	for _, l := range []*load{direct, through} {
		for _, r := range l.failed(time.Time{}) {
			if fault.Of(r.err) != fault.TokenUnavailable {
				t.Errorf("got %v, want nothing but %v", r.err, fault.TokenUnavailable)
				break
			}
		}
		t.Logf("%d requests, %d errors", len(l.all(time.Time{})), len(l.failed(time.Time{})))
	}
}

// aCallNeverReturns: p11-kit's client has one that waits for ever when its server
// dies within an answer (docs/OPERATING.md). Nobody sees it while there is another
// token; without one the service gives no more signs of life, and it does again
// when that one is back.
func aCallNeverReturns(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	token.Config.Sessions = 3
	remotes, reached := far(t, token, 2)
	line := softhsmtest.NewLine(t, remotes[0])
	reached[0] = line.Token.Config
	socket := filepath.Join(t.TempDir(), "notify")
	supervisor, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	check(t, err)
	t.Cleanup(func() { _ = supervisor.Close() })
	s := host(t, token, reached, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=400000")
	alive := func(atMost time.Duration) bool {
		check(t, supervisor.SetReadDeadline(time.Now().Add(atMost)))
		_, err := supervisor.Read(make([]byte, 100))
		return err == nil
	}

	l := askFor(t, 5*time.Second, s.library(t))
	l.goesOn(5)
	<-line.Break()
	s.logs(0, outOfService)
	<-time.After(12 * time.Second) // for the token to count as hung, which it does after ten
	l.goesOn(20)
	l.unharmed(time.Time{}, 3*time.Second)
	for range 5 {
		if !alive(patience) {
			t.Fatal("no sign of life, though there is another token")
		}
	}
	remotes[1].Kill()
	for until := time.Now().Add(patience); alive(3 * time.Second); {
		if time.Now().After(until) {
			t.Fatal("signs of life, though no token is left, and one cannot come back")
		}
	}
	remotes[1].Restart()
	s.logs(1, inService)
	if !alive(patience) {
		t.Error("no sign of life, though a token is back")
	}
	l.end()
	s.signal(t, syscall.SIGTERM)
	s.wait(t) // however it ends, with a call that cannot be ended
}
