package xades

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

var digestSink [32]byte

// BenchmarkJSONDigest reads and digests a document as digest and verify do, and
// compares its bytes a second with those of libxml2, which reads and canonicalizes
// an XML document of about that size in the same run.
func BenchmarkJSONDigest(b *testing.B) {
	libxml2, xml := compileLibxml2(b), benchmarked(b)
	invoice := read(b, "testdata/json/invoice-1.1.json")
	canonical, err := scanJSON(invoice, jsonOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		name string
		src  []byte
		opt  jsonOptions
		xml  []byte
	}{
		{"20KB-indented", invoice, jsonOptions{}, xml["9KB"]},
		{"8KB-minified", canonical.canonical, jsonOptions{}, xml["9KB"]},
		{"300KB-indented", manyLines(invoice, 290_000), jsonOptions{}, xml["290KB"]},
		{"300KB-minified", manyLines(canonical.canonical, 290_000), jsonOptions{}, xml["290KB"]},
		{"300KB-minified-safe-literals", manyLines(canonical.canonical, 290_000), jsonOptions{literals: literalsSafe}, xml["290KB"]},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.SetBytes(int64(len(row.src)))
			b.ReportAllocs()
			start := processorTime(b)
			for b.Loop() {
				d, err := scanJSON(row.src, row.opt)
				if err != nil {
					b.Fatal(err)
				}
				digestSink = sha256.Sum256(d.canonical)
			}
			own := float64(processorTime(b)-start) / float64(b.N) / float64(len(row.src))
			b.ReportMetric(libxml2(b, row.xml)/float64(len(row.xml))/own, "x-libxml2")
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
