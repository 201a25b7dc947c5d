package signer

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/roamsign/roamsign/policy"
)

// BenchmarkQueue measures what the queue costs a signature that takes no time.
func BenchmarkQueue(b *testing.B) {
	b.Run("free", func(b *testing.B) {
		q := newQueue(4, 2000, 1000)
		for b.Loop() {
			own, err := q.enter(b.Context(), erp, 1)
			if err != nil {
				b.Fatal(err)
			}
			own.end(nil)
		}
	})
	for _, callers := range []int64{1, 100} {
		b.Run(fmt.Sprintf("contended, callers=%d", callers), func(b *testing.B) {
			q := newQueue(4, 2000, 1000)
			var next atomic.Int64
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				caller := policy.Caller(fmt.Sprintf("spiffe://example.com/caller/%d", next.Add(1)%callers))
				for pb.Next() {
					own, err := q.enter(b.Context(), caller, 1)
					if err != nil {
						b.Error(err)
						return
					}
					own.end(nil)
				}
			})
		})
	}
}
