package main

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestMemoryIsGivenBackWhenItIsCalm(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		allocated uint64 // between the checks
		held      uint64
		live      uint64
		want      bool
	}{
		{"nothing at all", 0, 0, 0, false},
		{"calm and lean", calmAllocation, spareMemory + 1<<20, 1 << 20, false},
		{"calm, with a flood's memory", calmAllocation, 80 << 20, 1 << 20, true},
		{"in a flood", calmAllocation + 1, 80 << 20, 1 << 20, false},
		{"all of it in use", calmAllocation, 80 << 20, 79 << 20, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			before := memory{allocated: 5 << 30}
			now := memory{allocated: before.allocated + row.allocated, held: row.held, live: row.live}
			if got := givesBack(before, now); got != row.want {
				t.Errorf("got %v for %+v", got, now)
			}
		})
	}
}

func TestMemoryIsReadAsGoAccountsIt(t *testing.T) {
	before := readMemory()
	kept := make([]byte, 32<<20)
	runtime.GC()
	now := readMemory()
	if now.allocated-before.allocated < 32<<20 || now.live < 32<<20 || now.held < now.live {
		t.Errorf("after allocating 32 MB: %+v, before: %+v", now, before)
	}
	runtime.KeepAlive(kept)
}

func TestMemoryIsLimitedUnlessItIsAlready(t *testing.T) {
	previous := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(previous) })
	for before, want := range map[int64]int64{math.MaxInt64: memoryLimit, 1 << 30: 1 << 30} {
		debug.SetMemoryLimit(before)
		limitMemory()
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("with a limit of %d it became %d, not %d", before, got, want)
		}
	}
}

func TestTrimmingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	wait := trim(ctx)
	cancel()
	wait()
}
