package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxLines is how long a file gets before it is split by meaning.
const maxLines = 450

// maxMain is how many lines function main has at most: it is a door.
const maxMain = 12

// expressions yields every expression of a file.
func expressions(s *source) iter.Seq[ast.Expr] {
	return func(yield func(ast.Expr) bool) {
		more := true
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok && more {
				more = yield(e)
			}
			return more
		})
	}
}

// functions yields every function and method that a file declares.
func functions(s *source) iter.Seq[*ast.FuncDecl] {
	return func(yield func(*ast.FuncDecl) bool) {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && !yield(f) {
				return
			}
		}
	}
}

// written spares generated files from a rule.
func written(r rule) rule {
	return func(s *source) []string {
		if s.generated {
			return nil
		}
		return r(s)
	}
}

// isShort refuses long files.
func isShort(s *source) []string {
	if s.lines <= maxLines {
		return nil
	}
	return []string{fmt.Sprintf("%s: %d lines, at most %d: split it by meaning", s.path, s.lines, maxLines)}
}

// isNamedForWhatItHolds refuses packages and files named for their kind.
func isNamedForWhatItHolds(s *source) []string {
	kinds := []string{"pkg", "util", "utils", "common", "types", "helper", "helpers", "manager", "impl", "misc", "base"}
	var faults []string
	for part := range strings.SplitSeq(s.pkg, "/") {
		if slices.Contains(kinds, part) {
			faults = append(faults, fmt.Sprintf("%s: a package is named for what it is about, not %q", s.path, part))
		}
	}
	kinds = append(kinds, "errors", "interfaces", "interface", "constants", "consts", "models", "structs", "vars")
	base := strings.TrimSuffix(strings.TrimSuffix(path.Base(s.path), ".go"), "_test")
	if slices.Contains(kinds, base) {
		faults = append(faults, fmt.Sprintf("%s: a file is named for what it holds, not for its kind", s.path))
	}
	return faults
}

// startsNothing refuses what runs, or is registered, by being imported.
func startsNothing(s *source) []string {
	var faults []string
	for f := range functions(s) {
		if f.Recv == nil && f.Name.Name == "init" {
			faults = append(faults, s.at(f)+": func init: say it where it is needed")
		}
	}
	for _, i := range s.imports {
		if i.name == "_" && i.path != "embed" || i.name == "." {
			faults = append(faults, fmt.Sprintf("%s: imports %s as %q", s.path, i.path, i.name))
		}
	}
	return faults
}

// leavesInMain refuses os.Exit anywhere but in function main of a command, and
// a main that is more than a door.
func leavesInMain(s *source) []string {
	var faults []string
	for f := range functions(s) {
		isMain := s.ast.Name.Name == "main" && f.Recv == nil && f.Name.Name == "main"
		if lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line; isMain && lines >= maxMain {
			faults = append(faults, fmt.Sprintf("%s: main has %d lines, at most %d: the program is run", s.at(f), lines+1, maxMain))
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok && !isMain && s.calls(e, "os", "Exit") {
				faults = append(faults, s.at(e)+": os.Exit outside main: return an error")
			}
			return true
		})
	}
	return faults
}

// isClearAtTheCall refuses exported functions with bool parameters, and those
// whose name begins with Get. Commands and tests are called by nobody; what
// signer calls GetCertificate is the API's word.
func isClearAtTheCall(s *source) []string {
	if s.test || s.ast.Name.Name == "main" {
		return nil
	}
	var faults []string
	for f := range functions(s) {
		if !f.Name.IsExported() {
			continue
		}
		if word, got := strings.CutPrefix(f.Name.Name, "Get"); got && ast.IsExported(word) && s.pkg != "signer" {
			faults = append(faults, fmt.Sprintf("%s: %s: no Get prefix", s.at(f), f.Name.Name))
		}
		for _, p := range f.Type.Params.List {
			if t, ok := p.Type.(*ast.Ident); ok && t.Name == "bool" {
				faults = append(faults, fmt.Sprintf("%s: %s takes a bool: which way is true?", s.at(p), f.Name.Name))
			}
		}
	}
	return faults
}

// asksLittle refuses exported interfaces of more than three methods. What a
// package keeps to itself may be as wide as the library it stands for.
func asksLittle(s *source) []string {
	var faults []string
	ast.Inspect(s.ast, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || !spec.Name.IsExported() {
			return true
		}
		if i, ok := spec.Type.(*ast.InterfaceType); ok && i.Methods.NumFields() > 3 {
			faults = append(faults, fmt.Sprintf("%s: %s has %d methods, at most 3", s.at(i), spec.Name.Name, i.Methods.NumFields()))
		}
		return true
	})
	return faults
}

// tellsDoings refuses error texts that say that something failed, as every
// error does, or that end like sentences.
func tellsDoings(s *source) []string {
	if s.test {
		return nil
	}
	makers := []struct{ pkg, function string }{
		{"errors", "New"}, {"fmt", "Errorf"},
		{module + "/internal/fault", "New"}, {module + "/internal/fault", "Wrap"},
	}
	empty := []string{"failed to", "fail to", "unable to", "could not", "couldn't", "error ", "error:", "an error"}
	var faults []string
	for e := range expressions(s) {
		call, ok := e.(*ast.CallExpr)
		if !ok || !slices.ContainsFunc(makers, func(m struct{ pkg, function string }) bool {
			return s.calls(call.Fun, m.pkg, m.function)
		}) {
			continue
		}
		for _, arg := range call.Args {
			text := literal(arg)
			for _, words := range empty {
				if strings.HasPrefix(strings.ToLower(text), words) {
					faults = append(faults, fmt.Sprintf("%s: error text %q: say what was being done", s.at(arg), text))
				}
			}
			if strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "...") {
				faults = append(faults, fmt.Sprintf("%s: error text %q: no full stop", s.at(arg), text))
			}
		}
	}
	return faults
}

// literal is the text of a string literal, or of the first and last of a chain
// of them; "" for anything else.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}

func TestTheHouseStyleIsKept(t *testing.T) {
	hold(t, written(isShort), isNamedForWhatItHolds, written(startsNothing), leavesInMain)
	hold(t, written(isClearAtTheCall), written(asksLittle), tellsDoings)
}

func TestLongFilesAreFound(t *testing.T) {
	long := "package xades" + strings.Repeat("\n", maxLines)
	generated := "// Code generated by protoc-gen-go. DO NOT EDIT.\n\n"
	prove(t, written(isShort), []fake{
		{"long", "xades/a.go", long + "\n", "split it"},
		{"as long as may be", "xades/a.go", long, ""},
		{"a long test", "xades/a_test.go", long + "\n", "split it"},
		{"long and generated", "xades/a.go", generated + long, ""},
		{"long and generated by its own word", "xades/a.go", "// Generated, believe me.\n" + long, "split it"},
	})
}

func TestNamesForAKindAreFound(t *testing.T) {
	prove(t, isNamedForWhatItHolds, []fake{
		{"a noun", "xades/scan.go", `package xades`, ""},
		{"a noun's test", "xades/scan_test.go", `package xades`, ""},
		{"types", "xades/types.go", `package xades`, "kind"},
		{"errors", "xades/errors.go", `package xades`, "kind"},
		{"a test of utilities", "xades/utils_test.go", `package xades`, "kind"},
		{"a package of utilities", "internal/utils/a.go", `package utils`, "about"},
		{"all below pkg", "pkg/xades/a.go", `package xades`, "about"},
	})
}

func TestWhatStartsByItselfIsFound(t *testing.T) {
	prove(t, startsNothing, []fake{
		{"init", "xades/a.go", `package xades; func init() {}`, "func init"},
		{"a method named init", "xades/a.go", `package xades; type t int; func (t) init() {}`, ""},
		{"a blank import", "cmd/roamsign/a.go", `package main; import _ "net/http/pprof"`, "pprof"},
		{"a blank import in a test", "xades/a_test.go", `package xades; import _ "net/http/pprof"`, "pprof"},
		{"embed", "cmd/roamsign/a.go", `package main; import _ "embed"`, ""},
		{"a dot import", "xades/a_test.go", `package xades; import . "fmt"`, "fmt"},
	})
}

func TestExitsOutsideMainAreFound(t *testing.T) {
	prove(t, leavesInMain, []fake{
		{"in main", "cmd/roamsign/main.go", `package main; import "os"; func main() { os.Exit(1) }`, ""},
		{"in run", "cmd/roamsign/run.go", `package main; import "os"; func run() { os.Exit(1) }`, "os.Exit"},
		{"in a library's main", "hsm/a.go", `package hsm; import "os"; func main() { os.Exit(1) }`, "os.Exit"},
		{"renamed", "hsm/a.go", `package hsm; import system "os"; func f() { system.Exit(1) }`, "os.Exit"},
		{"handed on", "hsm/a.go", `package hsm; import "os"; func f() { g(os.Exit) }`, "os.Exit"},
		{"a long main", "cmd/roamsign/main.go", "package main; func main() {" + strings.Repeat("\n", maxMain) + "}", "13 lines"},
		{"a main as long as may be", "cmd/roamsign/main.go", "package main; func main() {" + strings.Repeat("\n", maxMain-1) + "}", ""},
	})
}

func TestUnclearCallsAreFound(t *testing.T) {
	prove(t, isClearAtTheCall, []fake{
		{"a bool", "hsm/a.go", `package hsm; func Open(login bool) {}`, "bool"},
		{"a bool of a method", "hsm/a.go", `package hsm; func (t Token) Close(force bool) {}`, "bool"},
		{"a bool for ourselves", "hsm/a.go", `package hsm; func open(login bool) {}`, ""},
		{"a bool returned", "hsm/a.go", `package hsm; func Login() bool { return true }`, ""},
		{"a bool in a command", "cmd/roamsign/a.go", `package main; func Run(quiet bool) {}`, ""},
		{"a getter", "client/a.go", `package client; func GetKey() {}`, "Get prefix"},
		{"the API's word", "signer/a.go", `package signer; func (s Service) GetCertificate() {}`, ""},
		{"a word that only begins alike", "client/a.go", `package client; func Getaway() {}`, ""},
	})
}

func TestGreedyInterfacesAreFound(t *testing.T) {
	prove(t, asksLittle, []fake{
		{"three methods", "signer/a.go", `package signer; type Key interface { A(); B(); C() }`, ""},
		{"four methods", "signer/a.go", `package signer; type Key interface { A(); B(); C(); D() }`, "4 methods"},
		{"four methods of our own", "hsm/a.go", `package hsm; type library interface { A(); B(); C(); D() }`, ""},
	})
}

func TestEmptyErrorTextsAreFound(t *testing.T) {
	prove(t, tellsDoings, []fake{
		{"a doing", "hsm/a.go", `package hsm; import "fmt"; var e = fmt.Errorf("waiting for a session: %w", x)`, ""},
		{"failed to", "hsm/a.go", `package hsm; import "fmt"; var e = fmt.Errorf("failed to wait: %w", x)`, "failed to"},
		{"a full stop", "hsm/a.go", `package hsm; import "errors"; var e = errors.New("no token.")`, "full stop"},
		{"a full stop at the end of two", "hsm/a.go", `package hsm; import "errors"; var e = errors.New("no " + "token.")`, "full stop"},
		{"of a kind", "hsm/a.go", `package hsm; import "github.com/roamsign/roamsign/internal/fault"; var e = fault.New(fault.Internal, "could not wait")`, "could not"},
		{"not an error", "hsm/a.go", `package hsm; import "fmt"; var e = fmt.Sprintf("failed to wait")`, ""},
	})
}
