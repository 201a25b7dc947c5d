// Package softhsmtest makes throw-away SoftHSM2 tokens for tests.
//
// It is imported by tests only. It never skips: a machine without SoftHSM2 fails
// the test, saying what to install.
//
// The one idea: a copy of the SoftHSM2 library under another path is a module of
// its own, with its own C_Initialize and its own configuration. Each token gets
// a copy, so that a test may have several at once, as if they were several HSMs.
package softhsmtest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
)

// Token is a throw-away token with one RSA key, generated inside it.
type Token struct {
	// Config is ready for [hsm.Open]. Nobody has the module open. Its label, key
	// label and key ID are those of the one token and the one key.
	Config hsm.Config
	// Public is the key's public half.
	Public *rsa.PublicKey
	// Certificate is one of LHDN's profile for the key; see [Certificate].
	Certificate *x509.Certificate
	// Serial is the token's serial number.
	Serial string
	// Dir holds all that the token consists of. It goes with the test.
	Dir string
}

// New makes a token with an RSA-2048 key.
func New(t testing.TB) *Token {
	t.Helper()
	return NewBits(t, 2048)
}

// NewBits makes a token with an RSA key of 2048, 3072 or 4096 bits.
func NewBits(t testing.TB, bits int) *Token {
	t.Helper()
	token := Empty(t)
	pin := readPIN(t, token.Config.PINFile)
	serial, err := hsm.InitToken(context.Background(), token.Config, pin, pin)
	check(t, err)
	public, err := hsm.GenerateKey(context.Background(), token.Config, bits)
	check(t, err)
	token.Serial, token.Public, token.Certificate = serial, public, Certificate(t, public)
	return token
}

// Empty makes a module without a token in it: its configuration, its PIN file
// and the names that [hsm.InitToken] and [hsm.GenerateKey] shall use. Public and Certificate
// are nil.
func Empty(t testing.TB) *Token {
	t.Helper()
	dir := t.TempDir()
	module := filepath.Join(dir, "libsofthsm2.so")
	library, err := os.ReadFile(Library(t))
	check(t, err)
	check(t, os.WriteFile(module, library, 0o600))
	tokens := filepath.Join(dir, "tokens")
	check(t, os.Mkdir(tokens, 0o700))
	conf := filepath.Join(dir, "softhsm2.conf")
	check(t, os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens), 0o600))
	pin := filepath.Join(dir, "pin")
	check(t, os.WriteFile(pin, []byte(random(8)+"\n"), 0o600))
	return &Token{
		Config: hsm.Config{
			Module:      module,
			Environment: map[string]string{"SOFTHSM2_CONF": conf},
			TokenLabel:  "roamsign-test",
			PINFile:     pin,
			KeyLabel:    "signing",
			KeyID:       random(8),
			Sessions:    3, // on any machine: drills count them
		},
		Dir: dir,
	}
}

// Library returns the path of SoftHSM2's library, which Debian's softhsm2
// installs. It fails the test when there is none.
func Library(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("SoftHSM2 is missing: apt-get install softhsm2")
	return ""
}

// Certificate returns a certificate of LHDN's profile for the key, valid now,
// under an authority made up for this run.
func Certificate(t testing.TB, public *rsa.PublicKey) *x509.Certificate {
	t.Helper()
	authority, err := authority()
	check(t, err)
	certificate, err := authority.Signing(ca.Organization{
		Country: "MY", Name: "Contoh Sdn. Bhd.", TIN: "C20880050010", Unit: "Test", CommonName: "Contoh Sdn. Bhd.", BRN: "202001234567",
	}, public, around(24*time.Hour))
	check(t, err)
	return certificate
}

// authority is made once a run: its RSA key is slow to find.
var authority = sync.OnceValues(func() (*ca.Authority, error) {
	return ca.New("roamsign tests, NOT FOR SUBMISSION", ca.RSA, around(48*time.Hour))
})

func around(span time.Duration) ca.Validity {
	now := time.Now()
	return ca.Validity{NotBefore: now.Add(-span), NotAfter: now.Add(span)}
}

func readPIN(t testing.TB, path string) hsm.PIN {
	t.Helper()
	pin, err := hsm.ReadPIN(path)
	check(t, err)
	t.Cleanup(pin.Wipe)
	return pin
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
