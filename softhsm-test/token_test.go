package softhsmtest_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

func TestTwoTokensServeAtOnce(t *testing.T) {
	for range 2 {
		token := softhsmtest.New(t)
		open, err := hsm.Open(t.Context(), token.Config, token.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := open.Close(context.Background()); err != nil {
				t.Errorf("closing: %v", err)
			}
		}()
		digest := sha256.Sum256([]byte(t.Name()))
		signature, err := open.SignDigest(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(token.Public, crypto.SHA256, digest[:], signature); err != nil {
			t.Errorf("got a signature that does not verify: %v", err)
		}
	}
}
