package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

func TestARecordIsReadOnlyIfItFollows(t *testing.T) {
	t.Parallel()
	r := newRing(t, 1)
	for range 3 {
		r.works(r.made(2))
	}
	first, second, root := r.recorded[0], r.recorded[1], r.recorded[0].root
	for name, row := range map[string]struct {
		size  uint64
		root  Digest
		spoil func(b []byte)
		want  int // -1: it must not be continued
	}{
		"nothing is in the tiles":                {want: 3},
		"one is":                                 {size: first.end, root: root, want: 2},
		"a part of one is":                       {size: first.end - 1, want: 3},
		"all are":                                {size: r.recorded[2].end, root: r.recorded[2].root},
		"another log of this size":               {size: first.end, root: second.root, want: -1},
		"the first is changed":                   {spoil: func(b []byte) { b[journalHeader+5] ^= 1 }, want: -1},
		"the first is changed, but in the tiles": {size: first.end, spoil: func(b []byte) { b[journalHeader+5] ^= 1 }, want: 2},
		"its first index is changed":             {spoil: func(b []byte) { b[len(journalForm)+7] ^= 1 }, want: -1},
		"its root hash is changed":               {spoil: func(b []byte) { b[len(journalForm)+16] ^= 1 }, want: -1},
		"the second is changed":                  {spoil: func(b []byte) { b[2*journalBlock+journalHeader+5] ^= 1 }, want: -1},
		"the last is changed":                    {spoil: func(b []byte) { b[4*journalBlock+journalHeader+5] ^= 1 }, want: 2},
		"the first is there twice":               {spoil: func(b []byte) { copy(b[8*journalBlock:], b[:2*journalBlock]) }, want: -1},
		"another takes its indices": {spoil: func(b []byte) {
			other := record{first: second.first, end: second.first + 1, entries: [][]byte{[]byte("other")}}
			copy(b[8*journalBlock:], other.encode())
		}, want: -1},
	} {
		content := slices.Clone(r.kept)
		if row.spoil != nil {
			row.spoil(content)
		}
		got, err := readJournal(content, row.size, row.root)
		if refused := errors.Is(err, errJournal); refused != (row.want < 0) || !refused && len(got) != row.want {
			t.Errorf("%s: got %v and %v, want %d", name, brief(got), err, row.want)
		}
	}
}

// Whatever the bytes are, what is taken for a record is one in its one form, and there
// are no more entries than the bytes can hold.
func FuzzReadJournal(f *testing.F) {
	one := record{first: 3, end: 5, entries: [][]byte{[]byte("one"), []byte("two")}}
	two := record{first: 5, end: 6, entries: [][]byte{bytes.Repeat([]byte("three"), 1000)}}
	f.Add(slices.Concat(one.encode(), two.encode()), uint64(4))
	f.Add(slices.Concat(two.encode(), one.encode()), uint64(3))
	f.Add(one.encode()[:journalHeader+3], uint64(0))
	f.Add([]byte(journalForm), uint64(0))
	f.Add(bytes.Repeat(append([]byte(journalForm), bytes.Repeat([]byte{0xff}, journalBlock-len(journalForm))...), 3), uint64(1))
	f.Fuzz(func(t *testing.T, content []byte, size uint64) {
		summed := slices.Clone(content) // as one would who knows how
		if len(summed) >= journalHeader {
			copy(summed, journalForm)
			length := min(int(binary.BigEndian.Uint32(summed[len(journalForm)+12:])), len(summed)-journalHeader)
			binary.BigEndian.PutUint32(summed[len(journalForm)+12:], uint32(length))
			body := summed[journalHeader : journalHeader+length]
			binary.BigEndian.PutUint32(summed[journalHeader-4:], journalSum(summed, body))
		}
		for _, content := range [][]byte{content, summed} {
			if r, length := decodeRecord(content); length > 0 && !bytes.Equal(r.encode()[:length], content[:length]) {
				t.Errorf("got %q, want what was read", r.encode()[:length])
			}
			records, err := readJournal(content, size, Digest{})
			if err != nil && !errors.Is(err, errJournal) {
				t.Errorf("got %v, want errJournal", err)
			}
			next, entries := size, 0
			for i, r := range records {
				if r.end <= next || r.first > next || i > 0 && r.first != next || r.end-r.first != uint64(len(r.entries)) {
					t.Errorf("after %d got %v", size, brief(records))
				}
				next, entries = r.end, entries+len(r.entries)
			}
			if 2*entries > len(content) {
				t.Errorf("got %d entries from %d bytes", entries, len(content))
			}
		}
	})
}
