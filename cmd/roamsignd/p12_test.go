package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/hsm"
)

// softP12 has OpenSSL make a soft certificate, as authorities send them.
func softP12(t *testing.T, d desk, options ...string) string {
	t.Helper()
	openssl(t, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", d.path("soft.key"), "-out", d.path("soft.csr"),
		"-subj", "/C=MY/O=Contoh/organizationIdentifier=C20880050010/CN=Contoh/serialNumber=202001234567")
	d.issue(t, d.path("soft.csr"), d.path("soft.pem"), profile...)
	path := filepath.Join(t.TempDir(), "soft.p12")
	openssl(t, append([]string{"pkcs12", "-export", "-in", d.path("soft.pem"), "-inkey", d.path("soft.key"), "-out", path, "-passout", "pass:throwaway"}, options...)...)
	return path
}

// TestASoftCertificateMovesIn: from files as old and new programs write them, by
// either way, and the service signs with it.
func TestASoftCertificateMovesIn(t *testing.T) {
	d := newDesk(t)
	d.does(t, "token", "init", "--so-pin-file", d.path("so-pin"))
	write(t, d.path("password"), "throwaway\n")
	for _, row := range []struct {
		id, via string
		options []string
		way     hsm.Way
	}{
		{"01", "", nil, hsm.Wrapped},
		{"02", "create", []string{"-legacy"}, hsm.InTheClear},
		{"2026", "unwrap", []string{"-legacy"}, hsm.Wrapped},
	} {
		file, chain := softP12(t, d, row.options...), d.path("signing-"+row.id+".pem")
		out := d.does(t, "key", "import-p12", file, "--label", "soft-"+row.id, "--id", row.id, "--password-file", d.path("password"),
			"--via", row.via, "--out", chain, "--json")
		var report p12Report
		check(t, json.Unmarshal([]byte(out), &report))
		if report.Way != row.way || len(report.Key.Faults) > 0 || report.Key.BornInside || report.Key.Attributes["sensitive"] != hsm.Yes ||
			report.Key.Attributes["extractable"] != hsm.No || len(report.Key.Certificates) != 1 || len(report.Advice) != 5 {
			t.Errorf("got %+v", report)
		}
		clear := strings.Contains(out, "in the clear")
		if clear != (row.way == hsm.InTheClear) {
			t.Errorf("by %s it is told: %q", row.way, report.Advice)
		}
		if strings.Count(read(t, chain), "BEGIN CERTIFICATE") != 2 {
			t.Errorf("%s: want the certificate and its issuer", chain)
		}
	}
	if _, last := d.log(t); last.Detail != "by C_UnwrapKey" || last.SPKI == "" || last.Certificate == "" {
		t.Errorf("the log ends with %+v", last)
	}
	replace(t, d.path("roamsignd.yaml"), "signing-2026", "soft-2026")
	replace(t, d.path("roamsignd.yaml"), "signing.pem", "signing-2026.pem")
	d.serves(t)
}

func TestWhatIsNoSoftCertificateIsRefused(t *testing.T) {
	d := newDesk(t)
	d.does(t, "token", "init", "--so-pin-file", d.path("so-pin"))
	file := softP12(t, d)
	write(t, d.path("password"), "throwaway\n")
	write(t, d.path("wrong"), "guess\n")
	write(t, d.path("open"), "throwaway\n")
	check(t, os.Chmod(d.path("open"), 0o644))
	for _, row := range []struct {
		name, file, password, via string
		code                      int
		words                     string
	}{
		{"a wrong password", file, "wrong", "", 1, "password incorrect"},
		{"a password that others can read", file, "open", "", 1, "chmod 600"},
		{"no file", d.path("none.p12"), "password", "", 1, "no such file"},
		{"a folder", d.dir, "password", "", 1, "not a regular file"},
		{"another sort of file", d.path("soft.pem"), "password", "", 1, "reading the .p12 file"},
		{"an unknown way", file, "password", "post", 2, "want unwrap or create"},
	} {
		code, _, errs := ends(t, "key", "import-p12", row.file, "--config", d.path("roamsignd.yaml"), "--password-file", d.path(row.password), "--via", row.via)
		if code != row.code || !strings.Contains(errs, row.words) {
			t.Errorf("%s: got code %d and %q, want %d and %q", row.name, code, errs, row.code, row.words)
		}
	}
	if out := d.does(t, "key", "list"); !strings.Contains(out, "no such RSA key") {
		t.Errorf("key list says %q, want none", out)
	}
}
