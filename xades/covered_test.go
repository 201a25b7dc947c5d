package xades

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
)

// Every bit of what the signature covers is turned round, in the signed file.
func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{"XML": minimal("<cbc:Note n='é'>a &amp; b</cbc:Note>"), "JSON": smallJSON} {
		t.Run(name, func(t *testing.T) {
			draft, err := Prepare([]byte(document), testCertificate(t), signingTime, Options{})
			if err != nil {
				t.Fatal(err)
			}
			out := completed(t, draft)
			judged(t, out, "")
			covered := coveredBytes(t, out, draft.Canonical())
			var all sync.WaitGroup
			for part := range runtime.NumCPU() {
				all.Go(func() {
					for i := part; i < len(covered); i += runtime.NumCPU() {
						flipBits(t, out, covered[i], draft.DocDigest())
					}
				})
			}
			all.Wait()
		})
	}
}

// flipBits turns round each bit of one byte, and asserts that it is found: the
// document has another digest then, or none. That another digest makes a document
// invalid is asserted of one of the bits.
func flipBits(t *testing.T, document []byte, at int, digest [32]byte) {
	t.Helper()
	changed := bytes.Clone(document)
	for bit := range 8 {
		changed[at] = document[at] ^ 1<<bit
		if got, err := DigestAsIs(changed); err == nil && got == digest {
			t.Errorf("bit %d of byte %d (%q for %q) is not found", bit, at, changed[at], document[at])
		}
	}
	changed[at] = document[at] ^ 1<<(at%8)
	if r := Verify(changed, VerifyOptions{}); r.Valid() {
		t.Errorf("with bit %d of byte %d turned round it is valid", at%8, at)
	}
}

// coveredBytes gives the offsets in a signed document of the canonical bytes:
// what is left of it without one or two blocks is the canonical form.
func coveredBytes(t *testing.T, document, canonical []byte) (offsets []int) {
	t.Helper()
	blocks := [][2]string{{`,"UBLExtensions":[`, `}]}]`}} // the block ends as the JSON document does, see below
	if document[0] == '<' {
		blocks = [][2]string{{"<UBLExtensions", "</UBLExtensions>"}, {"<cac:Signature", "</cac:Signature>"}}
	}
	out := make([]bool, len(document))
	for _, block := range blocks {
		from := bytes.Index(document, []byte(block[0]))
		to := bytes.Index(document, []byte(block[1])) + len(block[1])
		if document[0] == '{' {
			to = len(document) - len(`}]}`)
		}
		if from < 0 || to < from {
			t.Fatalf("no %s in the document", block[0])
		}
		for i := from; i < to; i++ {
			out[i] = true
		}
	}
	var left []byte
	for i, blocked := range out {
		if !blocked {
			offsets, left = append(offsets, i), append(left, document[i])
		}
	}
	sameBytes(t, "what is left without the blocks", left, canonical)
	return offsets
}
