package xades

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// However many namespaces are in scope, a prefix has the innermost one: that is
// compared with a walk through all of them, as they come and go.
func TestAPrefixHasItsInnermostNamespaceHoweverManyThereAre(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 2026))
	var ns namespaces
	var marks []int
	most := 0
	for step := range 20_000 {
		switch left := maxNamespaces - len(ns.bound); {
		case random.IntN(3) > 0 && left > 0: // an element that declares some
			marks = append(marks, len(ns.bound))
			for i := range 1 + random.IntN(min(left, 6)) {
				// No two of an element's are of one prefix.
				ns.bind(fmt.Appendf(nil, "p%d", 10*random.IntN(8)+i), fmt.Appendf(nil, "urn:%d", random.IntN(20)))
			}
		case len(marks) > 0:
			ns.leave(marks[len(marks)-1])
			marks = marks[:len(marks)-1]
		}
		most = max(most, len(ns.bound))
		mark := len(ns.bound)
		if len(marks) > 0 && random.IntN(2) == 0 {
			mark = marks[random.IntN(len(marks))]
		}
		prefix := fmt.Appendf(nil, "p%d", random.IntN(90))
		got, found := ns.lookupBelow(mark, prefix)
		want, isThere := walked(ns.bound[:mark], prefix)
		if got != want || found != isThere {
			t.Fatalf("step %d: prefix %s among %d is %d (%v), want %d (%v)", step, prefix, mark, got, found, want, isThere)
		}
	}
	if most < maxNamespaces {
		t.Errorf("at most %d were in scope", most)
	}
}

func walked(bound []binding, prefix []byte) (int32, bool) {
	for i := len(bound) - 1; i >= 0; i-- {
		if string(bound[i].prefix) == string(prefix) {
			return int32(i), true
		}
	}
	return noNamespace, false
}
