package hsm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestPINComesFromASystemdCredential: systemd shows the access list that lets a
// service read its credential as read permission of the group.
func TestPINComesFromASystemdCredential(t *testing.T) {
	token := softhsmtest.Shared(t)
	folder := t.TempDir()
	pin := filepath.Join(folder, "pin")
	if err := os.WriteFile(pin, []byte(readFile(t, token.Config.PINFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, folder, path string
		mode               os.FileMode
		words              string // "" where it is read
	}{
		{"as the service sees it", folder, "$CREDENTIALS_DIRECTORY/pin", 0o440, ""},
		{"as root sees it", folder, "$CREDENTIALS_DIRECTORY/pin", 0o400, ""},
		{"for all to read", folder, "$CREDENTIALS_DIRECTORY/pin", 0o444, "chmod 600"},
		{"for the group to write", folder, "$CREDENTIALS_DIRECTORY/pin", 0o460, "chmod 600"},
		{"outside systemd", "", "$CREDENTIALS_DIRECTORY/pin", 0o400, "LoadCredentialEncrypted=pin"},
		{"outside the folder", folder, "$CREDENTIALS_DIRECTORY/../pin", 0o400, "want the name of a credential"},
		{"in a folder below", folder, "$CREDENTIALS_DIRECTORY/a/pin", 0o400, "want the name of a credential"},
		{"a file of the same mode that is none", folder, pin, 0o440, "chmod 600"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", row.folder)
			if err := os.Chmod(pin, row.mode); err != nil {
				t.Fatal(err)
			}
			config := token.Config
			config.PINFile = row.path
			_, err := hsm.PublicKey(t.Context(), config)
			if row.words == "" && err != nil || row.words != "" && (err == nil || !strings.Contains(err.Error(), row.words)) {
				t.Errorf("got error %v, want one that says %q", err, row.words)
			}
		})
	}
}

// TestATypedPINTakesTheFilesPlace: the whole ceremony works without a PIN file.
func TestATypedPINTakesTheFilesPlace(t *testing.T) {
	token := softhsmtest.Shared(t)
	typed := token.Config
	typed.PINFile = ""
	pin, err := hsm.ReadPIN(token.Config.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	public, err := hsm.PublicKey(t.Context(), typed.WithPIN(pin))
	if err != nil || !public.Equal(token.Public) {
		t.Fatalf("got %v, want the token's key", err)
	}
	fresh := typed.WithPIN(pin)
	fresh.KeyLabel, fresh.KeyID = "fresh", "0102"
	if _, err := hsm.GenerateKey(t.Context(), fresh, 2048); err != nil {
		t.Errorf("the PIN is good for one login only: %v", err)
	}
	_, err = hsm.PublicKey(t.Context(), typed.WithPIN(hsm.NewPIN([]byte("not it"))))
	wantError(t, err, hsm.ErrPINIncorrect, fault.TokenUnavailable, "the PIN that was typed; it was tried once")
	_, err = hsm.PublicKey(t.Context(), typed.WithPIN(hsm.PIN{}))
	wantError(t, err, err, fault.TokenUnavailable, "pin_file: missing")
}
