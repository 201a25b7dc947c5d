package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Index finds entries of a log by taxpayer, caller and document. It is derived: a
// directory of files that can be deleted at any time and is made again from the
// log. What it finds is read from the log and compared before it is returned.
// Its methods may be called concurrently. Appending never waits for it.
type Index struct {
	dir    string
	source Source
	size   func(context.Context) (uint64, error)

	// mu has room for the one that follows the log, which reads the disk: a mutex
	// that obeys a context. It guards what is below.
	mu chan struct{}
	view
}

// view is the index as it was at a moment. What is in its slices never changes.
type view struct {
	segments []segment
	tail     []keys // the entries after the last segment
}

// Query says which entries are looked for. All that is given must fit; TIN, Caller
// or Document must be given.
type Query struct {
	TIN      string
	Caller   string
	Document Digest
	// Since and Until bound the time of the entry, both included. Zero: no bound.
	Since, Until time.Time
	// May tells of an entry that fits whether whoever asks may know of it. What it
	// refuses counts for nothing, no page begins with it. Default nil: all.
	May func(*Entry) bool
	// From is the index to go on from. Default 0: the first entry.
	From uint64
	// Limit is how many are wanted at most, 1 to 1,000. Default (0): 100.
	Limit int
}

// Found is one entry that was found.
type Found struct {
	Index uint64
	Entry Entry
}

// Page is what was found, in the order of the log. More tells whether to go on,
// with Next as the query's From.
type Page struct {
	Found []Found
	More  bool
	Next  uint64
}

// maxLimit and defaultLimit bound a page.
const maxLimit, defaultLimit = 1000, 100

// OpenIndex opens the index in a directory, which is made if it is missing, of the
// log that source reads and that has as many entries as size says ([Log.Size]).
// Files that are damaged, or of another log, are thrown away. It reads what is
// there once through, and then, for each entry that is not indexed yet, about a
// kilobyte of the log: a context that ends leaves what was done for the next time.
func OpenIndex(ctx context.Context, dir string, source Source, size func(context.Context) (uint64, error)) (*Index, error) {
	x := &Index{dir: dir, source: source, size: size, mu: make(chan struct{}, 1)}
	if err := x.load(ctx); err != nil {
		return nil, fmt.Errorf("opening the index in %s: %w", dir, err)
	}
	return x, nil
}

// load takes over the segments that are good, up to the first that is not, and
// deletes all others.
func (x *Index) load(ctx context.Context) error {
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return err
	}
	size, err := x.size(ctx)
	if err != nil {
		return err
	}
	good := map[string]bool{}
	for n := uint64(0); (n+1)*segmentSize <= size; n++ {
		tile, err := x.source.Tile(ctx, 1, n, 0)
		if err != nil {
			return err
		}
		path := segmentPath(x.dir, n)
		s, err := openSegment(path, tile)
		if err != nil {
			break
		}
		good[path] = true
		x.segments = append(x.segments, s)
	}
	files, err := os.ReadDir(x.dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		path := filepath.Join(x.dir, file.Name())
		ours := filepath.Ext(path) == segmentExtension || strings.HasPrefix(file.Name(), newSegment)
		if ours && !good[path] {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// catchUp is how many entries [Index.Find] indexes itself: some seconds' work.
const catchUp = 4 * segmentSize

// Follow indexes what the log has and the index has not. [Index.Find] does so
// first, if it is not much; called now and then this makes it little. An error leaves
// the index as far as it came.
func (x *Index) Follow(ctx context.Context) error {
	for {
		if done, err := x.advance(ctx); done || err != nil {
			return err
		}
	}
}

// advance indexes a segment's worth, so that others get in between, and reports
// whether that was all.
func (x *Index) advance(ctx context.Context) (done bool, err error) {
	if err := x.lock(ctx); err != nil {
		return false, err
	}
	defer x.unlock()
	size, err := x.grown(ctx)
	if err != nil {
		return false, fmt.Errorf("indexing the log: %w", err)
	}
	if err := x.follow(ctx, size, min(size, x.indexed()+segmentSize)); err != nil {
		return false, fmt.Errorf("indexing the log: %w", err)
	}
	return x.indexed() == size, nil
}

// upToDate returns the index with all that the log has now. Where it would have to
// be made first it errs: that is for Follow.
func (x *Index) upToDate(ctx context.Context) (view, error) {
	if err := x.lock(ctx); err != nil {
		return view{}, err
	}
	defer x.unlock()
	size, err := x.grown(ctx)
	if err != nil {
		return view{}, fmt.Errorf("indexing the log: %w", err)
	}
	if behind := size - x.indexed(); behind > catchUp {
		return view{}, unavailable(fmt.Errorf("the index is being made: it lacks %d entries", behind))
	}
	if err := x.follow(ctx, size, size); err != nil {
		return view{}, fmt.Errorf("indexing the log: %w", err)
	}
	return x.view, nil
}

func (x *Index) lock(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case x.mu <- struct{}{}:
		return nil
	}
}

func (x *Index) unlock() { <-x.mu }

// grown returns how many entries the log has, and forgets what was deleted.
func (x *Index) grown(ctx context.Context) (size uint64, err error) {
	if size, err = x.size(ctx); err != nil {
		return 0, err
	}
	if size < x.indexed() {
		return 0, fmt.Errorf("the log has %d entries and had %d", size, x.indexed())
	}
	x.forget()
	return size, nil
}

// follow indexes a log of this size up to an entry, or a little more.
func (x *Index) follow(ctx context.Context, size, to uint64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(x.tail) == segmentSize {
			if err := x.seal(ctx); err != nil {
				return err
			}
		}
		if x.indexed() >= to {
			return nil
		}
		if err := x.bundle(ctx, size); err != nil {
			return err
		}
	}
}

// forget leaves off at the first segment whose file is gone: from there on the log
// is indexed again.
func (x *Index) forget() {
	gone := slices.IndexFunc(x.segments, func(s segment) bool { return !s.there() })
	if gone >= 0 {
		x.segments, x.tail = slices.Clip(x.segments[:gone]), nil
	}
}

// indexed is how many entries are indexed.
func (v view) indexed() uint64 {
	return uint64(len(v.segments))*segmentSize + uint64(len(v.tail))
}

// bundle indexes the rest of the bundle that the next entry is in.
func (x *Index) bundle(ctx context.Context, size uint64) error {
	next := x.indexed()
	number := next / tileWidth
	content, err := x.source.Entries(ctx, number, widthAt(number, size))
	if err != nil {
		return err
	}
	lines, err := split(content)
	if err != nil {
		return err
	}
	have, want := next%tileWidth, min(size-number*tileWidth, tileWidth)
	if uint64(len(lines)) < want {
		return fmt.Errorf("bundle %d has %d entries instead of %d", number, len(lines), want)
	}
	for i, line := range lines[have:want] {
		e, err := ParseEntry(line)
		if err != nil {
			return fmt.Errorf("entry %d: %w", next+uint64(i), err)
		}
		x.tail = append(x.tail, keysOf(&e))
	}
	return nil
}

// seal writes the tail as a segment.
func (x *Index) seal(ctx context.Context) error {
	n := uint64(len(x.segments))
	tile, err := x.source.Tile(ctx, 1, n, 0)
	if err != nil {
		return err
	}
	path := segmentPath(x.dir, n)
	if err := writeSegment(path, encodeSegment(x.tail, tile)); err != nil {
		return err
	}
	s, err := openSegment(path, tile)
	if err != nil {
		return err
	}
	x.segments, x.tail = append(x.segments, s), nil
	return nil
}

// Find returns the entries that fit a query, those that were appended just now
// among them.
func (x *Index) Find(ctx context.Context, q Query) (Page, error) {
	wanted := map[int]uint64{}
	if q.TIN != "" {
		wanted[byTIN] = textKey(q.TIN)
	}
	if q.Caller != "" {
		wanted[byCaller] = textKey(q.Caller)
	}
	if q.Document != (Digest{}) {
		wanted[byDocument] = keysOf(&Entry{Document: q.Document}).of[byDocument]
	}
	if len(wanted) == 0 {
		return Page{}, errors.New("finding entries: neither a TIN nor a caller nor a document is given")
	}
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	q.Limit = min(max(q.Limit, 1), maxLimit)
	now, err := x.upToDate(ctx)
	if err != nil {
		return Page{}, err
	}
	var page Page
	reading := &bundleReader{source: x.source, size: now.indexed()}
	for index, err := range now.candidates(ctx, q, wanted) {
		if err = cmp.Or(err, ctx.Err()); err == nil {
			err = take(ctx, &page, q, reading, index)
		}
		if err != nil {
			return Page{}, fmt.Errorf("finding entries: %w", err)
		}
		if page.More {
			break
		}
	}
	return page, nil
}

// candidates yields the indices of the entries whose keys fit, ascending.
func (v view) candidates(ctx context.Context, q Query, wanted map[int]uint64) iter.Seq2[uint64, error] {
	since, until := bound(q.Since, math.MinInt64), bound(q.Until, math.MaxInt64)
	return func(yield func(uint64, error) bool) {
		for n := q.From / segmentSize; n < uint64(len(v.segments)); n++ {
			places, err := v.segments[n].find(wanted, since, until)
			if err = cmp.Or(ctx.Err(), err); err != nil {
				yield(0, err)
				return
			}
			for _, place := range places {
				if index := n*segmentSize + uint64(place); index >= q.From && !yield(index, nil) {
					return
				}
			}
		}
		first := uint64(len(v.segments)) * segmentSize
		for i, k := range v.tail {
			if index := first + uint64(i); index >= q.From && k.fits(wanted, since, until) && !yield(index, nil) {
				return
			}
		}
	}
}

// fits is what segment.find is for one entry.
func (k keys) fits(wanted map[int]uint64, since, until int64) bool {
	for column, key := range wanted {
		if k.of[column] != key {
			return false
		}
	}
	return k.time >= since && k.time <= until
}

// take reads an entry from the log and adds it to the page, if it is what was
// asked for: keys are parts of hashes, and may fit by chance.
func take(ctx context.Context, page *Page, q Query, reading *bundleReader, index uint64) error {
	_, e, err := reading.entry(ctx, index)
	if err != nil {
		return err
	}
	if q.TIN != "" && e.TIN != q.TIN || q.Caller != "" && e.Caller != q.Caller || q.Document != (Digest{}) && e.Document != q.Document {
		return nil
	}
	if q.May != nil && !q.May(&e) {
		return nil
	}
	if len(page.Found) == q.Limit {
		page.More, page.Next = true, index
		return nil
	}
	page.Found = append(page.Found, Found{index, e})
	return nil
}
