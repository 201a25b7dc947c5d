package softhsmtest_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestEveryModuleKeepsTheContract: the same claims about hsm hold over every
// module that we can run.
func TestEveryModuleKeepsTheContract(t *testing.T) {
	soft := softhsmtest.New(t)
	t.Run("SoftHSM2", func(t *testing.T) { contract(t, soft) })
	t.Run("SoftHSM2 through the shim", func(t *testing.T) { contract(t, softhsmtest.NewShim(t, soft).Token) })
	t.Run("SoftHSM2 behind p11-kit", func(t *testing.T) { contract(t, softhsmtest.NewRemote(t, soft).Token) })
}

func TestOpenCryptokiKeepsTheContract(t *testing.T) {
	if softhsmtest.Secluded(t) {
		contract(t, softhsmtest.OpenCryptoki(t))
	}
}

// contract is what a token is to do, whatever its module.
func contract(t *testing.T, token *softhsmtest.Token) {
	for _, claim := range []struct {
		name  string
		holds func(*testing.T, *softhsmtest.Token)
	}{
		{"it signs what the certificate's key verifies", claimSigns},
		{"it signs for many at once", claimSignsForMany},
		{"it finds the key by label, by ID, and by both", claimFindsTheKey},
		{"it knows another key's certificate", claimKnowsAnotherCertificate},
		{"it finds no key of another name", claimFindsNoOtherKey},
		{"it refuses a wrong PIN once and takes the right one then", claimRefusesAWrongPIN},
		{"it is open once in a process", claimOpensOnce},
		{"it lets callers leave", claimLetsCallersLeave},
		{"it is closed and opened again", claimReopens},
	} {
		t.Run(claim.name, func(t *testing.T) { claim.holds(t, token) })
	}
}

func claimSigns(t *testing.T, token *softhsmtest.Token) {
	open := opens(t, token)
	signs(t, open, token)
	if err := open.Ready(); err != nil {
		t.Errorf("got %v, want ready", err)
	}
}

func claimSignsForMany(t *testing.T, token *softhsmtest.Token) {
	open := opens(t, token)
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for range 10 {
				signs(t, open, token)
			}
		})
	}
	callers.Wait()
	if got := open.Abandoned(); got != 0 {
		t.Errorf("got %d abandoned calls, want none", got)
	}
}

func claimFindsTheKey(t *testing.T, token *softhsmtest.Token) {
	for name, change := range map[string]func(*hsm.Config){
		"label":    func(c *hsm.Config) { c.KeyID = "" },
		"ID":       func(c *hsm.Config) { c.KeyLabel = "" },
		"both":     func(*hsm.Config) {},
		"in upper": func(c *hsm.Config) { c.KeyLabel, c.KeyID = "", strings.ToUpper(c.KeyID) },
	} {
		t.Run(name, func(t *testing.T) {
			changed := *token
			change(&changed.Config)
			signs(t, opens(t, &changed), token)
		})
	}
}

func claimKnowsAnotherCertificate(t *testing.T, token *softhsmtest.Token) {
	changed := *token
	changed.Certificate = softhsmtest.Certificate(t, foreignKey(token))
	refuses(t, &changed, hsm.ErrKeyMismatch)
}

// foreignKey is another key than the token's: its modulus differs by a bit.
func foreignKey(token *softhsmtest.Token) *rsa.PublicKey {
	modulus := new(big.Int).Set(token.Public.N)
	return &rsa.PublicKey{N: modulus.SetBit(modulus, 100, modulus.Bit(100)^1), E: token.Public.E}
}

func claimFindsNoOtherKey(t *testing.T, token *softhsmtest.Token) {
	for name, change := range map[string]func(*hsm.Config){
		"label": func(c *hsm.Config) { c.KeyLabel = "other" },
		"ID":    func(c *hsm.Config) { c.KeyID = "0102030405060708" },
	} {
		t.Run(name, func(t *testing.T) {
			changed := *token
			change(&changed.Config)
			refuses(t, &changed, hsm.ErrNoKey)
		})
	}
	changed := *token
	changed.Config.TokenLabel = "other"
	refuses(t, &changed, hsm.ErrNoToken)
}

func claimRefusesAWrongPIN(t *testing.T, token *softhsmtest.Token) {
	changed := *token
	changed.Config.PINFile = write(t, filepath.Join(t.TempDir(), "pin"), []byte("1"+string(read(t, token.Config.PINFile)[1:])))
	if string(read(t, token.Config.PINFile)) == string(read(t, changed.Config.PINFile)) {
		check(t, os.WriteFile(changed.Config.PINFile, []byte("2"+string(read(t, token.Config.PINFile)[1:])), 0o600))
	}
	refuses(t, &changed, hsm.ErrPINIncorrect)
	signs(t, opens(t, token), token)
}

func claimOpensOnce(t *testing.T, token *softhsmtest.Token) {
	open := opens(t, token)
	if second, err := hsm.Open(t.Context(), token.Config, token.Certificate); err == nil {
		t.Error("the token opened twice")
		closes(t, second)
	}
	signs(t, open, token)
}

func claimLetsCallersLeave(t *testing.T, token *softhsmtest.Token) {
	open := opens(t, token)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open.SignDigest(ctx, randomDigest()); fault.Of(err) != fault.Canceled {
		t.Errorf("got %v, want an error of kind %v", err, fault.Canceled)
	}
	var callers sync.WaitGroup
	for i := range 64 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			digest := randomDigest()
			signature, err := open.SignDigest(ctx, digest)
			if err == nil {
				verifiesSignature(t, token, digest, signature)
			} else if fault.Of(err) != fault.DeadlineExceeded {
				t.Errorf("got %v, want an error of kind %v", err, fault.DeadlineExceeded)
			}
		})
	}
	callers.Wait()
	signs(t, open, token)
	until(t, "no call is abandoned any more", 10*time.Second, func() bool { return open.Abandoned() == 0 })
}

func claimReopens(t *testing.T, token *softhsmtest.Token) {
	for range 3 {
		open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
		check(t, err)
		signs(t, open, token)
		closes(t, open)
		if _, err := open.SignDigest(t.Context(), randomDigest()); !errors.Is(err, hsm.ErrClosed) {
			t.Errorf("got %v, want %v", err, hsm.ErrClosed)
		}
	}
}

// opens opens the token until the end of the test.
func opens(t *testing.T, token *softhsmtest.Token) *hsm.Token {
	t.Helper()
	open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	check(t, err)
	t.Cleanup(func() { closes(t, open) })
	return open
}

func closes(t *testing.T, open *hsm.Token) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := open.Close(ctx); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// refuses fails the test unless opening the token gives the error.
func refuses(t *testing.T, token *softhsmtest.Token, want error) {
	t.Helper()
	open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if err == nil {
		closes(t, open)
	}
}

// signs fails the test unless the token signs a random digest, and rightly.
func signs(t *testing.T, open *hsm.Token, token *softhsmtest.Token) {
	t.Helper()
	digest := randomDigest()
	signature, err := open.SignDigest(t.Context(), digest)
	if err != nil {
		t.Error(err)
		return
	}
	verifiesSignature(t, token, digest, signature)
}

func verifiesSignature(t *testing.T, token *softhsmtest.Token, digest [sha256.Size]byte, signature []byte) {
	t.Helper()
	if err := rsa.VerifyPKCS1v15(token.Public, crypto.SHA256, digest[:], signature); err != nil {
		t.Errorf("got a wrong signature: %v", err)
	}
}

func randomDigest() (digest [sha256.Size]byte) {
	_, _ = rand.Read(digest[:]) // never fails
	return digest
}

// until waits for something to be so, and fails the test if it takes too long.
func until(t *testing.T, what string, atMost time.Duration, so func() bool) {
	t.Helper()
	if !within(t.Context(), atMost, so) {
		t.Errorf("after %v it is not so that %s", atMost, what)
	}
}

// within reports whether something becomes so in that time.
func within(ctx context.Context, atMost time.Duration, so func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	ask := time.NewTicker(5 * time.Millisecond)
	defer ask.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return so()
		case <-ask.C:
		}
	}
	return true
}
