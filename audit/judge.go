package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/transparency-dev/tessera/api/layout"
)

// judge reads a log before it is appended to, and returns its size. What is
// appended to must be the log of these keys, whole at its end, and not older than
// what was signed last: a copy put back would otherwise be continued as a second
// history.
func judge(ctx context.Context, p place, keys []Key) (uint64, error) {
	source := p.source()
	text, err := source.Checkpoint(ctx) // before the state, which others may append to
	s, failed := p.state(ctx)
	switch {
	case failed != nil:
		return 0, failed
	case errors.Is(err, os.ErrNotExist) && s.Size == 0:
		return 0, nil // made, and not published yet
	case errors.Is(err, os.ErrNotExist):
		return 0, fmt.Errorf("%d entries without a checkpoint: %w", s.Size, ErrNoLog)
	case err != nil:
		return 0, err
	}
	verifiers, err := verifiersOf(keys)
	if err != nil {
		return 0, err
	}
	signed, err := verifiers.Checkpoint(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w (are these the log's keys? a new key signs beside the old one first)", err)
	case signed.Size > s.Size:
		return 0, fmt.Errorf("it has %d entries, its checkpoint was signed over %d: this is an older copy, which must not be continued", s.Size, signed.Size)
	}
	for _, known := range []struct { // which may be of one size
		size uint64
		root Digest
		from string
	}{{signed.Size, signed.Root, "signed"}, {s.Size, Digest(s.Root), "kept in its state"}} {
		root, err := rootAt(ctx, source, known.size)
		if err != nil {
			return 0, fmt.Errorf("its end is damaged: %w", err)
		}
		if root != known.root {
			return 0, fmt.Errorf("its end is damaged: the first %d entries have another root hash than was %s", known.size, known.from)
		}
	}
	return s.Size, judgeLast(ctx, source, s.Size)
}

// judgeLast holds the last bundle of entries against its hashes: the next append
// copies it.
func judgeLast(ctx context.Context, source Source, size uint64) error {
	if size == 0 {
		return nil
	}
	last := (size - 1) / tileWidth
	bundle, err := source.Entries(ctx, last, widthAt(last, size))
	if err != nil {
		return err
	}
	tile, err := source.Tile(ctx, 0, last, widthAt(last, size))
	if err != nil {
		return err
	}
	entries, err := split(bundle)
	var hashes []byte
	for _, e := range entries {
		hashes = append(hashes, leafHash(e)...)
	}
	if err != nil || !bytes.Equal(hashes, tile) {
		return fmt.Errorf("its end is damaged: %s does not have the entries that %s has the hashes of",
			layout.EntriesPath(last, widthAt(last, size)), layout.TilePath(0, last, widthAt(last, size)))
	}
	return nil
}
