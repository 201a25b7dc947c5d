package hsm_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// wants makes the device one whose client does not work until it is initialised again.
func wants(s *softhsmtest.Shim) {
	s.Away(softhsmtest.Outage{WantsInitialize: true})
	s.Back()
}

// hangs are the functions that may hang, what makes them be called, and whether
// the whole token is lost while they do.
var hangs = []struct {
	function string
	lose     func(*softhsmtest.Shim)
}{
	{"C_SignInit", nil},
	{"C_Sign", nil},
	{"C_OpenSession", (*softhsmtest.Shim).LoseSessions},
	{"C_Login", (*softhsmtest.Shim).Logout},
	{"C_GetSlotList", (*softhsmtest.Shim).LoseSessions},
	{"C_Finalize", wants},
	{"C_Initialize", wants},
}

// TestACallThatHangs in C, of whatever function: every request ends by its
// deadline, a token that is lost by it is not ready and says so without waiting,
// another one takes over without a caller's noticing, and when the call returns
// the token serves as before.
func TestACallThatHangs(t *testing.T) {
	for _, hang := range hangs {
		for tokens, name := range []string{1: "alone", 2: "beside another"} {
			if tokens == 0 {
				continue
			}
			t.Run(hang.function+"/"+name, func(t *testing.T) {
				if hang.function != "C_Initialize" { // which reads the environment, and may hang before
					t.Parallel() // most of it is waiting
				}
				token := softhsmtest.Shared(t)
				token.Config.Sessions = 2
				b := &bed{public: token.Public, given: 4 * time.Second, late: 20 * time.Second}
				for _, each := range []*softhsmtest.Token{token, softhsmtest.Twin(t, token)}[:tokens] {
					b.shims = append(b.shims, softhsmtest.NewShim(t, each))
				}
				b.opens(t)
				hung, release := b.shims[0].Hang(hang.function)
				if hang.lose != nil {
					hang.lose(b.shims[0])
				}
				b.outlive(t, hung, hang.lose != nil)
				release()
				b.eventually(t, "all is well", func(h hsm.Health) bool { return h.State == hsm.Serving && h.Abandoned == 0 })
				if failed := b.ask(t, row{}, 4); len(failed) > 0 {
					t.Errorf("afterwards a caller got %v", failed[0])
				}
				b.closes(t)
			})
		}
	}
}

// outlive asks until the call hangs and what it costs is seen.
func (b *bed) outlive(t *testing.T, hung <-chan struct{}, lost bool) {
	t.Helper()
	over, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for seen := false; !seen; {
		if over.Err() != nil {
			t.Fatalf("after a minute nothing is seen of it: %+v", b.open.Health())
		}
		failed := b.ask(t, row{}, 4)
		if len(b.shims) > 1 && len(failed) > 0 {
			t.Errorf("beside another token a caller got %v", failed[0])
		}
		select {
		case <-hung:
			h := b.open.Health()[0]
			seen = lost && h.Err != nil || !lost && h.Abandoned > 0 && h.Outlived > 0
		default:
		}
	}
	if lost && len(b.shims) == 1 {
		for _, err := range b.ask(t, row{}, 4) {
			if fault.Of(err) != fault.TokenUnavailable || retryAfter(err) <= 0 {
				t.Errorf("got %v, want %v and when to try again", err, fault.TokenUnavailable)
			}
		}
	}
}

// eventually waits until all tokens are as they are to be.
func (b *bed) eventually(t *testing.T, what string, is func(hsm.Health) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, shim := range b.shims {
		for ok := false; !ok; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("after a minute it is not so that %s: %+v", what, b.open.Health())
			}
			ok = true
			for _, h := range b.open.Health() {
				ok = ok && is(h)
			}
			ok = ok && shim.Pending() == 0
		}
	}
}

// TestOneModuleHangsAndAnotherComesBack: initialising is done by one at a time,
// but for one who hangs nobody waits long.
func TestOneModuleHangsAndAnotherComesBack(t *testing.T) {
	for _, function := range []string{"Initialize", "Finalize"} {
		t.Run(function, func(t *testing.T) {
			p := newPair(t)
			synctest.Test(t, func(t *testing.T) {
				p.mustOpen(t)
				release := make(chan struct{})
				for _, f := range p.faulty {
					f.takesAway(pkcs11.CKR_DEVICE_ERROR)
				}
				p.faulty[0].set(function, hang(1, release))
				if err := p.sign(t.Context()); fault.Of(err) != fault.TokenUnavailable {
					t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
				}
				time.Sleep(5 * time.Second)
				p.faulty[1].set("Initialize", func(_ int, do func() error) error { p.faulty[1].givesBack(); return do() })
				time.Sleep(time.Second)
				if got, want := p.ready(), [2]bool{false, true}; got != want {
					t.Errorf("got ready %v, want %v", got, want)
				}
				p.signs(t, 4)
				time.Sleep(10 * time.Second)
				if h := p.group.Health()[0]; h.State != hsm.Hanging || p.group.Hung() {
					t.Errorf("got %+v and hung %v, want the token to hang and the group not", h, p.group.Hung())
				}
				close(release)
				p.faulty[0].givesBack()
				time.Sleep(time.Second)
				if got, want := p.ready(), [2]bool{true, true}; got != want {
					t.Errorf("got ready %v, want %v", got, want)
				}
				p.close(t)
			})
		})
	}
}

// TestNeighbourOfAModuleThatHangs: two tokens of one module, and initialising it
// again for the one hangs. Callers of the other are told within a second, and at
// once from then on.
func TestNeighbourOfAModuleThatHangs(t *testing.T) {
	token, twin := twins(t)
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		neighbour, err := hsm.Open(t.Context(), twin.Config, twin.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		f.away = true
		f.set("Finalize", hang(1, release))
		f.broken = token.Config.TokenLabel // so that logging in fails
		f.logOut()
		if err := trySign(t.Context(), open, token.Public); fault.Of(err) != fault.TokenUnavailable {
			t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
		}
		time.Sleep(time.Second)
		for _, want := range []time.Duration{time.Second, 0, 0} {
			began := time.Now()
			if err := trySign(t.Context(), neighbour, twin.Public); fault.Of(err) != fault.TokenUnavailable || retryAfter(err) <= 0 {
				t.Errorf("got %v, want %v and when to try again", err, fault.TokenUnavailable)
			}
			if took := time.Since(began); took != want {
				t.Errorf("it took %v, want %v", took, want)
			}
		}
		time.Sleep(15 * time.Second)
		if !open.Hung() || !neighbour.Hung() {
			t.Error("they do not say that they hang")
		}
		f.mu.Lock()
		f.broken = ""
		f.mu.Unlock()
		close(release)
		time.Sleep(time.Second)
		signs(t, open, token.Public)
		signs(t, neighbour, twin.Public)
		closeToken(t, open)
		closeToken(t, neighbour)
	})
}

// TestAMendThatHangsIsTold: while one caller's login hangs, others who need it
// are told within a second, and at once from then on.
func TestAMendThatHangsIsTold(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	for _, function := range []string{"Login", "GetSlotList", "FindObjectsInit"} {
		t.Run(function, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, token)
				release := make(chan struct{})
				f.set(function, hang(1, release))
				f.loseSessions()
				leaves(t, open)
				for _, want := range []time.Duration{time.Second, 0, 0} {
					began := time.Now()
					if err := trySign(t.Context(), open, token.Public); fault.Of(err) != fault.TokenUnavailable {
						t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
					}
					if took := time.Since(began); took != want {
						t.Errorf("it took %v to say so, want %v", took, want)
					}
				}
				if h := open.Health(); h.State == hsm.Serving || h.Outlived != 1 || h.Losses != 1 || h.Last.Err == nil {
					t.Errorf("got %+v, want it lost, with the call that hangs on record", h)
				}
				time.Sleep(11 * time.Second)
				if h := open.Health(); h.State != hsm.Hanging || !h.Hung {
					t.Errorf("got %+v, want it to hang", h)
				}
				close(release)
				time.Sleep(time.Second)
				wantWhole(t, f, open, token)
				closeToken(t, open)
			})
		})
	}
}

// TestAMendThatHangsIsSeenByTheHurriedToo: no caller has the second that it takes
// to call a call hung. The token is out of service soon all the same.
func TestAMendThatHangsIsSeenByTheHurriedToo(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 3
	hurried := func(t *testing.T, open *hsm.Token) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := open.SignDigest(ctx, randomDigest())
		return err
	}
	for _, function := range []string{"Login", "GetSlotList", "OpenSession", "FindObjectsInit"} {
		t.Run(function, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, token)
				release := make(chan struct{})
				f.set(function, hang(1, release))
				f.loseSessions()
				for range 7 {
					if err := hurried(t, open); err == nil {
						t.Error("got a signature from a token that is lost")
					}
				}
				time.Sleep(time.Second)
				if h := open.Health(); h.State == hsm.Serving || h.Err == nil || h.Abandoned == 0 {
					t.Errorf("got %+v, want it out of service, with the calls that hang on record", h)
				}
				began := time.Now()
				if err := hurried(t, open); fault.Of(err) != fault.TokenUnavailable || time.Since(began) > 0 {
					t.Errorf("got %v after %v, want it at once", err, time.Since(began))
				}
				close(release)
				time.Sleep(time.Second)
				wantWhole(t, f, open, token)
				closeToken(t, open)
			})
		})
	}
}

// TestNeighboursThatAreHurriedSeeAModuleThatHangs, as those who have time do.
func TestNeighboursThatAreHurriedSeeAModuleThatHangs(t *testing.T) {
	token, twin := twins(t)
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		neighbour, err := hsm.Open(t.Context(), twin.Config, twin.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		f.away = true
		f.set("Finalize", hang(1, release))
		f.broken = token.Config.TokenLabel // so that logging in fails
		f.logOut()
		if err := trySign(t.Context(), open, token.Public); fault.Of(err) != fault.TokenUnavailable {
			t.Errorf("got %v, want an error of kind %v", err, fault.TokenUnavailable)
		}
		time.Sleep(200 * time.Millisecond) // the module is being finalised
		for range 7 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if _, err := neighbour.SignDigest(ctx, randomDigest()); err == nil {
				t.Error("got a signature through a module that is being initialised")
			}
			cancel()
		}
		time.Sleep(time.Second)
		if neighbour.Ready() == nil {
			t.Error("the neighbour says that it is ready")
		}
		f.mu.Lock()
		f.broken = ""
		f.mu.Unlock()
		close(release)
		time.Sleep(time.Second)
		signs(t, open, token.Public)
		signs(t, neighbour, twin.Public)
		closeToken(t, open)
		closeToken(t, neighbour)
	})
}
