package audit

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strconv"

	"github.com/transparency-dev/tessera/api/layout"
)

// Handler serves a log read-only, as https://c2sp.org/tlog-tiles has it: the
// checkpoint and the hash tiles to everybody who gets this far, bundles of entries
// only to requests that auditor allows, since they hold every caller's taxpayers. A
// nil auditor allows none. Whoever mounts it asks for a client certificate.
//
// A few are answered at a time, so that appending never waits for many.
//
// Paths begin at the log's prefix, with the slash (http.StripPrefix). Only files of
// the log are served, and whatever is not one is not found.
func Handler(source Source, auditor func(*http.Request) bool) http.Handler {
	h := handler{source, auditor, make(chan struct{}, maxReading)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+layout.CheckpointPath, h.checkpoint)
	mux.HandleFunc("GET /tile/entries/{index...}", h.entries)
	mux.HandleFunc("GET /tile/{level}/{index...}", h.tile)
	return mux
}

type handler struct {
	source  Source
	auditor func(*http.Request) bool
	reading chan struct{} // has one element for each who reads
}

// maxReading is how many read at a time. Who appends shares the disk with them, or
// the connections to the database.
const maxReading = 4

// read reads when it may.
func (h handler) read(ctx context.Context, from func(context.Context) ([]byte, error)) ([]byte, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case h.reading <- struct{}{}:
	}
	defer func() { <-h.reading }()
	return from(ctx)
}

// Caching: what a path names never changes, but for the checkpoint. What only
// auditors may have is theirs alone.
const (
	changing  = "no-cache"
	unchanged = "public, max-age=31536000, immutable"
	private   = "private, max-age=31536000, immutable"
)

func (h handler) checkpoint(w http.ResponseWriter, r *http.Request) {
	content, err := h.read(r.Context(), h.source.Checkpoint)
	answer(w, content, err, "text/plain; charset=utf-8", changing)
}

func (h handler) tile(w http.ResponseWriter, r *http.Request) {
	level, isLevel := parseLevel(r.PathValue("level"))
	index, width, isPlace := parsePlace(r.PathValue("index"))
	if !isLevel || !isPlace {
		http.NotFound(w, r)
		return
	}
	content, err := h.read(r.Context(), func(ctx context.Context) ([]byte, error) { return h.source.Tile(ctx, level, index, width) })
	if length := int(width) * len(Digest{}); length > 0 && len(content) > length {
		content = content[:length] // the full tile stood in
	}
	answer(w, content, err, "application/octet-stream", unchanged)
}

func (h handler) entries(w http.ResponseWriter, r *http.Request) {
	if h.auditor == nil || !h.auditor(r) {
		http.Error(w, "entries are for auditors", http.StatusForbidden)
		return
	}
	index, width, ok := parsePlace(r.PathValue("index"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	content, err := h.read(r.Context(), func(ctx context.Context) ([]byte, error) { return h.source.Entries(ctx, index, width) })
	if lines, broken := split(content); broken == nil && width > 0 && len(lines) > int(width) {
		length := 0
		for _, line := range lines[:width] {
			length += 2 + len(line)
		}
		content = content[:length]
	}
	answer(w, content, err, "application/octet-stream", private)
}

// parseLevel reads the level of a tile, in its one form.
func parseLevel(s string) (level uint64, ok bool) {
	level, err := parseDecimal(s)
	return level, err == nil && level < 64
}

// parsePlace reads the number of a tile and its width, in their one form.
func parsePlace(path string) (index uint64, width uint8, ok bool) {
	index, width, err := layout.ParseTileIndexPartial(path)
	return index, width, err == nil && layout.NWithSuffix(0, index, width) == path
}

// answer writes what was read. Why it was not is nobody's business here.
func answer(w http.ResponseWriter, content []byte, err error, kind, caching string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.Header().Set("Cache-Control", changing)
		http.Error(w, "there is no such file in the log", http.StatusNotFound)
	case err != nil:
		http.Error(w, "the log cannot be read now", http.StatusServiceUnavailable)
	default:
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", caching)
		h.Set("Content-Length", strconv.Itoa(len(content)))
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(content) // whoever asked has gone
	}
}
