package hsm_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestFewerSessionsThanAskedFor: the pool shrinks to what the token gives, and
// grows again with it, and no caller notices.
func TestFewerSessionsThanAskedFor(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 4
	for _, row := range []struct {
		name  string
		limit int // with the one that is held for life
		want  int
	}{
		{"one fewer", 4, 3},
		{"one is left", 2, 1},
	} {
		t.Run("from the start: "+row.name, func(t *testing.T) {
			shim := softhsmtest.NewShim(t, token)
			shim.Limit(row.limit)
			synctest.Test(t, func(t *testing.T) {
				b := &bed{public: token.Public, shims: []*softhsmtest.Shim{shim}}
				b.opens(t)
				b.shrunk(t, row.want)
				b.closes(t)
			})
		})
		t.Run("later: "+row.name, func(t *testing.T) {
			shim := softhsmtest.NewShim(t, token)
			synctest.Test(t, func(t *testing.T) {
				b := &bed{public: token.Public, shims: []*softhsmtest.Shim{shim}}
				b.opens(t)
				shim.Limit(row.limit)
				shim.LoseSessions()
				b.shrunk(t, row.want)
				b.closes(t)
			})
		})
	}
}

// shrunk fails the test unless the token serves with so many sessions, and with
// all again a while after it gives them.
func (b *bed) shrunk(t *testing.T, want int) {
	t.Helper()
	for range 20 {
		if failed := b.ask(t, row{}, 4); len(failed) > 0 {
			t.Errorf("a caller got %v, want none to notice", failed[0])
			return // to be closed: the bubble waits for it
		}
	}
	synctest.Wait()
	h := b.open.Health()[0]
	if h.State != hsm.Serving || h.Sessions != want || h.Asked != 4 || h.Losses != 0 || h.Abandoned != 0 || b.open.Sessions() != want {
		t.Errorf("got %+v, want it to serve with %d sessions, and never to have ceased to", h, want)
	}
	b.shims[0].Limit(0)
	time.Sleep(6 * time.Second)
	if h := b.open.Health()[0]; h.Sessions != 4 || b.shims[0].Sessions() != 5 {
		t.Errorf("got %+v and %d sessions, want all again", h, b.shims[0].Sessions())
	}
	if failed := b.ask(t, row{}, 4); len(failed) > 0 {
		t.Errorf("a caller got %v", failed[0])
	}
}

// TestNoSessionAtAllIsALoss: a token that has room for nobody but us who hold the
// login does not serve, says so at once, and comes back.
func TestNoSessionAtAllIsALoss(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	shim := softhsmtest.NewShim(t, token)
	synctest.Test(t, func(t *testing.T) {
		b := &bed{public: token.Public, shims: []*softhsmtest.Shim{shim}}
		b.opens(t)
		shim.Limit(1)
		shim.LoseSessions()
		began := time.Now()
		if failed := b.ask(t, row{}, 4); len(failed) == 0 {
			t.Error("got signatures without a session")
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %v to say so", took)
		}
		shim.Limit(0)
		time.Sleep(6 * time.Second)
		if failed := b.ask(t, row{}, 4); len(failed) > 0 {
			t.Errorf("a caller got %v", failed[0])
		}
		if h := b.open.Health()[0]; h.Losses == 0 || h.Last.Err == nil || !errors.Is(h.Last.Err, pkcs11.Error(pkcs11.CKR_SESSION_COUNT)) {
			t.Errorf("got %+v, want its loss on record", h)
		}
		b.closes(t)
	})
}
