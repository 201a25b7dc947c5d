package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/hsm"
)

// severalTokens gives the desk's configuration two tokens of one module, and one
// in a copy of the library, which has the first one's label.
func (d desk) severalTokens(t *testing.T) (copied string) {
	t.Helper()
	copied = d.path("copy.so")
	write(t, copied, read(t, d.module))
	text, _, found := strings.Cut(read(t, d.path("roamsignd.yaml")), "token:")
	if !found {
		t.Fatal("the configuration has no token to replace")
	}
	for _, one := range []struct{ module, label, key string }{{d.module, "east", "e-2026"}, {d.module, "west", "w-2026"}, {copied, "east", "c-2026"}} {
		text += "  - {module: " + one.module + ", environment: {" + softHSMVariable + ": " + d.conf + "}, label: " + one.label +
			", pin_file: pin, key_label: " + one.key + `, key_id: "2026"}` + "\n"
	}
	write(t, d.path("roamsignd.yaml"), strings.Replace(text, "  - ", "tokens:\n  - ", 1))
	return copied
}

// TestACeremonyIsOneTokensOfSeveral: a label chooses among those that the
// configuration names, and without one the command tells which there are.
func TestACeremonyIsOneTokensOfSeveral(t *testing.T) {
	d := newDesk(t)
	copied := d.severalTokens(t)
	d.refuses(t, 2, `choose it with --label LABEL: "east" in `+d.module+`, "west" in `, "token", "init", "--so-pin-file", d.path("so-pin"))
	d.does(t, "token", "init", "--so-pin-file", d.path("so-pin"), "--label", "west")
	d.does(t, "token", "init", "--so-pin-file", d.path("so-pin"), "--label", "east", "--module", d.module)

	d.refuses(t, 2, `choose it with --token LABEL: "east" in `, "key", "generate")
	d.refuses(t, 2, `no such token: choose one of these with --token LABEL: "east" in `, "key", "generate", "--token", "north")
	d.refuses(t, 2, `--token LABEL and --module PATH: "east" in `, "key", "generate", "--token", "east")
	if out := d.does(t, "key", "generate", "--token", "west"); !strings.Contains(out, `in token "west"`) || !strings.Contains(out, `label "w-2026"`) {
		t.Errorf("key generate says %q", out)
	}
	if out := d.does(t, "key", "generate", "--token", "east", "--module", d.module); !strings.Contains(out, `label "e-2026"`) {
		t.Errorf("key generate says %q", out)
	}
	if _, last := d.log(t); last.Token != "east" || last.TokenSerial == "" || last.KeyLabel != "e-2026" {
		t.Errorf("the last line of the log is %+v, want the token that was chosen", last)
	}
	if out := d.does(t, "key", "list", "--token", "west"); !strings.Contains(out, "=> the configuration names this key") || strings.Contains(out, "e-2026") {
		t.Errorf("key list says %q, want the one token's key", out)
	}
	write(t, d.path("subject.yaml"), subjectText)
	d.does(t, "key", "csr", "--token", "west", "--subject", d.path("subject.yaml"), "--out", d.path("request.pem"))
	d.issue(t, d.path("request.pem"), d.path("issued.pem"), profile...)
	d.does(t, "cert", "import", d.path("issued.pem"), "--token", "west", "--out", d.path("signing.pem"))
	if out := d.does(t, "cert", "show", "--token", "west"); strings.Count(out, "serial 1267, in documents 4711\n") != 2 {
		t.Errorf("cert show says %q, want the certificate in the token and in the file", out)
	}
	d.listsAll(t, copied)
}

// listsAll wants every configured token in the list, each module once.
func (d desk) listsAll(t *testing.T, copied string) {
	t.Helper()
	var modules []moduleReport
	check(t, json.Unmarshal([]byte(d.does(t, "token", "list", "--json")), &modules))
	used := map[string]bool{}
	for _, m := range modules {
		for _, s := range m.Slots {
			if s.Used {
				used[m.Module+" "+s.Label] = true
			}
		}
	}
	if len(modules) != 2 || len(used) != 3 || !used[copied+" east"] {
		t.Errorf("got %d modules and the tokens %v, want two and three", len(modules), used)
	}
	if out := d.does(t, "token", "list"); !strings.Contains(out, `in it key label "w-2026", ID "2026"`) || !strings.Contains(out, `"c-2026"`) {
		t.Errorf("token list says %q, want each token's key", out)
	}
}

func TestTokenAndTokensAreNotBothGiven(t *testing.T) {
	d := newDesk(t)
	write(t, d.path("roamsignd.yaml"), read(t, d.path("roamsignd.yaml"))+"tokens: [{module: libsofthsm2.so, label: other}]\n")
	d.refuses(t, 1, "tokens: token is given, too", "key", "list")
}

// TestCertificatesAreShownWithoutALogin: no PIN is asked for, nor read.
func TestCertificatesAreShownWithoutALogin(t *testing.T) {
	d := made(t)
	d.issue(t, d.request(t), d.path("issued.pem"), profile...)
	d.does(t, "cert", "import", d.path("issued.pem"), "--out", d.path("signing.pem"))
	replace(t, d.path("roamsignd.yaml"), "pin_file: pin", "pin_file: nowhere")
	var shown certificates
	check(t, json.Unmarshal([]byte(d.does(t, "cert", "show", "--json")), &shown))
	if len(shown.Token) != 1 || shown.File == nil || !shown.Match || shown.File.Serial != "1267" || shown.File.Decimal != "4711" {
		t.Errorf("got %+v, want the certificate in the token and in the file", shown)
	}
	config := hsm.Config{Module: d.module, Environment: map[string]string{softHSMVariable: d.conf}, TokenLabel: "ceremony"}
	keys, err := hsm.ShownKeys(t.Context(), config)
	if err != nil || len(keys) != 1 || keys[0].Private || !keys[0].Verifying {
		t.Errorf("got %+v and %v, want the public half alone", keys, err)
	}
}
