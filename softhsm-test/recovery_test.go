package softhsmtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestDrillFaultsWhileRecovering: the sessions are lost, and a call of the
// recovery fails, too.
func TestDrillFaultsWhileRecovering(t *testing.T) {
	d := drill(t, softhsmtest.New(t), 5*time.Second)
	for _, function := range []string{
		"C_OpenSession", "C_GetSessionInfo", "C_GetTokenInfo", "C_Login", "C_FindObjectsInit", "C_FindObjects",
		"C_FindObjectsFinal", "C_GetAttributeValue", "C_SignInit", "C_Sign",
	} {
		for _, value := range []uint{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_FUNCTION_FAILED} {
			d.strike(fmt.Sprintf("%s/%#x", function, value), func() {
				d.shim.LoseSessions()
				d.shim.Fail(function, value, 1)
			})
			d.shim.Mend() // not every recovery makes every call
		}
	}
	d.wantWhole()
}

// TestDrillSessionsLostAsOneIsOpened: the token loses its sessions between the end
// of one and the opening of the next, so that this one lives in a token where
// nobody is logged in. It is closed, too.
func TestDrillSessionsLostAsOneIsOpened(t *testing.T) {
	d := drill(t, softhsmtest.New(t), 5*time.Second)
	for _, function := range []string{"C_CloseSession", "C_OpenSession"} {
		for range 3 {
			d.strike("lost at "+function, func() {
				d.shim.LoseSessionsAt(function)
				d.shim.Fail("C_Sign", pkcs11.CKR_FUNCTION_FAILED, 1)
			})
			d.settles()
		}
	}
	d.wantWhole()
	d.unharmed(time.Time{}, 2*time.Second)
}
