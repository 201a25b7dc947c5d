package bench

import (
	"context"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// starts is from the start of the process to its first signature.
func (s *stage) starts() []row {
	first := func(start func() *server) float64 {
		began := time.Now()
		v := start()
		_, err := v.single(0)
		took := milliseconds(time.Since(began))
		s.check(err)
		v.end()
		return took
	}
	var own, plain, ratios []float64
	for range s.pace.rounds {
		plain = append(plain, first(func() *server { return s.employ(orders{Role: "bare", Sessions: bareSessions}) }))
		own = append(own, first(s.serve))
		ratios = append(ratios, own[len(own)-1]/plain[len(plain)-1])
	}
	return []row{{Name: "start", Value: median(own), Unit: "ms", Baseline: median(plain), Ratio: median(ratios), Of: ofGRPC, Better: lower}}
}

// figures runs another package's benchmarks and returns the medians of what they
// report, by benchmark and unit.
func (s *stage) figures(pkg, which, time, count string) map[string]map[string]float64 {
	s.b.Helper()
	out := s.run("go", "test", "-run=^$", "-vet=off", "-bench="+which, "-benchtime="+time, "-count="+count, "../../"+pkg)
	all := map[string]map[string][]float64{}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := words[0]
		if at := strings.LastIndexByte(name, '-'); at > 0 { // the number of processors
			if _, err := strconv.Atoi(name[at+1:]); err == nil {
				name = name[:at]
			}
		}
		if all[name] == nil {
			all[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(words); i += 2 {
			value, err := strconv.ParseFloat(words[i], 64)
			s.check(err)
			all[name][words[i+1]] = append(all[name][words[i+1]], value)
		}
	}
	medians := map[string]map[string]float64{}
	for name, units := range all {
		medians[name] = map[string]float64{}
		for unit, values := range units {
			medians[name][unit] = median(values)
		}
	}
	return medians
}

// documents are package xades' own measurements.
func (s *stage) documents() []row {
	all := s.figures("xades", "^(BenchmarkXMLDigest|BenchmarkJSONDigest|BenchmarkPrepareComplete)$", s.pace.bench, s.pace.count)
	digest := func(name, benchmark, note string) row {
		f := all[benchmark]
		if f["x-libxml2"] == 0 {
			s.b.Fatalf("%s says nothing of libxml2", benchmark)
		}
		return row{
			Name: name, Value: f["MB/s"], Unit: "MB/s", Baseline: f["MB/s"] / f["x-libxml2"], Ratio: f["x-libxml2"],
			Of: "libxml2", Better: higher, Note: note,
		}
	}
	f := all["BenchmarkPrepareComplete/XML"]
	if f["us-rsa"] == 0 {
		s.b.Fatal("BenchmarkPrepareComplete/XML says nothing of RSA")
	}
	return []row{
		digest("xades/xml/9KB", "BenchmarkXMLDigest/9KB", ""),
		digest("xades/xml/290KB", "BenchmarkXMLDigest/290KB", ""),
		digest("xades/json", "BenchmarkJSONDigest/20KB-indented", "the official sample, as it is"),
		{
			Name: "xades/prepare-complete", Value: f["us-without-rsa"], Unit: "µs", Baseline: f["us-rsa"], Ratio: f["us-without-rsa"] / f["us-rsa"],
			Of: "the RSA check in it", Better: lower, Note: "9 KB of XML, without that check",
		},
	}
}

// atOnce is how many requests are in flight in a flood.
const atOnce = 10_000

// memories is the service's memory: when it was started, the most since, a
// flood of requests included, and when that is over and its callers are gone.
func (s *stage) memories() []row {
	own, plain := s.roamsignd(), s.grpc()
	plainRest := plain.memory("VmRSS")
	signed := own.flood(s.pace.flood)
	most := own.memory("VmHWM")
	plain.flood(s.pace.flood)
	own.hangUp()
	after := math.Inf(1)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for over := time.After(s.pace.settle); after > 1.1*s.rest; {
		select {
		case <-tick.C:
		case <-over:
			over = nil
		}
		if after = min(after, own.memory("VmRSS")); over == nil {
			break
		}
	}
	beside := func(name string, value, base float64, of, note string) row {
		return row{Name: name, Value: value, Unit: "MB", Baseline: base, Ratio: value / base, Of: of, Better: lower, Note: note}
	}
	return []row{
		beside("rss/rest", s.rest, plainRest, ofGRPC+" now", "after the first signature"),
		beside("rss/load", most, plain.memory("VmHWM"), ofGRPC, strconv.Itoa(signed)+" signed for 10,000 callers at once; the most in the whole run"),
		beside("rss/after", after, s.rest, "at rest", strconv.FormatUint(own.asked.Load(), 10)+" requests later"),
	}
}

// flood has so many callers ask at once, each until it has a signature or the
// time is over, and returns how many got one. Who is refused comes back when it
// is told to, as clients do.
func (v *server) flood(span time.Duration) int {
	v.connect(40) // 250 requests on each
	ctx, cancel := context.WithTimeout(v.stage.b.Context(), span)
	defer cancel()
	var all sync.WaitGroup
	var signed atomic.Int64
	for caller := range atOnce {
		all.Go(func() {
			for ctx.Err() == nil {
				_, err := v.clients[caller%len(v.clients)].SignDigest(ctx, v.request())
				switch status.Code(err) {
				case codes.OK:
					signed.Add(1)
					return
				case codes.ResourceExhausted:
				case codes.DeadlineExceeded: // the time is over, by whoever's clock
					return
				default:
					v.stage.b.Errorf("in a flood: %v", err)
					return
				}
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
	return int(signed.Load())
}
