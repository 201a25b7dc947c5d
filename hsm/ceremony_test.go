package hsm_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestCeremonyFromNothingToAKey: each step is known by the error of the one
// before it, and none is done twice.
func TestCeremonyFromNothingToAKey(t *testing.T) {
	token := softhsmtest.Empty(t)
	pin, err := hsm.ReadPIN(token.Config.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	defer pin.Wipe()

	_, err = hsm.PublicKey(t.Context(), token.Config)
	wantError(t, err, hsm.ErrNoToken, fault.TokenUnavailable, "no initialised token")
	made, err := hsm.InitToken(t.Context(), token.Config, pin, pin)
	if err != nil {
		t.Fatal(err)
	}
	if got := serial(t, token); got != made {
		t.Errorf("got serial %q, the token says %q", made, got)
	}
	_, err = hsm.InitToken(t.Context(), token.Config, pin, pin)
	wantError(t, err, err, fault.TokenUnavailable, "there is one already", made)

	_, err = hsm.PublicKey(t.Context(), token.Config)
	wantError(t, err, hsm.ErrNoKey, fault.TokenUnavailable, "no RSA private key")
	public, err := hsm.GenerateKey(t.Context(), token.Config, 2048)
	if err != nil {
		t.Fatal(err)
	}
	again, err := hsm.PublicKey(t.Context(), token.Config)
	if err != nil || !public.Equal(again) {
		t.Errorf("got another public key (%v) on reading it back", err)
	}
}

func TestGenerateKeyOverwritesNothing(t *testing.T) {
	token := softhsmtest.Shared(t)
	for _, change := range []func(*hsm.Config){
		func(*hsm.Config) {},
		func(c *hsm.Config) { c.KeyID = "0102" },
		func(c *hsm.Config) { c.KeyLabel = "other" },
	} {
		config := token.Config
		change(&config)
		_, err := hsm.GenerateKey(t.Context(), config, 2048)
		wantError(t, err, hsm.ErrKeyExists, fault.TokenUnavailable, token.Config.KeyLabel, token.Config.KeyID)
	}
	half := token.Config
	half.KeyLabel, half.KeyID = "half", "0304" // of a key without a public half, which crypto11 does not see
	importKey(t, token, newRSA(t, 2048), half.KeyLabel, []byte{3, 4})
	_, err := hsm.GenerateKey(t.Context(), half, 2048)
	wantError(t, err, hsm.ErrKeyExists, fault.TokenUnavailable, "half", "0304")
	public, err := hsm.PublicKey(t.Context(), token.Config)
	if err != nil || !public.Equal(token.Public) {
		t.Errorf("got another key (%v) than before", err)
	}
}

func TestGenerateKeyRefusesWhatItShould(t *testing.T) {
	token := softhsmtest.Shared(t)
	fresh := token.Config
	fresh.KeyLabel, fresh.KeyID = "fresh", "0102"
	nameless := fresh
	nameless.KeyID = ""
	for _, row := range []struct {
		name   string
		config hsm.Config
		bits   int
		words  string
	}{
		{"1024 bits", fresh, 1024, "1024 bits"},
		{"2047 bits", fresh, 2047, "2047 bits"},
		{"no ID", nameless, 2048, "a label and an ID"},
	} {
		_, err := hsm.GenerateKey(t.Context(), row.config, row.bits)
		wantError(t, err, err, fault.TokenUnavailable, row.words)
	}
	_, open := faultyToken(t, token)
	_, err := hsm.GenerateKey(t.Context(), fresh, 2048)
	wantError(t, err, err, fault.TokenUnavailable, "open already")
	signs(t, open, token.Public)
	closeToken(t, open)
}

// TestGeneratedKeySignsAndNothingElse asks the token itself for the attributes.
func TestGeneratedKeySignsAndNothingElse(t *testing.T) {
	token := softhsmtest.Shared(t)
	yes, no := []byte{1}, []byte{0}
	raw(t, token, func(p11 *pkcs11.Ctx, slot uint) {
		session := loggedIn(t, p11, slot, token)
		for class, want := range map[uint]map[uint][]byte{
			pkcs11.CKO_PRIVATE_KEY: {
				pkcs11.CKA_TOKEN: yes, pkcs11.CKA_PRIVATE: yes, pkcs11.CKA_LOCAL: yes,
				pkcs11.CKA_SENSITIVE: yes, pkcs11.CKA_ALWAYS_SENSITIVE: yes,
				pkcs11.CKA_EXTRACTABLE: no, pkcs11.CKA_NEVER_EXTRACTABLE: yes,
				pkcs11.CKA_SIGN: yes, pkcs11.CKA_SIGN_RECOVER: no, pkcs11.CKA_DECRYPT: no,
				pkcs11.CKA_UNWRAP: no, pkcs11.CKA_DERIVE: no,
			},
			pkcs11.CKO_PUBLIC_KEY: {
				pkcs11.CKA_TOKEN: yes, pkcs11.CKA_PRIVATE: no, pkcs11.CKA_VERIFY: yes,
				pkcs11.CKA_VERIFY_RECOVER: no, pkcs11.CKA_ENCRYPT: no, pkcs11.CKA_WRAP: no,
				pkcs11.CKA_MODULUS: token.Public.N.Bytes(), pkcs11.CKA_PUBLIC_EXPONENT: {1, 0, 1},
			},
		} {
			if err := p11.FindObjectsInit(session, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
				pkcs11.NewAttribute(pkcs11.CKA_LABEL, token.Config.KeyLabel),
			}); err != nil {
				t.Fatal(err)
			}
			found, _, err := p11.FindObjects(session, 2)
			if err != nil || len(found) != 1 {
				t.Fatalf("got %d objects of class %d (%v), want 1", len(found), class, err)
			}
			if err := p11.FindObjectsFinal(session); err != nil {
				t.Fatal(err)
			}
			for attribute, value := range want {
				got, err := p11.GetAttributeValue(session, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
				if err != nil {
					t.Errorf("class %d attribute 0x%X: %v", class, attribute, err)
				} else if !bytes.Equal(got[0].Value, value) {
					t.Errorf("class %d attribute 0x%X: got %x, want %x", class, attribute, got[0].Value, value)
				}
			}
		}
	})
}

// TestForeignJudgeSeesTheKey: what OpenSC's tool says of the key.
func TestForeignJudgeSeesTheKey(t *testing.T) {
	token := softhsmtest.Shared(t)
	tool, err := exec.LookPath("pkcs11-tool")
	if err != nil {
		t.Fatal("pkcs11-tool is missing: apt-get install opensc")
	}
	pin := strings.TrimSpace(readFile(t, token.Config.PINFile))
	command := exec.CommandContext(t.Context(), tool, "--module", token.Config.Module, "--token-label", token.Config.TokenLabel,
		"--login", "--pin", "env:TEST_PIN", "--list-objects", "--type", "privkey")
	command.Env = []string{"TEST_PIN=" + pin, "SOFTHSM2_CONF=" + token.Config.Environment["SOFTHSM2_CONF"]}
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"label:      " + token.Config.KeyLabel + "\n",
		"ID:         " + token.Config.KeyID + "\n",
		"Usage:      sign\n",
		"Access:     sensitive, always sensitive, never extractable, local\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got %q, want it to say %q", out, want)
		}
	}
	if strings.Count(string(out), "Private Key Object") != 1 {
		t.Errorf("got %q, want one private key", out)
	}
}
