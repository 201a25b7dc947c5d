package xades

import "testing"

// However long a document is, it is read with a few allocations: what grows is
// their size. The bounds leave room for other versions of Go.
func TestAllocationsAreFewAndDoNotGrowWithTheDocument(t *testing.T) {
	invoice := read(t, "testdata/json/invoice-1.1.json")
	documents := map[string][]byte{"JSON": invoice, "long JSON": manyLines(invoice, 290_000)}
	for name, document := range benchmarked(t) {
		documents["XML of "+name] = document
	}
	cert := testCertificate(t)
	for name, document := range documents {
		t.Run(name, func(t *testing.T) {
			for _, row := range []struct {
				what string
				most float64
				do   func() error
			}{
				{"DigestAsIs", 100, func() error { _, err := DigestAsIs(document); return err }},
				{"Prepare", 300, func() error { _, err := Prepare(document, cert, signingTime, Options{}); return err }},
			} {
				if err := row.do(); err != nil {
					t.Fatalf("%s: %v", row.what, err)
				}
				if got := testing.AllocsPerRun(5, func() { _ = row.do() }); got > row.most {
					t.Errorf("%s makes %v allocations, want at most %v", row.what, got, row.most)
				}
			}
		})
	}
}
