package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"testing"
)

// module is the import path of this project.
const module = "github.com/roamsign/roamsign"

// source is one Go file, parsed.
type source struct {
	path      string // from the root of the project, with slashes
	pkg       string // the folder of path
	test      bool
	generated bool
	lines     int
	fset      *token.FileSet
	ast       *ast.File
	imports   []imported
}

// imported is one import of a file.
type imported struct {
	path string
	name string // as the file calls it; "_" and "." as written
}

// at tells the place of a node as an editor can open it.
func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
}

// calls reports whether e names the function of the package with this import
// path, by whatever name the file calls that package.
func (s *source) calls(e ast.Expr, importPath, function string) bool {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != function {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	if !ok {
		return false
	}
	for _, i := range s.imports {
		if i.path == importPath && i.name == x.Name {
			return true
		}
	}
	return false
}

// has reports whether the file imports the package with this path.
func (s *source) has(importPath string) bool {
	for _, i := range s.imports {
		if i.path == importPath {
			return true
		}
	}
	return false
}

// parse reads one Go file.
func parse(name string, text []byte) (*source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("parsing: %w", err)
	}
	s := &source{
		path:      name,
		pkg:       path.Dir(name),
		test:      strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(file),
		lines:     bytes.Count(text, []byte("\n")),
		fset:      fset,
		ast:       file,
	}
	for _, spec := range file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("reading an import of %s: %w", name, err)
		}
		s.imports = append(s.imports, imported{path: p, name: localName(spec, p)})
	}
	return s, nil
}

// localName is what a file calls an import. Where the file does not say, it is
// taken from the path, past a major version.
func localName(spec *ast.ImportSpec, importPath string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	base := path.Base(importPath)
	if version, found := strings.CutPrefix(base, "v"); found {
		if _, err := strconv.Atoi(version); err == nil {
			base = path.Base(path.Dir(importPath))
		}
	}
	return base
}

// read parses every Go file of the project under root.
func read(root fs.FS) ([]*source, error) {
	var all []*source
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := path.Base(name); name != "." && (base == "testdata" || strings.HasPrefix(base, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		s, err := parse(name, text)
		if err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

// project reads the whole project. A project without files is a mistake of the
// test, not a clean one.
func project(t *testing.T) []*source {
	t.Helper()
	all, err := read(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.path == "internal/house/source_test.go" {
			return all
		}
	}
	t.Fatalf("read %d files, and not this one: is this the root of the project?", len(all))
	return nil
}
