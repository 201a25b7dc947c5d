package main

import (
	"strings"
	"testing"
)

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	code, out, errs := ends(t, "--help")
	if code != 0 || errs != "" {
		t.Fatalf("--help: got code %d and %q", code, errs)
	}
	_, list, found := strings.Cut(out, "\nCommands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	if !found {
		t.Fatalf("--help lists no commands:\n%s", out)
	}
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		code, out, errs := ends(t, append(strings.Fields(name), "--help")...)
		if code != 0 || errs != "" {
			t.Errorf("%s --help: got code %d and %q, want 0 and nothing", name, code, errs)
		}
		for _, part := range []string{"Usage: roamsignd " + name + " ", "\nFlags:\n", "\nExamples:\n  roamsignd " + name + " "} {
			if !strings.Contains(out, part) {
				t.Errorf("%s --help lacks %q:\n%s", name, part, out)
			}
		}
		for line := range strings.Lines(out) {
			if len(strings.TrimRight(line, "\n")) > 120 {
				t.Errorf("%s --help has a line too wide for a terminal: %q", name, line)
			}
		}
	}
	for _, name := range []string{"dev", "serve", "check"} {
		if !strings.Contains(list, "  "+name+" ") {
			t.Errorf("--help does not list %s:\n%s", name, list)
		}
	}
}
