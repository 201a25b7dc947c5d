package xades

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// benchmarked are the documents whose speed counts: an invoice of the official
// sample's size, and one near LHDN's limit.
func benchmarked(tb testing.TB) map[string][]byte {
	tb.Helper()
	invoice := read(tb, "testdata/xml/invoice-1.1.xml")
	return map[string][]byte{"9KB": invoice, "290KB": manyXMLLines(tb, invoice, 290_000)}
}

// manyXMLLines repeats a document's invoice lines until it has about size bytes.
func manyXMLLines(tb testing.TB, document []byte, size int) []byte {
	tb.Helper()
	from := bytes.Index(document, []byte("<cac:InvoiceLine>"))
	end := []byte("</cac:InvoiceLine>")
	to := bytes.LastIndex(document, end) + len(end)
	if from < 0 || to < from {
		tb.Fatal("no invoice lines")
	}
	lines := append([]byte("\n  "), document[from:to]...)
	count := max(0, (size-len(document))/len(lines))
	return bytes.Join([][]byte{document[:to], bytes.Repeat(lines, count), document[to:]}, nil)
}

// BenchmarkXMLDigest reads and digests a document as digest and verify do, and
// compares that with libxml2's reading and canonicalizing in the same run.
func BenchmarkXMLDigest(b *testing.B) {
	libxml2 := compileLibxml2(b)
	for name, document := range benchmarked(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			start := processorTime(b)
			for b.Loop() {
				d, err := scanXML(document, xmlOptions{})
				if err != nil {
					b.Fatal(err)
				}
				digestSink = sha256.Sum256(d.canonical)
			}
			own := float64(processorTime(b)-start) / float64(b.N)
			b.ReportMetric(own, "cpu-ns/op")
			b.ReportMetric(libxml2(b, document)/own, "x-libxml2")
		})
	}
}

// processorTime is what this process has spent so far. Unlike the time on the
// wall it stands still while others have the processor.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// compileLibxml2 builds the C program that is the yardstick, and returns how
// long it takes for one document in nanoseconds.
func compileLibxml2(b *testing.B) func(*testing.B, []byte) float64 {
	b.Helper()
	dir := b.TempDir()
	binary := filepath.Join(dir, "c14n")
	flags := strings.Fields(program(b, "xml2-config", "--cflags", "--libs"))
	program(b, "gcc", append([]string{"-O2", "-o", binary, "testdata/libxml2/c14n.c"}, flags...)...)
	return func(b *testing.B, document []byte) float64 {
		b.Helper()
		file := filepath.Join(dir, "document.xml")
		if err := os.WriteFile(file, document, 0o600); err != nil {
			b.Fatal(err)
		}
		count := 1 + 10_000_000/len(document)
		took, err := strconv.ParseFloat(strings.TrimSpace(program(b, binary, file, strconv.Itoa(count))), 64)
		if err != nil {
			b.Fatal(err)
		}
		return took
	}
}

// BenchmarkPrepareComplete signs the 9 KB invoice. Of the RSA operations there is
// only the check of the signature within Complete, which is measured by itself in
// turn with it: us-without-rsa is the median of the one less that of the other.
func BenchmarkPrepareComplete(b *testing.B) {
	cert, public := testCertificate(b), &testKey(b, 2048).PublicKey
	for name, document := range map[string][]byte{
		"XML": read(b, "testdata/xml/invoice-1.1.xml"), "JSON": read(b, "testdata/json/invoice-1.1.json"),
	} {
		b.Run(name, func(b *testing.B) {
			leaf := NewLeaf(cert) // as whoever signs many documents has it
			draft, err := leaf.Prepare(document, signingTime, Options{})
			if err != nil {
				b.Fatal(err)
			}
			signature, digest := signatureOf(b, draft), draft.DocDigest()
			sign := func() {
				draft, err := leaf.Prepare(document, signingTime, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := draft.Complete(signature); err != nil {
					b.Fatal(err)
				}
			}
			check := func() {
				if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); err != nil {
					b.Fatal(err)
				}
			}
			var signs, checks []time.Duration
			for b.Loop() {
				signs, checks = append(signs, timed(sign)), append(checks, timed(check))
			}
			signing, checking := median(signs), median(checks)
			b.ReportMetric(float64(signing.Nanoseconds()), "ns/op") // without the check in turn with it
			b.ReportMetric(float64((signing-checking).Nanoseconds())/1000, "us-without-rsa")
			b.ReportMetric(float64(checking.Nanoseconds())/1000, "us-rsa")
			size, count := allocated(sign)
			b.ReportMetric(size, "B/op")
			b.ReportMetric(count, "allocs/op")
		})
	}
}

func timed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// allocated is how many bytes a run allocates, and in how many pieces.
func allocated(do func()) (size, count float64) {
	const runs = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		do()
	}
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / runs, float64(after.Mallocs-before.Mallocs) / runs
}

func BenchmarkVerify(b *testing.B) {
	for name, document := range benchmarked(b) {
		out := signed(b, document, Options{})
		b.Run(fmt.Sprintf("XML-%s", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := Verify(out, VerifyOptions{}); !r.Valid() {
					b.Fatal(errorCodes(r))
				}
			}
		})
	}
}
