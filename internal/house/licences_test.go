package house

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed are the licences, by their SPDX names, that what is built in may have:
// those that ask for no more than to be named. MPL-2.0 asks that changes to its
// own files be published, and we change none.
var allowed = map[string]bool{"Apache-2.0": true, "BSD-2-Clause": true, "BSD-3-Clause": true, "ISC": true, "MIT": true, "MPL-2.0": true}

// licences tells a licence by the words of its text, the most telling first. All
// words of a row must be there.
var licences = []struct {
	name  string
	words []string
}{
	{"AGPL-3.0", []string{"GNU AFFERO GENERAL PUBLIC LICENSE"}},
	{"LGPL", []string{"GNU LESSER GENERAL PUBLIC LICENSE"}},
	{"GPL", []string{"GNU GENERAL PUBLIC LICENSE"}},
	{"MPL-2.0", []string{"Mozilla Public License"}},
	{"Apache-2.0", []string{"Apache License", "Version 2.0", "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"}},
	{"Apache-2.0", []string{"Licensed under the Apache License, Version 2.0"}},
	{"BSD-3-Clause", []string{"Redistribution and use in source and binary forms", "be used to endorse or promote products"}},
	{"BSD-2-Clause", []string{"Redistribution and use in source and binary forms", "this list of conditions"}},
	{"MIT", []string{"Permission is hereby granted, free of charge", "the above copyright notice and this permission notice", "without limitation the rights to use, copy, modify, merge, publish"}},
	{"ISC", []string{"Permission to use, copy, modify, and/or distribute this software for any purpose"}},
	{"ISC", []string{"Permission to use, copy, modify, and distribute this software for any purpose"}},
}

// secondary is how MPL-2.0 names licences that it is not.
const secondary = "means either the gnu general public license, version 2.0, the gnu lesser general public license, version 2.1, " +
	"the gnu affero general public license, version 3.0, or any later versions of those licenses."

// spdx names the licences whose words a text holds, joined by " AND ", or "".
func spdx(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	text = strings.ReplaceAll(text, secondary, "")
	var names []string
	for _, l := range licences {
		holds := !slices.ContainsFunc(l.words, func(w string) bool { return !strings.Contains(text, strings.ToLower(w)) })
		narrower := l.name == "BSD-2-Clause" && slices.Contains(names, "BSD-3-Clause")
		if holds && !narrower && !slices.Contains(names, l.name) {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " AND ")
}

// unlicensed compares what is built in, each module with the texts of its
// licences, with the committed list: lines of a module and its licence. The list
// may be ahead of the code, but not of what go.mod requires.
func unlicensed(list string, built map[string][]string, required []string) []string {
	listed := map[string]string{}
	var faults []string
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		name, licence, found := strings.Cut(strings.TrimSpace(line), " ")
		licence = strings.TrimSpace(licence)
		if _, again := listed[name]; again || !found {
			faults = append(faults, fmt.Sprintf("licences.txt: %q is no module and its licence, or a second line for it", strings.TrimSpace(line)))
		}
		listed[name] = licence
		for one := range strings.SplitSeq(licence, " AND ") {
			if !allowed[one] {
				faults = append(faults, fmt.Sprintf("licences.txt: %s: licence %q is not one that we allow", name, one))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(built)) {
		found := spdx(strings.Join(built[name], "\n"))
		licence, known := listed[name]
		switch {
		case found == "":
			faults = append(faults, fmt.Sprintf("%s: no licence that we can tell: read it, then teach it to the table in licences_test.go", name))
		case !known:
			faults = append(faults, fmt.Sprintf("%s: has licence %s and is not in licences.txt: may it be?", name, found))
		case licence != found:
			faults = append(faults, fmt.Sprintf("%s: has licence %s, licences.txt says %s", name, found, licence))
		}
		delete(listed, name)
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !slices.Contains(required, name) {
			faults = append(faults, fmt.Sprintf("licences.txt: %s is no dependency (any more)", name))
		}
	}
	return faults
}

func TestWhatIsBuiltInMayBe(t *testing.T) {
	list, err := os.ReadFile("licences.txt")
	if err != nil {
		t.Fatal(err)
	}
	built := builtIn(t)
	if len(built) == 0 {
		t.Fatal("found no module that is built in: did go list change its ways?")
	}
	gomod, err := fs.ReadFile(root(t), "go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required, _ := modules(string(gomod))
	for _, fault := range unlicensed(string(list), built, required) {
		t.Error(fault)
	}
}

// builtIn asks the go command for the modules that our programs and tests are
// built of, and reads their licences where they lie.
func builtIn(t *testing.T) map[string][]string {
	t.Helper()
	const format = "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Dir}}{{end}}{{end}}"
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-test", "-f", format, "./...")
	list.Dir = "../.."
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("listing what is built in: %v", err)
	}
	built := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		name, dir, found := strings.Cut(strings.TrimSpace(line), "\t")
		if _, known := built[name]; !found || known {
			continue
		}
		built[name] = licenceTexts(t, dir)
	}
	return built
}

// licenceTexts reads the licence files of a module.
func licenceTexts(t *testing.T, dir string) []string {
	t.Helper()
	module := os.DirFS(dir)
	entries, err := fs.ReadDir(module, ".")
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{}
	for _, e := range entries {
		stem := strings.ToUpper(strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())))
		if !slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "COPYRIGHT"}, stem) || e.IsDir() {
			continue
		}
		text, err := fs.ReadFile(module, e.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

func TestADoubtfulLicenceIsFound(t *testing.T) {
	const mit = "Permission is hereby granted, free of charge, to any person ... including\nwithout limitation the rights to use, copy,\n" +
		"modify, merge, publish ... The above copyright notice and this permission notice shall be included"
	const bsd2 = "Redistribution and use in source and binary forms, with or without ... must retain this list of conditions"
	const bsd3 = bsd2 + " ... Neither the name ... may be used to endorse or promote products derived"
	for _, row := range []struct {
		name, list string
		built      map[string][]string
		want       string
	}{
		{"all known", "# our list\na MIT\nb BSD-2-Clause\nc BSD-3-Clause\n", map[string][]string{"a": {mit}, "b": {bsd2}, "c": {bsd3}}, ""},
		{"two licences", "a Apache-2.0 AND MIT\n", map[string][]string{"a": {mit, "Licensed under the Apache License, Version 2.0 (the"}}, ""},
		{"a licence that names others", "a MPL-2.0\n", map[string][]string{"a": {"Mozilla Public License ... \"Secondary License\" " + secondary}}, ""},
		{"a new module", "a MIT\n", map[string][]string{"a": {mit}, "b": {mit}}, "b: has licence MIT and is not in"},
		{"a changed licence", "a MIT\n", map[string][]string{"a": {bsd3}}, "a: has licence BSD-3-Clause, licences.txt says MIT"},
		{"a second licence", "a MIT\n", map[string][]string{"a": {mit, bsd3}}, "BSD-3-Clause AND MIT"},
		{"no licence", "a MIT\n", map[string][]string{"a": {}}, "no licence that we can tell"},
		{"an unknown licence", "a MIT\n", map[string][]string{"a": {"All rights reserved."}}, "no licence that we can tell"},
		{"a licence that we do not allow", "a GPL\n", map[string][]string{"a": {"GNU GENERAL PUBLIC LICENSE"}}, "not one that we allow"},
		{"a module that went", "a MIT\nb MIT\n", map[string][]string{"a": {mit}}, "b is no dependency"},
		{"a module to come", "a MIT\nplanned MIT\n", map[string][]string{"a": {mit}}, ""},
		{"a module twice", "a MIT\na MIT\n", map[string][]string{"a": {mit}}, "second line"},
	} {
		faults := unlicensed(row.list, row.built, []string{"a", "planned"})
		if got := strings.Join(faults, "\n"); row.want == "" && got != "" || !strings.Contains(got, row.want) || len(faults) > 1 {
			t.Errorf("%s: got %q, want a fault about %q", row.name, faults, row.want)
		}
	}
}
