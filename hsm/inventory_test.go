package hsm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestTheInventoryNeedsNoPIN: what there is, before and after a token is made.
func TestTheInventoryNeedsNoPIN(t *testing.T) {
	empty := softhsmtest.Empty(t)
	bare := hsm.Config{Module: empty.Config.Module, Environment: empty.Config.Environment}
	library, err := hsm.Inventory(t.Context(), bare)
	if err != nil {
		t.Fatal(err)
	}
	if library.Path != bare.Module || library.Manufacturer != "SoftHSM" || library.Cryptoki != "2.40" || len(library.Slots) != 1 {
		t.Errorf("got %+v, want SoftHSM with one slot", library)
	}
	if s := library.Slots[0]; s.Initialised || s.UserPIN != hsm.PINNotSet || s.OfficerPIN != hsm.PINNotSet || s.Err != nil {
		t.Errorf("got %+v, want a slot whose token is not made yet", s)
	}

	token := softhsmtest.Shared(t)
	if err := os.Remove(token.Config.PINFile); err != nil {
		t.Fatal(err)
	}
	library, err = hsm.Inventory(t.Context(), hsm.Config{Module: token.Config.Module, Environment: token.Config.Environment})
	if err != nil || len(library.Slots) != 2 {
		t.Fatalf("got %+v (%v), want a token and SoftHSM's spare slot", library, err)
	}
	s := library.Slots[0]
	if s.Label != token.Config.TokenLabel || s.Serial != serial(t, token) || !s.Initialised || s.UserPIN != hsm.PINSet || s.OfficerPIN != hsm.PINSet {
		t.Errorf("got %+v, want the token as it was made", s)
	}
	for _, bits := range []uint{2048, 3072, 4096} {
		if !s.Sign.Fits(bits) || !s.Generate.Fits(bits) {
			t.Errorf("got %+v and %+v, want them to take %d bits", s.Sign, s.Generate, bits)
		}
	}
	if s.Sign.Fits(256) || (hsm.Mechanism{}).Fits(2048) {
		t.Error("a mechanism takes a size that it does not")
	}
	if s.Unwrap != "CKM_AES_KEY_WRAP" && s.Unwrap != "CKM_AES_KEY_WRAP_PAD" {
		t.Errorf("got %q, want SoftHSM to unwrap keys", s.Unwrap)
	}
}

func TestAModuleThatIsNoneIsRefused(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.so")
	if err := os.WriteFile(none, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := hsm.Inventory(t.Context(), hsm.Config{Module: none})
	wantError(t, err, hsm.ErrModule, fault.TokenUnavailable, none)
}

// TestAKeyThatCouldLeaveIsTold: each promise that a token does not keep.
func TestAKeyThatCouldLeaveIsTold(t *testing.T) {
	token := softhsmtest.Shared(t)
	keys, err := hsm.Keys(t.Context(), token.Config)
	if err != nil || len(keys) != 1 || len(keys[0].Faults()) > 0 || !keys[0].BornInside() {
		t.Fatalf("got %+v (%v), want a good key", keys, err)
	}
	promised := 0
	for i, a := range keys[0].Attributes {
		other := hsm.Key{Private: true, Attributes: append([]hsm.Attribute(nil), keys[0].Attributes...)}
		other.Attributes[i].Value = map[hsm.Answer]hsm.Answer{hsm.Yes: hsm.No, hsm.No: hsm.Yes}[a.Value]
		promised += len(other.Faults())
		if len(other.Faults()) == 0 && other.BornInside() {
			t.Errorf("%s turned round changes nothing", a.Name)
		}
	}
	if promised != 9 {
		t.Errorf("got %d promises, want 9", promised)
	}
	if len((hsm.Key{}).Faults()) == 0 || len((hsm.Key{Private: true}).Faults()) == 0 {
		t.Error("a key of which nothing is known has no faults")
	}
	_, err = hsm.Keys(t.Context(), hsm.Config{})
	wantError(t, err, err, fault.TokenUnavailable, "module: missing", "label: missing", "pin_file: missing")
}
