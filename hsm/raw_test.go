package hsm_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

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

// initialise makes the token that the configuration names.
func initialise(t *testing.T, token *softhsmtest.Token) {
	t.Helper()
	pin, err := hsm.ReadPIN(token.Config.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	defer pin.Wipe()
	if _, err := hsm.InitToken(t.Context(), token.Config, pin, pin); err != nil {
		t.Fatal(err)
	}
}

// newRSA has openssl make a key: the race detector slows our own search for primes.
func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	openssl(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", fmt.Sprintf("rsa_keygen_bits:%d", bits), "-out", file)
	block, _ := pem.Decode([]byte(readFile(t, file)))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

// importKey puts a private key into the token, as no code of this package does.
func importKey(t *testing.T, token *softhsmtest.Token, key *rsa.PrivateKey, label string, id []byte) {
	t.Helper()
	raw(t, token, func(p11 *pkcs11.Ctx, slot uint) { createKey(t, p11, loggedIn(t, p11, slot, token), key, label, id) })
}

func createKey(t *testing.T, p11 *pkcs11.Ctx, session pkcs11.SessionHandle, key *rsa.PrivateKey, label string, id []byte) {
	t.Helper()
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

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
