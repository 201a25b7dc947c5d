package audit_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/roamsign/roamsign/audit"
)

// bulk is a source of so many made-up entries that take no place on the disk:
// 5,000 taxpayers, 20 callers.
type bulk struct{ size uint64 }

func (b bulk) entry(n uint64) audit.Entry {
	e := entry(0)
	e.Time = e.Time.Add(time.Duration(n) * time.Millisecond)
	e.TIN, e.Caller = fmt.Sprintf("C%010d", n%5000), fmt.Sprintf("agent-%d.example", n%20)
	binary.BigEndian.PutUint64(e.Document[:], n*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(e.Nonce[:], n)
	return e
}

func (bulk) Checkpoint(context.Context) ([]byte, error) { return nil, os.ErrNotExist }

func (bulk) Tile(_ context.Context, level, index uint64, _ uint8) ([]byte, error) {
	return fmt.Appendf(nil, "tile %d of level %d", index, level), nil
}

// bundles are the full ones that were made once; a large bulk's are not kept.
var bundles sync.Map

func (b bulk) Entries(_ context.Context, index uint64, _ uint8) ([]byte, error) {
	if bundle, made := bundles.Load(index); made && index*256+256 <= b.size {
		content, _ := bundle.([]byte)
		return content, nil
	}
	var bundle []byte
	for n := index * 256; n < min(b.size, index*256+256); n++ {
		e := b.entry(n)
		line, err := e.Encode()
		if err != nil {
			return nil, err
		}
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(line))), line...)
	}
	if index < 300 && index*256+256 <= b.size {
		bundles.Store(index, bundle)
	}
	return bundle, nil
}

// filed is a bulk whose bundles are files, as a log's are.
type filed struct {
	bulk
	files audit.Source
}

func newFiled(t testing.TB, size uint64) filed {
	t.Helper()
	b := bulk{size}
	dir := t.TempDir()
	for number := uint64(0); number*256 < size; number++ {
		bundle, err := b.Entries(t.Context(), number, 0)
		check(t, err)
		path := filepath.Join(dir, layout.EntriesPath(number, uint8(min(size-number*256, 256)%256)))
		check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		check(t, os.WriteFile(path, bundle, 0o600))
	}
	return filed{b, audit.Dir(dir)}
}

func (f filed) Entries(ctx context.Context, index uint64, width uint8) ([]byte, error) {
	return f.files.Entries(ctx, index, width)
}

func (b bulk) Size(context.Context) (uint64, error) { return b.size, nil }

func openIndex(t testing.TB, dir string, b interface {
	audit.Source
	Size(ctx context.Context) (uint64, error)
}) *audit.Index {
	t.Helper()
	x, err := audit.OpenIndex(t.Context(), dir, b, b.Size)
	check(t, err)
	return x
}

// all follows the pages of a query.
func all(t testing.TB, x *audit.Index, q audit.Query) []uint64 {
	t.Helper()
	var found []uint64
	for {
		page, err := x.Find(t.Context(), q)
		check(t, err)
		for _, f := range page.Found {
			found = append(found, f.Index)
		}
		if !page.More {
			return found
		}
		if len(page.Found) == 0 || page.Next <= q.From && q.From > 0 {
			t.Fatalf("a page leads nowhere: %+v", page)
		}
		q.From = page.Next
	}
}

func TestEntriesAreFound(t *testing.T) {
	t.Parallel()
	b := bulk{65536 + 5000}
	x := openIndex(t, t.TempDir(), b)
	entries := make([]audit.Entry, b.size)
	for n := range entries {
		entries[n] = b.entry(uint64(n))
	}
	fits := func(f func(audit.Entry) bool) (want []uint64) {
		for n, e := range entries {
			if f(e) {
				want = append(want, uint64(n))
			}
		}
		return want
	}
	tin, caller := "C0000001234", "agent-14.example"
	since, until := b.entry(30_000).Time, b.entry(67_000).Time
	for name, row := range map[string]struct {
		query audit.Query
		want  []uint64
	}{
		"by taxpayer":     {audit.Query{TIN: tin}, fits(func(e audit.Entry) bool { return e.TIN == tin })},
		"in small pages":  {audit.Query{TIN: tin, Limit: 4}, fits(func(e audit.Entry) bool { return e.TIN == tin })},
		"by both":         {audit.Query{TIN: tin, Caller: caller}, fits(func(e audit.Entry) bool { return e.TIN == tin && e.Caller == caller })},
		"by neither":      {audit.Query{TIN: tin, Caller: "agent-1.example"}, nil},
		"in a time":       {audit.Query{TIN: tin, Since: since, Until: until}, fits(func(e audit.Entry) bool { return e.TIN == tin && !e.Time.Before(since) && !e.Time.After(until) })},
		"in all times":    {audit.Query{Document: b.entry(5).Document, Since: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, []uint64{5}},
		"before the log":  {audit.Query{TIN: tin, Until: b.entry(0).Time.Add(-1)}, nil},
		"by document":     {audit.Query{Document: b.entry(40_000).Document}, []uint64{40_000}},
		"with its caller": {audit.Query{Document: b.entry(40_000).Document, Caller: b.entry(40_000).Caller}, []uint64{40_000}},
		"with another":    {audit.Query{Document: b.entry(40_000).Document, Caller: b.entry(40_001).Caller}, nil},
		"in the tail":     {audit.Query{Document: b.entry(70_535).Document}, []uint64{70_535}},
		"unknown":         {audit.Query{TIN: "C9999999999"}, nil},
		"unknown, digest": {audit.Query{Document: digest("unknown")}, nil},
		"from the middle": {audit.Query{TIN: "C0000000000", From: 45_001}, []uint64{50_000, 55_000, 60_000, 65_000, 70_000}},
	} {
		if got := all(t, x, row.query); fmt.Sprint(got) != fmt.Sprint(row.want) {
			t.Errorf("%s: got %v, want %v", name, got, row.want)
		}
	}
	if _, err := x.Find(t.Context(), audit.Query{}); err == nil {
		t.Error("a query for nothing: got no error")
	}
}

func TestWhatWasAppendedJustNowIsFound(t *testing.T) {
	log, _ := newLog(t)
	x, err := audit.OpenIndex(t.Context(), t.TempDir(), log.Source(), log.Size)
	check(t, err)
	for n := range 20 {
		index, err := log.Append(t.Context(), entry(n), 0)
		check(t, err)
		e := entry(n)
		page, err := x.Find(t.Context(), audit.Query{Document: e.Document})
		if err != nil || len(page.Found) != 1 || page.Found[0].Index != index || page.Found[0].Entry.RequestID != e.RequestID {
			t.Errorf("entry %d: got %+v and %v, want index %d", n, page, err, index)
		}
	}
}

// Whatever happened to its files, the index answers the same.
func TestADamagedIndexIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := bulk{65536}
	dir := t.TempDir()
	check(t, openIndex(t, dir, b).Follow(t.Context()))
	path := filepath.Join(dir, "000000000.segment")
	good := mustRead(t, path)
	check(t, os.WriteFile(filepath.Join(dir, "notes"), []byte("not the index's"), 0o600))
	for name, spoil := range map[string]func(){
		"a byte changed":      func() { flip(t, path, 100_000) },
		"made of another log": func() { flip(t, path, 9) },
		"gone, half written": func() {
			check(t, os.Remove(path))
			check(t, os.WriteFile(filepath.Join(dir, "new-123"), good[:5000], 0o600))
		},
	} {
		spoil()
		x := openIndex(t, dir, b)
		want := b.entry(31_000)
		if got := all(t, x, audit.Query{Document: want.Document}); len(got) != 1 || got[0] != 31_000 {
			t.Errorf("%s: got %v, want entry 31000", name, got)
		}
		if string(mustRead(t, path)) != string(good) {
			t.Errorf("%s: the segment was not made again", name)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "new-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v and %v", name, left, err)
		}
	}
	if text := string(mustRead(t, filepath.Join(dir, "notes"))); text != "not the index's" {
		t.Errorf("somebody else's file: got %q", text)
	}
}

// What befalls the folder while the index is open heals while it is open.
func TestAnIndexThatCouldNotBeWrittenOrWasDeletedIsMadeLater(t *testing.T) {
	t.Parallel()
	b, size := bulk{65536 + 600}, uint64(65536-10)
	dir := filepath.Join(t.TempDir(), "index")
	x, err := audit.OpenIndex(t.Context(), dir, b, func(context.Context) (uint64, error) { return size, nil })
	check(t, err)
	check(t, x.Follow(t.Context()))
	check(t, os.Remove(dir))
	check(t, os.WriteFile(dir, []byte("in the way"), 0o600))
	for _, size = range []uint64{65536, 65536 + 300} {
		if err := x.Follow(t.Context()); err == nil {
			t.Errorf("%d entries: got no error where no segment can be written", size)
		}
	}
	check(t, os.Remove(dir))
	size = b.size
	for _, when := range []string{"could be written again", "was deleted"} {
		for _, n := range []uint64{5, 65535, 65536 + 599} {
			if got := all(t, x, audit.Query{Document: b.entry(n).Document}); len(got) != 1 || got[0] != n {
				t.Errorf("after it %s: got %v, want entry %d", when, got, n)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "000000000.segment")); err != nil {
			t.Errorf("after it %s: %v", when, err)
		}
		check(t, os.RemoveAll(dir))
	}
}

// Making an index of many entries is not a question's work: it would keep all other
// readers waiting.
func TestAnIndexThatIsBeingMadeSaysSo(t *testing.T) {
	b := bulk{1 << 40}
	x := openIndex(t, t.TempDir(), bulk{})
	if _, err := x.Find(t.Context(), audit.Query{TIN: "C0000000007"}); err != nil {
		t.Errorf("an empty log: got %v", err)
	}
	x = openIndex(t, t.TempDir(), b)
	if page, err := x.Find(t.Context(), audit.Query{TIN: "C0000000007"}); !isUnavailable(err) {
		t.Errorf("got %+v and %v, want an index that is unavailable", page, err)
	}
}

func TestAnIndexAheadOfItsLogErrs(t *testing.T) {
	b, size := bulk{600}, uint64(600)
	x, err := audit.OpenIndex(t.Context(), t.TempDir(), b, func(context.Context) (uint64, error) { return size, nil })
	check(t, err)
	check(t, x.Follow(t.Context()))
	size--
	if err := x.Follow(t.Context()); err == nil {
		t.Error("the log shrank: got no error")
	}
}

// The numbers that people wait for: a whole index made, opened again, and asked.
func TestManyEntriesAnswerSoon(t *testing.T) {
	b := newFiled(t, uint64(rounds(3_000, 1_500_000)))
	dir := t.TempDir()
	start := time.Now()
	check(t, openIndex(t, dir, b).Follow(t.Context()))
	t.Logf("%d entries indexed in %v", b.size, time.Since(start))
	start = time.Now()
	x := openIndex(t, dir, b)
	check(t, x.Follow(t.Context()))
	t.Logf("opened again in %v", time.Since(start))
	for name, q := range map[string]audit.Query{
		"a taxpayer, 1,000 scattered entries": {TIN: "C0000000007", Limit: 1000},
		"a taxpayer and a caller":             {TIN: "C0000000007", Caller: "agent-7.example", Limit: 100},
		"a taxpayer of no entry":              {TIN: "C9999999999"},
		"a caller, 1,000 entries":             {Caller: "agent-7.example", Limit: 1000},
		"a document":                          {Document: b.entry(b.size / 2).Document},
	} {
		start := time.Now()
		page, err := x.Find(t.Context(), q)
		took := time.Since(start)
		t.Logf("%s: %d found in %v", name, len(page.Found), took)
		if err != nil || q.Document != (audit.Digest{}) && len(page.Found) != 1 {
			t.Errorf("%s: got %d entries and %v", name, len(page.Found), err)
		}
	}
}
