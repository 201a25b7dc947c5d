package softhsmtest_test

import (
	"context"
	"testing"

	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// On a remote HSM each call is a round trip.
func TestASignatureIsTwoCallsOfTheLibrary(t *testing.T) {
	shim := softhsmtest.NewShim(t, softhsmtest.New(t))
	shim.Token.Config.Sessions = 1
	open, err := hsm.Open(t.Context(), shim.Token.Config, shim.Token.Certificate)
	check(t, err)
	t.Cleanup(func() { check(t, open.Close(context.Background())) })
	functions := []string{"C_SignInit", "C_Sign"}
	before := map[string]int{}
	for _, function := range functions {
		before[function] = shim.Calls(function)
	}
	const signatures = 5
	for range signatures {
		_, err := open.SignDigest(t.Context(), randomDigest())
		check(t, err)
	}
	for _, function := range functions {
		if got := shim.Calls(function) - before[function]; got != signatures {
			t.Errorf("%s: got %d calls for %d signatures", function, got, signatures)
		}
	}
}
