package myinvois

import (
	"strings"
	"testing"
)

func TestACodeOfTwoMeaningsIsToldByItsStep(t *testing.T) {
	for _, row := range []struct{ step, code, want string }{
		{"Step03-Duplicated Submission Validator", "DS302", "within two hours"},
		{"Step03-Duplicated Submission Validator", "DV302", "within two hours"},
		{"Step05-duplicate documents", "ds302", "within two hours"},
		{"", "DV302", "within two hours"},
		{"Step08-Document Signature Validator", "DS302", "not exactly one signature"},
		{"", "DS302", "not exactly one signature"},
		{"Step03-Duplicated Submission Validator", "CF321", ""},
	} {
		for _, p := range []Problem{{Code: row.code}, {Code: "Error03", Details: []Problem{{Code: "x"}, {Code: row.code}}}} {
			if got := twofold(row.step, p); row.want == "" && got != "" || !strings.Contains(got, row.want) {
				t.Errorf("%s, %s: got %q, want %q", row.step, row.code, got, row.want)
			}
		}
	}
}
