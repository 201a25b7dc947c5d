package hsm_test

import (
	"strings"
	"testing"

	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
	"go.yaml.in/yaml/v3"
)

func TestValidateReportsAllFaultsAtOnce(t *testing.T) {
	for _, row := range []struct {
		name   string
		config hsm.Config
		want   []string // how each line begins
	}{
		{"nothing given", hsm.Config{}, []string{"module: missing", "label: missing", "pin_file: missing", "key_label: missing"}},
		{"everything wrong", hsm.Config{
			Module:      "m",
			Environment: map[string]string{"A=B": "c"},
			TokenLabel:  strings.Repeat("l", 33),
			TokenSerial: strings.Repeat("1", 17),
			PINFile:     "p",
			KeyID:       "0x12",
			Sessions:    -1,
		}, []string{"environment: ", "label: 33 bytes", "serial: 17 bytes", "key_id: ", "sessions: -1"}},
		{"too many sessions", hsm.Config{Module: "m", TokenSerial: "1", PINFile: "p", KeyID: "0aFF", Sessions: 1025}, []string{"sessions: 1025"}},
		{"the least", hsm.Config{Module: "m", TokenSerial: "1", PINFile: "p", KeyID: "0aFF"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []string
			if err := row.config.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(row.want) {
				t.Fatalf("got %q, want lines that begin %q", got, row.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], row.want[i]) {
					t.Errorf("got %q, want a line that begins %q", got[i], row.want[i])
				}
			}
		})
	}
}

// TestCheckLooksAtFilesToo: all of them, and reads a configuration as the
// documentation writes it.
func TestCheckLooksAtFilesToo(t *testing.T) {
	var config hsm.Config
	decoder := yaml.NewDecoder(strings.NewReader(`
module: /nowhere/libsofthsm2.so
environment: {SOFTHSM2_CONF: /nowhere/softhsm2.conf}
label: t
serial: "1"
pin_file: /nowhere/pin
key_label: k
key_id: "01"
sessions: 4
`))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	err := config.Check()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"module: ", "pin_file: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want a line that says %q", err, want)
		}
	}
	config.Module = softhsmtest.Library(t)
	if err := config.Check(); err == nil || !strings.Contains(err.Error(), "environment: ") {
		t.Errorf("got %v, want a line about the environment", err)
	}
}
