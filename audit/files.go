package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/tessera/api/layout"
)

// versionFile and storageVersion tell the version of Tessera's files.
const (
	versionFile    = ".state/version"
	storageVersion = "1"
)

// files checks what only the directory of a log shows: Tessera's state, and the
// files that are read no more.
func (c *checker) files(ctx context.Context, dir string) error {
	version, err := os.ReadFile(filepath.Join(dir, versionFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(version) != storageVersion {
		c.find(versionFile, -1, "%q instead of %q", version, storageVersion)
	}
	if err := c.state(ctx, dir); err != nil {
		return err
	}
	return c.remnants(ctx, dir)
}

// state checks what the log would go on from: at least what was signed.
func (c *checker) state(ctx context.Context, dir string) error {
	s, err := readState(dir)
	_, unread := errors.AsType[*fs.PathError](err)
	switch {
	case unread && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil:
		c.find(stateFile, -1, "%v", err)
		return nil
	case s.Size < c.report.Checkpoint.Size:
		c.find(stateFile, -1, "rolled back: it has %d entries, the checkpoint %d", s.Size, c.report.Checkpoint.Size)
		return nil
	}
	root, err := rootAt(ctx, c.source, s.Size)
	if _, unread := errors.AsType[*fs.PathError](err); unread && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || root != Digest(s.Root) {
		c.find(stateFile, -1, "not the root hash of %d entries", s.Size)
	}
	return ctx.Err()
}

// remnants compares the partial tiles and bundles that later ones have taken the
// place of, as far as they are still there.
func (c *checker) remnants(ctx context.Context, dir string) error {
	root := filepath.Join(dir, "tile")
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) { // swept just now, or no tile yet
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		kind, number, _ := strings.Cut(filepath.ToSlash(relative), "/")
		index, width, known := parsePlace(number)
		if !known {
			c.remnant(relative, "not a file of the log")
		}
		if width == 0 {
			return nil
		}
		return c.superseded(ctx, kind, index, width, path)
	})
}

func (c *checker) remnant(relative, problem string) {
	if len(c.report.Remnants) < maxFindings {
		c.report.Remnants = append(c.report.Remnants, fmt.Sprintf("tile/%s: %s", filepath.ToSlash(relative), problem))
	}
}

// superseded compares one partial tile or bundle with the log as it is now.
func (c *checker) superseded(ctx context.Context, kind string, index uint64, width uint8, path string) error {
	resource, prefix, level := c.source.Entries, isBundlePrefix, uint64(0)
	if kind != "entries" {
		parsed, known := parseLevel(kind)
		if !known {
			c.remnant(kind, "not a file of the log")
			return nil
		}
		level = parsed
		prefix = isTilePrefix
		resource = func(ctx context.Context, index uint64, width uint8) ([]byte, error) {
			return c.source.Tile(ctx, level, index, width)
		}
	}
	hashes := c.report.Checkpoint.Size >> (8 * level) // of the level
	current := layout.PartialTileSize(level, index, c.report.Checkpoint.Size)
	if index*tileWidth >= hashes || current != 0 && width >= current {
		return nil // the newest one, which was checked, or beyond it
	}
	was, err := readRemnant(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := resource(ctx, index, current)
	switch {
	case errors.Is(err, fs.ErrNotExist): // which was found before
		return nil
	case err == nil && !prefix(now, was, int(width)):
		c.remnant(kind+"/"+layout.NWithSuffix(level, index, width), "not what it was")
	}
	return err
}

// readRemnant reads a partial tile or bundle, and no more than one byte beyond the
// longest: what is longer is not what it was, either.
func readRemnant(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxBundle+1))
}

func isTilePrefix(now, was []byte, width int) bool {
	return len(was) == width*len(Digest{}) && bytes.HasPrefix(now, was)
}

func isBundlePrefix(now, was []byte, width int) bool {
	lines, err := split(was)
	return err == nil && len(lines) == width && bytes.HasPrefix(now, was)
}
