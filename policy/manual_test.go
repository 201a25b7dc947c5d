package policy

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTheManualsExampleIsAPolicyWithoutWarnings reads it as an operator would
// who copies it.
func TestTheManualsExampleIsAPolicyWithoutWarnings(t *testing.T) {
	manual, err := os.ReadFile("../docs/OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(manual), "```yaml\n# policy.yaml\n")
	example, _, ended := strings.Cut(example, "```")
	if !found || !ended {
		t.Fatal("the manual has no example of a policy")
	}
	p, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if warnings := p.Warnings([32]byte{}, first); len(warnings) > 0 {
		t.Errorf("warnings:\n%v", warnings)
	}
	grant, err := p.Decide(erp, SignDigest, windowed, some, first)
	if err != nil || grant.Limits() != (Limits{50, 100, 20000, 64, 3}) || grant.BlindLimits().Daily != 500 {
		t.Errorf("got %+v, %v", grant, err)
	}
	for _, key := range slices.Concat(taxpayerKeys, callerKeys, callerLimits, []string{"groups"}) {
		if !strings.Contains(example, key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
}
