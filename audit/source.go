package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/transparency-dev/tessera/api/layout"
)

// Source is where a log is read: [Dir] or [URL]. Its methods may be called
// concurrently. What is not there is an error that is [fs.ErrNotExist].
type Source interface {
	// Checkpoint returns the newest checkpoint's text.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Tile returns the hashes of a tile, of which width are there (0: all 256). The
	// full tile is returned where the partial one is gone.
	Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error)
	// Entries returns a bundle of entries, likewise.
	Entries(ctx context.Context, index uint64, width uint8) ([]byte, error)
}

// Bounds of what a source hands out, in bytes.
const (
	maxTile   = layout.TileWidth * len(Digest{})
	maxBundle = layout.EntryBundleWidth * (2 + MaxEntry)
)

// resources reads a log's resources by their paths (https://c2sp.org/tlog-tiles).
type resources struct {
	read func(ctx context.Context, path string, most int) ([]byte, error)
	dir  string // where they are files
}

// Dir returns the log in a directory.
func Dir(path string) Source {
	return resources{dir: path, read: func(_ context.Context, name string, most int) ([]byte, error) {
		file, err := os.Open(filepath.Join(path, filepath.FromSlash(name)))
		if err != nil {
			if errors.Is(err, syscall.ENOTDIR) {
				return nil, fmt.Errorf("%w: %w", err, fs.ErrNotExist)
			}
			return nil, err
		}
		defer file.Close()
		return readFile(file, name, most)
	}}
}

// readFile reads a file into as much memory as it needs, at once: finding entries
// reads many.
func readFile(file *os.File, name string, most int) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	b := bytes.NewBuffer(make([]byte, 0, min(info.Size(), int64(most))+bytes.MinRead))
	if _, err := b.ReadFrom(io.LimitReader(file, int64(most)+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if b.Len() > most {
		return nil, fmt.Errorf("reading %s: more than %d bytes", name, most)
	}
	return b.Bytes(), nil
}

// URL returns the log served at a URL prefix. The client is the caller's: it
// brings the certificate, the roots to trust, and a time limit.
func URL(prefix *url.URL, client *http.Client) Source {
	return resources{read: func(ctx context.Context, name string, most int) ([]byte, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, prefix.JoinPath(name).String(), nil)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		switch answer.StatusCode {
		case http.StatusOK:
			return readAll(answer.Body, name, most)
		case http.StatusNotFound:
			return nil, fmt.Errorf("%s: %w", request.URL, fs.ErrNotExist)
		case http.StatusForbidden:
			return nil, fmt.Errorf("%s: %w", request.URL, fs.ErrPermission)
		default:
			return nil, fmt.Errorf("%s: the server answers %s", request.URL, answer.Status)
		}
	}}
}

func readAll(r io.Reader, name string, most int) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, err)
	case len(content) > most:
		return nil, fmt.Errorf("reading %s: more than %d bytes", name, most)
	}
	return content, nil
}

// Checkpoint implements [Source].
func (r resources) Checkpoint(ctx context.Context) ([]byte, error) {
	return r.read(ctx, layout.CheckpointPath, maxCheckpoint)
}

// Tile implements [Source].
func (r resources) Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
	return r.either(ctx, func(w uint8) string { return layout.TilePath(level, index, w) }, width, maxTile)
}

// Entries implements [Source].
func (r resources) Entries(ctx context.Context, index uint64, width uint8) ([]byte, error) {
	return r.either(ctx, func(w uint8) string { return layout.EntriesPath(index, w) }, width, maxBundle)
}

// either reads the partial resource, or the full one if that one is gone.
func (r resources) either(ctx context.Context, path func(uint8) string, width uint8, most int) ([]byte, error) {
	content, err := r.read(ctx, path(width), most)
	if width != 0 && errors.Is(err, fs.ErrNotExist) {
		if full, ferr := r.read(ctx, path(0), most); !errors.Is(ferr, fs.ErrNotExist) {
			return full, ferr
		}
	}
	return content, err
}
