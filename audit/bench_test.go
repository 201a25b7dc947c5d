package audit_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
)

// BenchmarkAppend measures one caller alone and 128 at once: how long each waits,
// and what CPU an entry costs.
func BenchmarkAppend(b *testing.B) {
	for _, row := range []struct {
		name    string
		callers int
		config  func(testing.TB) audit.Config
	}{
		{"alone", 1, newConfig},
		{"128 in flight", 128, newConfig},
		{"database, alone", 1, newShared},
		{"database, 128 in flight", 128, newShared},
	} {
		b.Run(row.name, func(b *testing.B) {
			config := row.config(b)
			check(b, audit.Create(b.Context(), config))
			log := open(b, config)
			fill(b, log, 0, 10)
			var mu sync.Mutex
			var took []time.Duration
			n := 0
			next := func() (int, bool) {
				mu.Lock()
				defer mu.Unlock()
				n++
				return n, n <= b.N
			}
			before := cpu(b)
			b.ResetTimer()
			var callers sync.WaitGroup
			for range row.callers {
				callers.Go(func() {
					for n, more := next(); more; n, more = next() {
						start := time.Now()
						if _, err := log.Append(b.Context(), entry(n), 0); err != nil {
							b.Errorf("appending: %v", err)
							return
						}
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
					}
				})
			}
			callers.Wait()
			b.StopTimer()
			spent := cpu(b) - before
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkThreeWrites measures what an entry alone cannot do without: three small
// files written through, renamed, and their directories fsynced.
func BenchmarkThreeWrites(b *testing.B) {
	dir := b.TempDir()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		for _, name := range []string{"bundle", "tile", "state"} {
			folder, err := os.Open(dir)
			check(b, err)
			file, err := os.OpenFile(filepath.Join(dir, name+".new"), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_SYNC, 0o600)
			check(b, err)
			_, err = file.Write(make([]byte, 500))
			check(b, err)
			check(b, file.Close())
			check(b, os.Rename(file.Name(), filepath.Join(dir, name)))
			check(b, folder.Sync())
			check(b, folder.Close())
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// cpu is what this process spent so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
