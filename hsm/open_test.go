package hsm_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestOpenSaysWhatIsWrong: one clear line, and nothing stays open: the right
// configuration works afterwards.
func TestOpenSaysWhatIsWrong(t *testing.T) {
	token := softhsmtest.Shared(t)
	tokenSerial := serial(t, token)
	path := func(name string) string { return filepath.Join(token.Dir, name) }
	write := func(name, text string, mode fs.FileMode) string {
		if err := os.WriteFile(path(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	for _, row := range []struct {
		name     string
		change   func(*hsm.Config)
		sentinel error
		words    []string
	}{
		{"no module", func(c *hsm.Config) { c.Module = path("nothing.so") }, hsm.ErrModule, []string{"nothing.so", "no such file"}},
		{"a module that is a folder", func(c *hsm.Config) { c.Module = token.Dir }, hsm.ErrModule, []string{"not a regular file"}},
		{"a module that is text", func(c *hsm.Config) { c.Module = write("text.so", "text", 0o600) }, hsm.ErrModule, []string{"not a library"}},
		{"no SoftHSM configuration", func(c *hsm.Config) { c.Environment = conf(path("nothing.conf")) }, hsm.ErrModule, []string{"SOFTHSM2_CONF", "nothing.conf"}},
		{"no SoftHSM token folder", func(c *hsm.Config) {
			c.Environment = conf(write("folderless.conf", "directories.tokendir = "+path("nowhere")+"\n", 0o600))
		}, hsm.ErrModule, []string{"directories.tokendir", "nowhere"}},
		{"a SoftHSM configuration without a folder", func(c *hsm.Config) {
			c.Environment = conf(write("empty.conf", "# nothing\n", 0o600))
		}, hsm.ErrModule, []string{"no directories.tokendir"}},
		{"no such label", func(c *hsm.Config) { c.TokenLabel = "other" }, hsm.ErrNoToken, []string{`"other"`, `label "roamsign-test"`, tokenSerial}},
		{"no such serial", func(c *hsm.Config) { c.TokenSerial = "0123456789abcdef" }, hsm.ErrNoToken, []string{"0123456789abcdef", tokenSerial}},
		{"no such key label", func(c *hsm.Config) { c.KeyLabel = "other" }, hsm.ErrNoKey, []string{`"other"`, `label "signing" ID "` + token.Config.KeyID}},
		{"no such key ID", func(c *hsm.Config) { c.KeyID = "00" }, hsm.ErrNoKey, []string{`"00"`, `label "signing"`}},
		{"a PIN file for all to read", func(c *hsm.Config) { c.PINFile = write("public", "1234", 0o644) }, nil, []string{"pin_file", "chmod 600"}},
		{"no PIN file", func(c *hsm.Config) { c.PINFile = path("nothing") }, fs.ErrNotExist, []string{"pin_file", "nothing"}},
		{"an empty PIN file", func(c *hsm.Config) { c.PINFile = write("void", "\n", 0o600) }, nil, []string{"1 to 255 bytes"}},
		{"a wrong PIN", func(c *hsm.Config) { c.PINFile = write("wrong", "wrong", 0o600) }, hsm.ErrPINIncorrect, []string{"tried once"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := token.Config
			row.change(&config)
			_, err := hsm.Open(t.Context(), config, token.Certificate)
			if row.sentinel == nil {
				row.sentinel = err
			}
			wantError(t, err, row.sentinel, fault.TokenUnavailable, append(row.words, "opening token")...)
		})
	}
	open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	defer closeToken(t, open)
	signs(t, open, token.Public)
}

func conf(path string) map[string]string { return map[string]string{"SOFTHSM2_CONF": path} }

func TestTokenIsFoundBySerialAndThroughALink(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.TokenSerial, token.Config.TokenLabel = serial(t, token), ""
	t.Chdir(token.Dir)
	token.Config.Module = filepath.Base(token.Config.Module) // which dlopen would look for elsewhere
	open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	defer closeToken(t, open)

	link := filepath.Join(token.Dir, "link.so")
	if err := os.Symlink(token.Config.Module, link); err != nil {
		t.Fatal(err)
	}
	linked := token.Config
	linked.Module = link
	_, err = hsm.Open(t.Context(), linked, token.Certificate)
	wantError(t, err, err, fault.TokenUnavailable, "open already in this process")
	linked.Environment = nil
	_, err = hsm.Open(t.Context(), linked, token.Certificate)
	wantError(t, err, hsm.ErrModule, fault.TokenUnavailable, "another environment")
	signs(t, open, token.Public)
}

func TestTwoTokensOfOneModule(t *testing.T) {
	token := softhsmtest.Shared(t)
	twin := *token
	twin.Config.TokenLabel = "twin"
	initialise(t, &twin)
	var err error
	twin.Public, err = hsm.GenerateKey(t.Context(), twin.Config, 2048)
	if err != nil {
		t.Fatal(err)
	}
	first, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	second, err := hsm.Open(t.Context(), twin.Config, softhsmtest.Certificate(t, twin.Public))
	if err != nil {
		t.Fatal(err)
	}
	signs(t, first, token.Public)
	signs(t, second, twin.Public)
	closeToken(t, first)
	signs(t, second, twin.Public)
	closeToken(t, second)
}

func TestAmbiguousLabelListsSerials(t *testing.T) {
	token := softhsmtest.Shared(t)
	first := serial(t, token)
	var second string
	raw(t, token, func(p11 *pkcs11.Ctx, _ uint) {
		ids, err := p11.GetSlotList(true)
		if err != nil {
			t.Fatal(err)
		}
		free := ids[len(ids)-1]
		if err := p11.InitToken(free, "12345678", token.Config.TokenLabel); err != nil {
			t.Fatal(err)
		}
		info, err := p11.GetTokenInfo(free)
		if err != nil {
			t.Fatal(err)
		}
		second = info.SerialNumber
	})
	_, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	wantError(t, err, hsm.ErrNoToken, fault.TokenUnavailable, "2 tokens", first, second)
	token.Config.TokenSerial = first
	open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	closeToken(t, open)
}

// TestAmbiguousKeyListsKeys: the ceremony knows no certificate that would tell.
func TestAmbiguousKeyListsKeys(t *testing.T) {
	token := softhsmtest.Shared(t)
	importKey(t, token, newRSA(t, 2048), token.Config.KeyLabel, []byte{0xAB})
	config := token.Config
	config.KeyID = ""
	_, err := hsm.PublicKey(t.Context(), config)
	wantError(t, err, hsm.ErrNoKey, fault.TokenUnavailable, "2 keys", token.Config.KeyID, `ID "ab"`)
}

func TestKeyOfAnotherCertificateIsRefused(t *testing.T) {
	token := softhsmtest.Shared(t)
	other := softhsmtest.Certificate(t, &newRSA(t, 2048).PublicKey)
	_, err := hsm.Open(t.Context(), token.Config, other)
	wantError(t, err, hsm.ErrKeyMismatch, fault.TokenUnavailable, "another modulus")
	_, err = hsm.Open(t.Context(), token.Config, nil)
	if err == nil {
		t.Error("got a token without a certificate")
	}
}

// TestKeyThatOnlyClaimsTheModulusIsRefused: the modulus says that it is the
// certificate's key, its private half is another's. The probe tells.
func TestKeyThatOnlyClaimsTheModulusIsRefused(t *testing.T) {
	token := softhsmtest.Shared(t)
	liar := newRSA(t, 2048)
	liar.N = token.Public.N
	importKey(t, token, liar, "liar", []byte{1})
	token.Config.KeyLabel, token.Config.KeyID = "liar", ""
	_, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	wantError(t, err, hsm.ErrKeyMismatch, fault.TokenUnavailable, "probe")
}

func TestTokenWithoutAnExponentToShowIsProvenByTheProbe(t *testing.T) {
	token := softhsmtest.Shared(t)
	f := newFaulty(t, map[string]mishap{"GetAttributeValue": func(n int, do func() error) error {
		if n == 2 {
			return pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
		}
		return do()
	}})
	open, err := f.opens(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	closeToken(t, open)
}

// TestOpenTellsWhatTheModuleSaid and leaves nothing behind, which the faulty
// module looks for.
func TestOpenTellsWhatTheModuleSaid(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.Sessions = 2
	for _, row := range []struct {
		function string
		call     int
		rv       uint
		sentinel error
		words    string
	}{
		{"Initialize", 1, pkcs11.CKR_GENERAL_ERROR, hsm.ErrModule, "SOFTHSM2_CONF"},
		{"Initialize", 1, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED, hsm.ErrModule, "somebody else in this process"},
		{"OpenSession", 1, pkcs11.CKR_SESSION_COUNT, pkcs11.Error(pkcs11.CKR_SESSION_COUNT), "C_OpenSession"},
		{"OpenSession", 2, pkcs11.CKR_SESSION_COUNT, pkcs11.Error(pkcs11.CKR_SESSION_COUNT), "opening session 1 of 2"},
		{"OpenSession", 3, pkcs11.CKR_DEVICE_MEMORY, pkcs11.Error(pkcs11.CKR_DEVICE_MEMORY), "opening session 2 of 2"},
		{"Login", 1, pkcs11.CKR_PIN_LOCKED, hsm.ErrPINLocked, "security officer"},
		{"Login", 1, pkcs11.CKR_PIN_EXPIRED, pkcs11.Error(pkcs11.CKR_PIN_EXPIRED), "must be changed"},
		{"FindObjectsInit", 1, pkcs11.CKR_DEVICE_ERROR, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), "C_FindObjectsInit"},
		{"GetAttributeValue", 1, pkcs11.CKR_DEVICE_ERROR, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), "CKA_MODULUS"},
		{"Sign", 1, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.Error(pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED), "signing a probe"},
	} {
		f := newFaulty(t, map[string]mishap{row.function: func(n int, do func() error) error {
			if n == row.call {
				return pkcs11.Error(row.rv)
			}
			return do()
		}})
		_, err := f.opens(t.Context(), token)
		wantError(t, err, row.sentinel, fault.TokenUnavailable, "opening token", row.words)
	}
}

func TestSlotsThatErrArePassedOver(t *testing.T) {
	token := softhsmtest.Shared(t)
	twin := *token
	twin.Config.TokenLabel = "twin" // in the second slot, before the free one
	initialise(t, &twin)
	f := newFaulty(t, nil)
	f.broken = token.Config.TokenLabel
	_, err := f.opens(t.Context(), token)
	wantError(t, err, hsm.ErrNoToken, fault.TokenUnavailable, `label "twin"`, "CKR_TOKEN_NOT_RECOGNIZED")
	f = newFaulty(t, nil)
	f.broken = token.Config.TokenLabel
	_, err = f.opens(t.Context(), &twin)
	wantError(t, err, hsm.ErrNoKey, fault.TokenUnavailable, "no RSA private key") // found, and logged in
}

func TestOpenWantsNoMoreSessionsThanTheTokenAllows(t *testing.T) {
	token := softhsmtest.Shared(t)
	for _, row := range []struct {
		limit uint
		want  int // 0: refused
	}{{0, 5}, {pkcs11.CK_UNAVAILABLE_INFORMATION, 5}, {100, 5}, {6, 5}, {4, 3}, {2, 1}, {1, 0}} {
		token.Config.Sessions = 5
		f := newFaulty(t, nil)
		f.limit = row.limit
		open, err := f.opens(context.Background(), token)
		switch {
		case row.want == 0 && err == nil:
			t.Errorf("limit %d: got a token, want a refusal", row.limit)
		case row.want > 0 && err != nil:
			t.Errorf("limit %d: %v", row.limit, err)
		case err == nil && open.Sessions() != row.want:
			t.Errorf("limit %d: got %d sessions, want %d", row.limit, open.Sessions(), row.want)
		}
		if err == nil {
			closeToken(t, open)
		}
	}
}
