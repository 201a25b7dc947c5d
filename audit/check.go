package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/tessera/api/layout"
)

// CheckOptions say how far a check goes. The zero CheckOptions check everything.
type CheckOptions struct {
	// Since is the text of a checkpoint seen before: the log must still begin with
	// what it was signed over. Default none.
	Since []byte
	// HashesOnly leaves the entries out, for those who may not read them: that the
	// log only grew is shown all the same.
	HashesOnly bool
	// Progress is called now and then with how many entries are done, of how many.
	Progress func(done, total uint64)
}

// Finding is one thing that is wrong with a log.
type Finding struct {
	Resource string // the path of what is wrong
	Index    int64  // of the first entry concerned, or -1
	Problem  string
}

// String writes the finding on one line.
func (f Finding) String() string {
	if f.Index < 0 {
		return f.Resource + ": " + f.Problem
	}
	return fmt.Sprintf("%s: entry %d: %s", f.Resource, f.Index, f.Problem)
}

// Report is what a check found.
type Report struct {
	// Checkpoint is the newest one, to be remembered for the next check if there
	// are no findings; Text is what to hand to CheckOptions.Since then.
	Checkpoint Checkpoint
	Text       []byte
	// Entries is how many entries were read and are well-formed.
	Entries uint64
	// Findings is what is wrong, in the order of the log. None: the log is whole. A
	// check ends at the maxFindings-th: a log's owner may sign for more entries than
	// anybody lives to look for.
	Findings []Finding
	// Remnants are files in a log's directory that nothing reads any more and that
	// are not what they were: left by an append that did not come to its end, or
	// changed. They prove nothing either way.
	Remnants []string
}

// maxFindings is how many findings a report has room for.
const maxFindings = 100

// readAhead is how many bundles are fetched at a time.
const readAhead = 8

// Check reads a whole log and recomputes every hash in it from the entries: each
// entry is in its form, each tile holds the hashes of what is below it, the newest
// checkpoint is signed with one of the keys and has the root hash of it all, and so
// had the checkpoint seen before. In a directory, Tessera's own state is checked
// too. It streams, in memory that does not grow with the log.
//
// What is wrong with the log is in the report. The error is for what kept the
// check from coming to its end.
func Check(ctx context.Context, source Source, verifiers Verifiers, options CheckOptions) (Report, error) {
	c := &checker{source: source, options: options, tree: ranges().NewEmptyRange(0)}
	if len(options.Since) > 0 {
		since, err := verifiers.Checkpoint(options.Since)
		if err != nil {
			return Report{}, fmt.Errorf("the checkpoint seen before: %w", err)
		}
		c.since = &since
	}
	text, err := source.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		c.find(layout.CheckpointPath, -1, "missing")
		return c.report, nil
	}
	if err != nil {
		return Report{}, fmt.Errorf("reading the checkpoint: %w", err)
	}
	signed, err := verifiers.Checkpoint(text)
	if err != nil {
		c.find(layout.CheckpointPath, -1, "%v", err)
		return c.report, nil
	}
	c.report.Checkpoint, c.report.Text = signed, text
	if c.since != nil && c.since.Size > signed.Size {
		c.find(layout.CheckpointPath, -1, "rolled back: it has %d entries, the one seen before had %d", signed.Size, c.since.Size)
	}
	if err := c.run(ctx); err != nil {
		return c.report, fmt.Errorf("checking log %s: %w", signed.Origin, err)
	}
	return c.report, nil
}

// checker goes through a log once.
type checker struct {
	source  Source
	options CheckOptions
	since   *Checkpoint
	report  Report
	tree    *compact.Range
	levels  []tileUnderWay // the last tile of each level
}

// tileUnderWay is a tile that is being recomputed.
type tileUnderWay struct {
	index  uint64
	hashes []byte
}

func (c *checker) find(resource string, index int64, format string, args ...any) {
	if len(c.report.Findings) < maxFindings {
		c.report.Findings = append(c.report.Findings, Finding{resource, index, fmt.Sprintf(format, args...)})
	}
}

func (c *checker) run(ctx context.Context) error {
	size := c.report.Checkpoint.Size
	if err := c.compare(); err != nil {
		return err
	}
	for piece := range c.fetch(ctx) {
		hashes, err := c.leaves(piece)
		if err != nil {
			return err
		}
		if err := c.grow(ctx, hashes, piece); err != nil || len(c.report.Findings) == maxFindings {
			return err
		}
		if c.options.Progress != nil {
			c.options.Progress(c.tree.End(), size)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for level := range c.levels {
		if len(c.levels[level].hashes) > 0 {
			if err := c.tile(ctx, level); err != nil {
				return err
			}
		}
	}
	if r, isFiles := c.source.(resources); isFiles && r.dir != "" {
		return c.files(ctx, r.dir)
	}
	return nil
}

// compare holds the root hash so far against those that were signed over so many
// entries.
func (c *checker) compare() error {
	newest := c.tree.End() == c.report.Checkpoint.Size
	seen := c.since != nil && c.tree.End() == c.since.Size
	if !newest && !seen {
		return nil
	}
	root, err := rootOf(c.tree)
	if err != nil {
		return err
	}
	if newest && root != c.report.Checkpoint.Root {
		c.find(layout.CheckpointPath, -1, "signed over another root hash than that of the %d entries", c.tree.End())
	}
	if seen && root != c.since.Root {
		c.find(layout.CheckpointPath, -1, "forked: the first %d entries are not those of the checkpoint seen before", c.since.Size)
	}
	return nil
}

// piece is one bundle of entries and its tile, as fetched.
type piece struct {
	index  uint64
	width  uint8
	bundle fetched
	tile   fetched
}

// fetched is a resource, or why there is none.
type fetched struct {
	path    string
	content []byte
	err     error
}

// count is how many entries the piece has.
func (p piece) count() int {
	if p.width == 0 {
		return tileWidth
	}
	return int(p.width)
}

// fetch yields all bundles and their tiles in order, a few ahead.
func (c *checker) fetch(ctx context.Context) func(yield func(piece) bool) {
	size := c.report.Checkpoint.Size
	pieces := (size + tileWidth - 1) / tileWidth
	return func(yield func(piece) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var ahead []chan piece
		defer func() {
			cancel()
			for _, ready := range ahead {
				<-ready
			}
		}()
		for next, done := uint64(0), uint64(0); done < pieces; done++ {
			for ; next < pieces && next < done+readAhead; next++ {
				ready := make(chan piece, 1)
				ahead = append(ahead, ready)
				go func(index uint64) { ready <- c.fetchOne(ctx, index, size) }(next)
			}
			var p piece
			select {
			case <-ctx.Done():
				return
			case p = <-ahead[0]:
				ahead = ahead[1:]
			}
			if !yield(p) {
				return
			}
		}
	}
}

func (c *checker) fetchOne(ctx context.Context, index, size uint64) piece {
	p := piece{index: index, width: widthAt(index, size)}
	p.tile.path = layout.TilePath(0, index, p.width)
	p.bundle.path = layout.EntriesPath(index, p.width)
	p.tile.content, p.tile.err = c.source.Tile(ctx, 0, index, p.width)
	if !c.options.HashesOnly {
		p.bundle.content, p.bundle.err = c.source.Entries(ctx, index, p.width)
	}
	return p
}

// leaves returns the hashes of a piece's entries. Where the entries cannot be had
// they are those of the tile, so that one missing file is one finding.
func (c *checker) leaves(p piece) ([]byte, error) {
	if c.options.HashesOnly {
		return c.stored(p)
	}
	first := int64(p.index * tileWidth)
	if errors.Is(p.bundle.err, fs.ErrNotExist) {
		c.find(p.bundle.path, first, "missing")
		return c.stored(p)
	}
	if p.bundle.err != nil {
		return nil, p.bundle.err
	}
	lines, err := split(p.bundle.content)
	switch {
	case len(lines) < p.count():
		c.find(p.bundle.path, first+int64(len(lines)), "missing: the file ends before it")
		return c.stored(p)
	case err != nil || len(lines) != p.count() && len(lines) != tileWidth: // the full bundle stands in for a partial one
		c.find(p.bundle.path, -1, "more follows the last entry")
	}
	hashes := make([]byte, 0, p.count()*len(Digest{}))
	for i, line := range lines[:p.count()] {
		if _, err := ParseEntry(line); err != nil {
			c.find(p.bundle.path, first+int64(i), "%v", err)
		} else {
			c.report.Entries++
		}
		hashes = append(hashes, leafHash(line)...)
	}
	return hashes, nil
}

// stored returns the hashes that a piece's tile has.
func (c *checker) stored(p piece) ([]byte, error) {
	length := p.count() * len(Digest{})
	switch {
	case errors.Is(p.tile.err, fs.ErrNotExist):
		c.find(p.tile.path, int64(p.index*tileWidth), "missing")
		return make([]byte, length), nil
	case p.tile.err != nil:
		return nil, p.tile.err
	case len(p.tile.content) < length:
		c.find(p.tile.path, int64(p.index*tileWidth), "cut off: %d bytes instead of %d", len(p.tile.content), length)
		return append(bytes.Clone(p.tile.content), make([]byte, length-len(p.tile.content))...), nil
	}
	return p.tile.content[:length], nil
}

// grow adds the leaves of a piece, and the tiles above that it fills.
func (c *checker) grow(ctx context.Context, hashes []byte, p piece) error {
	const length = len(Digest{})
	for at := 0; at < len(hashes); at += length {
		if err := c.tree.Append(hashes[at:at+length], nil); err != nil {
			return err
		}
		if err := c.compare(); err != nil {
			return err
		}
	}
	if err := c.match(p.tile, hashes, 0, p.index); err != nil {
		return err
	}
	for level := 1; len(hashes) == maxTile; level++ {
		root, err := tileRoot(hashes)
		if err != nil {
			return err
		}
		if level > len(c.levels)-1 {
			c.levels = append(c.levels, make([]tileUnderWay, level+1-len(c.levels))...)
		}
		above := &c.levels[level]
		above.hashes = append(above.hashes, root...)
		if len(above.hashes) < maxTile {
			return nil
		}
		if err := c.tile(ctx, level); err != nil {
			return err
		}
		hashes = above.hashes
		above.hashes, above.index = nil, above.index+1
	}
	return nil
}

// tile holds the tile under way of a level, full or not, against the log's.
func (c *checker) tile(ctx context.Context, level int) error {
	t := c.levels[level]
	width := uint8(len(t.hashes) / len(Digest{}) % tileWidth)
	got := fetched{path: layout.TilePath(uint64(level), t.index, width)}
	got.content, got.err = c.source.Tile(ctx, uint64(level), t.index, width)
	return c.match(got, t.hashes, level, t.index)
}

// match holds a tile of the log against the hashes that it ought to have.
func (c *checker) match(got fetched, hashes []byte, level int, index uint64) error {
	const length = len(Digest{})
	under := int64(1) << (8 * level) // entries under each hash
	first := int64(index) * tileWidth * under
	switch {
	case errors.Is(got.err, fs.ErrNotExist):
		c.find(got.path, first, "missing")
		return nil
	case got.err != nil:
		return got.err
	}
	want := len(hashes)
	if len(got.content) != want && len(got.content) != maxTile { // the full tile stands in for a partial one
		c.find(got.path, first, "%d bytes instead of %d", len(got.content), want)
	}
	for at := 0; at < want && at < len(got.content); at += length {
		if !bytes.Equal(got.content[at:min(at+length, len(got.content))], hashes[at:at+length]) {
			c.find(got.path, first+int64(at/length)*under, "hash %d is not that of what is below it", at/length)
			return nil
		}
	}
	return nil
}
