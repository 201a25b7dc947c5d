package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// desk is a folder in which a ceremony is held: an empty SoftHSM2, PIN files, and
// a configuration whose other files are still to come.
type desk struct{ dir, module, conf string }

func newDesk(t *testing.T) desk {
	t.Helper()
	empty := softhsmtest.Empty(t)
	d := desk{empty.Dir, empty.Config.Module, empty.Config.Environment[softHSMVariable]}
	write(t, d.path("so-pin"), "officer-"+t.Name()[:8]+"\n")
	write(t, d.path("roamsignd.yaml"), `listen: 127.0.0.1:0
tls: {certificate: server.pem, key: server.key, client_ca: tls-ca.pem}
policy: policy.yaml
signing: {certificate: signing.pem}
audit: {dir: audit, key_files: [audit.key]}
token:
  module: libsofthsm2.so
  environment: {`+softHSMVariable+`: `+d.conf+`}
  label: ceremony
  pin_file: pin
  key_label: signing-2026
  key_id: "2026"
`)
	return d
}

func (d desk) path(name string) string { return filepath.Join(d.dir, name) }

// does runs a command with the desk's configuration; it must do what it is asked.
func (d desk) does(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := ends(t, append(args, "--config", d.path("roamsignd.yaml"))...)
	if code != 0 || errs != "" {
		t.Fatalf("roamsignd %s: got code %d and %q", strings.Join(args, " "), code, errs)
	}
	return out
}

// refuses runs a command with the desk's configuration; it must fail with one
// line that has the words.
func (d desk) refuses(t *testing.T, want int, words string, args ...string) {
	t.Helper()
	code, out, errs := ends(t, append(args, "--config", d.path("roamsignd.yaml"))...)
	if code != want || out != "" || !strings.Contains(errs, words) {
		t.Errorf("roamsignd %s: got code %d, %q and %q, want %d and %q", strings.Join(args, " "), code, out, errs, want, words)
	}
}

// made is a desk with a token and a key in it.
func made(t *testing.T) desk {
	t.Helper()
	d := newDesk(t)
	d.does(t, "token", "init", "--so-pin-file", d.path("so-pin"))
	d.does(t, "key", "generate")
	return d
}

// log reads the ceremony log: for each line the step and its outcome.
func (d desk) log(t *testing.T) (steps []string, last entry) {
	t.Helper()
	for line := range strings.Lines(read(t, d.path(ceremonyLogName))) {
		last = entry{}
		check(t, json.Unmarshal([]byte(line), &last))
		steps = append(steps, last.Step+": "+last.Outcome)
	}
	return steps, last
}

const subjectText = `C: MY
O: Contoh Sdn. Bhd.
organizationIdentifier: C20880050010
CN: Contoh Sdn. Bhd.
serialNumber: 202001234567
E: cukai@contoh.example
`

// issue has OpenSSL play the authority: it signs a request as it stands.
func (d desk) issue(t *testing.T, request, out string, extensions ...string) {
	t.Helper()
	if _, err := os.Stat(d.path("root.pem")); errors.Is(err, os.ErrNotExist) {
		openssl(t, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", d.path("root.key"), "-out", d.path("root.pem"),
			"-subj", "/C=MY/O=Contoh CA/CN=Contoh Sub CA", "-days", "900")
	}
	write(t, d.path("extensions"), strings.Join(extensions, "\n")+"\n")
	openssl(t, "x509", "-req", "-in", request, "-CA", d.path("root.pem"), "-CAkey", d.path("root.key"), "-set_serial", "4711",
		"-days", "365", "-extfile", d.path("extensions"), "-out", d.path("leaf.pem"))
	write(t, out, read(t, d.path("leaf.pem"))+read(t, d.path("root.pem")))
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

var profile = []string{"keyUsage=critical,nonRepudiation", "extendedKeyUsage=1.3.6.1.4.1.311.10.3.12", "basicConstraints=CA:FALSE"}

// TestFromAnEmptyTokenToAWorkingCertificate: the whole ceremony by commands
// alone, with OpenSSL as the authority and the judge, and serve at the end.
func TestFromAnEmptyTokenToAWorkingCertificate(t *testing.T) {
	d := newDesk(t)
	if out := d.does(t, "token", "list"); !strings.Contains(out, "a token that is not initialised yet") || strings.Contains(out, "=>") ||
		!strings.Contains(out, `The configuration names token "ceremony", which is not there`) {
		t.Errorf("an empty token is listed as %q", out)
	}
	if out := d.does(t, "token", "init", "--so-pin-file", d.path("so-pin")); !strings.Contains(out, `Made token "ceremony", serial `) {
		t.Errorf("token init says %q", out)
	}
	if out := d.does(t, "token", "list"); !strings.Contains(out, `user PIN: set`) ||
		!strings.Contains(out, `=> the configuration names this token, and in it key label "signing-2026", ID "2026"`) {
		t.Errorf("the token is listed as %q", out)
	}
	out := d.does(t, "key", "generate")
	for _, want := range []string{"sensitive: yes, extractable: no", "sign: yes, sign-recover: no, decrypt: no, unwrap: no",
		"always-sensitive: yes, never-extractable: yes, local: yes", "can do nothing but sign"} {
		if !strings.Contains(out, want) {
			t.Errorf("key generate says %q, want %q in it", out, want)
		}
	}
	write(t, d.path("subject.yaml"), subjectText)
	d.does(t, "key", "csr", "--subject", d.path("subject.yaml"), "--out", d.path("request.pem"))
	if text := openssl(t, "req", "-in", d.path("request.pem"), "-verify", "-noout", "-text"); !strings.Contains(text, "verify OK") ||
		!strings.Contains(text, "C = MY, O = Contoh Sdn. Bhd., organizationIdentifier = C20880050010, CN = Contoh Sdn. Bhd., "+
			"serialNumber = 202001234567, emailAddress = cukai@contoh.example") || !strings.Contains(text, "Non Repudiation") {
		t.Errorf("openssl says of the request:\n%s", text)
	}
	d.issue(t, d.path("request.pem"), d.path("issued.pem"), profile...)
	out = d.does(t, "cert", "import", d.path("issued.pem"), "--out", d.path("signing.pem"), "--roots", d.path("root.pem"))
	if strings.Contains(out, "warning") || !strings.Contains(out, "364 days left") {
		t.Errorf("cert import says %q, want no warning", out)
	}
	out = d.does(t, "cert", "show")
	if strings.Contains(out, "warning") || strings.Count(out, "serial 1267, in documents 4711\n") != 2 {
		t.Errorf("cert show says %q, want the certificate twice, without warnings", out)
	}
	steps, last := d.log(t)
	want := []string{"token init: begun", "token init: done", "key generate: begun", "key generate: done",
		"key csr: begun", "key csr: done", "cert import: begun", "cert import: done"}
	if !slices.Equal(steps, want) {
		t.Errorf("the ceremony log has %q, want %q", steps, want)
	}
	if last.TokenSerial == "" || last.SPKI == "" || last.Certificate == "" || last.User == "" || last.KeyLabel != "signing-2026" {
		t.Errorf("the last line is %+v, want all that is known", last)
	}
	d.serves(t)
}

// serves completes the folder with what TLS and policy want, and starts the service.
func (d desk) serves(t *testing.T) {
	t.Helper()
	validity := ca.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	authority, err := ca.New("ceremony", ca.ECDSA, validity)
	check(t, err)
	server, err := authority.Server([]string{"localhost"}, validity)
	check(t, err)
	check(t, server.Save(d.path("server.pem"), d.path("server.key")))
	check(t, ca.WriteCertificates(d.path("tls-ca.pem"), authority.Certificate()))
	write(t, d.path("policy.yaml"), policyText())
	if code, out, errs := ends(t, "audit", "init", "--config", d.path("roamsignd.yaml"), "--name", "ceremony.test/log"); code != 0 || !strings.HasPrefix(out, "ceremony.test/log+") {
		t.Errorf("audit init: got code %d, %q and %q", code, out, errs)
	}
	daemon := start(t, "serve", "--config", d.path("roamsignd.yaml"))
	if code := daemon.stop(t); code != 0 {
		t.Errorf("serve ends with code %d:\n%s", code, daemon.errs)
	}
}

// TestAForeignToolFindsTheKeyAsPromised: OpenSC's, in the token that the
// commands made.
func TestAForeignToolFindsTheKeyAsPromised(t *testing.T) {
	d := made(t)
	tool := exec.CommandContext(t.Context(), "pkcs11-tool", "--module", d.module, "--token-label", "ceremony", "--login", "--pin", "env:TEST_PIN",
		"--list-objects", "--type", "privkey")
	tool.Env = []string{"TEST_PIN=" + strings.TrimSpace(read(t, d.path("pin"))), softHSMVariable + "=" + d.conf}
	out, err := tool.CombinedOutput()
	if err != nil {
		t.Fatalf("pkcs11-tool (of Debian's opensc): %v: %s", err, out)
	}
	for _, want := range []string{"label:      signing-2026\n", "ID:         2026\n", "Usage:      sign\n",
		"Access:     sensitive, always sensitive, never extractable, local\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got %s, want %q in it", out, want)
		}
	}
}

// TestNothingSecretIsTold in any output or in the log of a whole ceremony.
func TestNothingSecretIsTold(t *testing.T) {
	d := newDesk(t)
	var told strings.Builder
	for _, args := range [][]string{
		{"token", "init", "--so-pin-file", d.path("so-pin")}, {"key", "generate"}, {"key", "list"}, {"key", "list", "--json"}, {"token", "list", "--json"},
		{"key", "generate"}, // which is refused
	} {
		_, out, errs := ends(t, append(args, "--config", d.path("roamsignd.yaml"))...)
		told.WriteString(out + errs)
	}
	told.WriteString(read(t, d.path(ceremonyLogName)))
	for _, secret := range []string{read(t, d.path("pin")), read(t, d.path("so-pin"))} {
		if strings.Contains(told.String(), strings.TrimSpace(secret)) {
			t.Error("a PIN is told")
		}
	}
	if !strings.Contains(told.String(), `"step":"key generate","outcome":"failed"`) {
		t.Errorf("the refused step is not in the log:\n%s", &told)
	}
}

func TestDeletingWantsTheLabelTyped(t *testing.T) {
	d := made(t)
	args := []string{"key", "delete", "--config", d.path("roamsignd.yaml"), "--label", "signing-2026", "--id", "2026"}
	types := func(typed string, more ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := run(t.Context(), append(slices.Clone(args), more...), command.Streams{In: strings.NewReader(typed), Out: &out, Err: &errs})
		return code, out.String(), errs.String()
	}
	for _, row := range []struct {
		name, typed string
		more        []string
		code        int
		words       string
	}{
		{"nothing", "", nil, 1, "nothing was deleted"},
		{"yes", "yes\n", nil, 1, "nothing was deleted"},
		{"another label", "signing-2027\n", nil, 1, "nothing was deleted"},
		{"another label as a flag", "", []string{"--confirm", "signing-2027"}, 2, "nothing was deleted"},
	} {
		if code, _, errs := types(row.typed, row.more...); code != row.code || !strings.Contains(errs, row.words) {
			t.Errorf("%s: got code %d and %q, want %d and %q", row.name, code, errs, row.code, row.words)
		}
	}
	code, out, errs := types("signing-2026\n")
	if code != 0 || !strings.Contains(out, `Destroyed key label "signing-2026", ID 2026, SPKI SHA-256 `) {
		t.Errorf("the label: got code %d, %q and %q", code, out, errs)
	}
	if out := d.does(t, "key", "list"); !strings.Contains(out, "has no such RSA key") {
		t.Errorf("key list says %q, want none", out)
	}
	d.refuses(t, 1, "no such key", "key", "delete", "--label", "signing-2026", "--id", "2026", "--confirm", "signing-2026")
}
