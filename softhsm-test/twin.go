package softhsmtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
)

// image is the token that [Shared] copies, as it lies on the disk.
type image struct {
	once  sync.Once
	token Token // Dir and the paths of its Config are gone
	pin   []byte
	files fstest.MapFS
}

// shared is made once a run, by the first test that wants it.
var shared = sync.OnceValue(func() *image { return new(image) })

// Shared makes a token as [New] does, in a module of its own. But its key, PIN,
// ID and serial number are those of all others of the run, since most of the time
// goes into finding the key. It is for tests that need no two keys.
func Shared(t testing.TB) *Token {
	t.Helper()
	shared := shared()
	shared.once.Do(func() {
		token := New(t)
		shared.files = load(t, os.DirFS(filepath.Join(token.Dir, "tokens")))
		pin, err := os.ReadFile(token.Config.PINFile)
		check(t, err)
		shared.token, shared.pin = *token, pin
	})
	if shared.pin == nil {
		t.Fatal("the token that all tests share could not be made: see the first test that failed")
	}
	token := Empty(t)
	check(t, os.WriteFile(token.Config.PINFile, shared.pin, 0o600))
	check(t, os.CopyFS(filepath.Join(token.Dir, "tokens"), shared.files))
	token.Config.KeyID = shared.token.Config.KeyID
	token.Serial, token.Public, token.Certificate = shared.token.Serial, shared.token.Public, shared.token.Certificate
	return token
}

// load reads all of a folder.
func load(t testing.TB, folder fs.FS) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	check(t, fs.WalkDir(folder, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(folder, path)
		files[path] = &fstest.MapFile{Data: content, Mode: 0o600}
		return err
	}))
	return files
}

// Twin makes another token with the same key, PIN, label and serial, in a module
// of its own: the other half of a pair of HSMs. The token must not be open.
func Twin(t testing.TB, token *Token) *Token {
	t.Helper()
	twin := Empty(t)
	twin.Config.TokenLabel, twin.Config.PINFile = token.Config.TokenLabel, token.Config.PINFile
	twin.Config.KeyLabel, twin.Config.KeyID, twin.Config.Sessions = token.Config.KeyLabel, token.Config.KeyID, token.Config.Sessions
	twin.Serial, twin.Public, twin.Certificate = token.Serial, token.Public, token.Certificate
	check(t, os.CopyFS(filepath.Join(twin.Dir, "tokens"), os.DirFS(filepath.Join(token.Dir, "tokens"))))
	return twin
}
