package bench

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// round is what was done in one turn.
type round struct {
	signatures int
	took       time.Duration
	cpu        time.Duration   // of the process that serves
	waits      []time.Duration // of each call
}

func (r round) speed() float64 { return float64(r.signatures) / r.took.Seconds() }

// series are the rounds of one contender.
type series struct{ rounds []round }

// speed is the median of the rounds, in signatures a second.
func (s series) speed() float64 {
	return median(s.each(round.speed))
}

func (s series) each(figure func(round) float64) []float64 {
	all := make([]float64, len(s.rounds))
	for i, r := range s.rounds {
		all[i] = figure(r)
	}
	return all
}

// by is the median of the ratios of speeds, round by round.
func (s series) by(base series) float64 {
	ratios := make([]float64, len(s.rounds))
	for i, r := range s.rounds {
		ratios[i] = r.speed() / base.rounds[i].speed()
	}
	return median(ratios)
}

// quantiles are those of all calls of all rounds, in milliseconds.
func (s series) quantiles() (p50, p95, p99 float64) {
	var all []time.Duration
	for _, r := range s.rounds {
		all = append(all, r.waits...)
	}
	if len(all) == 0 {
		return 0, 0, 0
	}
	slices.Sort(all)
	at := func(percent int) float64 { return milliseconds(all[(len(all)-1)*percent/100]) }
	return at(50), at(95), at(99)
}

// cost is the processor time of the serving process for one signature, in
// microseconds, over all rounds: the kernel counts in steps of 10 ms.
func (s series) cost() float64 {
	var cpu time.Duration
	signatures := 0
	for _, r := range s.rounds {
		cpu += r.cpu
		signatures += r.signatures
	}
	if signatures == 0 {
		return 0
	}
	return float64(cpu.Nanoseconds()) / 1000 / float64(signatures)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// contender makes signatures for a while.
type contender func(span time.Duration) round

// alternate lets contenders take turns, nobody always the first.
func alternate(rounds int, span time.Duration, all ...contender) []series {
	results := make([]series, len(all))
	for n := range rounds {
		for i := range all {
			which := (i + n) % len(all)
			results[which].rounds = append(results[which].rounds, all[which](span))
		}
	}
	return results
}

// callers has so many callers call in a loop until the time is over. A call
// returns how many signatures it got.
func callers(b *testing.B, count int, cpu func() time.Duration, call func(caller int) (int, error)) contender {
	return func(span time.Duration) round {
		b.Helper()
		var all sync.WaitGroup
		var signatures atomic.Int64
		var over atomic.Bool
		waits, faults := make([][]time.Duration, count), make(chan error, count)
		timer := time.AfterFunc(span, func() { over.Store(true) })
		defer timer.Stop()
		began, before := time.Now(), cpu()
		for caller := range count {
			all.Go(func() {
				for last := time.Now(); !over.Load(); {
					n, err := call(caller)
					if err != nil {
						faults <- err
						return
					}
					now := time.Now()
					waits[caller] = append(waits[caller], now.Sub(last))
					last = now
					signatures.Add(int64(n))
				}
			})
		}
		all.Wait()
		r := round{signatures: int(signatures.Load()), took: time.Since(began), cpu: cpu() - before, waits: slices.Concat(waits...)}
		select {
		case err := <-faults:
			b.Fatal(err)
		default:
		}
		return r
	}
}
