package hsm_test

import (
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestAKeyThatIsMadeThoughTheCallErredIsTold: and where nothing is left behind,
// nothing is said of it.
func TestAKeyThatIsMadeThoughTheCallErredIsTold(t *testing.T) {
	token := softhsmtest.Shared(t)
	shim := softhsmtest.NewShim(t, token)
	file, _ := softFile(t, 2048)
	generate := func(config hsm.Config) error {
		_, err := hsm.GenerateKey(t.Context(), config, 2048)
		return err
	}
	move := func(config hsm.Config) error {
		soft := parseP12(t, file)
		defer soft.Wipe()
		_, err := hsm.ImportKey(t.Context(), config, soft, hsm.InTheClear)
		return err
	}
	for _, row := range []struct {
		name, id string
		make     func(hsm.Config) error
		fail     func(string, uint, int)
		function string
		nth      int
		left     bool
	}{
		{"generated", "01", generate, shim.FailAfter, "C_GenerateKeyPair", 1, true},
		{"not generated", "02", generate, shim.Fail, "C_GenerateKeyPair", 1, false},
		{"generated and not proven", "03", generate, shim.Fail, "C_Sign", 1, true},
		{"moved in", "04", move, shim.FailAfter, "C_CreateObject", 1, true},
		{"not moved in", "05", move, shim.Fail, "C_CreateObject", 1, false},
		{"moved in without its public half", "06", move, shim.Fail, "C_CreateObject", 2, false},
		{"moved in and not proven", "07", move, shim.Fail, "C_Sign", 1, false},
	} {
		config := shim.Token.Config
		config.KeyLabel, config.KeyID = row.name, row.id
		row.fail(row.function, pkcs11.CKR_DEVICE_ERROR, row.nth)
		err := row.make(config)
		wantError(t, err, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), fault.TokenUnavailable)
		if got := strings.Contains(err.Error(), "under its names all the same"); got != row.left {
			t.Errorf("%s: got %v, want it told %v", row.name, err, row.left)
		}
		if shim.Pending() > 0 {
			t.Errorf("%s: the fault met no call", row.name)
			shim.Mend()
		}
		if keys, err := hsm.Keys(t.Context(), config); err != nil || (len(keys) == 1) != row.left {
			t.Errorf("%s: got %d keys (%v), want one %v", row.name, len(keys), err, row.left)
		}
		if _, err := hsm.DeleteKey(t.Context(), config); row.left && err != nil {
			t.Errorf("%s: it cannot be deleted: %v", row.name, err)
		}
	}
}

// TestPINsThatTheTokenWouldRefuseMakeNoToken, which would have the label and no
// user PIN.
func TestPINsThatTheTokenWouldRefuseMakeNoToken(t *testing.T) {
	token := softhsmtest.Empty(t)
	pin := func(text string) hsm.PIN { return hsm.NewPIN([]byte(text)) }
	for _, row := range []struct{ officer, user string }{{"officer", "123"}, {"123", "user-pin"}} {
		_, err := hsm.InitToken(t.Context(), token.Config, pin(row.officer), pin(row.user))
		wantError(t, err, err, fault.TokenUnavailable, "the token takes 4 to 255 bytes")
	}
	if _, err := hsm.InitToken(t.Context(), token.Config, pin("officer"), pin("user-pin")); err != nil {
		t.Errorf("the label is taken: %v", err)
	}
}
