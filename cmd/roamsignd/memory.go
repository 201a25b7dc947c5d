package main

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// What a flood of requests took is given back when it is over. Go itself looks
// for garbage only as memory grows, or after two minutes, and keeps a part of what
// it frees.
const (
	// memoryLimit is where garbage is collected ever more eagerly: what Go may hold
	// beside the program's text and the token libraries' memory. GOMEMLIMIT says otherwise.
	memoryLimit = 96 << 20
	// calmCheck is how often it is asked whether there is something to give back.
	calmCheck = 5 * time.Second
	// calmAllocation is what a process allocates at most between two checks when it does
	// hardly anything: probes of its health, and its files being looked at.
	calmAllocation = 4 << 20
	// spareMemory is what Go may hold beyond what is in use. It is not worth a
	// collection.
	spareMemory = 2 << 20
)

// limitMemory sets the process's memory limit, unless GOMEMLIMIT has. It is a soft
// one: what requests need they get, at the price of more collections.
func limitMemory() {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // none
		debug.SetMemoryLimit(memoryLimit)
	}
}

// memory is Go's account of its memory, in bytes.
type memory struct {
	allocated uint64 // since the start of the process
	held      uint64 // from the operating system, now
	live      uint64 // after the last collection: what is in use
}

func readMemory() memory {
	samples := []runtimemetrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	runtimemetrics.Read(samples)
	value := func(n int) uint64 { return samples[n].Value.Uint64() }
	return memory{allocated: value(0), held: value(1) + value(2) + value(3), live: value(4)}
}

// givesBack tells whether a process that was at before, a check ago, and is at now
// has something to give back, and the leisure.
func givesBack(before, now memory) bool {
	return now.allocated-before.allocated <= calmAllocation && now.held > now.live+spareMemory
}

// trim gives memory back that a flood left, as long as ctx. The caller calls wait
// after that.
func trim(ctx context.Context) (wait func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(calmCheck)
		defer ticker.Stop()
		for before := readMemory(); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := readMemory()
			if givesBack(before, now) {
				runtime.GC() // what is pooled goes with the second one, which the next line makes
				debug.FreeOSMemory()
				now = readMemory()
			}
			before = now
		}
	}()
	return func() { <-ended }
}
