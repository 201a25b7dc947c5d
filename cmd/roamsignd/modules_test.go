package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// TestTheCeremonyOverARemoteToken: every step of it after the making of a token,
// for which makers have tools of their own.
func TestTheCeremonyOverARemoteToken(t *testing.T) {
	deskOf(t, softhsmtest.NewRemote(t, softhsmtest.New(t)).Token).holdsCeremony(t)
}

// TestTheCeremonyOverOpenCryptoki, which other modules in the process do not disturb.
func TestTheCeremonyOverOpenCryptoki(t *testing.T) {
	if !softhsmtest.Secluded(t) {
		return
	}
	soft := newDesk(t)
	t.Setenv(softHSMVariable, soft.conf)
	d := deskOf(t, softhsmtest.OpenCryptoki(t))
	for range 3 {
		code, out, errs := ends(t, "token", "list", "--module", soft.module, "--module", d.module, "--module", softhsmtest.Library(t))
		if code != 0 || strings.Count(out, "Module ") != 3 {
			t.Errorf("token list: got code %d, %q and %q, want three modules", code, out, errs)
		}
	}
	d.holdsCeremony(t)
}

// deskOf is a desk with a token that is there already, and has a key named signing.
func deskOf(t *testing.T, token *softhsmtest.Token) desk {
	t.Helper()
	d := desk{dir: t.TempDir(), module: token.Config.Module}
	environment := []string{}
	for _, name := range slices.Sorted(maps.Keys(token.Config.Environment)) {
		environment = append(environment, name+": \""+token.Config.Environment[name]+"\"")
	}
	write(t, d.path("roamsignd.yaml"), `listen: 127.0.0.1:0
tls: {certificate: server.pem, key: server.key, client_ca: tls-ca.pem}
policy: policy.yaml
signing: {certificate: signing.pem}
audit: {dir: audit, key_files: [audit.key]}
token:
  module: `+d.module+`
  environment: {`+strings.Join(environment, ", ")+`}
  label: `+token.Config.TokenLabel+`
  pin_file: `+token.Config.PINFile+`
  key_label: signing-2026
  key_id: "2026"
`)
	return d
}

// holdsCeremony goes from the token to a service, and through what else there is.
func (d desk) holdsCeremony(t *testing.T) {
	t.Helper()
	if out := d.does(t, "token", "list"); strings.Count(out, "=> the configuration names this token") != 1 {
		t.Errorf("token list says %q", out)
	}
	if out := d.does(t, "key", "generate"); !strings.Contains(out, "can do nothing but sign") {
		t.Errorf("key generate says %q", out)
	}
	d.refuses(t, 1, "key exists", "key", "generate")
	request := d.request(t)
	if text := openssl(t, "req", "-in", request, "-verify", "-noout"); !strings.Contains(text, "verify OK") {
		t.Errorf("openssl says of the request: %s", text)
	}
	d.issue(t, request, d.path("issued.pem"), profile...)
	d.does(t, "cert", "import", d.path("issued.pem"), "--out", d.path("signing.pem"), "--roots", d.path("root.pem"))
	var shown certificates
	check(t, json.Unmarshal([]byte(d.does(t, "cert", "show", "--json")), &shown))
	if len(shown.Token) != 1 || !shown.Match {
		t.Errorf("cert show says %+v, want the certificate in the token and in the file", shown)
	}
	d.serves(t)

	write(t, d.path("password"), "throwaway\n")
	var report p12Report
	check(t, json.Unmarshal([]byte(d.does(t, "key", "import-p12", softP12(t, d), "--label", "soft", "--id", "0b", "--password-file", d.path("password"), "--json")), &report))
	if !report.Key.Private || report.Key.BornInside || len(report.Key.Faults) > 0 {
		t.Errorf("key import-p12 says %+v", report)
	}
	t.Logf("the soft key went in by %s", report.Way)
	for label, id := range map[string]string{"soft": "0b", "signing-2026": "2026"} {
		d.does(t, "key", "delete", "--label", label, "--id", id, "--confirm", label)
	}
	if out := d.does(t, "key", "list"); strings.Contains(out, "2026") || strings.Contains(out, `"soft"`) {
		t.Errorf("key list says %q, want neither key", out)
	}
	steps, _ := d.log(t)
	if !slices.Contains(steps, "key generate: failed") || steps[len(steps)-1] != "key delete: done" {
		t.Errorf("the ceremony log %s has %q", filepath.Join(d.dir, ceremonyLogName), steps)
	}
}
