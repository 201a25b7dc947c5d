package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// What follows is written from the texts of RFC 6962 and of the C2SP
// specifications alone. It shares no code with what it judges.

// merkleTreeHash is MTH of RFC 6962, section 2.1.
func merkleTreeHash(entries [][]byte) [32]byte {
	switch n := len(entries); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, entries[0]...))
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		left, right := merkleTreeHash(entries[:k]), merkleTreeHash(entries[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}

// climb computes the root hash from a leaf and its audit path, as the definition
// of PATH in section 2.1.1 has it, from the top down: the last hash of the path is
// that of the half which the leaf is not in.
func climb(leaf [32]byte, index, size uint64, path [][32]byte) ([32]byte, error) {
	if size <= 1 {
		if len(path) > 0 {
			return leaf, errors.New("the path is too long")
		}
		return leaf, nil
	}
	if len(path) == 0 {
		return leaf, errors.New("the path is too short")
	}
	k := uint64(1)
	for k*2 < size {
		k *= 2
	}
	sibling, rest := path[len(path)-1], path[:len(path)-1]
	if index < k {
		left, err := climb(leaf, index, k, rest)
		return sha256.Sum256(append(append([]byte{1}, left[:]...), sibling[:]...)), err
	}
	right, err := climb(leaf, index-k, size-k, rest)
	return sha256.Sum256(append(append([]byte{1}, sibling[:]...), right[:]...)), err
}

// foreignVerify checks a receipt (https://c2sp.org/tlog-proof) under one verifier
// key (https://c2sp.org/signed-note) and returns its entry and index.
func foreignVerify(receipt []byte, vkey string) (entry []byte, index uint64, err error) {
	head, checkpoint, _ := bytes.Cut(receipt, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return nil, 0, errors.New("not a tlog-proof with extra data")
	}
	if entry, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra ")); err != nil {
		return nil, 0, err
	}
	if index, err = strconv.ParseUint(strings.TrimPrefix(lines[2], "index "), 10, 64); err != nil {
		return nil, 0, err
	}
	var path [][32]byte
	for _, line := range lines[3:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(hash) != 32 {
			return nil, 0, fmt.Errorf("%q is no hash", line)
		}
		path = append(path, [32]byte(hash))
	}
	size, root, err := foreignCheckpoint(checkpoint, vkey)
	if err != nil {
		return nil, 0, err
	}
	if index >= size {
		return nil, 0, errors.New("the index is beyond the tree")
	}
	got, err := climb(sha256.Sum256(append([]byte{0}, entry...)), index, size, path)
	if err == nil && got != root {
		err = errors.New("the path leads to another root")
	}
	return entry, index, err
}

// foreignCheckpoint checks a signed checkpoint.
func foreignCheckpoint(checkpoint []byte, vkey string) (size uint64, root [32]byte, err error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, key, _ := strings.Cut(rest, "+")
	public, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(public) != 33 || public[0] != 1 {
		return 0, root, errors.New("not an Ed25519 verifier key")
	}
	id := sha256.Sum256(append([]byte(name+"\n"), public...))
	text, signatures, _ := strings.Cut(string(checkpoint), "\n\n")
	text += "\n"
	signed := false
	for line := range strings.Lines(signatures) {
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(words) != 3 || words[0] != "—" || words[1] != name {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(words[2])
		if err == nil && len(signature) == 68 && binary.BigEndian.Uint32(signature) == binary.BigEndian.Uint32(id[:]) {
			signed = signed || ed25519.Verify(public[1:], []byte(text), signature[4:])
		}
	}
	lines := strings.Split(text, "\n")
	if !signed || len(lines) < 4 || lines[0] != name {
		return 0, root, errors.New("not signed, or of another log")
	}
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(hash) != 32 {
		return 0, root, errors.New("no root hash")
	}
	size, err = strconv.ParseUint(lines[1], 10, 64)
	return size, [32]byte(hash), err
}

// The foreign judge itself is held against the test vectors that RFC 6962's first
// implementation published: the root of the empty tree and of a single empty leaf.
func TestTheForeignJudgeKnowsItsHashes(t *testing.T) {
	for name, row := range map[string]struct {
		entries [][]byte
		want    string
	}{
		"no entry":         {nil, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		"one empty entry":  {[][]byte{{}}, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
		"an entry of 0x00": {[][]byte{{}, {0}}, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
	} {
		if got := merkleTreeHash(row.entries); fmt.Sprintf("%x", got) != row.want {
			t.Errorf("%s: got %x, want %s", name, got, row.want)
		}
	}
}
