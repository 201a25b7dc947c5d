package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"iter"
	"strings"
	"testing"
)

// keepsNoState refuses package variables that are more than tables and
// sentinels: those declared without a value, and any name that a file writes to,
// or takes the address of, without having declared it in a function. Tests are
// spared: they may keep a built program.
func keepsNoState(s *source) []string {
	if s.test || s.generated {
		return nil
	}
	var faults []string
	for v := range packageVariables(s) {
		if len(v.Values) == 0 {
			faults = append(faults, fmt.Sprintf("%s: package variable %s has no value: it is state", s.at(v), v.Names[0].Name))
		}
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		for _, target := range targets(n) {
			if name := outermost(target); name != nil && isPackages(s, name) {
				faults = append(faults, fmt.Sprintf("%s: writes to package variable %s: it is state", s.at(target), name.Name))
			}
		}
		return true
	})
	return faults
}

// packageVariables yields the declarations of a file's package variables, but
// those that embed a file, which the compiler gives their value.
func packageVariables(s *source) iter.Seq[*ast.ValueSpec] {
	return func(yield func(*ast.ValueSpec) bool) {
		for _, d := range s.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR || embeds(g.Doc) {
				continue
			}
			for _, spec := range g.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok && !embeds(v.Doc) && !yield(v) {
					return
				}
			}
		}
	}
}

// embeds reports whether a comment is a go:embed directive.
func embeds(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// targets are the expressions that a node writes to, or whose address it takes.
func targets(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			return []ast.Expr{n.X}
		}
	}
	return nil
}

// outermost is the variable that a target is part of; nil where it is reached
// by a call, or is no variable's part at all.
func outermost(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// isPackages reports whether a name is one of the package's variables, declared
// in this file or in another: the parser resolves those of functions.
func isPackages(s *source, name *ast.Ident) bool {
	if name.Name == "_" {
		return false
	}
	return name.Obj == nil || s.ast.Scope.Lookup(name.Name) == name.Obj
}

func TestPackagesKeepNoState(t *testing.T) {
	hold(t, keepsNoState)
}

func TestStateIsFound(t *testing.T) {
	prove(t, keepsNoState, []fake{
		{"a table", "hsm/a.go", `package hsm; var prefix = []byte{1}; func f() byte { return prefix[0] }`, ""},
		{"a sentinel", "hsm/a.go", `package hsm; import "errors"; var ErrPIN = errors.New("wrong PIN")`, ""},
		{"a proof that a type fits", "hsm/a.go", `package hsm; import "io"; var _ io.Closer = t{}; type t struct{}`, ""},
		{"an embedded file", "hsm/a.go", "package hsm; import _ \"embed\"\n//go:embed a.txt\nvar text string", ""},
		{"a lock", "hsm/a.go", `package hsm; import "sync"; var mu sync.Mutex`, "no value"},
		{"a counter", "hsm/a.go", `package hsm; var n = 0; func f() { n++ }`, "writes to package variable n"},
		{"a counter of another file", "hsm/a.go", `package hsm; func f() { n += 1 }`, "writes to package variable n"},
		{"an entry", "hsm/a.go", `package hsm; var open = map[string]int{}; func f() { open["a"] = 1 }`, "variable open"},
		{"a member of an entry", "hsm/a.go", `package hsm; var open = []t{{}}; func f() { open[0].a = 1 }`, "variable open"},
		{"an address", "hsm/a.go", `package hsm; var n = 0; func f() *int { return &n }`, "variable n"},
		{"a local of the same name", "hsm/a.go", `package hsm; var n = 0; func f() { n := 1; n++ }`, ""},
		{"a parameter of the same name", "hsm/a.go", `package hsm; var n = 0; func f(n *t) { n.a = 1 }`, ""},
		{"a receiver and a result", "hsm/a.go", `package hsm; func (p *t) f() (err error) { p.a, err = 1, nil; _ = p; return }`, ""},
		{"a composite's address", "hsm/a.go", `package hsm; func f() *t { return &t{} }`, ""},
		{"a range", "hsm/a.go", `package hsm; var n = 0; func f(s []int) { for n = range s { } }`, "variable n"},
		{"a test", "hsm/a_test.go", `package hsm; var n = 0; func f() { n++ }`, ""},
	})
}
