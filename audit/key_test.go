package audit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/audit"
)

func TestAKeyIsKeptToItself(t *testing.T) {
	key, err := audit.NewKey(origin)
	check(t, err)
	path := filepath.Join(t.TempDir(), "key")
	check(t, key.Write(path))
	info, err := os.Stat(path)
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: got %04o, want 0600", info.Mode().Perm())
	}
	again, err := audit.ReadKey(path)
	if err != nil || again != key || again.Name() != origin {
		t.Errorf("reading it back: got %v and %v", again, err)
	}
	if err := key.Write(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a key: got %v, want %v", err, fs.ErrExist)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o601} {
		check(t, os.Chmod(path, mode))
		if _, err := audit.ReadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: got %v, want a refusal", mode, err)
		}
	}
	text, err := os.ReadFile(path)
	check(t, err)
	fields := strings.SplitN(strings.TrimSpace(string(text)), "+", 5) // the last is base64, which may hold a + too
	secret := fields[len(fields)-1]
	asJSON, err := json.Marshal(key)
	check(t, err)
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("made", "key", key)
	for name, printed := range map[string]string{
		"%v": fmt.Sprintf("%v", key), "%+v": fmt.Sprintf("%+v", key), "%#v": fmt.Sprintf("%#v", key),
		"%s": fmt.Sprintf("%s", key), "%x": fmt.Sprintf("%x", key), "JSON": string(asJSON), "slog": logged.String(),
	} {
		if strings.Contains(printed, secret) || !strings.Contains(printed, origin) {
			t.Errorf("%s: got %s, want the verifier key", name, printed)
		}
	}
}

func TestAFileThatIsNoKeyIsRefused(t *testing.T) {
	key, err := audit.NewKey(origin)
	check(t, err)
	dir := t.TempDir()
	check(t, key.Write(filepath.Join(dir, "key")))
	good, err := os.ReadFile(filepath.Join(dir, "key"))
	check(t, err)
	for name, text := range map[string]string{
		"empty": "", "a verifier key": key.Verifier(), "cut off": string(good[:len(good)-5]),
		"another name": strings.Replace(string(good), origin, "other.example", 1), "two": string(good) + string(good),
	} {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := audit.ReadKey(path)
		if err == nil {
			t.Errorf("%s: read as a key", name)
		} else if len(text) > 100 && strings.Contains(err.Error(), text[len(text)-30:len(text)-10]) {
			t.Errorf("%s: the error holds the key: %v", name, err)
		}
	}
	if _, err := audit.ReadKey(dir); err == nil {
		t.Error("a directory: read as a key")
	}
	for _, name := range []string{"", "two words", "a+b", "line\nbreak"} {
		if _, err := audit.NewKey(name); err == nil {
			t.Errorf("%q: made a key of this name", name)
		}
	}
}

func TestVerifierFilesAreReadStrictly(t *testing.T) {
	var keys []string
	for _, name := range []string{origin, origin, "other.example"} {
		key, err := audit.NewKey(name)
		check(t, err)
		keys = append(keys, key.Verifier())
	}
	for name, row := range map[string]struct{ text, want string }{
		"one key":                   {keys[0] + "\n", ""},
		"one without a newline":     {keys[0], ""},
		"two of one log":            {"# old\n" + keys[0] + "\n\n# new\r\n" + keys[1] + "\r\n", ""},
		"none":                      {"# nothing\n", "there is none"},
		"two logs":                  {keys[0] + "\n" + keys[2], "line 2"},
		"a damaged key":             {"\n" + keys[0][:len(keys[0])-4], "line 2"},
		"a private key":             {"PRIVATE+KEY+x", "private key"},
		"more than a file of keys":  {strings.Repeat("#\n", 1<<16), "more than"},
		"something else altogether": {"-----BEGIN CERTIFICATE-----", "line 1"},
	} {
		v, err := audit.ParseVerifiers([]byte(row.text))
		switch {
		case row.want == "" && (err != nil || v.Origin() != origin):
			t.Errorf("%s: got %q and %v", name, v.Origin(), err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: got %v, want an error about %q", name, err, row.want)
		}
	}
}

func TestAKeyThatIsNamedTwiceCounts(t *testing.T) {
	_, config := newLog(t)
	key, err := audit.ReadKey(config.KeyFiles[0])
	check(t, err)
	v, err := audit.ParseVerifiers([]byte(key.Verifier() + "\n" + key.Verifier() + "\n"))
	check(t, err)
	text, err := audit.Dir(config.Dir).Checkpoint(t.Context())
	check(t, err)
	if _, err := v.Checkpoint(text); err != nil {
		t.Errorf("got %v, want a checkpoint that is believed", err)
	}
}
