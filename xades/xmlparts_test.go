package xades

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/beevik/etree"
)

// The walk that finds elements by namespace finds those that etree itself says
// are in it.
func TestDescendantsAreThoseThatEtreeFinds(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(4, 2026))}
	found := 0
	for range generated / 4 {
		tree := etree.NewDocument()
		if err := tree.ReadFromString(g.source(g.document())); err != nil {
			t.Fatal(err)
		}
		all := tree.FindElements("//*")
		for _, e := range all {
			for _, sought := range all {
				var want []*etree.Element
				for _, c := range e.FindElements(".//*") {
					if c.Tag == sought.Tag && c.NamespaceURI() == sought.NamespaceURI() {
						want = append(want, c)
					}
				}
				got := descendants(e, sought.NamespaceURI(), sought.Tag) // in another order than etree's
				missing := slices.ContainsFunc(want, func(c *etree.Element) bool { return !slices.Contains(got, c) })
				if len(got) != len(want) || missing {
					t.Fatalf("<%s> of %q below <%s>: got %d, want %d", sought.Tag, sought.NamespaceURI(), e.FullTag(), len(got), len(want))
				}
				found += len(want)
			}
		}
	}
	if found == 0 {
		t.Error("nothing to find: the generator shows too little")
	}
}
