package bench

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"
)

// pace is how long is measured.
type pace struct {
	rounds   int           // of each contender
	few      int           // rounds of what takes long
	span     time.Duration // of a round
	invoices int           // for SignAll
	settle   time.Duration // how long memory may take to be given back
	flood    time.Duration // how long a flood lasts at most
	singles  int           // signatures beside a flood
	bench    string        // -benchtime of other packages' benchmarks
	count    string        // and their -count
}

var (
	thorough = pace{rounds: 5, few: 3, span: time.Second, invoices: 10_000, settle: 3 * time.Minute, flood: 30 * time.Second, singles: 400, bench: "300ms", count: "3"}
	quick    = pace{rounds: 2, few: 1, span: 100 * time.Millisecond, invoices: 500, settle: time.Second, flood: time.Second, singles: 25, bench: "15ms", count: "1"}
)

// BenchmarkTable measures everything once, prints the table, and writes it as
// JSON where BENCH_JSON says. QUICK=1 is quick and rough. BENCH_ROWS, a regular
// expression, picks rows. BENCH_CHECK names the record to compare with: rows that
// lost are measured once more, and the benchmark fails for those that lose again.
func BenchmarkTable(b *testing.B) {
	p := thorough
	if os.Getenv("QUICK") != "" {
		p = quick
	}
	only, err := regexp.Compile(os.Getenv("BENCH_ROWS"))
	if err != nil {
		b.Fatal(err)
	}
	if !slices.ContainsFunc(scenes, func(s scene) bool { return slices.ContainsFunc(s.rows, only.MatchString) }) {
		b.Fatalf("no row is named like %q", only)
	}
	s := newStage(b, p)
	rows := s.measure(only.MatchString)
	if err := printRows(os.Stdout, rows); err != nil {
		b.Fatal(err)
	}
	if path := os.Getenv("BENCH_JSON"); path != "" {
		s.check(save(path, rows))
	}
	if path := os.Getenv("BENCH_CHECK"); path != "" {
		record, err := recorded(path)
		s.check(err)
		record = slices.DeleteFunc(record, func(r row) bool { return !only.MatchString(r.Name) })
		s.hold(record, rows)
	}
	b.ReportMetric(0, "ns/op")
}

// measure plays the scenes of the rows that are wanted.
func (s *stage) measure(wanted func(name string) bool) (rows []row) {
	for _, scene := range scenes {
		if !slices.ContainsFunc(scene.rows, wanted) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%v ... ", scene.rows)
		began := time.Now()
		for _, r := range scene.play(s) {
			r.judge()
			rows = append(rows, r)
		}
		fmt.Fprintf(os.Stderr, "%.0f s\n", time.Since(began).Seconds())
	}
	return rows
}

// hold fails the benchmark for what lost against the record, twice.
func (s *stage) hold(record, rows []row) {
	lost := losses(record, rows)
	if len(lost) == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "once more: %v\n", slices.Sorted(maps.Keys(lost)))
	again := s.measure(func(name string) bool { return lost[name] != "" })
	still := losses(slices.DeleteFunc(record, func(r row) bool { return lost[r.Name] == "" }), again)
	for _, name := range slices.Sorted(maps.Keys(still)) {
		s.b.Errorf("%s: %s", name, still[name])
	}
}

// contains reports whether a row of that name is measured.
func contains(name string) bool {
	return slices.ContainsFunc(scenes, func(s scene) bool { return slices.Contains(s.rows, name) })
}
