package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"
)

// segmentSize is how many entries a segment of the index covers: as many as one
// full tile of level 1 has under it, so that the tile's hashes name what the
// segment was made from.
const segmentSize = tileWidth * tileWidth

// The columns of a segment that are searched.
const (
	byTIN = iota
	byCaller
	byDocument
	columns
)

// A segment is a file: the header, then for each column segmentSize rows of a key
// (8 bytes of a hash) and a place (2 bytes: which entry of the segment), sorted,
// then the time of each entry in nanoseconds since 1970 (8 bytes), in the order of
// the log. All numbers are big-endian.
//
// The header: 8 bytes that name the form, the SHA-256 of the level-1 tile over the
// entries, the least and the greatest time, and a CRC-32C of all that follows it.
const (
	segmentForm  = "rsidx\x00\x00\x02"
	rowLength    = 8 + 2
	columnLength = segmentSize * rowLength
	headerLength = len(segmentForm) + sha256.Size + 8 + 8 + 4
	segmentBytes = headerLength + columns*columnLength + segmentSize*8
)

// keys are what an entry is found by.
type keys struct {
	of   [columns]uint64
	time int64
}

func keysOf(e *Entry) keys {
	return keys{
		of: [columns]uint64{
			byTIN:      textKey(e.TIN),
			byCaller:   textKey(e.Caller),
			byDocument: textKey(string(e.Document[:])), // hashed: callers may choose digests by their first bytes
		},
		time: e.Time.UnixNano(),
	}
}

// textKey is the key of a text: so much of its hash.
func textKey(text string) uint64 {
	hash := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(hash[:])
}

// encodeSegment writes a segment of entries in the order of the log.
func encodeSegment(entries []keys, tile []byte) []byte {
	b := make([]byte, headerLength, segmentBytes)
	order := make([]uint16, len(entries))
	for column := range columns {
		for place := range order {
			order[place] = uint16(place)
		}
		slices.SortFunc(order, func(x, y uint16) int {
			return cmp.Or(cmp.Compare(entries[x].of[column], entries[y].of[column]), cmp.Compare(x, y))
		})
		for _, place := range order {
			b = binary.BigEndian.AppendUint64(b, entries[place].of[column])
			b = binary.BigEndian.AppendUint16(b, place)
		}
	}
	least, greatest := entries[0].time, entries[0].time
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, uint64(e.time))
		least, greatest = min(least, e.time), max(greatest, e.time)
	}
	hash := sha256.Sum256(tile)
	h := append(append([]byte{}, segmentForm...), hash[:]...)
	h = binary.BigEndian.AppendUint64(h, uint64(least))
	h = binary.BigEndian.AppendUint64(h, uint64(greatest))
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(b[headerLength:], crc32.MakeTable(crc32.Castagnoli)))
	copy(b, h)
	return b
}

// segment is a segment's file, as far as it is kept in memory.
type segment struct {
	path            string
	least, greatest int64
}

// The names of a segment's file, and of one that is being written.
const segmentExtension, newSegment = ".segment", "new-"

// segmentPath is where the nth segment is.
func segmentPath(dir string, n uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%09d%s", n, segmentExtension))
}

// openSegment reads a segment whole, and believes it if it was made from this
// tile and is as it was written.
func openSegment(path string, tile []byte) (segment, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return segment{}, err
	}
	hash := sha256.Sum256(tile)
	if len(b) != segmentBytes || !bytes.HasPrefix(b, append([]byte(segmentForm), hash[:]...)) {
		return segment{}, errors.New("of another form, or of another log")
	}
	numbers := b[len(segmentForm)+sha256.Size : headerLength]
	if binary.BigEndian.Uint32(numbers[16:]) != crc32.Checksum(b[headerLength:], crc32.MakeTable(crc32.Castagnoli)) {
		return segment{}, errors.New("damaged")
	}
	return segment{path, int64(binary.BigEndian.Uint64(numbers)), int64(binary.BigEndian.Uint64(numbers[8:]))}, nil
}

// there reports whether the segment's file is still there, as long as it was.
func (s segment) there() bool {
	info, err := os.Stat(s.path)
	return err == nil && info.Size() == int64(segmentBytes)
}

// writeSegment puts a segment in its place, whole or not at all. The directory is
// made if it is missing.
func writeSegment(path string, b []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), newSegment)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// find returns the places of the entries that may fit a query, ascending.
func (s segment) find(wanted map[int]uint64, since, until int64) (places []uint16, err error) {
	if s.greatest < since || s.least > until {
		return nil, nil
	}
	file, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all := make([]stretch, 0, columns)
	for _, column := range rarest {
		key, asked := wanted[column]
		if !asked {
			continue
		}
		found, err := stretchOf(file, column, key)
		if err != nil || found.from == found.to {
			return nil, err
		}
		all = append(all, found)
	}
	slices.SortFunc(all, func(x, y stretch) int { return cmp.Compare(x.to-x.from, y.to-y.from) })
	for i, each := range all {
		if i == 0 {
			places, err = each.places(file)
		} else {
			places, err = each.keep(file, places)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(places) == 0 || s.least >= since && s.greatest <= until {
		return places, nil
	}
	times := make([]byte, segmentSize*8)
	if _, err := file.ReadAt(times, int64(headerLength+columns*columnLength)); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(places, func(p uint16) bool {
		at := int64(binary.BigEndian.Uint64(times[int(p)*8:]))
		return at < since || at > until
	}), nil
}

// rarest are the columns in which an unknown key is found unknown soonest.
var rarest = [columns]int{byDocument, byTIN, byCaller}

// stretch is where a column has the rows of a key. A caller may have them all.
type stretch struct{ column, from, to int }

func stretchOf(file *os.File, column int, key uint64) (s stretch, err error) {
	row := make([]byte, 8)
	read := func(i int) uint64 {
		if _, failed := file.ReadAt(row, rowAt(column, i)); failed != nil {
			err = failed
		}
		return binary.BigEndian.Uint64(row)
	}
	s = stretch{column: column, from: sort.Search(segmentSize, func(i int) bool { return read(i) >= key })}
	s.to = s.from
	if s.from < segmentSize && read(s.from) == key {
		s.to += sort.Search(segmentSize-s.from, func(i int) bool { return read(s.from+i) > key })
	}
	return s, err
}

// places returns the places of the rows, ascending: as they are in the file.
func (s stretch) places(file *os.File) ([]uint16, error) {
	rows := make([]byte, (s.to-s.from)*rowLength)
	if _, err := file.ReadAt(rows, rowAt(s.column, s.from)); err != nil {
		return nil, err
	}
	places := make([]uint16, 0, s.to-s.from)
	for row := range slices.Chunk(rows, rowLength) {
		places = append(places, binary.BigEndian.Uint16(row[8:]))
	}
	return places, nil
}

// keep returns those of the places that the rows have, too. Where they are few of
// many rows it looks each up.
func (s stretch) keep(file *os.File, places []uint16) (kept []uint16, err error) {
	if len(places)*lookUp < s.to-s.from {
		place := make([]byte, 2)
		read := func(i int) uint16 {
			if _, failed := file.ReadAt(place, rowAt(s.column, s.from+i)+8); failed != nil {
				err = failed
			}
			return binary.BigEndian.Uint16(place)
		}
		kept = slices.DeleteFunc(places, func(p uint16) bool {
			i := sort.Search(s.to-s.from, func(i int) bool { return read(i) >= p })
			return i == s.to-s.from || read(i) != p
		})
		return kept, err
	}
	found, err := s.places(file)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(places, func(p uint16) bool { _, both := slices.BinarySearch(found, p); return !both }), nil
}

// lookUp is how many rows are read in the time that one place is looked up.
const lookUp = 256

// rowAt is where in the file a column's row is.
func rowAt(column, row int) int64 { return int64(headerLength + column*columnLength + row*rowLength) }

// bound turns a time into nanoseconds; the zero time is no bound.
func bound(t time.Time, none int64) int64 {
	switch year := t.UTC().Year(); {
	case t.IsZero():
		return none
	case year < firstYear:
		return math.MinInt64
	case year > lastYear:
		return math.MaxInt64
	}
	return t.UnixNano()
}
