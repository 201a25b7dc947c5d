package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is what a log signed of itself: so many entries, with this root hash
// over them (https://c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   Digest
}

// maxCheckpoint bounds the text of a checkpoint, with its signatures and those of
// witnesses.
const maxCheckpoint = 64 << 10

// maxSize bounds the size of a log that is believed, far above what any will
// have, so that sizes can be counted with safely.
const maxSize = 1 << 48

// Checkpoint reads the text of a checkpoint. It is believed if one of the keys
// signed it, and it is of their log.
func (v Verifiers) Checkpoint(text []byte) (Checkpoint, error) {
	if len(text) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("a checkpoint of more than %d bytes", maxCheckpoint)
	}
	n, err := note.Open(text, note.VerifierList(v.list...))
	if err != nil {
		if _, unverified := errors.AsType[*note.UnverifiedNoteError](err); unverified {
			return Checkpoint{}, fmt.Errorf("a checkpoint that none of the keys of log %q signed", v.origin)
		}
		return Checkpoint{}, fmt.Errorf("a checkpoint whose signature is wrong: %w", err)
	}
	for _, signature := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(signature.Base64); err != nil {
			return Checkpoint{}, errors.New("a checkpoint whose signature is not in its one form")
		}
	}
	c, err := parseCheckpoint(n.Text)
	if err == nil && c.Origin != v.origin {
		err = fmt.Errorf("a checkpoint of log %q, the keys are of log %q", c.Origin, v.origin)
	}
	return c, err
}

// parseCheckpoint reads what was signed: three lines, in their one form.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("a checkpoint of %d lines instead of 3", len(lines)-1)
	}
	c := Checkpoint{Origin: lines[0]}
	size, err := parseDecimal(lines[1])
	if err != nil || size > maxSize {
		return Checkpoint{}, fmt.Errorf("a checkpoint whose size is %q", lines[1])
	}
	c.Size = size
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || copy(c.Root[:], root) != len(root) || len(root) != len(c.Root) {
		return Checkpoint{}, fmt.Errorf("a checkpoint whose root hash is %q", lines[2])
	}
	return c, nil
}

// parseDecimal reads a number in its one form.
func parseDecimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err == nil && strconv.FormatUint(n, 10) != s {
		err = errors.New("not in its one form")
	}
	return n, err
}
