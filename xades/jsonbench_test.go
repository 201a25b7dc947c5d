package xades

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

var digestSink [32]byte

// BenchmarkJSONDigest reads and digests a document as digest and verify do.
func BenchmarkJSONDigest(b *testing.B) {
	invoice := read(b, "testdata/json/invoice-1.1.json")
	canonical, err := scanJSON(invoice, jsonOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		name string
		src  []byte
		opt  jsonOptions
	}{
		{"20KB-indented", invoice, jsonOptions{}},
		{"8KB-minified", canonical.canonical, jsonOptions{}},
		{"300KB-indented", manyLines(invoice, 290_000), jsonOptions{}},
		{"300KB-minified", manyLines(canonical.canonical, 290_000), jsonOptions{}},
		{"300KB-minified-safe-literals", manyLines(canonical.canonical, 290_000), jsonOptions{literals: literalsSafe}},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.SetBytes(int64(len(row.src)))
			b.ReportAllocs()
			for b.Loop() {
				d, err := scanJSON(row.src, row.opt)
				if err != nil {
					b.Fatal(err)
				}
				digestSink = sha256.Sum256(d.canonical)
			}
		})
	}
}

// manyLines repeats a document's invoice lines until it has about size bytes.
func manyLines(src []byte, size int) []byte {
	name := bytes.Index(src, []byte(`"InvoiceLine"`))
	first := name + bytes.IndexByte(src[name:], '[') + 1
	last := bytes.LastIndexByte(src, ']')
	last = bytes.LastIndexByte(src[:last], ']')
	lines := bytes.TrimSpace(src[first:last])
	long := append([]byte{}, src[:first]...)
	for len(long)+len(lines) < size {
		long = append(append(long, lines...), ',')
	}
	return append(append(long, lines...), src[last:]...)
}
