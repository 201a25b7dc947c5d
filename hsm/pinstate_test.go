package hsm

import (
	"testing"

	"github.com/miekg/pkcs11"
)

func TestAPINStateIsTheWorstThatItsFlagsSay(t *testing.T) {
	const set, low, final, locked, old = pkcs11.CKF_USER_PIN_INITIALIZED, pkcs11.CKF_USER_PIN_COUNT_LOW,
		pkcs11.CKF_USER_PIN_FINAL_TRY, pkcs11.CKF_USER_PIN_LOCKED, pkcs11.CKF_USER_PIN_TO_BE_CHANGED
	for _, row := range []struct {
		flags uint
		want  PINState
	}{
		{0, PINNotSet},
		{set, PINSet},
		{set | low, PINCountLow},
		{set | low | final, PINFinalTry},
		{set | low | final | locked, PINLocked},
		{set | old, PINToChange},
	} {
		if got := userPIN(row.flags); got != row.want {
			t.Errorf("flags %#x: got %q, want %q", row.flags, got, row.want)
		}
	}
}
