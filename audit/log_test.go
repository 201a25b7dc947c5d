package audit_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

func TestWhatWasAppendedIsInTheLog(t *testing.T) { everywhere(t, appendedIsInTheLog) }

func appendedIsInTheLog(t *testing.T, config audit.Config) {
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	indices := fill(t, log, 0, 700)
	seen := map[uint64]int{}
	for n, index := range indices {
		if other, twice := seen[index]; twice {
			t.Errorf("entries %d and %d both have index %d", n, other, index)
		}
		seen[index] = n
		got, err := log.Entry(t.Context(), index)
		want := entry(n)
		want.Nonce = got.Nonce
		if err != nil || got != want || got.Nonce == [16]byte{} {
			t.Errorf("entry %d at index %d: got %+v and %v", n, index, got, err)
		}
	}
	if size, err := log.Size(t.Context()); err != nil || size != 700 {
		t.Errorf("the log's size: got %d and %v, want 700", size, err)
	}
	shut(t, log)
	if _, err := log.Append(t.Context(), entry(0), 0); fault.Of(err) != fault.LogUnavailable {
		t.Errorf("appending to a closed log: got %v, want kind %v", err, fault.LogUnavailable)
	}
	again := open(t, config)
	if index, err := again.Append(t.Context(), entry(700), 0); err != nil || index != 700 {
		t.Errorf("after opening again: got index %d and %v, want 700", index, err)
	}
}

// TestClosingPublishesWhatAProcessBeforeLeft: one that was killed between an
// append and its checkpoint.
func TestClosingPublishesWhatAProcessBeforeLeft(t *testing.T) { everywhere(t, closingPublishes) }

func closingPublishes(t *testing.T, config audit.Config) {
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	fill(t, log, 0, 3)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := log.Close(gone); err == nil {
		t.Error("closed in order, though there was no time for it")
	}
	shut(t, open(t, config))
	if c, err := open(t, config).Published(t.Context()); err != nil || c.Size != 3 {
		t.Errorf("the checkpoint: got %d entries and %v, want 3", c.Size, err)
	}
}

func TestAnEntryWithoutFormIsAFaultOfTheService(t *testing.T) { everywhere(t, anEntryWithoutForm) }

func anEntryWithoutForm(t *testing.T, config audit.Config) {
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	if _, err := log.Append(t.Context(), audit.Entry{}, 0); err == nil || fault.Of(err) != fault.Internal {
		t.Errorf("got %v, want kind %v", err, fault.Internal)
	}
	if err := log.Ready(); err != nil {
		t.Errorf("the log: got %v, want ready", err)
	}
}

func TestAppendObeysItsContext(t *testing.T) { everywhere(t, appendObeysItsContext) }

func appendObeysItsContext(t *testing.T, config audit.Config) {
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Append(ctx, entry(0), 0); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	fill(t, log, 1, 2)
}

func TestAnEntryThatNobodyWantsSoonComesOnRecordAllTheSame(t *testing.T) {
	log, _ := newLog(t)
	if index, err := log.Append(t.Context(), entry(0), 24*time.Hour); err != nil || index != 0 {
		t.Errorf("got index %d, %v, want 0", index, err)
	}
}

func TestALogIsOpenOnce(t *testing.T) {
	_, config := newLog(t)
	if _, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler)); !errors.Is(err, audit.ErrInUse) {
		t.Errorf("got %v, want %v", err, audit.ErrInUse)
	}
	if err := audit.Create(t.Context(), config); err == nil {
		t.Error("made a second log where one is open")
	}
}

func TestALogIsMadeOnce(t *testing.T) {
	log, config := newLog(t)
	fill(t, log, 0, 1)
	shut(t, log)
	if err := audit.Create(t.Context(), config); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v, want a refusal", err)
	}
	other := newConfig(t)
	check(t, os.Mkdir(other.Dir, 0o700))
	check(t, os.WriteFile(filepath.Join(other.Dir, "notes"), nil, 0o600))
	if err := audit.Create(t.Context(), other); err == nil || !strings.Contains(err.Error(), "notes") {
		t.Errorf("a directory with other files: got %v, want a refusal", err)
	}
}

// What is wrong for good ends Open; what may pass leaves a log that is not ready.
func TestALogThatMustNotBeContinuedIsNotOpened(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, config *audit.Config)
		want  string // of the error of Open; "" where the log just is not ready
	}{
		{"no directory", func(t *testing.T, c *audit.Config) { check(t, os.RemoveAll(c.Dir)) }, ""},
		{"an empty directory", func(t *testing.T, c *audit.Config) {
			check(t, os.RemoveAll(c.Dir))
			check(t, os.Mkdir(c.Dir, 0o700))
		}, ""},
		{"another key", func(t *testing.T, c *audit.Config) { c.KeyFiles = newConfig(t).KeyFiles }, "none of the keys"},
		{"no checkpoint", func(t *testing.T, c *audit.Config) { check(t, os.Remove(filepath.Join(c.Dir, "checkpoint"))) }, ""},
		{"an older state", func(t *testing.T, c *audit.Config) {
			check(t, os.WriteFile(filepath.Join(c.Dir, ".state/treeState"), []byte(`{"size":0,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`), 0o600))
		}, "older copy"},
		{"a damaged state", func(t *testing.T, c *audit.Config) { flip(t, filepath.Join(c.Dir, ".state/treeState"), 20) }, "damaged"},
		{"a damaged tile", func(t *testing.T, c *audit.Config) { flip(t, filepath.Join(c.Dir, "tile/0/001.p/44"), 20) }, "damaged"},
		{"a damaged bundle", func(t *testing.T, c *audit.Config) { flip(t, filepath.Join(c.Dir, "tile/entries/001.p/44"), 2000) }, "damaged"},
		{"a damaged checkpoint", func(t *testing.T, c *audit.Config) { flip(t, filepath.Join(c.Dir, "checkpoint"), 24) }, "checkpoint"},
	} {
		t.Run(row.name, func(t *testing.T) {
			log, config := newLog(t)
			fill(t, log, 0, 300)
			shut(t, log)
			row.spoil(t, &config)
			again, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("got %v, want an error about %q", err, row.want)
				}
				return
			}
			check(t, err)
			defer shut(t, again)
			if err := again.Ready(); fault.Of(err) != fault.LogUnavailable || !errors.Is(err, audit.ErrNoLog) {
				t.Errorf("got %v, want %v", err, audit.ErrNoLog)
			}
			if _, err := again.Append(t.Context(), entry(0), 0); fault.Of(err) != fault.LogUnavailable {
				t.Errorf("appending: got %v, want kind %v", err, fault.LogUnavailable)
			}
		})
	}
}

// flip changes a byte of a file.
func flip(t testing.TB, path string, at int) {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	content[at] ^= 1
	check(t, os.WriteFile(path, content, 0o600))
}

func TestADirectoryThatComesBackIsAppendedToAgain(t *testing.T) {
	log, config := newLog(t)
	fill(t, log, 0, 3)
	away, double := config.Dir+"-away", config.Dir+"-double"
	for name, row := range map[string]struct{ spoil, mend func() error }{
		"moved away": {
			func() error { return os.Rename(config.Dir, away) },
			func() error { return os.Rename(away, config.Dir) },
		},
		"an empty directory in its place": {
			func() error { return errors.Join(os.Rename(config.Dir, away), os.Mkdir(config.Dir, 0o700)) },
			func() error { return errors.Join(os.Remove(config.Dir), os.Rename(away, config.Dir)) },
		},
		"a copy in its place": {
			func() error { // whole, before the log, which publishes and sweeps, meets it
				copied(t, double, config.Dir)
				return errors.Join(os.Rename(config.Dir, away), os.Rename(double, config.Dir))
			},
			func() error { return errors.Join(os.Rename(config.Dir, double), os.Rename(away, config.Dir)) },
		},
		"no state": {
			func() error { return os.Rename(config.Dir+"/.state/treeState", away) },
			func() error { return os.Rename(away, config.Dir+"/.state/treeState") },
		},
	} {
		quiet(t, log)
		size, err := log.Size(t.Context())
		check(t, err)
		check(t, row.spoil())
		if index, err := log.Append(t.Context(), entry(1), 0); fault.Of(err) != fault.LogUnavailable {
			t.Errorf("%s: got index %d and %v, want kind %v", name, index, err, fault.LogUnavailable)
		}
		if err := log.Ready(); fault.Of(err) != fault.LogUnavailable {
			t.Errorf("%s: got %v, want kind %v", name, err, fault.LogUnavailable)
		}
		check(t, row.mend())
		until(t, name+": ready again", func() error { return log.Ready() })
		if index, err := log.Append(t.Context(), entry(2), 0); err != nil || index != size {
			t.Errorf("%s: got index %d and %v, want %d", name, index, err, size)
		}
	}
}

func TestALogThatAppearsLaterIsOpened(t *testing.T) { everywhere(t, aLogThatAppearsLater) }

func aLogThatAppearsLater(t *testing.T, config audit.Config) {
	log := open(t, config)
	if err := log.Ready(); err == nil || !errors.Is(err, audit.ErrNoLog) {
		t.Errorf("got %v, want %v", err, audit.ErrNoLog)
	}
	check(t, audit.Create(t.Context(), config))
	until(t, "ready", func() error { return log.Ready() })
	fill(t, log, 0, 1)
	shut(t, log)
	if err := audit.Create(t.Context(), config); err == nil {
		t.Error("made a second log where there is one")
	}
}

func TestAKeyIsChangedWithBothSigningForAWhile(t *testing.T) { everywhere(t, aKeyIsChanged) }

func aKeyIsChanged(t *testing.T, config audit.Config) {
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	fill(t, log, 0, 1)
	shut(t, log)
	first, second := config, config
	second.KeyFiles = []string{filepath.Join(t.TempDir(), "key2")}
	key, err := audit.NewKey(origin)
	check(t, err)
	check(t, key.Write(second.KeyFiles[0]))
	both := config
	both.KeyFiles = append(second.KeyFiles, first.KeyFiles...)

	if _, err := audit.Open(t.Context(), second, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened with a key that signed nothing yet")
	}
	log = open(t, both)
	fill(t, log, 1, 2)
	quiet(t, log)
	text, err := log.Source().Checkpoint(t.Context())
	check(t, err)
	shut(t, log)
	for name, c := range map[string]audit.Config{"the old key": first, "the new key": second, "both": both} {
		if checkpoint, err := verifiers(t, c).Checkpoint(text); err != nil || checkpoint.Size != 2 {
			t.Errorf("%s: got %+v and %v, want two entries", name, checkpoint, err)
		}
	}
	log = open(t, second)
	fill(t, log, 2, 3)
	quiet(t, log)
	text, err = log.Source().Checkpoint(t.Context())
	check(t, err)
	shut(t, log)
	if _, err := verifiers(t, first).Checkpoint(text); err == nil {
		t.Error("the old key still signs")
	}
}

func TestAFaultyConfigurationIsToldWhole(t *testing.T) {
	err := audit.Config{}.Validate()
	if err == nil || !strings.Contains(err.Error(), "dir: ") || !strings.Contains(err.Error(), "key_files: ") {
		t.Errorf("got %v, want faults of dir and key_files", err)
	}
	config := newConfig(t)
	other, err := audit.NewKey("other.example")
	check(t, err)
	path := filepath.Join(t.TempDir(), "other")
	check(t, other.Write(path))
	config.KeyFiles = append(config.KeyFiles, path)
	if err := audit.Create(t.Context(), config); err == nil || !strings.Contains(err.Error(), "other.example") {
		t.Errorf("keys of two logs: got %v, want an error about it", err)
	}
	config.KeyFiles = []string{filepath.Join(t.TempDir(), "none")}
	if err := audit.Create(t.Context(), config); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key file: got %v, want %v", err, fs.ErrNotExist)
	}
}

func ExampleKey() {
	key, _ := audit.NewKey("sign.example.com/log")
	fmt.Println(key.Name(), strings.HasPrefix(key.Verifier(), "sign.example.com/log+"))
	// Output: sign.example.com/log true
}
