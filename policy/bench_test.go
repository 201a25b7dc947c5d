package policy

import (
	"fmt"
	"strings"
	"testing"
)

// large is a policy of 10,000 taxpayers and 1,000 callers: half of them with a
// group of 1,000 taxpayers, half with a list of 10 of their own.
func large() []byte {
	tin := func(n int) string { return fmt.Sprintf("C2%07d0", n) }
	var b strings.Builder
	b.WriteString("taxpayers:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "  - tin: %s\n    brn: \"2020%08d\"\n    name: Syarikat Contoh %d Sdn. Bhd.\n    from: 2025-01-01\n    to: 2029-12-31\n    rights: [submit, cancel, view]\n", tin(i), i, i)
	}
	b.WriteString("groups:\n")
	for g := range 10 {
		fmt.Fprintf(&b, "  group-%d:\n", g)
		for i := range 1000 {
			fmt.Fprintf(&b, "    - %s\n", tin(g*1000+i))
		}
	}
	b.WriteString("callers:\n")
	for c := range 1000 {
		fmt.Fprintf(&b, "  - name: spiffe://example.com/caller/%d\n    methods: [SignDigest, SignDigests, GetCertificate, GetReceipt]\n    limits: {rate: 50, burst: 100, daily: 20000, concurrent: 64, weight: 3}\n", c)
		if c%2 == 0 {
			fmt.Fprintf(&b, "    taxpayers: [group-%d]\n", c/2%10)
			continue
		}
		b.WriteString("    taxpayers:\n")
		for i := range 10 {
			fmt.Fprintf(&b, "      - %s\n", tin((c*10+i)%10_000))
		}
	}
	return []byte(b.String())
}

// BenchmarkParse reads it, as a reload does beside the requests in flight.
func BenchmarkParse(b *testing.B) {
	text := large()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, text := range map[string][]byte{"small": []byte(file), "large": large()} {
		p, err := Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		who, tin := erp, windowed
		if name == "large" {
			who, tin = "spiffe://example.com/caller/998", "C200090000"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Decide(who, SignDigest, tin, some, first); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTaxpayers(b *testing.B) {
	p, err := Parse(large())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if list := p.Taxpayers("spiffe://example.com/caller/998", some, first); len(list) != 1000 {
			b.Fatalf("got %d", len(list))
		}
	}
}

func TestDecisionsAreMadeWithoutAllocating(t *testing.T) {
	p := parsed(t)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := p.Decide(erp, SignDigest, windowed, some, first); err != nil {
			t.Fatal(err)
		}
		if _, err := p.DecideRead(erp, GetReceipt, erp, windowed); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
