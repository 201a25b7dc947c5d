package house

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// rule finds what is wrong with one file: a sentence for each fault, with its
// place. A rule judges every file it is given, and says itself whom it spares.
type rule func(*source) []string

// root is the root of the project.
func root(t *testing.T) fs.FS {
	t.Helper()
	return os.DirFS("../..")
}

// hold fails the test with every fault that the rules find in the project.
func hold(t *testing.T, rules ...rule) {
	t.Helper()
	for _, s := range project(t) {
		for _, rule := range rules {
			for _, fault := range rule(s) {
				t.Error(fault)
			}
		}
	}
}

// fake is a source text made to break a rule, or just not to.
type fake struct {
	name string
	path string
	text string
	want string // part of the one fault expected; "" means none
}

// prove shows that a rule can fail, and that it spares what is right.
func prove(t *testing.T, rule rule, fakes []fake) {
	t.Helper()
	breaks := slices.ContainsFunc(fakes, func(f fake) bool { return f.want != "" })
	spares := slices.ContainsFunc(fakes, func(f fake) bool { return f.want == "" })
	if !breaks || !spares {
		t.Fatal("a rule is proven by a file that breaks it and by one that does not")
	}
	for _, f := range fakes {
		t.Run(f.name, func(t *testing.T) {
			s, err := parse(f.path, []byte(f.text))
			if err != nil {
				t.Fatal(err)
			}
			faults := rule(s)
			switch {
			case f.want == "" && len(faults) > 0:
				t.Errorf("got %q, want no fault", faults)
			case f.want != "" && len(faults) != 1:
				t.Errorf("got %d faults %q, want one about %q", len(faults), faults, f.want)
			case f.want != "" && !strings.Contains(faults[0], f.want):
				t.Errorf("got %q, want a fault about %q", faults[0], f.want)
			}
		})
	}
}
