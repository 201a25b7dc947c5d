package softhsmtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// values are return values of every class.
var values = []struct {
	name  string
	value uint
	ours  bool // the request's fault, by that, which no token mends
}{
	{"session closed", pkcs11.CKR_SESSION_CLOSED, false},
	{"session unknown", pkcs11.CKR_SESSION_HANDLE_INVALID, false},
	{"operation active", pkcs11.CKR_OPERATION_ACTIVE, false},
	{"not logged in", pkcs11.CKR_USER_NOT_LOGGED_IN, false},
	{"key handle gone", pkcs11.CKR_KEY_HANDLE_INVALID, false},
	{"device error", pkcs11.CKR_DEVICE_ERROR, false},
	{"token not present", pkcs11.CKR_TOKEN_NOT_PRESENT, false},
	{"device memory", pkcs11.CKR_DEVICE_MEMORY, false},
	{"a vendor's own", pkcs11.CKR_VENDOR_DEFINED + 42, false},
	{"the data do not fit", pkcs11.CKR_DATA_LEN_RANGE, true},
	{"the key may not sign", pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, false},
}

// variants are whether the call that fails has done its work.
var variants = map[string]func(*softhsmtest.Shim, string, uint, int){
	"not applied": (*softhsmtest.Shim).Fail, "applied": (*softhsmtest.Shim).FailAfter,
}

// TestDrillEveryFault: whatever a call of the hot path returns, once, before or
// after it did its work: every request ends before its deadline with a right
// signature or a classified error, the token recovers, and no session and no
// goroutine leaks.
func TestDrillEveryFault(t *testing.T) {
	d := drill(t, softhsmtest.New(t), 5*time.Second)
	for _, row := range values {
		for _, function := range []string{"C_SignInit", "C_Sign"} {
			for variant, fail := range variants {
				d.strike(fmt.Sprintf("%s/%s/%s", row.name, function, variant), func() { fail(d.shim, function, row.value, 1) })
			}
		}
	}
	d.wantWhole()
}

// strike lets something go wrong, once, and waits until the token signs for all
// again.
func (d *drilled) strike(name string, wrong func()) {
	d.t.Helper()
	since := time.Now()
	wrong()
	signed := func() bool { return len(d.all(since))-len(d.failed(since)) >= 2*callers }
	if !d.within(3*time.Second, signed) {
		d.t.Errorf("%s: it does not recover; %d requests failed; ready: %v", name, len(d.failed(since)), d.open.Ready())
	}
	if most := d.open.Sessions() + 1; !d.within(time.Second, func() bool { return d.shim.Sessions() <= most }) {
		d.t.Errorf("%s: got %d open sessions, want at most %d", name, d.shim.Sessions(), most)
	}
	if failed := d.failed(since); len(failed) > 0 {
		d.t.Logf("%s: %d errors, back after %v: %v", name, len(failed), time.Since(since), failed[0].err)
	}
}
