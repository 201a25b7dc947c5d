package house

import (
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
)

// skipsNothing refuses what lets a test pass without having run: Skip and its
// kin on anything that is a testing.T, B, F or TB, and testing.Short.
func skipsNothing(s *source) []string {
	if !s.has("testing") {
		return nil
	}
	var faults []string
	hands := testers(s)
	for e := range expressions(s) {
		if s.calls(e, "testing", "Short") {
			faults = append(faults, s.at(e)+": testing.Short: every test runs")
		}
		selector, ok := e.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) {
			continue
		}
		if x, ok := selector.X.(*ast.Ident); ok && slices.Contains(hands, x.Name) {
			faults = append(faults, fmt.Sprintf("%s: %s.%s: what is missing fails", s.at(e), x.Name, selector.Sel.Name))
		}
	}
	return faults
}

// testers are the names by which a file's functions hold a test.
func testers(s *source) []string {
	names := []string{"t", "b", "f", "tb"}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok {
			return true
		}
		kind := field.Type
		if star, ok := kind.(*ast.StarExpr); ok {
			kind = star.X
		}
		for _, tester := range []string{"T", "B", "F", "TB"} {
			if s.calls(kind, "testing", tester) {
				for _, name := range field.Names {
					names = append(names, name.Name)
				}
			}
		}
		return true
	})
	return names
}

// neverSleeps refuses time.Sleep: in a test it is a guess, elsewhere it is a
// wait that obeys no context. Where testing/synctest moves the clock, it may be.
func neverSleeps(s *source) []string {
	if s.has("testing/synctest") {
		return nil
	}
	var faults []string
	for e := range expressions(s) {
		if s.calls(e, "time", "Sleep") {
			faults = append(faults, s.at(e)+": time.Sleep: wait for what is to happen, under a context")
		}
	}
	return faults
}

func TestTestsAreHonest(t *testing.T) {
	hold(t, skipsNothing, neverSleeps)
}

func TestSkippingIsFound(t *testing.T) {
	prove(t, skipsNothing, []fake{
		{"no skip", "hsm/a_test.go", `package hsm; import "testing"; func TestA(t *testing.T) { t.Log() }`, ""},
		{"a skip", "hsm/a_test.go", `package hsm; import "testing"; func TestA(t *testing.T) { t.Skip() }`, "t.Skip"},
		{"a skip by another name", "hsm/a_test.go", `package hsm; import "testing"; func TestA(test *testing.T) { test.SkipNow() }`, "test.SkipNow"},
		{"a skip in a helper", "softhsm-test/a.go", `package softhsmtest; import "testing"; func New(tester testing.TB) { tester.Skipf("no") }`, "tester.Skipf"},
		{"a skip of another thing", "xades/a_test.go", `package xades; import "testing"; func TestA(t *testing.T) { scanner.Skip() }`, ""},
		{"a short run", "hsm/a_test.go", `package hsm; import "testing"; func TestA(t *testing.T) { if testing.Short() { return } }`, "testing.Short"},
	})
}

func TestSleepingIsFound(t *testing.T) {
	prove(t, neverSleeps, []fake{
		{"a sleep", "hsm/a_test.go", `package hsm; import "time"; func f() { time.Sleep(1) }`, "time.Sleep"},
		{"a sleep outside tests", "hsm/a.go", `package hsm; import "time"; func f() { time.Sleep(1) }`, "time.Sleep"},
		{"a sleep that takes no time", "hsm/a_test.go", `package hsm; import ("time"; "testing/synctest"); func f() { time.Sleep(1) }`, ""},
	})
}

func TestScriptsSkipNothing(t *testing.T) {
	project := root(t)
	err := fs.WalkDir(project, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".txtar" && path.Ext(name) != ".txt" {
			return err
		}
		text, err := fs.ReadFile(project, name)
		for _, fault := range scriptSkips(name, string(text)) {
			t.Error(fault)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// scriptSkips finds, in a testscript, the commands that end it early as if it
// had passed.
func scriptSkips(name, text string) []string {
	if !strings.Contains(text, "exec ") && path.Ext(name) == ".txt" {
		return nil
	}
	var faults []string
	number := 0
	for line := range strings.Lines(text) {
		number++
		if strings.HasPrefix(line, "-- ") {
			break
		}
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "[") {
				continue
			}
			if word == "skip" || word == "stop" {
				faults = append(faults, fmt.Sprintf("%s:%d: %s: what is missing fails", name, number, word))
			}
			break
		}
	}
	return faults
}

func TestSkippingScriptsAreFound(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       int
	}{
		{"runs", "exec roamsign digest a.xml\n-- a.xml --\nskip\n", 0},
		{"skips", "skip 'not today'\nexec roamsign\n", 1},
		{"skips where something is missing", "[!exec:xmllint] skip\nexec xmllint\n", 1},
		{"stops", "exec roamsign\nstop\n", 1},
		{"only says so", "# skip this\nexec echo skip\n", 0},
	} {
		if faults := scriptSkips("a.txtar", row.text); len(faults) != row.want {
			t.Errorf("%s: got %q, want %d faults", row.name, faults, row.want)
		}
	}
}
