package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key signs a log's checkpoints: an Ed25519 key of the signed-note format
// (https://c2sp.org/signed-note). Whatever prints it gets its verifier key. The
// zero Key is none.
type Key struct {
	private  string
	verifier string
}

// NewKey makes a key for the log of this name. The name is the log's origin, the
// same in all of its keys: the URL it is served at without the scheme, such as
// sign.example.com/log. It has no blanks and no plus sign.
func NewKey(name string) (Key, error) {
	private, verifier, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return Key{}, fmt.Errorf("making a log key: %w", err)
	}
	if _, err := note.NewSigner(private); err != nil {
		return Key{}, fmt.Errorf("%q cannot be a log's name: no blanks, no plus sign, not empty", name)
	}
	return Key{private, verifier}, nil
}

// maxKeyFile bounds a file of keys.
const maxKeyFile = 64 << 10

// ReadKey reads a key from a file of one line, which must be a file that only its
// owner may read.
func ReadKey(path string) (Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("reading the log key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return Key{}, fmt.Errorf("reading the log key: %w", err)
	case !info.Mode().IsRegular():
		return Key{}, fmt.Errorf("log key %s: not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return Key{}, fmt.Errorf("log key %s: others may use it (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return Key{}, fmt.Errorf("reading the log key: %w", err)
	}
	k, err := parseKey(strings.TrimSpace(string(text)))
	if err != nil {
		return Key{}, fmt.Errorf("log key %s: %w", path, err)
	}
	return k, nil
}

// parseKey reads a private key and derives its verifier key. Its errors never
// hold a part of the key.
func parseKey(private string) (Key, error) {
	parts := strings.SplitN(private, "+", 5)
	if _, err := note.NewSigner(private); err != nil || len(parts) != 5 {
		return Key{}, errors.New("not one line with a signed-note private key")
	}
	seed, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return Key{}, errors.New("not an Ed25519 key")
	}
	public, _ := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	verifier, err := note.NewEd25519VerifierKey(parts[2], public)
	return Key{private, verifier}, err
}

// Write writes the key to a new file that only its owner may read. A file that is
// there stays as it is.
func (k Key) Write(path string) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_SYNC, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("log key %s: there is a file already: %w", path, fs.ErrExist)
		}
		return fmt.Errorf("writing the log key: %w", err)
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
	}()
	if err := file.Chmod(0o600); err != nil {
		return fmt.Errorf("writing the log key: %w", err)
	}
	if _, err := file.WriteString(k.private + "\n"); err != nil {
		return fmt.Errorf("writing the log key: %w", err)
	}
	return nil
}

// Verifier returns the key's public half, a line for the file that
// [ParseVerifiers] reads.
func (k Key) Verifier() string { return k.verifier }

// Name returns the log's name.
func (k Key) Name() string {
	name, _, _ := strings.Cut(k.verifier, "+")
	return name
}

// Format writes the verifier key, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.verifier) }

// MarshalText returns the verifier key.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.verifier), nil }

// LogValue returns the verifier key.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.verifier) }

// Verifiers are the keys under which a log's checkpoints are believed: one of
// them is enough. The zero Verifiers believe none.
type Verifiers struct {
	origin string
	list   []note.Verifier
}

// ParseVerifiers reads verifier keys, one a line, of one log; empty lines and
// those that begin with # are passed over. While a key is rotated there are two.
func ParseVerifiers(text []byte) (Verifiers, error) {
	if len(text) > maxKeyFile {
		return Verifiers{}, fmt.Errorf("log keys: more than %d bytes", maxKeyFile)
	}
	var v Verifiers
	seen := map[string]bool{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		key := strings.TrimSpace(string(line))
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if strings.HasPrefix(key, "PRIVATE+") {
			return Verifiers{}, fmt.Errorf("log keys, line %d: a private key: give the log's verifier key, and keep this one to yourself", number)
		}
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return Verifiers{}, fmt.Errorf("log keys, line %d: %w", number, err)
		}
		if v.origin != "" && v.origin != verifier.Name() {
			return Verifiers{}, fmt.Errorf("log keys, line %d: of log %q, those before it are of log %q", number, verifier.Name(), v.origin)
		}
		v.origin = verifier.Name()
		if !seen[key] { // one that is there twice would verify nothing
			v.list = append(v.list, verifier)
		}
		seen[key] = true
	}
	if len(v.list) == 0 {
		return Verifiers{}, errors.New("log keys: there is none")
	}
	return v, nil
}

// Origin returns the log's name.
func (v Verifiers) Origin() string { return v.origin }
