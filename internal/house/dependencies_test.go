package house

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestEveryDependencyIsAccountedFor(t *testing.T) {
	gomod, err := fs.ReadFile(root(t), "go.mod")
	if err != nil {
		t.Fatal(err)
	}
	design, err := fs.ReadFile(root(t), "docs/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range unaccounted(string(gomod), string(design), project(t)) {
		t.Error(fault)
	}
}

// unaccounted compares what the project imports with the table under the
// heading "Dependencies": every module that a file imports or that makes code
// has a row, every row has a module in go.mod and says why it, and what we would
// do without it.
func unaccounted(gomod, design string, files []*source) []string {
	required, tools := modules(gomod)
	direct := map[string]string{} // module → who needs it
	need := func(importPath, who string) {
		owner := ""
		for _, m := range required {
			if (importPath == m || strings.HasPrefix(importPath, m+"/")) && len(m) > len(owner) {
				owner = m
			}
		}
		if owner != "" {
			direct[owner] = who
		}
	}
	for _, s := range files {
		for _, i := range s.imports {
			need(i.path, s.path)
		}
	}
	for _, tool := range tools {
		need(tool, "the tools of go.mod")
	}

	var faults []string
	rows := map[string]bool{}
	for line := range strings.Lines(under(design, "Dependencies")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := strings.TrimSpace(cells[0])
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		name = strings.Trim(name, "`")
		rows[name] = true
		if len(cells) != 3 || strings.TrimSpace(cells[1]) == "" || strings.TrimSpace(cells[2]) == "" {
			faults = append(faults, fmt.Sprintf("docs/DESIGN.md: the row of %s does not say why it, and what we would do without it", name))
		}
		if !slices.Contains(required, name) {
			faults = append(faults, fmt.Sprintf("docs/DESIGN.md: %s is no dependency (any more)", name))
		}
	}
	for m, who := range direct {
		if !rows[m] {
			faults = append(faults, fmt.Sprintf("docs/DESIGN.md: %s, needed by %s, has no row under Dependencies", m, who))
		}
	}
	slices.Sort(faults)
	return faults
}

// modules reads the modules that a go.mod requires, and its tools.
func modules(gomod string) (required, tools []string) {
	block := ""
	for line := range strings.Lines(gomod) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		switch words[0] {
		case "require":
			required = append(required, words[1])
		case "tool":
			tools = append(tools, words[1])
		}
	}
	return required, tools
}

func TestAnUnaccountedDependencyIsFound(t *testing.T) {
	const gomod = "module m\n\ngo 1.26.0\n\nrequire (\n\ta.example/one v1.0.0 // indirect\n\ta.example/one/two v1.0.0\n)\n\n" +
		"require a.example/pin v1.0.0\n\ntool a.example/one/two/cmd/make\n"
	const head = "## Dependencies\n\n| module | why it | without it |\n|---|---|---|\n"
	const one, two, pin = "| `a.example/one` | It is one. | Zero. |\n", "| `a.example/one/two` | Two. | One. |\n", "| `a.example/pin` | A pin. | None. |\n"
	for _, row := range []struct {
		name, design, imports, want string
	}{
		{"all in order", head + one + two, "a.example/one/sub", ""},
		{"a pin that nobody imports", head + one + two + pin, "a.example/one", ""},
		{"no row", head + two, "a.example/one/sub", "a.example/one, needed by hsm/a.go"},
		{"no row for a tool", head + one, "a.example/one", "a.example/one/two, needed by the tools"},
		{"a row of another section", head + two + "## More\n" + one, "a.example/one", "a.example/one, needed"},
		{"a row too many", head + one + two + "| `a.example/gone` | Was. | Is not. |\n", "a.example/one", "gone is no dependency"},
		{"a row that does not say why", head + two + "| `a.example/one` | | Zero. |\n", "a.example/one", "does not say why"},
		{"a row without an alternative", head + two + "| `a.example/one` | It is one. |\n", "a.example/one", "does not say why"},
	} {
		s, err := parse("hsm/a.go", fmt.Appendf(nil, "package hsm\nimport %q\n", row.imports))
		if err != nil {
			t.Fatal(err)
		}
		faults := unaccounted(gomod, row.design, []*source{s})
		if got := strings.Join(faults, "\n"); row.want == "" && got != "" || !strings.Contains(got, row.want) || len(faults) > 1 {
			t.Errorf("%s: got %q, want a fault about %q", row.name, faults, row.want)
		}
	}
}
