package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// request makes a key's request, and says where it is.
func (d desk) request(t *testing.T) string {
	t.Helper()
	write(t, d.path("subject.yaml"), subjectText)
	path := filepath.Join(t.TempDir(), "request.pem")
	d.does(t, "key", "csr", "--subject", d.path("subject.yaml"), "--out", path)
	return path
}

// TestACertificateOutsideTheProfileIsTakenWithAWarning for each point by name.
func TestACertificateOutsideTheProfileIsTakenWithAWarning(t *testing.T) {
	d := made(t)
	request := d.request(t)
	for _, row := range []struct {
		name       string
		extensions []string
		flags      []string
		want       []string
	}{
		{"another Key Usage", []string{"keyUsage=digitalSignature", "extendedKeyUsage=1.3.6.1.4.1.311.10.3.12"}, nil, []string{"Key Usage lacks Non-Repudiation"}},
		{"another Extended Key Usage", []string{"keyUsage=nonRepudiation", "extendedKeyUsage=clientAuth"}, nil, []string{"Extended Key Usage lacks Document Signing"}},
		{"neither", []string{"basicConstraints=CA:FALSE"}, nil, []string{"Key Usage lacks", "Extended Key Usage lacks"}},
	} {
		d.issue(t, request, d.path("issued.pem"), row.extensions...)
		var report certificateReport
		check(t, json.Unmarshal([]byte(d.does(t, append([]string{"cert", "import", d.path("issued.pem"), "--json"}, row.flags...)...)), &report))
		if len(report.Warnings) != len(row.want) {
			t.Errorf("%s: got the warnings %q, want %d", row.name, report.Warnings, len(row.want))
		}
		for i := range min(len(row.want), len(report.Warnings)) {
			if !strings.Contains(report.Warnings[i], row.want[i]) {
				t.Errorf("%s: got the warning %q, want %q in it", row.name, report.Warnings[i], row.want[i])
			}
		}
	}
	d.issue(t, request, d.path("issued.pem"), profile...)
	if out := d.does(t, "cert", "import", d.path("leaf.pem"), "--skip-token", "--out", d.path("alone.pem")); !strings.Contains(out, "chain: its issuer CN=Contoh Sub CA") {
		t.Errorf("without issuers: got %q, want a warning of the chain", out)
	}
	openssl(t, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", d.path("other.key"), "-out", d.path("other.pem"), "-subj", "/CN=Other", "-days", "9")
	if out := d.does(t, "cert", "import", d.path("issued.pem"), "--roots", d.path("other.pem")); !strings.Contains(out, "chain: it does not end at the roots") {
		t.Errorf("with other roots: got %q, want a warning of the chain", out)
	}
}

func TestACertificateIsJudgedByTheClock(t *testing.T) {
	d := made(t)
	d.issue(t, d.request(t), d.path("issued.pem"), profile...)
	s := signing{Certificate: d.path("issued.pem")}
	chain, err := s.load()
	check(t, err)
	day := 24 * time.Hour
	for _, row := range []struct {
		name string
		now  time.Time
		days int
		want string
	}{
		{"now", time.Now(), 364, ""},
		{"before it begins", chain[0].NotBefore.Add(-day), 366, "validity: it begins at"},
		{"31 days before the end", chain[0].NotAfter.Add(-31 * day), 31, ""},
		{"29 days before the end", chain[0].NotAfter.Add(-29 * day), 29, "ends in 29 days"},
		{"after the end", chain[0].NotAfter.Add(time.Hour), -1, "validity: it ended at"},
	} {
		report, err := judge(chain, "", row.now)
		check(t, err)
		if row.name == "before it begins" {
			report.Warnings = report.Warnings[:1] // the root begins then, too
		}
		got := strings.Join(report.Warnings, "; ")
		if report.DaysLeft != row.days || row.want == "" && got != "" || !strings.Contains(got, row.want) {
			t.Errorf("%s: got %d days and %q, want %d and %q", row.name, report.DaysLeft, got, row.days, row.want)
		}
	}
}

// TestACertificateForAnotherKeyGetsNowhere: neither into the token nor a file.
func TestACertificateForAnotherKeyGetsNowhere(t *testing.T) {
	d := made(t)
	openssl(t, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", d.path("other.key"), "-out", d.path("other.pem"), "-subj", "/CN=Other", "-days", "9")
	for _, more := range [][]string{nil, {"--skip-token"}} {
		d.refuses(t, 1, "key does not belong to the certificate", append([]string{"cert", "import", d.path("other.pem"), "--out", d.path("signing.pem")}, more...)...)
		if _, err := os.Stat(d.path("signing.pem")); err == nil {
			t.Error("the file is written all the same")
		}
	}
	if steps, last := d.log(t); steps[len(steps)-1] != "cert import: failed" || last.Error == "" || last.Certificate == "" {
		t.Errorf("the log ends with %+v, want the refusal", last)
	}
	write(t, d.path("signing.pem"), read(t, d.path("other.pem")))
	code, out, errs := ends(t, "cert", "show", "--config", d.path("roamsignd.yaml"))
	if code != 1 || !strings.Contains(errs, "key does not belong to the certificate") || !strings.Contains(out, "OID.") && !strings.Contains(out, "CN=Other") {
		t.Errorf("cert show: got code %d, %q and %q, want the mismatch", code, out, errs)
	}
	d.refuses(t, 1, "--replace", "cert", "import", d.path("other.pem"), "--out", d.path("signing.pem"))
	d.refuses(t, 2, "nothing to do", "cert", "import", d.path("other.pem"), "--skip-token")
	d.refuses(t, 1, "PRIVATE KEY", "cert", "import", d.path("other.key"))
}

// TestARotationOverlaps: the second key and certificate are made while the first
// serve, and the first are deleted at the end.
func TestARotationOverlaps(t *testing.T) {
	d := made(t)
	d.issue(t, d.request(t), d.path("issued.pem"), profile...)
	d.does(t, "cert", "import", d.path("issued.pem"), "--out", d.path("signing.pem"))
	before := read(t, d.path("signing.pem"))

	next := []string{"--label", "signing-2027", "--id", "2027"}
	d.does(t, append([]string{"key", "generate"}, next...)...)
	d.does(t, append([]string{"key", "csr", "--subject", d.path("subject.yaml"), "--out", d.path("next-request.pem")}, next...)...)
	d.issue(t, d.path("next-request.pem"), d.path("next-issued.pem"), profile...)
	d.refuses(t, 1, "key does not belong", append([]string{"cert", "import", d.path("issued.pem")}, next...)...)
	d.does(t, append([]string{"cert", "import", d.path("next-issued.pem"), "--out", d.path("signing-2027.pem")}, next...)...)
	if read(t, d.path("signing.pem")) != before {
		t.Error("the certificate in use has changed")
	}
	d.serves(t)

	replace(t, d.path("roamsignd.yaml"), "signing.pem", "signing-2027.pem")
	replace(t, d.path("roamsignd.yaml"), "signing-2026", "signing-2027")
	replace(t, d.path("roamsignd.yaml"), `"2026"`, `"2027"`)
	if code, _, errs := ends(t, "check", "--config", d.path("roamsignd.yaml"), "--login"); code != 0 {
		t.Errorf("check after the rotation: got code %d and %q", code, errs)
	}
	d.does(t, "key", "delete", "--label", "signing-2026", "--id", "2026", "--confirm", "signing-2026")
	if out := d.does(t, "key", "list"); strings.Count(out, "Key label") != 1 || !strings.Contains(out, "=> the configuration names this key") {
		t.Errorf("key list says %q, want the new key alone", out)
	}
	if code, _, errs := ends(t, "check", "--config", d.path("roamsignd.yaml"), "--login"); code != 0 {
		t.Errorf("check without the old key: got code %d and %q", code, errs)
	}
}
