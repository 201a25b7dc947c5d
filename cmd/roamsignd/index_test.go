package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

// The service must come up, and sign, whatever becomes of its index.
func TestTheIndexIsMadeWhileItServes(t *testing.T) {
	folder := t.TempDir()
	config := audit.Config{Dir: filepath.Join(folder, "log"), KeyFiles: []string{filepath.Join(folder, "key")}}
	key, err := audit.NewKey("index.test/log")
	if err == nil {
		err = errors.Join(key.Write(config.KeyFiles[0]), audit.Create(t.Context(), config))
	}
	if err != nil {
		t.Fatalf("making the log: %v", err)
	}
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("opening the log: %v", err)
	}
	t.Cleanup(func() {
		if err := log.Close(context.Background()); err != nil {
			t.Errorf("closing the log: %v", err)
		}
	})
	put := func() uint64 {
		index, err := log.Append(t.Context(), audit.Entry{
			Time: time.Now(), Signer: "s", Caller: "c.test", TIN: "C20880050010", Method: "SignDigest",
			Certificate: audit.Digest{1}, Document: audit.Digest{2},
		}, 0)
		if err != nil {
			t.Fatalf("appending: %v", err)
		}
		return index
	}
	put()
	query := audit.Query{Document: audit.Digest{2}}
	dir := filepath.Join(folder, "index")
	f := &finder{dir: dir, log: log, lines: slog.New(slog.DiscardHandler)}
	_, err = f.Find(t.Context(), query)
	known, _ := errors.AsType[*fault.Error](err)
	if fault.Of(err) != fault.LogUnavailable || known.RetryAfter <= 0 {
		t.Errorf("before it is made: got %v, want LOG_UNAVAILABLE and when to ask again", err)
	}
	// What is in its place keeps it from being made, until it is taken away.
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var index *audit.Index
	if err := f.step(t.Context(), &index); err == nil {
		t.Error("an index was made in a file")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	defer f.start(t.Context())()
	for ticks := time.NewTicker(10 * time.Millisecond); f.index.Load() == nil; <-ticks.C {
		if t.Context().Err() != nil {
			t.Fatal("it was never made")
		}
	}
	last := put()
	page, err := f.Find(t.Context(), query)
	if err != nil || len(page.Found) != 2 || page.Found[1].Index != last {
		t.Errorf("got %+v, %v, want both entries", page, err)
	}
}
