package hsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
)

// TestEveryReturnValueHasAClass: every one that the wrapper can name is in the
// table under that name, with a reason.
func TestEveryReturnValueHasAClass(t *testing.T) {
	named := 0
	for rv := pkcs11.Error(1); rv <= 0x1000; rv++ {
		_, name, _ := strings.Cut(rv.Error(), "CKR_")
		if name == "" {
			continue
		}
		named++
		c, ok := codes[rv]
		if !ok {
			t.Errorf("CKR_%s is not in the table", name)
		} else if c.name != "CKR_"+name {
			t.Errorf("got %s at 0x%X, want CKR_%s", c.name, uint(rv), name)
		}
	}
	if named < 80 {
		t.Errorf("the wrapper names %d return values only", named)
	}
	for rv, c := range codes {
		if c.why == "" || !strings.HasPrefix(c.name, "CKR_") || c.class > permanentClass {
			t.Errorf("0x%X: got %+v, want a name, a class and a reason", uint(rv), c)
		}
	}
}

func TestUnknownReturnValuesAreTheDevices(t *testing.T) {
	err := called("C_Sign", pkcs11.Error(pkcs11.CKR_VENDOR_DEFINED+0x101))
	if got := classOf(err); got != deviceClass {
		t.Errorf("got class %d, want %d", got, deviceClass)
	}
	if got, want := err.Error(), "C_Sign: CKR 0x80000101 (a return value of the vendor's own)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOnlySigningIsTheRequests: a token that dislikes how a session is opened may
// be left for another.
func TestOnlySigningIsTheRequests(t *testing.T) {
	for function, want := range map[string]class{"C_Sign": requestClass, "C_SignInit": requestClass, "C_OpenSession": deviceClass, "C_FindObjectsInit": deviceClass} {
		err := fmt.Errorf("signing: %w", called(function, pkcs11.Error(pkcs11.CKR_ARGUMENTS_BAD)))
		if got := classOf(err); got != want {
			t.Errorf("%s: got class %d, want %d", function, got, want)
		}
	}
}

// TestARefusedPINIsNeverTriedAgain: no row that speaks of the PIN may lead to
// another login.
func TestARefusedPINIsNeverTriedAgain(t *testing.T) {
	checked := 0
	for _, c := range codes {
		if strings.HasPrefix(c.name, "CKR_PIN_") {
			checked++
			if c.class != permanentClass {
				t.Errorf("%s: got class %d, want %d", c.name, c.class, permanentClass)
			}
		}
	}
	if checked < 5 {
		t.Errorf("got %d rows about PINs only", checked)
	}
}
