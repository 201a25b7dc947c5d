package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/roamsign/roamsign/internal/fault"
)

// receiptLine is the first line of a receipt (https://c2sp.org/tlog-proof).
const receiptLine = "c2sp.org/tlog-proof@v1"

// Bounds of a receipt: a tree of less than 2^63 entries has proofs of at most 63
// hashes.
const (
	maxProof   = 63
	maxReceipt = maxCheckpoint + 2*MaxEntry + 64*maxProof
)

// Origin returns the log's name, as its checkpoints have it.
func (l *Log) Origin() string { return l.keys[0].Name() }

// ErrNoEntry is the error of an index that no entry has.
var ErrNoEntry = errors.New("the log has no such entry")

// Published returns the newest checkpoint, verified under the log's own keys.
func (l *Log) Published(ctx context.Context) (Checkpoint, error) {
	c, _, err := l.published(ctx)
	return c, err
}

func (l *Log) published(ctx context.Context) (Checkpoint, []byte, error) {
	verifiers, err := verifiersOf(l.keys)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	text, err := l.Source().Checkpoint(ctx)
	if err != nil {
		return Checkpoint{}, nil, unavailable(fmt.Errorf("reading the checkpoint: %w", err))
	}
	c, err := verifiers.Checkpoint(text)
	return c, text, err
}

// Entry returns the entry of an index. Errors are [ErrNoEntry], or of kind
// LogUnavailable.
func (l *Log) Entry(ctx context.Context, index uint64) (Entry, error) {
	reading, err := l.reading(ctx, index)
	if err != nil {
		return Entry{}, err
	}
	_, e, err := reading.entry(ctx, index)
	return e, err
}

// reading returns what reads the log, the entry of this index included. Errors are
// [ErrNoEntry], or of kind LogUnavailable.
func (l *Log) reading(ctx context.Context, index uint64) (*bundleReader, error) {
	size, err := l.readable(ctx, index+1)
	switch known := l.size.Load(); {
	case err != nil:
		return nil, err
	case index < size:
		return &bundleReader{source: l.Source(), size: size}, nil
	case index < known:
		return nil, unavailable(fmt.Errorf("reading entry %d: it is on record, and cannot be read while the log cannot be written", index))
	}
	return nil, noEntry(index, size)
}

func noEntry(index, size uint64) error {
	return fault.New(fault.NotAllowed, "entry %d of %d: %w", index, size, ErrNoEntry)
}

// bundleReader reads single entries of a log of this size, and keeps the bundle
// that it read last.
type bundleReader struct {
	source Source
	size   uint64

	number uint64   // of the bundle kept
	lines  [][]byte // its entries; none: no bundle is kept
}

// entry reads one entry, and its bytes.
func (r *bundleReader) entry(ctx context.Context, index uint64) ([]byte, Entry, error) {
	if index >= r.size {
		return nil, Entry{}, noEntry(index, r.size)
	}
	if number := index / tileWidth; r.lines == nil || r.number != number {
		bundle, err := r.source.Entries(ctx, number, widthAt(number, r.size))
		if err != nil {
			return nil, Entry{}, unavailable(fmt.Errorf("reading entry %d: %w", index, err))
		}
		if r.lines, err = split(bundle); err != nil {
			return nil, Entry{}, fmt.Errorf("reading entry %d: %w", index, err)
		}
		r.number = number
	}
	if uint64(len(r.lines)) <= index%tileWidth {
		return nil, Entry{}, fmt.Errorf("reading entry %d: its bundle is cut off", index)
	}
	line := r.lines[index%tileWidth]
	e, err := ParseEntry(line)
	if err != nil {
		return nil, Entry{}, fmt.Errorf("reading entry %d: %w", index, err)
	}
	return line, e, nil
}

// Receipt returns the proof that an entry is in the log: entry, inclusion proof
// and checkpoint, in the text form of https://c2sp.org/tlog-proof. An entry that no
// checkpoint holds yet has none: the error is of kind ReceiptPending and says when
// to ask again. An index that no entry has is [ErrNoEntry].
func (l *Log) Receipt(ctx context.Context, index uint64) ([]byte, error) {
	reading, err := l.reading(ctx, index)
	if err != nil {
		return nil, err
	}
	source := reading.source
	line, _, err := reading.entry(ctx, index)
	if err != nil {
		return nil, err
	}
	checkpoint, text, err := l.published(ctx)
	if err != nil {
		return nil, err
	}
	if checkpoint.Size <= index {
		return nil, &fault.Error{
			Kind: fault.ReceiptPending, RetryAfter: l.config.checkpointInterval(),
			Err: fmt.Errorf("a receipt of entry %d: the newest checkpoint has %d entries", index, checkpoint.Size),
		}
	}
	nodes, err := proof.Inclusion(index, checkpoint.Size)
	if err != nil {
		return nil, fmt.Errorf("proving entry %d: %w", index, err)
	}
	hashes := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		if hashes[i], err = nodeHash(ctx, source, id, checkpoint.Size); err != nil {
			return nil, unavailable(fmt.Errorf("proving entry %d: %w", index, err))
		}
	}
	if hashes, err = nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren); err != nil {
		return nil, fmt.Errorf("proving entry %d: %w", index, err)
	}
	err = proof.VerifyInclusion(rfc6962.DefaultHasher, index, checkpoint.Size, leafHash(line), hashes, checkpoint.Root[:])
	if err != nil {
		return nil, fmt.Errorf("proving entry %d: the log's files do not agree: %w", index, err)
	}
	return writeReceipt(line, index, hashes, text), nil
}

func writeReceipt(line []byte, index uint64, hashes [][]byte, checkpoint []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", receiptLine, base64.StdEncoding.EncodeToString(line), index)
	for _, hash := range hashes {
		fmt.Fprintln(&b, base64.StdEncoding.EncodeToString(hash))
	}
	b.WriteByte('\n')
	b.Write(checkpoint)
	return b.Bytes()
}

// Receipt is what a receipt proves: that the log has this entry at this index,
// since before it had Checkpoint.Size entries.
type Receipt struct {
	Entry      Entry
	Index      uint64
	Checkpoint Checkpoint
}

// VerifyReceipt checks a receipt of [Log.Receipt] under the log's verifier keys. It
// needs nothing else. What it returns without error is proven; it says nothing of
// the signature itself, which the signed document has to show.
func VerifyReceipt(text []byte, verifiers Verifiers) (Receipt, error) {
	r, err := verifyReceipt(text, verifiers)
	if err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	return r, nil
}

func verifyReceipt(text []byte, verifiers Verifiers) (Receipt, error) {
	if len(text) > maxReceipt {
		return Receipt{}, fmt.Errorf("more than %d bytes", maxReceipt)
	}
	head, checkpoint, found := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != receiptLine {
		return Receipt{}, fmt.Errorf("the first line is not %q, or no checkpoint follows", receiptLine)
	}
	if len(lines) < 3 || len(lines) > 3+maxProof {
		return Receipt{}, errors.New("no entry and index, or too many lines")
	}
	extra, isExtra := strings.CutPrefix(lines[1], "extra ")
	number, isIndex := strings.CutPrefix(lines[2], "index ")
	if !isExtra || !isIndex {
		return Receipt{}, errors.New("the entry (extra) and its index do not follow in this order")
	}
	line, err := base64.StdEncoding.Strict().DecodeString(extra)
	if err != nil {
		return Receipt{}, fmt.Errorf("the entry: %w", err)
	}
	index, err := parseDecimal(number)
	if err != nil {
		return Receipt{}, fmt.Errorf("the index: %w", err)
	}
	hashes := make([][]byte, len(lines)-3)
	for i, hash := range lines[3:] {
		if hashes[i], err = base64.StdEncoding.Strict().DecodeString(hash); err != nil || len(hashes[i]) != len(Digest{}) {
			return Receipt{}, fmt.Errorf("line %d is not a hash", i+4)
		}
	}
	signed, err := verifiers.Checkpoint([]byte(checkpoint))
	if err != nil {
		return Receipt{}, err
	}
	if index >= signed.Size {
		return Receipt{}, fmt.Errorf("entry %d of a checkpoint over %d", index, signed.Size)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, signed.Size, leafHash(line), hashes, signed.Root[:]); err != nil {
		return Receipt{}, fmt.Errorf("it does not prove that entry %d is in the log: %w", index, err)
	}
	if !bytes.Equal(writeReceipt(line, index, hashes, []byte(checkpoint)), text) {
		return Receipt{}, errors.New("not in its one form") // base64 with line breaks
	}
	e, err := ParseEntry(line)
	if err != nil {
		return Receipt{}, fmt.Errorf("the entry: %w", err)
	}
	return Receipt{e, index, signed}, nil
}
