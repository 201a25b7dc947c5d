package xades

import (
	"os"
	"path/filepath"
	"testing"
)

// vectorsVariable names the folder of real MyInvois documents that nobody here
// wrote. A relative path counts from the repository's root.
const vectorsVariable = "ROAMSIGN_VECTORS"

// vectors returns that folder. It is false if the variable is unset, which is
// for a developer at work; continuous integration sets it, and then a folder
// that is missing or empty fails.
func vectors(t testing.TB) (dir string, ok bool) {
	t.Helper()
	dir = os.Getenv(vectorsVariable)
	if dir == "" {
		t.Logf("%s is unset: the vectors judge nothing in this run", vectorsVariable)
		return "", false
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", dir)
	}
	for _, sub := range []string{"bytes", "official", "peers", "unsigned"} {
		if found := vectorFiles(t, dir, sub, "*"); len(found) == 0 {
			t.Fatalf("%s: no files in %s", vectorsVariable, filepath.Join(dir, sub))
		}
	}
	return dir, true
}

// vectorFiles returns the files of a vector folder that match a pattern.
func vectorFiles(t testing.TB, dir, sub, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, sub, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// read returns the content of a file.
func read(t testing.TB, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
