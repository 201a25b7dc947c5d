package hsm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestPINIsTriedAtMostOnce: the token's flags are read first, a wrong PIN is
// tried once, and the error says what the flags tell then.
func TestPINIsTriedAtMostOnce(t *testing.T) {
	token := softhsmtest.Shared(t)
	token.Config.PINFile = filepath.Join(token.Dir, "wrong")
	if err := os.WriteFile(token.Config.PINFile, []byte("geheim"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		none   = uint(0)
		low    = pkcs11.CKF_USER_PIN_COUNT_LOW
		final  = pkcs11.CKF_USER_PIN_FINAL_TRY
		locked = pkcs11.CKF_USER_PIN_LOCKED
	)
	for _, row := range []struct {
		name          string
		before, after uint
		tries         int
		sentinel      error
		words         string
	}{
		{"locked already", locked, locked, 0, hsm.ErrPINLocked, "is locked"},
		{"one try left", final | low, locked, 0, hsm.ErrPINLocked, "none was tried"},
		{"the first wrong try", none, low, 1, hsm.ErrPINIncorrect, "first wrong try"},
		{"not the first wrong try", low, low, 1, hsm.ErrPINIncorrect, "wrong tries before"},
		{"the last but one", low, low | final, 1, hsm.ErrPINIncorrect, "one more wrong try locks"},
		{"the one that locks", low, locked, 1, hsm.ErrPINIncorrect, "is locked now"},
		{"a token that does not say", none, none, 1, hsm.ErrPINIncorrect, "does not say"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFaulty(t, nil)
			f.flags = func(flags uint) uint {
				flags &^= low | final | locked
				if f.count("Login") == 0 {
					return flags | row.before
				}
				return flags | row.after
			}
			_, err := f.opens(t.Context(), token)
			wantError(t, err, row.sentinel, fault.TokenUnavailable, row.words)
			if got := f.count("Login"); got != row.tries {
				t.Errorf("got %d tries, want %d", got, row.tries)
			}
			if strings.Contains(fmt.Sprint(err), "geheim") {
				t.Errorf("the error tells the PIN: %v", err)
			}
		})
	}
}

func TestPINFileIsReadAnewAtEachLogin(t *testing.T) {
	token := softhsmtest.Shared(t)
	synctest.Test(t, func(t *testing.T) {
		f, open := faultyToken(t, token)
		right, err := os.ReadFile(token.Config.PINFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(token.Config.PINFile); err != nil {
			t.Fatal(err)
		}
		f.set("Finalize", nil)
		f.logOut()
		_, err = open.SignDigest(t.Context(), randomDigest())
		wantError(t, err, os.ErrNotExist, fault.TokenUnavailable)
		if err := os.WriteFile(token.Config.PINFile, right, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // of the bubble
		signs(t, open, token.Public)
		if got := f.count("Finalize"); got != 0 {
			t.Error("the module was initialised again for want of a file")
		}
		closeToken(t, open)
	})
}

func TestPINCannotBePrinted(t *testing.T) {
	const secret = "7391-geheim"
	pin := hsm.NewPIN([]byte(secret))
	nested := struct {
		Exported   hsm.PIN
		unexported hsm.PIN
		pointer    *hsm.PIN
	}{pin, pin, &pin}
	var out bytes.Buffer
	for _, verb := range "vdsqxXtbcoOUeEfFgGpT" {
		for _, flag := range []string{"", "+", "#", "-20", ".30"} {
			fmt.Fprintf(&out, "%"+flag+string(verb), pin)
			fmt.Fprintf(&out, "%"+flag+string(verb), &pin)
			fmt.Fprintf(&out, "%"+flag+string(verb), nested)
		}
	}
	for _, logger := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
		logger.Info("login", "pin", pin, "pointer", &pin, "nested", nested)
	}
	for _, value := range []any{pin, &pin, nested} {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprint([]byte(secret)),
		strings.Trim(fmt.Sprintf("%#v", []byte(secret)), "[]byte{}"), "55 51 57 49"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the PIN was printed, as %q", form)
		}
	}
	if !strings.Contains(out.String(), "[PIN]") {
		t.Error("nothing was printed at all")
	}
}

func TestReadPIN(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, text string
		mode       os.FileMode
		good       bool
	}{
		{"bare", "1234", 0o600, true},
		{"with a newline", "1234\n", 0o400, true},
		{"with a DOS newline", "1234\r\n", 0o600, true},
		{"of the longest sort", strings.Repeat("1", 255) + "\r\n", 0o600, true},
		{"too long", strings.Repeat("1", 256), 0o600, false},
		{"far too long", strings.Repeat("1", 4096), 0o600, false},
		{"empty", "", 0o600, false},
		{"a newline alone", "\n", 0o600, false},
		{"readable by the group", "1234", 0o640, false},
		{"readable by others", "1234", 0o604, false},
		{"writable by others", "1234", 0o602, false},
	} {
		path := filepath.Join(dir, row.name)
		if err := os.WriteFile(path, []byte(row.text), row.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, row.mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		pin, err := hsm.ReadPIN(path)
		if got := err == nil; got != row.good {
			t.Errorf("%s: got error %v, want good %v", row.name, err, row.good)
		}
		pin.Wipe()
	}
	for _, path := range []string{dir, fifo, filepath.Join(dir, "nothing")} {
		if _, err := hsm.ReadPIN(path); err == nil {
			t.Errorf("%s: got a PIN, want an error", path)
		}
	}
}
