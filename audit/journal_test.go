package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// What becomes of a write.
const (
	done         = iota
	notDone      // an error, and nothing was written
	torn         // an error, and the disk has some sectors, the kernel shows all
	tornInKernel // an error, and the kernel shows a part, of which the disk has some
	shownOnly    // an error, and the disk has nothing of what the kernel shows
	unconfirmed  // an error, and all was written
	outcomes
)

var errDisk = errors.New("the disk errs")

// disk is a kernel and a disk under a journal.
type disk struct {
	random *rand.Rand
	shown  []byte // what the kernel shows, and a process finds after one that was killed
	kept   []byte // what is left when the power fails
	to     []int  // what becomes of the next writes; then all are done
}

// take is a journal's through.
func (d *disk) take(_ *os.File, content []byte, offset int64) error {
	outcome := done
	if len(d.to) > 0 {
		outcome, d.to = d.to[0], d.to[1:]
	}
	shown, kept := len(content), 1.0
	switch outcome {
	case notDone:
		shown = 0
	case torn:
		kept = d.random.Float64()
	case shownOnly:
		kept = 0
	case tornInKernel:
		shown, kept = d.random.IntN(len(content)/sector)*sector, d.random.Float64()
	}
	copy(d.shown[offset:], content[:shown])
	for at := 0; at < shown; at += sector {
		if d.random.Float64() < kept {
			copy(d.kept[offset+int64(at):], content[at:at+sector])
		}
	}
	if outcome != done {
		return errDisk
	}
	return nil
}

// ring is a journal, and what is to be in it.
type ring struct {
	t *testing.T
	*journal
	disk
	inTiles  uint64
	roots    map[uint64]Digest // of so many entries
	recorded []record          // confirmed, and not in the tiles
	doubted  []record          // not confirmed, since the last that was

	laps, full, recovered int
}

func newRing(t *testing.T, seed uint64) *ring {
	t.Helper()
	r := &ring{t: t, roots: map[uint64]Digest{}, disk: disk{
		random: rand.New(rand.NewPCG(seed, seed)), shown: make([]byte, journalSize), kept: make([]byte, journalSize),
	}}
	path := filepath.Join(t.TempDir(), "journal") // which is opened, and not written
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.journal = &journal{path: path}
	r.start()
	return r
}

// start has another process go on with the file.
func (r *ring) start() {
	identity, err := os.Stat(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.journal = &journal{path: r.path, identity: identity, through: r.take}
}

// made makes a record of so many blocks, or less.
func (r *ring) made(blocks int) record {
	first := r.inTiles
	if n := len(r.recorded); n > 0 {
		first = r.recorded[n-1].end
	}
	made := record{first: first}
	binary.BigEndian.PutUint64(made.root[:], r.random.Uint64())
	for left := blocks*journalBlock - journalHeader; left > 2 && len(made.entries) < batchSize; {
		entry := bytes.Repeat([]byte{byte('a' + r.random.IntN(26))}, min(left-2, 1+r.random.IntN(MaxEntry)))
		made.entries, left = append(made.entries, entry), left-2-len(entry)
	}
	made.end = first + uint64(len(made.entries))
	return made
}

// put has a record written, and keeps what is known of it then.
func (r *ring) put(made record) error {
	next := r.next
	err := r.write(&made, r.inTiles)
	switch {
	case err == nil:
		if r.next < next && len(r.held) > 1 {
			r.laps++
		}
		r.recorded, r.doubted = append(r.recorded, made), nil
		r.roots[made.end] = made.root
	case errors.Is(err, errJournalFull):
		r.full++
		if len(r.recorded) == 0 {
			r.t.Error("full, though all is in the tiles")
		}
	default:
		r.doubted = append(r.doubted, made)
	}
	return err
}

// integrate has some records in the tiles.
func (r *ring) integrate(count int) {
	if count > 0 {
		r.inTiles = r.recorded[count-1].end
		r.recorded = r.recorded[count:]
	}
}

// holds asserts that this content has all that was confirmed, and at most one record
// that was not. It returns what was read.
func (r *ring) holds(content []byte) []record {
	r.t.Helper()
	got, err := readJournal(content, r.inTiles, r.roots[r.inTiles])
	if err != nil {
		r.t.Fatalf("with %d entries in the tiles: %v", r.inTiles, err)
	}
	known := slices.Clone(r.recorded)
	if more := len(got) - len(known); more == 1 && slices.ContainsFunc(r.doubted, func(d record) bool { return reflect.DeepEqual(d, got[len(known)]) }) {
		known = append(known, got[len(known)])
	}
	if len(got) != len(known) || len(got) > 0 && !reflect.DeepEqual(got, known) {
		r.t.Fatalf("got %v, want %v and at most one of %v", brief(got), brief(r.recorded), brief(r.doubted))
	}
	return got
}

// brief is where records begin and end.
func brief(records []record) (ends [][2]uint64) {
	for _, r := range records {
		ends = append(ends, [2]uint64{r.first, r.end})
	}
	return ends
}

// crash has the process die, by a power failure or not, until another could start.
func (r *ring) crash(power func() bool, outcome func() []int) {
	r.t.Helper()
	for {
		if power() {
			copy(r.shown, r.kept)
		}
		r.disk.to = nil
		got := r.holds(r.shown)
		if len(got) > len(r.recorded) {
			last := got[len(got)-1]
			r.recovered++
			r.roots[last.end] = last.root
			r.doubted = nil
		}
		if len(got) > 0 {
			r.inTiles, r.recorded = got[len(got)-1].end, nil
		}
		r.start()
		r.disk.to = outcome()
		if err := r.clear(make([]byte, journalSize)); err == nil {
			r.doubted = nil
			return
		}
	}
}

func TestTheJournalHoldsWhatWasConfirmed(t *testing.T) {
	t.Parallel()
	var laps, full, recovered int
	for seed := range uint64(3) {
		r := newRing(t, seed)
		power := func() bool { return r.random.IntN(2) == 0 }
		outcome := func() []int {
			if r.random.IntN(5) > 0 {
				return nil
			}
			return []int{r.random.IntN(outcomes), r.random.IntN(outcomes)}
		}
		for range 100 {
			r.disk.to = outcome()
			switch at := r.random.IntN(100); {
			case at < 70:
				if err := r.put(r.made(1 + r.random.IntN(150))); errors.Is(err, errDisk) && r.random.IntN(3) == 0 {
					r.crash(power, outcome)
				}
			case at < 86:
				r.integrate(r.random.IntN(min(len(r.recorded)+1, 8)))
			case at < 92:
				_ = r.try(r.inTiles)
			case at < 94:
				r.crash(power, outcome)
			default:
				r.holds(r.shown)
				r.holds(r.kept)
			}
		}
		r.crash(power, outcome)
		laps, full, recovered = laps+r.laps, full+r.full, recovered+r.recovered
	}
	if laps == 0 || full == 0 || recovered == 0 {
		t.Errorf("%d laps, %d times full, %d unconfirmed records found: each is to happen", laps, full, recovered)
	}
}

func TestAJournalIsHalfFullFromOneEndToTheOther(t *testing.T) {
	t.Parallel()
	const half = journalBlocks / 2
	for name, row := range map[string]struct {
		held []blocks
		next int
		want bool
	}{
		"nothing is held":              {nil, half + 10, false},
		"less than half":               {[]blocks{{from: 10}}, half + 9, false},
		"half":                         {[]blocks{{from: 10}}, half + 10, true},
		"less than half, over the end": {[]blocks{{from: half + 10}}, 9, false},
		"half, over the end":           {[]blocks{{from: half + 10}}, 10, true},
		"all of it":                    {[]blocks{{from: 10}}, 10, true},
	} {
		j := journal{held: row.held, next: row.next}
		if got := j.halfFull(); got != row.want {
			t.Errorf("%s: got %t, want %t", name, got, row.want)
		}
	}
}

func TestARecordGoesWhereNoneIsNeeded(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		oldest, next, count, want int // -1: nowhere
	}{
		"after the last":             {oldest: 10, next: journalBlocks - 24, count: 24, want: journalBlocks - 24},
		"not beyond the end":         {oldest: 10, next: journalBlocks - 24, count: 25, want: -1},
		"before the oldest":          {oldest: 10, next: journalBlocks - 4, count: 10, want: 0},
		"not over the oldest":        {oldest: 10, next: journalBlocks - 4, count: 11, want: -1},
		"between last and oldest":    {oldest: 10, next: 4, count: 6, want: 4},
		"not into the oldest":        {oldest: 10, next: 4, count: 7, want: -1},
		"not where all is held":      {oldest: 10, next: 10, count: 1, want: -1},
		"not after the end":          {oldest: 0, next: journalBlocks, count: 1, want: -1},
		"at the beginning after all": {oldest: 1, next: journalBlocks, count: 1, want: 0},
	} {
		j := journal{next: row.next, held: []blocks{{from: row.oldest}}}
		if at, err := j.place(row.count); (err != nil) != (row.want < 0) || err == nil && at != row.want {
			t.Errorf("%s: got %d and %v, want %d", name, at, err, row.want)
		}
	}
}

func TestAFailedWriteLeavesNothingInTheWay(t *testing.T) {
	t.Parallel()
	kill, power := func() bool { return false }, func() bool { return true }
	for name, steps := range map[string]func(r *ring){
		"the next record goes elsewhere": func(r *ring) {
			r.fails(r.made(3), unconfirmed)
			r.integrate(len(r.recorded))
		},
		"it goes to the end": func(r *ring) {
			for r.next < journalBlocks-20 {
				r.integrate(len(r.recorded) - 1)
				r.works(r.made(30))
			}
			r.integrate(len(r.recorded) - 1)
			r.fails(r.made(60), unconfirmed)
		},
		"undoing it fails": func(r *ring) {
			r.fails(r.made(3), unconfirmed)
			r.integrate(len(r.recorded))
			r.fails(r.made(1), notDone)
			r.fails(r.made(1), shownOnly)
			r.fails(r.made(1), done, unconfirmed)
		},
		"undoing it fails, and the process dies": func(r *ring) {
			r.fails(r.made(3), unconfirmed)
			r.fails(r.made(1), shownOnly)
			r.crash(kill, func() []int { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRing(t, 1)
			r.works(r.made(2))
			steps(r)
			r.works(r.made(1))
			r.holds(r.kept)
			r.crash(power, func() []int { return nil })
		})
	}
}

// works has a record written, fails has one refused.
func (r *ring) works(made record) {
	r.t.Helper()
	if err := r.put(made); err != nil {
		r.t.Fatal(err)
	}
}

func (r *ring) fails(made record, to ...int) {
	r.t.Helper()
	if r.disk.to = to; !errors.Is(r.put(made), errDisk) {
		r.t.Fatal("a write that failed was not told")
	}
}

func TestAFullJournalIsFreedByWhatIsInTheTiles(t *testing.T) {
	t.Parallel()
	r := newRing(t, 1)
	for range journalBlocks {
		r.works(r.made(1))
	}
	if err := r.put(r.made(1)); !errors.Is(err, errJournalFull) {
		t.Errorf("got %v, want a full journal", err)
	}
	if err := r.try(r.inTiles); !errors.Is(err, errJournalFull) {
		t.Errorf("trying: got %v, want a full journal", err)
	}
	r.integrate(1)
	if err := r.try(r.inTiles); err != nil {
		t.Errorf("with room again: got %v", err)
	}
	r.works(r.made(1))
	r.holds(r.kept)
}

// The power fails within a write, in the first round and in a later one.
func TestAWriteThatTheCurrentLeavesIsNoRecord(t *testing.T) {
	t.Parallel()
	r := newRing(t, 1)
	for round := range 2 {
		for r.laps <= round {
			if err := r.put(r.made(120)); errors.Is(err, errJournalFull) {
				r.integrate(len(r.recorded) / 2)
			} else if err != nil {
				t.Fatal(err)
			}
		}
		made := r.made(9)
		r.doubted = []record{made}
		content := made.encode()
		count := len(content) / journalBlock
		r.integrate(len(r.recorded) - 2)
		r.free(r.inTiles)
		at, err := r.place(count)
		if err != nil {
			t.Fatal(err)
		}
		place := at * journalBlock
		before := slices.Clone(r.kept[place : place+len(content)])
		tear := func(has func(n int) bool) []record {
			copy(r.kept[place:], before)
			for n := range len(content) / sector {
				if has(n) {
					copy(r.kept[place+n*sector:], content[n*sector:(n+1)*sector])
				}
			}
			return r.holds(r.kept)
		}
		const sectors = journalBlock / sector
		for cut := range count + 1 {
			if got := tear(func(n int) bool { return n < cut*sectors }); len(got) > len(r.recorded) != (cut == count) {
				t.Errorf("the first %d of %d blocks: got %v", cut, count, brief(got))
			}
			if got := tear(func(n int) bool { return n >= cut*sectors }); len(got) > len(r.recorded) != (cut == 0) {
				t.Errorf("all but the first %d of %d blocks: got %v", cut, count, brief(got))
			}
		}
		for range 20 {
			lost := r.random.IntN(len(content) / sector)
			if got := tear(func(n int) bool { return n != lost && r.random.IntN(4) > 0 }); len(got) > len(r.recorded) && lost < (len(content)-journalBlock)/sector {
				t.Errorf("without sector %d and others: got %v", lost, brief(got))
			}
		}
		tear(func(int) bool { return false })
	}
}
