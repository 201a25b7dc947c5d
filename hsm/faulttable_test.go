package hsm_test

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestFaultTable: whatever value of PKCS#11 a call of the hot path returns, and
// whatever one of the recovery may return by the standard, once, with its work done
// or not, on one token or on one of two: every request ends before its deadline with a right signature or an error that
// has a kind, the token comes back unless a refused login forbids it, and neither
// a session nor a goroutine is left behind.
//
// The faults happen in C, in a module between us and SoftHSM2; the clock is the
// bubble's, so that waiting costs nothing and a deadline is one to the nanosecond.
// That the bubble ends proves that no goroutine is left.
func TestFaultTable(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	pair := []*softhsmtest.Token{token, softhsmtest.Twin(t, token)}
	for tokens := 1; tokens <= 2; tokens++ {
		b := &bed{public: token.Public}
		for _, each := range pair[:tokens] {
			b.shims = append(b.shims, softhsmtest.NewShim(t, each))
		}
		for _, where := range places {
			for _, applied := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d/%s/applied=%v", tokens, where.name, applied), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { b.column(t, where, applied) })
				})
			}
		}
	}
}

// place is where a fault happens: at the nth call of a function, where need be
// after something was lost, so that the call is made at all.
type place struct {
	name     string
	function string
	nth      int
	lose     func(*softhsmtest.Shim)
	values   string // by name, without CKR_; "" for all that there are
}

// signing tells whether the fault is in the request's own call.
func (p place) signing() bool { return p.lose == nil }

var places = []place{
	{"C_SignInit", "C_SignInit", 1, nil, ""},
	{"C_Sign", "C_Sign", 2, nil, ""}, // the first one asks for the length
	{"C_OpenSession for all", "C_OpenSession", 1, (*softhsmtest.Shim).LoseSessions, opening},
	{"C_OpenSession for one", "C_OpenSession", 2, (*softhsmtest.Shim).LoseSessions, opening},
	{"C_Login", "C_Login", 1, (*softhsmtest.Shim).Logout, loggingIn},
}

// What C_OpenSession and C_Login may return (PKCS#11 v2.40, section 5.6), and
// what tokens return beside it.
const (
	opening = "ARGUMENTS_BAD CRYPTOKI_NOT_INITIALIZED DEVICE_ERROR DEVICE_MEMORY DEVICE_REMOVED FUNCTION_FAILED GENERAL_ERROR " +
		"HOST_MEMORY SESSION_COUNT SESSION_PARALLEL_NOT_SUPPORTED SESSION_READ_WRITE_SO_EXISTS SLOT_ID_INVALID " +
		"TOKEN_NOT_PRESENT TOKEN_NOT_RECOGNIZED TOKEN_WRITE_PROTECTED SESSION_HANDLE_INVALID FUNCTION_NOT_SUPPORTED"
	loggingIn = "ARGUMENTS_BAD CRYPTOKI_NOT_INITIALIZED DEVICE_ERROR DEVICE_MEMORY DEVICE_REMOVED FUNCTION_CANCELED " +
		"FUNCTION_FAILED GENERAL_ERROR HOST_MEMORY OPERATION_NOT_INITIALIZED PIN_INCORRECT PIN_LOCKED SESSION_CLOSED " +
		"SESSION_HANDLE_INVALID SESSION_READ_ONLY_EXISTS USER_ALREADY_LOGGED_IN USER_ANOTHER_ALREADY_LOGGED_IN " +
		"USER_PIN_NOT_INITIALIZED USER_TOO_MANY_TYPES USER_TYPE_INVALID PIN_EXPIRED PIN_LEN_RANGE FUNCTION_REJECTED"
)

// wanted returns the values of the table's rows.
func (p place) wanted(t *testing.T) (some []hsm.ReturnValue) {
	t.Helper()
	all := hsm.ReturnValues()
	if len(all) < 90 {
		t.Fatalf("got %d return values, want those of PKCS#11 v2.40", len(all))
	}
	names := strings.Fields(p.values)
	for _, value := range all {
		if p.values == "" || slices.Contains(names, strings.TrimPrefix(value.Name, "CKR_")) {
			some = append(some, value)
		}
	}
	if p.values != "" && len(some) != len(names) {
		t.Fatalf("got %d return values, want %q", len(some), names)
	}
	return some
}

// bed is one token or two with the same key, each behind a shim, open as a group.
type bed struct {
	public *rsa.PublicKey
	shims  []*softhsmtest.Shim
	open   *hsm.Group
	given  time.Duration // what each request is given; 0: two seconds, which are enough on the clock of a bubble
	late   time.Duration // by which a request may miss its deadline: none on that clock
}

func (b *bed) column(t *testing.T, where place, applied bool) {
	b.opens(t)
	for i, value := range where.wanted(t) {
		struck := i % len(b.shims)
		b.strike(t, row{where, value, applied, struck})
		refused := where.function == "C_Login" && value.Permanent
		if untold := where.function == "C_OpenSession" && applied; refused || untold {
			b.closes(t)
			b.opens(t)
			continue
		}
		time.Sleep(15 * time.Second) // of the bubble: what happened is forgotten
	}
	b.closes(t)
}

func (b *bed) opens(t *testing.T) {
	t.Helper()
	var configs []hsm.Config
	for _, shim := range b.shims {
		configs = append(configs, shim.Token.Config)
	}
	var err error
	b.open, err = hsm.OpenGroup(t.Context(), configs, b.shims[0].Token.Certificate, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bed) closes(t *testing.T) {
	t.Helper()
	if err := b.open.Close(context.Background()); err != nil {
		t.Errorf("closing: %v", err)
	}
	for i, shim := range b.shims {
		if got := shim.Sessions(); got != 0 {
			t.Errorf("token %d: got %d sessions after closing, want none", i, got)
		}
	}
}

// row is a row of the table.
type row struct {
	place
	value   hsm.ReturnValue
	applied bool
	struck  int // which token
}

func (r row) String() string { return fmt.Sprintf("%s at %s", r.value.Name, r.name) }

// harmless tells whether no caller may notice: where a session, the login or the
// device is lost once the request is repeated, and where another token is left the
// request goes there.
func (r row) harmless(tokens int) bool {
	if r.value.Ours && r.signing() {
		return false
	}
	return tokens > 1 || r.signing() && !r.value.Permanent
}

// strike lets one call fail under three callers, and looks at what becomes of it.
func (b *bed) strike(t *testing.T, r row) {
	t.Helper()
	shim := b.shims[r.struck]
	logins := shim.Calls("C_Login")
	if r.lose != nil {
		r.lose(shim)
	}
	if r.applied {
		shim.FailAfter(r.function, r.value.Value, r.nth)
	} else {
		shim.Fail(r.function, r.value.Value, r.nth)
	}
	failed := b.ask(t, r, 3)
	for rounds := 0; shim.Pending() > 0 && rounds < 50; rounds++ { // the other token may have got all
		failed = append(failed, b.ask(t, r, 1)...)
	}
	if shim.Pending() > 0 {
		t.Errorf("%v: the fault met no call", r)
		shim.Mend()
	}
	if r.harmless(len(b.shims)) && len(failed) > 0 {
		t.Errorf("%v: a caller got %v, want none to notice", r, failed[0])
	}
	time.Sleep(time.Second)
	if r.function == "C_Login" && r.value.Permanent {
		b.wantRefused(t, r, shim.Calls("C_Login")-logins)
		return
	}
	b.wantWhole(t, r)
}

// ask lets so many callers ask at once, and returns their errors.
func (b *bed) ask(t *testing.T, r row, callers int) (failed []error) {
	t.Helper()
	errs := make(chan error, callers)
	for range callers {
		go func() { errs <- b.one(t, r) }()
	}
	for range callers {
		if err := <-errs; err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// one makes a request, which keeps the invariant.
func (b *bed) one(t *testing.T, r row) error {
	deadline := cmp.Or(b.given, 2*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	digest := randomDigest()
	began := time.Now()
	signature, err := b.open.SignDigest(ctx, digest)
	if took := time.Since(began); took >= deadline+b.late {
		t.Errorf("%v: a request took %v, want it to end before its deadline", r, took)
	}
	switch kind := fault.Of(err); {
	case err == nil:
		if rsa.VerifyPKCS1v15(b.public, crypto.SHA256, digest[:], signature) != nil {
			t.Errorf("%v: got a wrong signature", r)
		}
	case kind == fault.TokenUnavailable, kind == fault.Internal && r.value.Ours && r.signing():
	case kind == fault.DeadlineExceeded && b.late > 0:
	default:
		t.Errorf("%v: got %v of kind %v", r, err, kind)
	}
	return err
}

// wantWhole fails the test unless all tokens are in service within a second,
// with as many sessions as they say.
func (b *bed) wantWhole(t *testing.T, r row) {
	t.Helper()
	synctest.Wait()
	for i, h := range b.open.Health() {
		if h.State != hsm.Serving || h.Abandoned != 0 || h.InFlight != 0 {
			t.Errorf("%v: a second later token %d is %+v, want it to serve", r, i, h)
		}
		most := h.Sessions + 1
		if i == r.struck && r.function == "C_OpenSession" && r.applied {
			most++ // the token opened it, and did not say which it is
		}
		if got := b.shims[i].Sessions(); got > most {
			t.Errorf("%v: token %d has %d sessions, want at most %d", r, i, got, most)
		}
	}
	if failed := b.ask(t, r, 1); len(failed) > 0 {
		t.Errorf("%v: a second later a caller got %v", r, failed[0])
	}
}

// wantRefused fails the test unless the token whose login was refused is out for
// good, after one try, and the other one serves.
func (b *bed) wantRefused(t *testing.T, r row, logins int) {
	t.Helper()
	for i, h := range b.open.Health() {
		want := hsm.Serving
		if i == r.struck {
			want = hsm.Refused
		}
		if h.State != want {
			t.Errorf("%v: token %d is %+v, want it %v", r, i, h, want)
		}
	}
	if logins != 1 {
		t.Errorf("%v: got %d tries, want one", r, logins)
	}
	if failed := b.ask(t, r, 1); len(b.shims) > 1 && len(failed) > 0 {
		t.Errorf("%v: with another token left a caller got %v", r, failed[0])
	}
}
