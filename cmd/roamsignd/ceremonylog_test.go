package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAStepThatCannotBeRecordedIsNotTaken: the log is opened first.
func TestAStepThatCannotBeRecordedIsNotTaken(t *testing.T) {
	d := made(t)
	whole := read(t, d.path(ceremonyLogName))
	for _, row := range []struct {
		name, log string
		spoil     func(path string) error
		words     string
	}{
		{"no folder", "none/log", func(string) error { return nil }, "no such file"},
		{"a folder", "folder", func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		{"for others to read", "open", func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o640)) }, "chmod 600"},
		{"a link", "link", func(path string) error { return os.Symlink(d.path("elsewhere"), path) }, "too many levels"},
	} {
		path := d.path(row.log)
		check(t, row.spoil(path))
		d.refuses(t, 1, row.words, "key", "generate", "--label", "other", "--id", "01", "--ceremony-log", path)
	}
	if out := d.does(t, "key", "list"); strings.Contains(out, "other") {
		t.Errorf("key list says %q: a step was taken", out)
	}
	if read(t, d.path(ceremonyLogName)) != whole {
		t.Error("another log was written")
	}
}

// TestTheLogOnlyGrows: lines are appended, after one that a crash cut short, too.
func TestTheLogOnlyGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "{\"step\":\"cut sh")
	log, err := openCeremonyLog(path)
	check(t, err)
	check(t, log.begin(entry{Step: "token init"}))
	failure := errors.New("no free slot")
	if err := log.end(failure); !errors.Is(err, failure) {
		t.Errorf("got %v, want the step's own error", err)
	}
	lines := strings.Split(read(t, path), "\n")
	if len(lines) != 4 || lines[0] != `{"step":"cut sh` || lines[3] != "" ||
		!strings.Contains(lines[1], `"outcome":"begun"`) || !strings.Contains(lines[2], `"outcome":"failed"`) || !strings.Contains(lines[2], `"error":"no free slot"`) {
		t.Errorf("got %q", lines)
	}
	info, err := os.Stat(path)
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, want 0600", info.Mode())
	}
}
