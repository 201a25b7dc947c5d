package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"unsafe"
)

const maxPIN = 255 // bytes; the tokens we know stop at 32 to 255

// PIN is a secret that no verb, no JSON and no slog prints. Its zero value is
// empty and is refused by everything that takes one. It is not safe for
// concurrent use.
type PIN struct {
	// A function, since fmt does not see the methods of a PIN in an unexported
	// field, and then prints what it finds: of a function, the address.
	secret func() *[]byte
}

// NewPIN makes a PIN of b, and owns b from then on.
func NewPIN(b []byte) PIN { return PIN{secret: func() *[]byte { return &b }} }

// ReadPIN reads a PIN from a file, which must be a regular one that neither
// group nor others can read, or a systemd credential ([IsCredential]). One
// trailing newline is dropped. The caller wipes it.
func ReadPIN(path string) (PIN, error) {
	file, err := openPIN(path)
	if err != nil {
		return PIN{}, err
	}
	defer file.Close()
	// One buffer, so that no reader leaves copies behind as it grows one.
	b := make([]byte, maxPIN+3)
	n, err := io.ReadFull(file, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(b)
		return PIN{}, fmt.Errorf("reading the PIN file: %w", err)
	}
	b = b[:n]
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 || len(b) > maxPIN {
		clear(b)
		return PIN{}, fmt.Errorf("PIN file %s: want a PIN of 1 to %d bytes and nothing else", path, maxPIN)
	}
	return NewPIN(b), nil
}

// openPIN opens a PIN file whose mode keeps it secret.
func openPIN(path string) (*os.File, error) {
	located, forbidden, err := locatePIN(path)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a FIFO would hold us here.
	file, err := os.OpenFile(located, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("PIN file %s: not a regular file", path)
	case info.Mode().Perm()&forbidden != 0:
		err = fmt.Errorf("PIN file %s: its mode is %#o, so others than its owner have access: run chmod 600 on it",
			path, info.Mode().Perm())
	default:
		return file, nil
	}
	_ = file.Close()
	return nil, err
}

// Wipe overwrites the PIN, which is empty from then on.
func (p PIN) Wipe() {
	if p.secret != nil {
		clear(*p.secret())
		*p.secret() = nil
	}
}

func (p PIN) empty() bool { return p.length() == 0 }

func (p PIN) length() int {
	if p.secret == nil {
		return 0
	}
	return len(*p.secret())
}

// reveal returns the PIN as the string that the PKCS#11 wrapper wants. It is a
// view, not a copy: nobody may use it after Wipe. The wrapper's own copy in C
// memory is freed after the call, though not wiped.
func (p PIN) reveal() string {
	if p.empty() {
		return ""
	}
	b := *p.secret()
	return unsafe.String(&b[0], len(b))
}

const redacted = "[PIN]"

// String returns a fixed text.
func (p PIN) String() string { return redacted }

// Format writes a fixed text, whatever the verb.
func (p PIN) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// MarshalText returns a fixed text, for JSON, YAML and XML.
func (p PIN) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns a fixed text.
func (p PIN) LogValue() slog.Value { return slog.StringValue(redacted) }
