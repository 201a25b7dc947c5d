package house

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
)

// testsOnly is the floor of what only tests may import.
const testsOnly = "tests"

// floors is the plan of the house, the same as in docs/DESIGN.md. A package
// imports only packages of lower floors: never sideways, never up.
var floors = map[string]string{
	"proto/roamsign/v1":  "0",
	"internal/fault":     "0",
	"internal/pkcs1":     "0",
	"internal/strict":    "0",
	"xades":              "1",
	"hsm":                "1",
	"policy":             "1",
	"audit":              "1",
	"ca":                 "1",
	"myinvois":           "1",
	"myinvois/sandbox":   "2",
	"audit/mysql":        "2",
	"signer":             "2",
	"client":             "2",
	"internal/command":   "2",
	"cmd/roamsignd":      "3",
	"cmd/roamsign":       "3",
	"softhsm-test":       testsOnly,
	"softhsm-test/bench": testsOnly,
	"internal/house":     testsOnly,
}

// standsOnItsFloor refuses a file of a package without a floor, and imports
// that go sideways or up.
func standsOnItsFloor(s *source) []string {
	own, known := floors[s.pkg]
	if !known {
		return []string{fmt.Sprintf("%s: package %s has no floor: give it one in docs/DESIGN.md and in this test", s.path, s.pkg)}
	}
	var faults []string
	for _, i := range s.imports {
		pkg, ours := strings.CutPrefix(i.path, module+"/")
		if !ours {
			continue
		}
		if sentence := climbs(s, own, pkg); sentence != "" {
			faults = append(faults, fmt.Sprintf("%s: imports %s, %s", s.path, pkg, sentence))
		}
	}
	return faults
}

// climbs tells why a file that stands on floor own may not import pkg, or "".
func climbs(s *source, own, pkg string) string {
	floor, known := floors[pkg]
	switch {
	case !known:
		return "which has no floor"
	case strings.HasPrefix(pkg, "cmd/"):
		return "a command, which nothing imports"
	case s.test || own == testsOnly:
		return ""
	case floor == testsOnly:
		return "which is for tests only"
	case floor == own:
		return "which stands on the same floor"
	case floor > own:
		return "which stands on a higher floor"
	}
	return ""
}

func TestEveryPackageStandsOnItsFloor(t *testing.T) {
	hold(t, standsOnItsFloor)
}

func TestAPackageOffItsFloorIsFound(t *testing.T) {
	prove(t, standsOnItsFloor, []fake{
		{"down is allowed", "signer/a.go", `package signer; import "github.com/roamsign/roamsign/xades"`, ""},
		{"two floors down is allowed", "cmd/roamsign/a.go", `package main; import "github.com/roamsign/roamsign/xades"`, ""},
		{"sideways", "policy/a.go", `package policy; import "github.com/roamsign/roamsign/xades"`, "same floor"},
		{"sideways on the ground", "internal/fault/a.go", `package fault; import "github.com/roamsign/roamsign/proto/roamsign/v1"`, "same floor"},
		{"up", "xades/a.go", `package xades; import "github.com/roamsign/roamsign/signer"`, "higher floor"},
		{"up under another name", "xades/a.go", `package xades; import s "github.com/roamsign/roamsign/signer"`, "higher floor"},
		{"up in a test", "xades/a_test.go", `package xades_test; import "github.com/roamsign/roamsign/signer"`, ""},
		{"a command", "softhsm-test/a.go", `package softhsmtest; import "github.com/roamsign/roamsign/cmd/roamsign"`, "nothing imports"},
		{"a command in a test", "client/a_test.go", `package client; import "github.com/roamsign/roamsign/cmd/roamsign"`, "nothing imports"},
		{"a command in a command", "cmd/roamsign/a.go", `package main; import "github.com/roamsign/roamsign/cmd/roamsignd"`, "nothing imports"},
		{"a test package", "cmd/roamsignd/a.go", `package main; import "github.com/roamsign/roamsign/softhsm-test"`, "tests only"},
		{"a test package in a test", "hsm/a_test.go", `package hsm; import "github.com/roamsign/roamsign/softhsm-test"`, ""},
		{"a package without a floor", "attic/a.go", `package attic`, "no floor"},
		{"a package without a floor, of tests", "attic/a_test.go", `package attic`, "no floor"},
		{"an import without a floor", "xades/a.go", `package xades; import "github.com/roamsign/roamsign/attic"`, "no floor"},
		{"a file at the root", "a.go", `package roamsign`, "no floor"},
		{"somebody else's package", "xades/a.go", `package xades; import "github.com/roamsign/roamsignal/attic"`, ""},
	})
}

func TestTheDesignShowsTheSameFloors(t *testing.T) {
	text, err := fs.ReadFile(root(t), "docs/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := shownFloors(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range slices.Sorted(maps.Keys(floors)) {
		if shown[pkg] != floors[pkg] {
			t.Errorf("%s: docs/DESIGN.md says floor %q, the test says %q", pkg, shown[pkg], floors[pkg])
		}
		delete(shown, pkg)
	}
	for _, pkg := range slices.Sorted(maps.Keys(shown)) {
		t.Errorf("%s: docs/DESIGN.md gives it floor %q, the test does not know it", pkg, shown[pkg])
	}
}

// shownFloors reads the plan out of the design: lines of a package and its
// floor, in the fenced block under the heading "Floors".
func shownFloors(design string) (map[string]string, error) {
	_, fenced, found := strings.Cut("\n"+under(design, "Floors"), "\n```")
	if !found {
		return nil, fmt.Errorf("docs/DESIGN.md has no fenced block under the heading Floors")
	}
	_, fenced, _ = strings.Cut(fenced, "\n")
	block, _, closed := strings.Cut(fenced, "```")
	if !closed {
		return nil, fmt.Errorf("docs/DESIGN.md does not close the block under the heading Floors")
	}
	shown := map[string]string{}
	for line := range strings.Lines(block) {
		fields := strings.Fields(line)
		if len(fields) != 2 || shown[fields[0]] != "" {
			return nil, fmt.Errorf("docs/DESIGN.md, under Floors: %q is no package and its floor, or a second one for it", strings.TrimSpace(line))
		}
		shown[fields[0]] = fields[1]
	}
	return shown, nil
}

// under returns the text of a design below the heading of this name, up to the
// next heading of its level or a higher one.
func under(design, heading string) string {
	var text strings.Builder
	level := 0
	for line := range strings.Lines(design) {
		marks := len(line) - len(strings.TrimLeft(line, "#"))
		title := strings.TrimSpace(strings.TrimLeft(line, "#"))
		switch {
		case marks > 0 && title == heading:
			level = marks
		case marks > 0 && marks <= level:
			return text.String()
		case level > 0:
			text.WriteString(line)
		}
	}
	return text.String()
}

func TestAFaultyPlanIsFound(t *testing.T) {
	for _, row := range []struct {
		name, design, want string
	}{
		{"a good plan", "# D\n## Floors\nText.\n```\nxades 1\nhsm   1\n```\n## More\n", ""},
		{"a plan in a language", "## Floors\n```text\nxades 1\nhsm 1\n```\n", ""},
		{"no heading", "# D\n```\nxades 1\n```\n", "no fenced block"},
		{"a block under the next heading", "## Floors\n## More\n```\nxades 1\n```\n", "no fenced block"},
		{"an open block", "## Floors\n```\nxades 1\n", "does not close"},
		{"a line of three words", "## Floors\n```\nxades 1 pure\n```\n", "no package and its floor"},
		{"a package twice", "## Floors\n```\nxades 1\nxades 2\n```\n", "second one"},
	} {
		t.Run(row.name, func(t *testing.T) {
			shown, err := shownFloors(row.design)
			switch {
			case row.want == "" && (err != nil || shown["xades"] != "1" || shown["hsm"] != "1"):
				t.Errorf("got %v and %v, want both floors", shown, err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("got %v, want an error about %q", err, row.want)
			}
		})
	}
}
