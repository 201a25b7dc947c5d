package strict

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOnlyRegularFilesAreRead(t *testing.T) {
	for _, row := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"a file", func(path string) error { return os.WriteFile(path, []byte("four"), 0o600) }, ""},
		{"a link to one", func(path string) error {
			if err := os.WriteFile(path+".real", []byte("four"), 0o600); err != nil {
				return err
			}
			return os.Symlink(path+".real", path)
		}, ""},
		{"a file that is too long", func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("5"), 5), 0o600) }, "longer than 4 bytes"},
		{"nothing", func(string) error { return nil }, "no such file"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		{"a named pipe that nobody writes into", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		{"a device without an end", func(path string) error { return os.Symlink("/dev/zero", path) }, "not a regular file"},
		{"a link to itself", func(path string) error { return os.Symlink(path, path) }, "too many levels"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := row.make(path); err != nil {
				t.Fatal(err)
			}
			text, err := ReadFile(path, 4)
			switch {
			case row.want == "" && (err != nil || string(text) != "four"):
				t.Errorf("got %q, %v, want the file", text, err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path)):
				t.Errorf("got %v, want an error that names the file and says %q", err, row.want)
			}
		})
	}
}
