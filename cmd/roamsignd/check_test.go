package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/roamsign/roamsign/ca"
)

func TestCheckFindsNoFaultInWhatDevMakes(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	check(t, os.Remove(filepath.Join(dir, devRoots))) // which is for verify alone
	before := snapshot(t, dir)
	for _, row := range []struct {
		args []string
		want string
	}{
		{nil, ": no faults found; the token was not touched (--login logs in)\n"},
		{[]string{"--login"}, ": no faults found; the token's key belongs to the certificate\n"},
	} {
		code, out, errs := ends(t, append([]string{"check", "--config", config}, row.args...)...)
		if code != 0 || out != config+row.want || errs != "" {
			t.Errorf("check %v: got code %d, %q and %q, want 0 and %q", row.args, code, out, errs, config+row.want)
		}
	}
	unchanged(t, dir, before)
}

// broken is a configuration with a fault of each sort.
const broken = `listen: somewhere
lisen: 127.0.0.1:7443
tls:
  certificate: server.pem
  key: client.key
  client_ca: nobody.pem
limits:
  queue: -1
  drain: soon
policy: policy.yaml
signing:
  certificate: server.key
token:
  module: libnone.so
  label: roamsign-dev
  pin_file: pin
  key_id: xyz
  key_id: "02"
  pin: 1234
audit:
  key_files: [nobody.key]
`

// brokenPolicy is a policy with several.
const brokenPolicy = `taxpayers:
  - tin: 20880050010
  - tin: C20880050020
    until: 2027-01-01
callers:
  - name: erp.example.com
    taxpayers: [C20880050030]
    methods: [SignEverything]
`

func TestCheckReportsEveryFaultAtOnce(t *testing.T) {
	dir := folder(t)
	config, rules := filepath.Join(dir, devConfig), filepath.Join(dir, devPolicy)
	write(t, config, broken)
	write(t, rules, brokenPolicy)
	check(t, os.Chmod(filepath.Join(dir, devPIN), 0o644))
	before := snapshot(t, dir)
	code, out, errs := ends(t, "check", "--config", config)
	if code != 1 || out != "" {
		t.Errorf("got code %d and output %q, want 1 and none", code, out)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	want := []string{ // how the lines begin; what policies say of themselves is package policy's
		config + `: line 1: listen: must be HOST:PORT, such as 127.0.0.1:7443, not "somewhere"`,
		config + `: line 2: lisen is not a key here; the keys are instance, listen, `,
		config + `: line 4: tls.certificate: the key in ` + in("client.key") + ` does not belong to the first certificate in ` + in("server.pem"),
		config + `: line 6: tls.client_ca: open ` + in("nobody.pem") + `: no such file or directory`,
		config + `: line 8: limits.queue: must be 1 to 1000000 (0 or left out: the default), not -1`,
		config + `: line 9: limits.drain must be a duration, such as "5s"`,
		config + `: line 12: signing.certificate: ` + in("server.key") + `: it holds a PRIVATE KEY where only certificates are expected`,
		config + `: line 14: token.module: PKCS#11 module cannot be used: stat ` + in("libnone.so") + `: no such file or directory`,
		config + `: line 16: token.pin_file: PIN file ` + in("pin") + `: its mode is 0644, so others than its owner have access: run chmod 600 on it`,
		config + `: line 17: token.key_id: "xyz" is not hexadecimal`,
		config + `: line 18: token.key_id is given twice`,
		config + `: line 19: token.pin is not a key here; the keys are module, environment, label, serial, pin_file, key_label, key_id, sessions`,
		config + `: line 20: audit.dir: missing: `,
		config + `: line 21: audit.key_files: reading the log key: open ` + in("nobody.key") + `: no such file or directory`,
		rules + `: line 2: `,
		rules + `: line 4: `,
		rules + `: line 7: `,
		rules + `: line 8: `,
	}
	begins := func(whole, beginning string) bool { return strings.HasPrefix(whole, beginning) }
	if got := lines(errs); !slices.EqualFunc(got, want, begins) {
		t.Errorf("faults (-want +got):\n%s", cmp.Diff(want, got))
	}
	unchanged(t, dir, before)
}

// oddPolicy stands, and denies more than it seems to.
const oddPolicy = `taxpayers:
  - {tin: C20880050010, to: 2025-06-30}
  - {tin: C20880050090, brn: "202001234590", intermediary: true}
callers:
  - name: erp.example.com
    taxpayers: [C20880050010, C20880050090]
    methods: [SignDigest]
    certificate: 0700000000000000000000000000000000000000000000000000000000000000
`

func TestCheckWarnsOfWhatIsNoFault(t *testing.T) {
	dir := folder(t)
	config, rules := filepath.Join(dir, devConfig), filepath.Join(dir, devPolicy)
	write(t, rules, oddPolicy)
	code, out, errs := ends(t, "check", "--config", config)
	if code != 0 || !strings.Contains(out, "no faults found") {
		t.Errorf("got code %d and %q, want 0 and no faults", code, out)
	}
	want := []string{
		rules + ": line 2: warning: the representation of taxpayer C20880050010 ended at 2025-07-01T00:00:00+08:00",
		rules + ": line 8: warning: caller erp.example.com may not use signing certificate " + sumOf(t, filepath.Join(dir, devSigning)),
	}
	if got := lines(errs); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("warnings (-want +got):\n%s", cmp.Diff(want, got))
	}
}

func TestCheckTellsOfQuotasThatAreNotKept(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	const rules = `taxpayers: [{tin: C20880050010}]
callers: [{name: erp.example.com, taxpayers: all, methods: [SignDigest], limits: {daily: 5}}]
`
	write(t, filepath.Join(dir, devPolicy), rules)
	replaceLine(t, config, "state:", "")
	code, _, errs := ends(t, "check", "--config", config)
	if want := config + ": warning: a restart forgets"; code != 0 || !strings.Contains(errs, want) {
		t.Errorf("without a folder: got code %d and %q, want 0 and %q", code, errs, want)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, string(text)+"\nstate: state\n")
	if code, _, errs := ends(t, "check", "--config", config); code != 0 || strings.Contains(errs, "forgets") {
		t.Errorf("with a folder: got code %d and %q, want 0 and no such warning", code, errs)
	}
}

func TestCheckComparesTheCertificateWithTheIntermediary(t *testing.T) {
	dir := folder(t)
	rules := filepath.Join(dir, devPolicy)
	for _, row := range []struct{ name, entry, want string }{
		{"the holder", `{tin: C20880050090, brn: "202001234590", intermediary: true}`, ""},
		{"another TIN", `{tin: C20880050080, brn: "202001234590", intermediary: true}`, `but the signing certificate is that of "C20880050090", brn "202001234590"`},
		{"another number", `{tin: C20880050090, brn: "202001234591", intermediary: true}`, `the intermediary is C20880050090, brn 202001234591`},
	} {
		write(t, rules, "taxpayers:\n  - "+row.entry+"\ncallers: [{name: erp.example.com, taxpayers: all, methods: [SignDigest]}]\n")
		code, _, errs := ends(t, "check", "--config", filepath.Join(dir, devConfig))
		if row.want == "" {
			if code != 0 || errs != "" {
				t.Errorf("%s: got code %d and %q, want no fault", row.name, code, errs)
			}
			continue
		}
		if code != 1 || !strings.Contains(errs, rules+": line 2: ") || !strings.Contains(errs, row.want) {
			t.Errorf("%s: got code %d and %q, want 1 and %q", row.name, code, errs, row.want)
		}
	}
}

func TestWhatCheckWouldWarnOfInANewPolicyIsInTheLog(t *testing.T) {
	d := newLookout(t, asMade)
	write(t, d.file(devPolicy), oddPolicy)
	d.readAll()
	d.expect("what=stopped",
		"level=WARN|roamsignd check tells all|file="+d.file(devPolicy)+"|warnings=2|line 2: the representation of taxpayer C20880050010 ended",
		`level=INFO msg="in force" what=policy`, "what=tls", "what=signing.certificate", "what=configuration",
	)
	if len(d.told.policies) != 2 || d.told.report != nil {
		t.Errorf("got %+v, want the policy in force, and no fault", d.told)
	}
}

func TestAPolicyOfAnotherIntermediaryIsNotTakenOver(t *testing.T) {
	d := newLookout(t, asMade)
	write(t, d.file(devPolicy), strings.ReplaceAll(oddPolicy, "202001234590", "202001234591"))
	d.readAll()
	d.expect("what=stopped",
		"level=WARN|stays in force|what=policy|"+d.file(devPolicy)+": line 3: the intermediary is C20880050090, brn 202001234591|correct the intermediary",
		"what=tls", "what=signing.certificate", "what=configuration",
	)
	if len(d.told.policies) != 1 || d.told.report == nil || !strings.Contains(d.told.report.Error(), "the intermediary is") {
		t.Errorf("got %+v, want that the old policy stays and health is told", d.told)
	}
	write(t, d.file(devPolicy), oddPolicy)
	d.readAll()
	if len(d.told.policies) != 2 || d.told.report != nil {
		t.Errorf("got %+v, want the corrected policy in force", d.told)
	}
	d.expect("what=stopped", "roamsignd check tells all", `level=INFO msg="in force" what=policy`, "what=tls", "what=signing.certificate", "what=configuration")
	check(t, ca.WriteCertificates(d.file(devSigning), rsaCertificate(t))) // nobody's
	d.readAll()
	d.expect("what=stopped", "roamsignd check tells all", "what=policy", "what=tls",
		`level=WARN|not taken over|what=signing.certificate|the signing certificate is that of \"\", brn \"\"`, "what=configuration")
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	chain, err := ca.LoadCertificates(path)
	check(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(chain[0].Raw))
}

// lines are those of an error output, without the program's name.
func lines(errs string) (all []string) {
	for line := range strings.Lines(errs) {
		all = append(all, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "roamsignd: "))
	}
	return all
}

func TestAnEmptyConfigurationIsToldWhatItLacks(t *testing.T) {
	config := filepath.Join(t.TempDir(), "roamsignd.yaml")
	write(t, config, "")
	code, _, errs := ends(t, "check", "--config", config)
	var keys []string
	for _, line := range lines(errs) {
		key, said, _ := strings.Cut(strings.TrimPrefix(line, config+": "), ": ")
		if !strings.HasPrefix(said, "missing: ") {
			t.Errorf("got %q, want what is missing", line)
		}
		keys = append(keys, key)
	}
	want := []string{
		"listen", "tls.certificate", "tls.key", "tls.client_ca", "audit.dir", "audit.key_files",
		"token.module", "token.label", "token.pin_file", "token.key_label", "signing.certificate", "policy",
	}
	if diff := cmp.Diff(want, keys); code != 1 || diff != "" {
		t.Errorf("code %d, keys (-want +got):\n%s", code, diff)
	}
}

func TestCheckKnowsTheDateAndTheKind(t *testing.T) {
	now := time.Now()
	past := ca.Validity{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour)}
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  []string
	}{
		{"a signing certificate that has ended", func(t *testing.T, dir string) {
			authority, err := ca.New("ended", ca.RSA, past)
			check(t, err)
			ended, err := authority.Signing(ca.Organization{Country: "MY", Name: "A", TIN: "C20880050010", CommonName: "A", BRN: "1"}, certified(t, dir), past)
			check(t, err)
			check(t, ca.WriteCertificates(filepath.Join(dir, devSigning), ended))
		}, []string{devSigning, "valid from", past.NotAfter.UTC().Format(time.RFC3339)}},
		{"a server certificate that has ended", func(t *testing.T, dir string) {
			authority, err := ca.New("ended", ca.ECDSA, past)
			check(t, err)
			ended, err := authority.Server([]string{"localhost"}, past)
			check(t, err)
			check(t, os.Remove(filepath.Join(dir, "server.key")))
			check(t, ended.Save(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")))
		}, []string{"server.pem", "valid from", past.NotAfter.UTC().Format(time.RFC3339)}},
		{"a signing certificate of another kind of key", func(t *testing.T, dir string) {
			check(t, os.Rename(filepath.Join(dir, "client.pem"), filepath.Join(dir, devSigning)))
		}, []string{"line 11: signing.certificate", "ECDSA", "RSA"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := folder(t)
			row.spoil(t, dir)
			code, _, errs := ends(t, "check", "--config", filepath.Join(dir, devConfig))
			if code != 1 || strings.Count(errs, "\n") != 1 {
				t.Errorf("got code %d and\n%s\nwant 1 and one line", code, errs)
			}
			for _, part := range row.want {
				if !strings.Contains(errs, part) {
					t.Errorf("got %q, want %q in it", errs, part)
				}
			}
		})
	}
}
