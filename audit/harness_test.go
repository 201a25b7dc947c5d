package audit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

const origin = "sign.example.com/log"

func digest(of string) audit.Digest { return sha256.Sum256([]byte(of)) }

// entry is a made-up entry, different for each n.
func entry(n int) audit.Entry {
	return audit.Entry{
		Time:   time.Date(2026, 11, 22, 0, 0, 0, n, time.UTC),
		Signer: "signer-1", Caller: "agent.example", TIN: fmt.Sprintf("C%010d", n%10), Method: "SignDigest",
		Certificate: digest("certificate"), Document: digest(fmt.Sprint("document ", n)),
		Number: fmt.Sprint("INV", n), RequestID: fmt.Sprint("request-", n),
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newConfig is the configuration of a log that is not made yet.
func newConfig(t testing.TB) audit.Config {
	t.Helper()
	dir := t.TempDir()
	config := audit.Config{Dir: filepath.Join(dir, "log"), KeyFiles: []string{filepath.Join(dir, "key")}}
	key, err := audit.NewKey(origin)
	check(t, err)
	check(t, key.Write(config.KeyFiles[0]))
	return config
}

// newLog makes a log and opens it, until the test ends.
func newLog(t testing.TB) (*audit.Log, audit.Config) {
	t.Helper()
	config := newConfig(t)
	check(t, audit.Create(t.Context(), config))
	return open(t, config), config
}

func open(t testing.TB, config audit.Config) *audit.Log {
	t.Helper()
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	check(t, err)
	t.Cleanup(func() { shut(t, log) })
	return log
}

// shut closes a log, however often.
func shut(t testing.TB, log *audit.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := log.Close(ctx); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// isUnavailable reports whether an error is of a log that cannot be written.
func isUnavailable(err error) bool { return err != nil && fault.Of(err) == fault.LogUnavailable }

// verifiers are those of a log's keys.
func verifiers(t testing.TB, config audit.Config) audit.Verifiers {
	t.Helper()
	var text string
	for _, path := range config.KeyFiles {
		key, err := audit.ReadKey(path)
		check(t, err)
		text += key.Verifier() + "\n"
	}
	v, err := audit.ParseVerifiers([]byte(text))
	check(t, err)
	return v
}

// fill appends entries from to to-1, all at once, and returns the index of each.
func fill(t testing.TB, log *audit.Log, from, to int) map[int]uint64 {
	t.Helper()
	type result struct {
		n     int
		index uint64
		err   error
	}
	results := make(chan result)
	for n := from; n < to; n++ {
		go func() {
			index, err := log.Append(t.Context(), entry(n), 0)
			results <- result{n, index, err}
		}()
	}
	indices := map[int]uint64{}
	for range to - from {
		r := <-results
		if r.err != nil {
			t.Errorf("appending entry %d: %v", r.n, r.err)
		}
		indices[r.n] = r.index
	}
	return indices
}

// until waits until f errs no more.
func until(t testing.TB, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute: %v", what, err)
		case <-tick.C:
		}
	}
}

// copied makes a copy of the directory of a log that is open, whose sweeping makes
// and removes files now and then.
func copied(t testing.TB, to, from string) {
	t.Helper()
	until(t, "copied", func() error { return errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))) })
}

// quiet waits until a log's last checkpoint is published: nothing writes then.
func quiet(t testing.TB, log *audit.Log) audit.Checkpoint {
	t.Helper()
	var c audit.Checkpoint
	until(t, "the last checkpoint", func() error {
		size, err := log.Size(t.Context())
		if err != nil {
			return err
		}
		if c, err = log.Published(t.Context()); err == nil && c.Size < size {
			err = fmt.Errorf("a checkpoint of %d entries, the log has %d", c.Size, size)
		}
		return err
	})
	return c
}
