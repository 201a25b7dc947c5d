package audit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// The journal of a directory is a file of one size, written through batch by batch,
// round and round: what an entry waits for. A batch stands there until it stands in
// the tiles as well. Nothing is allocated, renamed or deleted for one, so it costs
// one write that the disk confirms.
//
// A record of a batch begins at a multiple of journalBlock: the header, then the
// entries as in a bundle, then zeros to the block's end. All numbers are big-endian.
//
// The header: 8 bytes that name the form, which no entry can hold; the index of the
// first entry (8 bytes); how many there are (4) and of how many bytes (4); the root
// hash of the log with all of them (32); and a CRC-32C of what the header has before
// it and of the entries (4).
const (
	journalForm   = "rsjnl\x00\x00\x01"
	journalHeader = len(journalForm) + 8 + 4 + 4 + len(Digest{}) + 4
	journalBlock  = 4 << 10
	journalBlocks = 512
	journalSize   = journalBlocks * journalBlock // of some batches of batchBytes
)

// record is a batch in the journal: entries first to end-1, with which the log has
// this root.
type record struct {
	first, end uint64
	root       Digest
	entries    [][]byte
}

// encode returns the record as it stands in the journal.
func (r *record) encode() []byte {
	length := 0
	for _, entry := range r.entries {
		length += 2 + len(entry)
	}
	blocks := (journalHeader + length + journalBlock - 1) / journalBlock
	b := append(make([]byte, 0, blocks*journalBlock), journalForm...)
	b = binary.BigEndian.AppendUint64(b, r.first)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.entries)))
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	b = append(b, r.root[:]...)
	body := b[journalHeader : journalHeader : journalHeader+length]
	for _, entry := range r.entries {
		body = binary.BigEndian.AppendUint16(body, uint16(len(entry)))
		body = append(body, entry...)
	}
	binary.BigEndian.PutUint32(b[journalHeader-4:journalHeader], journalSum(b, body))
	return b[:cap(b)]
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func journalSum(header, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:journalHeader-4], castagnoli), castagnoli, body)
}

// decodeRecord reads the record that begins here, if one does that is whole, and
// returns its length without the zeros at its end. Length 0 says that it is none.
func decodeRecord(b []byte) (r record, length int) {
	if !bytes.HasPrefix(b, []byte(journalForm)) || len(b) < journalHeader {
		return record{}, 0
	}
	numbers := b[len(journalForm):]
	first, count, size := binary.BigEndian.Uint64(numbers), binary.BigEndian.Uint32(numbers[8:]), binary.BigEndian.Uint32(numbers[12:])
	if first > maxSize || count == 0 || int64(size) > int64(len(b)-journalHeader) {
		return record{}, 0
	}
	body := b[journalHeader : journalHeader+int(size)]
	if binary.BigEndian.Uint32(b[journalHeader-4:]) != journalSum(b, body) {
		return record{}, 0
	}
	entries, err := split(body)
	if err != nil || len(entries) != int(count) {
		return record{}, 0
	}
	return record{first, first + uint64(count), Digest(numbers[16:]), entries}, journalHeader + int(size)
}

// journal is the open journal of a directory. Safe for concurrent use.
type journal struct {
	path     string
	identity os.FileInfo
	through  func(file *os.File, content []byte, offset int64) error // writeThrough

	mu       sync.Mutex
	next     int      // the block where the next record goes
	held     []blocks // where records are that are not in the tiles yet, in their order
	doubtful bool     // the write before failed, and may have been done all the same
}

// blocks are where a record is, and which entry follows it.
type blocks struct {
	end      uint64
	from, to int
}

var errJournalFull = errors.New("the journal is full of entries that are not in the tiles yet")

// place finds where a record of so many blocks goes.
func (j *journal) place(count int) (int, error) {
	if len(j.held) == 0 {
		return 0, nil
	}
	oldest := j.held[0].from
	switch {
	case j.next > oldest && j.next+count <= journalBlocks:
		return j.next, nil
	case j.next > oldest && count <= oldest:
		return 0, nil
	case j.next <= oldest && j.next+count <= oldest:
		return j.next, nil
	}
	return 0, errJournalFull
}

// write puts a record down, which is on the disk when it returns. With an error it
// may be there or not. Nobody needs what is in the tiles, the first entries, any more.
func (j *journal) write(r *record, inTiles uint64) error {
	content := r.encode()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.free(inTiles)
	count := len(content) / journalBlock
	at, err := j.place(count)
	if err != nil {
		return err
	}
	if j.doubtful { // else two records could claim the same entries
		if err := j.put(j.next, make([]byte, journalBlock)); err != nil {
			return err
		}
		j.doubtful = false
	}
	j.next = at
	if err := j.put(at, content); err != nil {
		j.doubtful = true
		return err
	}
	j.held = append(j.held, blocks{r.end, at, at + count})
	j.next = at + count
	return nil
}

// halfFull reports whether half of the journal is not in the tiles yet.
func (j *journal) halfFull() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.held) == 0 {
		return false
	}
	used := j.next - j.held[0].from
	if used <= 0 {
		used += journalBlocks
	}
	return used >= journalBlocks/2
}

// put writes blocks through. The file is opened for it, since who has one open for
// writing holds off a remount; and it must be the one that was read.
func (j *journal) put(at int, content []byte) (err error) {
	file, err := os.OpenFile(j.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if now, err := file.Stat(); err != nil {
		return err
	} else if !os.SameFile(now, j.identity) {
		return fmt.Errorf("%s is not the file that was opened: start again to use it", j.path)
	}
	return j.through(file, content, int64(at)*journalBlock)
}

// try finds out whether a record could be written: by writing where the next one
// goes that it is none. The first entries, so many, are in the tiles.
func (j *journal) try(inTiles uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.free(inTiles)
	at, err := j.place(1)
	if err == nil {
		err = j.put(at, make([]byte, journalBlock))
	}
	return err
}

// free lets go of what is in the tiles: all entries before end.
func (j *journal) free(end uint64) {
	left := slices.IndexFunc(j.held, func(b blocks) bool { return b.end > end })
	if left < 0 {
		left = len(j.held)
	}
	j.held = slices.Delete(j.held, 0, left)
}

// clear overwrites the journal, all of which is in the tiles. After a write that
// failed the kernel shows what the disk may not have, until the machine starts anew:
// where it shows no record, there could be one then that takes the indices of others.
// It takes what was read of the journal, and needs it for the purpose.
func (j *journal) clear(content []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(content)
	return j.put(0, content)
}

// errJournal is the error of a journal that must not be continued.
var errJournal = errors.New("the journal is damaged, or of another log: entries that were released may be missing")

// readJournal returns what a log of this size and root hash has in its journal and
// not in its tiles: records that follow one another, the first of which may begin
// before. Those before it were left over, and one at the end that is not whole was
// never confirmed.
func readJournal(content []byte, size uint64, root Digest) ([]record, error) {
	var after []record
	for at := 0; at < len(content); {
		r, length := decodeRecord(content[at:])
		at += max(1, (length+journalBlock-1)/journalBlock) * journalBlock
		switch {
		case r.end > size:
			after = append(after, r)
		case r.end == size && length > 0 && r.root != root:
			return nil, fmt.Errorf("%w: the first %d entries have another root hash than was recorded", errJournal, size)
		}
	}
	slices.SortFunc(after, func(x, y record) int { return cmp.Compare(x.first, y.first) })
	next := size
	for i, r := range after {
		if r.first != next && (i > 0 || r.first > next) {
			return nil, fmt.Errorf("%w: entries %d and on are in it, %d are not", errJournal, r.first, next)
		}
		next = r.end
	}
	return after, nil
}

// fillJournal makes a journal of a file that is empty, or was not filled to its end,
// and returns what is in it.
func fillJournal(path string) (content []byte, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	content = make([]byte, journalSize)
	length, err := io.ReadFull(file, content)
	switch {
	case err == nil && info.Size() == journalSize:
		return content, nil
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, err
	case info.Size() > journalSize || len(bytes.Trim(content[:length], "\x00")) > 0:
		return nil, fmt.Errorf("%s has %d bytes instead of %d: %w", path, info.Size(), journalSize, errJournal)
	}
	if _, err := file.WriteAt(content, 0); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	return content, nil
}

// writeThrough writes what is on the disk when it returns, in a file that is long
// enough already.
func writeThrough(file *os.File, content []byte, offset int64) error {
	if _, err := file.WriteAt(content, offset); err != nil {
		return err
	}
	for {
		err := unix.Fdatasync(int(file.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
