package hsm_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestOpenSaysWhatIsWrong: one clear line, and nothing stays open: the right
// configuration works afterwards.
func TestOpenSaysWhatIsWrong(t *testing.T) {
	token := softhsmtest.New(t)
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

// serial asks the module for the token's serial number, without this package.
func serial(t *testing.T, token *softhsmtest.Token) string {
	t.Helper()
	var found string
	raw(t, token, func(p11 *pkcs11.Ctx, slot uint) {
		info, err := p11.GetTokenInfo(slot)
		if err != nil {
			t.Fatal(err)
		}
		found = info.SerialNumber
	})
	return found
}

// raw lets f work with the token's slot through the wrapper alone.
func raw(t testing.TB, token *softhsmtest.Token, f func(p11 *pkcs11.Ctx, slot uint)) {
	t.Helper()
	for name, value := range token.Config.Environment {
		t.Setenv(name, value)
	}
	p11 := pkcs11.New(token.Config.Module)
	if p11 == nil {
		t.Fatal("the module does not load")
	}
	defer p11.Destroy()
	if err := p11.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p11.Finalize(); err != nil {
			t.Error(err)
		}
	}()
	ids, err := p11.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if info, err := p11.GetTokenInfo(id); err == nil && info.Label == token.Config.TokenLabel {
			f(p11, id)
			return
		}
	}
	t.Fatal("the token is not there")
}

func TestTokenIsFoundBySerialAndThroughALink(t *testing.T) {
	token := softhsmtest.New(t)
	token.Config.TokenSerial, token.Config.TokenLabel = serial(t, token), ""
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
	token := softhsmtest.New(t)
	twin := *token
	twin.Config.TokenLabel = "twin"
	pin, err := hsm.ReadPIN(token.Config.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	defer pin.Wipe()
	if _, err := hsm.InitToken(t.Context(), twin.Config, pin, pin); err != nil {
		t.Fatal(err)
	}
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
	token := softhsmtest.New(t)
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

func TestAmbiguousKeyListsKeys(t *testing.T) {
	token := softhsmtest.New(t)
	importKey(t, token, newRSA(t), token.Config.KeyLabel, []byte{0xAB})
	config := token.Config
	config.KeyID = ""
	_, err := hsm.Open(t.Context(), config, token.Certificate)
	wantError(t, err, hsm.ErrNoKey, fault.TokenUnavailable, "2 keys", token.Config.KeyID, `ID "ab"`)
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// importKey puts a private key into the token, as no code of this package does.
func importKey(t *testing.T, token *softhsmtest.Token, key *rsa.PrivateKey, label string, id []byte) {
	t.Helper()
	raw(t, token, func(p11 *pkcs11.Ctx, slot uint) {
		session := loggedIn(t, p11, slot, token)
		_, err := p11.CreateObject(session, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id),
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS, key.N.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE_EXPONENT, key.D.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PRIME_1, key.Primes[0].Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PRIME_2, key.Primes[1].Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_1, key.Precomputed.Dp.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_2, key.Precomputed.Dq.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_COEFFICIENT, key.Precomputed.Qinv.Bytes()),
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// loggedIn opens a session with the user logged in.
func loggedIn(t testing.TB, p11 *pkcs11.Ctx, slot uint, token *softhsmtest.Token) pkcs11.SessionHandle {
	t.Helper()
	session, err := p11.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := p11.Login(session, pkcs11.CKU_USER, strings.TrimSpace(readFile(t, token.Config.PINFile))); err != nil {
		t.Fatal(err)
	}
	return session
}

func TestKeyOfAnotherCertificateIsRefused(t *testing.T) {
	token := softhsmtest.New(t)
	other := softhsmtest.Certificate(t, &newRSA(t).PublicKey)
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
	token := softhsmtest.New(t)
	liar := newRSA(t)
	liar.N = token.Public.N
	importKey(t, token, liar, "liar", []byte{1})
	token.Config.KeyLabel, token.Config.KeyID = "liar", ""
	_, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	wantError(t, err, hsm.ErrKeyMismatch, fault.TokenUnavailable, "probe")
}

func TestTokenWithoutAnExponentToShowIsProvenByTheProbe(t *testing.T) {
	token := softhsmtest.New(t)
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

func TestSlotsThatErrArePassedOver(t *testing.T) {
	token := softhsmtest.New(t)
	f := newFaulty(t, map[string]mishap{"GetTokenInfo": func(n int, do func() error) error {
		if n > 1 { // the second slot is the empty one
			return errors.Join(do(), pkcs11.Error(pkcs11.CKR_TOKEN_NOT_RECOGNIZED))
		}
		return do()
	}})
	_, err := f.opens(t.Context(), token)
	wantError(t, err, pkcs11.Error(pkcs11.CKR_TOKEN_NOT_RECOGNIZED), fault.TokenUnavailable, "logging in")
	f.set("GetTokenInfo", nil)
	if f.count("Finalize") != 1 {
		t.Error("the module was left initialised")
	}
}

func TestOpenWantsNoMoreSessionsThanTheTokenAllows(t *testing.T) {
	token := softhsmtest.New(t)
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

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
