package softhsmtest

import (
	"os"
	"path/filepath"
	"testing"
)

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
