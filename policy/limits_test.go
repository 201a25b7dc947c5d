package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// limited is a policy with one caller, whose entry has these lines too.
func limited(t *testing.T, lines string) (*Policy, error) {
	t.Helper()
	text := "taxpayers: [{tin: C20880050010}]\ncallers:\n  - name: erp.example.com\n    taxpayers: all\n    methods: [SignDigest, SignDocument]\n"
	return Parse([]byte(text + lines))
}

func TestAGrantCarriesTheCallersLimitsAndTheMethods(t *testing.T) {
	for _, row := range []struct {
		name, lines      string
		caller, itsBlind Limits
	}{
		{"none", "", Limits{Weight: 1}, Limits{}},
		{"empty mappings", "    limits: {}\n    method_limits: {}\n", Limits{Weight: 1}, Limits{}},
		{"all", "    limits: {rate: 50, burst: 100, daily: 20000, concurrent: 64, weight: 3}\n    method_limits: {SignDigest: {rate: 5, burst: 7, daily: 500, concurrent: 2}}\n",
			Limits{50, 100, 20000, 64, 3}, Limits{5, 7, 500, 2, 0}},
		{"a burst of one second's rate", "    limits: {rate: 2.5}\n", Limits{Rate: 2.5, Burst: 3, Weight: 1}, Limits{}},
		{"a burst of at least one", "    method_limits:\n      SignDigest: {rate: 0.01}\n", Limits{Weight: 1}, Limits{Rate: 0.01, Burst: 1}},
		{"a method's that is not granted", "    method_limits: {SignDigests: {rate: 1}}\n", Limits{Weight: 1}, Limits{}},
	} {
		p, err := limited(t, row.lines)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		for method, own := range map[Method]Limits{SignDigest: row.itsBlind, SignDocument: {}} {
			grant, err := p.Decide("erp.example.com", method, windowed, some, first)
			if err != nil {
				t.Errorf("%s: %v", row.name, err)
			}
			if diff := cmp.Diff([]Limits{row.caller, own}, []Limits{grant.Limits(), grant.MethodLimits()}); diff != "" {
				t.Errorf("%s: %s: limits (-want +got):\n%s", row.name, method, diff)
			}
		}
		if p.Permit("erp.example.com", GetCertificate) == nil {
			t.Errorf("%s: limits granted a method", row.name)
		}
	}
}

func TestTheBlindMethodsHaveLimitsTogether(t *testing.T) {
	p, err := Parse([]byte("taxpayers: [{tin: C20880050010}]\ncallers:\n  - name: erp.example.com\n    taxpayers: all\n" +
		"    methods: [SignDigest, SignDigests, SignDocument]\n    method_limits: {blind: {daily: 500}, SignDigests: {daily: 400}, SignDocument: {daily: 300}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[Method][]Limits{ // together, and by itself
		SignDigest:   {{Daily: 500}, {}},
		SignDigests:  {{Daily: 500}, {Daily: 400}},
		SignDocument: {{}, {Daily: 300}},
	} {
		grant, err := p.Decide("erp.example.com", method, windowed, some, first)
		if err != nil {
			t.Errorf("%s: %v", method, err)
		}
		if diff := cmp.Diff(want, []Limits{grant.BlindLimits(), grant.MethodLimits()}); diff != "" {
			t.Errorf("%s: limits (-want +got):\n%s", method, diff)
		}
	}
	for _, method := range []Method{Blind, GetCertificate, ListTaxpayers} {
		if _, err := p.Decide("erp.example.com", method, windowed, some, first); err == nil || p.Permit("erp.example.com", method) == nil {
			t.Errorf("limits of %s granted %s", Blind, method)
		}
	}
	if _, err := ParseMethod(string(Blind)); err == nil {
		t.Errorf("%s can be granted", Blind)
	}
}

func TestACapThatTheOtherBlindMethodEvadesIsWarnedOf(t *testing.T) {
	const evaded = "is capped, but"
	for _, row := range []struct{ methods, caps, want string }{
		{"SignDigest, SignDigests", "SignDigest: {rate: 1}", "method SignDigest is capped, but SignDigests, which is as blind, is not: blind caps both together"},
		{"SignDigest, SignDigests", "SignDigests: {daily: 1}", "method SignDigests is capped, but SignDigest, which is as blind, is not: blind caps both together"},
		{"SignDigest, SignDigests", "SignDigests: {daily: 1}, SignDigest: {concurrent: 1}", ""},
		{"SignDigest, SignDigests", "SignDigests: {daily: 1}, blind: {rate: 1}", ""},
		{"SignDigest, SignDigests, SignDocument", "SignDocument: {daily: 1}", ""},
		{"SignDigest, SignDocument", "SignDigest: {daily: 1}", ""},
		{"SignDocument", "blind: {daily: 1}", "none of SignDigest, SignDigests is granted, so the limits of blind are for nothing"},
	} {
		p, err := Parse([]byte("taxpayers: [{tin: C20880050010}]\ncallers:\n  - {name: erp.example.com, taxpayers: all, methods: [" + row.methods + "], method_limits: {" + row.caps + "}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, w := range p.Warnings(some, first) {
			if w.Line == 3 && (strings.Contains(w.Message, evaded) || strings.Contains(w.Message, "for nothing")) {
				got += w.Message
			}
		}
		if got != row.want {
			t.Errorf("%s with {%s}: got %q, want %q", row.methods, row.caps, got, row.want)
		}
	}
}

func TestFaultyLimitsAreTold(t *testing.T) {
	const file = `    limits:
      rate: 0
      burst: 0
      daily: many
      concurrent: -1
      weight: 1.5
      per_minute: 3
    method_limits:
      SignDigest: {burst: 3}
      SignDocument: {weight: 2, rate: NaN}
      GetCertificate: {rate: 1}
      SignDigests: 5
`
	want := `line 7: rate must be a number of signatures a second above 0 and at most 1000000, not "0" (left out: no limit)
line 8: burst must be a whole number from 1 to 1000000, not "0"
line 9: daily must be a whole number from 1 to 1000000000, not "many"
line 10: concurrent must be a whole number from 1 to 1000000, not "-1"
line 11: weight must be a whole number from 1 to 1000, not "1.5"
line 12: unknown key "per_minute" in limits: the keys are rate, burst, daily, concurrent, weight
line 14: burst without a rate limits nothing
line 15: unknown key "weight" in limits of SignDocument: the keys are rate, burst, daily, concurrent
line 15: rate must be a number of signatures a second above 0 and at most 1000000, not "NaN" (left out: no limit)
line 16: "GetCertificate" is not a method with limits: those are SignDigest, SignDigests, SignDocument, and blind for SignDigest, SignDigests together
line 17: limits of SignDigests must be a mapping with the keys rate, burst, daily, concurrent`
	_, err := limited(t, file)
	if err == nil {
		t.Fatal("got no faults")
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestADayIsOneInMalaysia(t *testing.T) {
	for at, want := range map[string]string{
		"2025-03-01T15:59:59Z":      "2025-02-28T16:00:00Z",
		"2025-03-01T16:00:00Z":      "2025-03-01T16:00:00Z",
		"2025-03-01T23:00:00-08:00": "2025-03-01T16:00:00Z",
		"2024-12-31T16:00:00Z":      "2024-12-31T16:00:00Z",
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		begins, ends := Day(now)
		if got := begins.UTC().Format(time.RFC3339); got != want || ends.Sub(begins) != 24*time.Hour {
			t.Errorf("Day(%s): got %s and %v, want %s and a day", at, got, ends.Sub(begins), want)
		}
	}
}

func TestWhetherAnyCallerHasADailyQuota(t *testing.T) {
	for _, row := range []struct {
		limits string
		want   bool
	}{
		{"", false},
		{"    limits: {rate: 5, burst: 7, concurrent: 2, weight: 3}\n", false},
		{"    limits: {daily: 5}\n", true},
		{"    method_limits: {SignDigest: {daily: 5}}\n", true},
		{"    method_limits: {SignDigest: {rate: 5}}\n", false},
		{"    method_limits: {blind: {daily: 5}}\n", true},
		{"    method_limits: {blind: {rate: 5}}\n", false},
	} {
		p, err := Parse([]byte("taxpayers: [{tin: C20880050010}]\ncallers:\n  - {name: other.example.com, taxpayers: all, methods: [SignDigest]}\n" +
			"  - name: erp.example.com\n    taxpayers: all\n    methods: [SignDigest]\n" + row.limits))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Daily(); got != row.want {
			t.Errorf("%q: got %v, want %v", row.limits, got, row.want)
		}
	}
	if (*Policy)(nil).Daily() {
		t.Error("no policy: got a daily quota")
	}
}
