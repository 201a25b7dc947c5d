package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/hsm"
)

// TestTokensAreListedInJSON: what scripts read.
func TestTokensAreListedInJSON(t *testing.T) {
	d := made(t)
	var modules []moduleReport
	check(t, json.Unmarshal([]byte(d.does(t, "token", "list", "--json")), &modules))
	if len(modules) != 1 || len(modules[0].Slots) != 2 || modules[0].Module != d.module {
		t.Fatalf("got %+v, want one module with a token and a spare slot", modules)
	}
	used, spare := modules[0].Slots[0], modules[0].Slots[1]
	if !used.Used || used.Label != "ceremony" || used.UserPIN != hsm.PINSet || !used.Sign.Offered || used.Sign.MaxBits < 4096 || used.Unwrap == "" {
		t.Errorf("got %+v, want the configuration's token", used)
	}
	if spare.Used || spare.Initialised || spare.UserPIN != hsm.PINNotSet {
		t.Errorf("got %+v, want a spare slot", spare)
	}
}

// TestOneBadModuleHidesNoOther.
func TestOneBadModuleHidesNoOther(t *testing.T) {
	d := made(t)
	t.Setenv(softHSMVariable, d.conf)
	code, out, errs := ends(t, "token", "list", "--module", d.path("none.so"), "--module", d.module)
	if code != 1 || !strings.Contains(out, `token "ceremony"`) || !strings.Contains(errs, "none.so") || strings.Contains(out, "=>") {
		t.Errorf("got code %d, %q and %q", code, out, errs)
	}
	if code, out, _ := ends(t, "token", "list"); code != 0 || !strings.Contains(out, `token "ceremony"`) {
		t.Errorf("without a module named: got code %d and %q, want SoftHSM found", code, out)
	}
}

// TestWhatIsMeantMustBeSaid: usage errors, each saying what is missing.
func TestWhatIsMeantMustBeSaid(t *testing.T) {
	d := made(t)
	write(t, d.path("bare.yaml"), "token: {module: libsofthsm2.so, environment: {"+softHSMVariable+": "+d.conf+"}, pin_file: pin}\n")
	write(t, d.path("wrong.yaml"), "token: {modul: libsofthsm2.so}\n")
	write(t, d.path("subject.yaml"), "C: MY\nO: [a, b]\n")
	write(t, d.path("list.yaml"), "- C\n")
	write(t, d.path("short.yaml"), "C: MY\n")
	bare, whole := "--config="+d.path("bare.yaml"), "--config="+d.path("roamsignd.yaml")
	for _, row := range []struct {
		args  string
		code  int
		words string
	}{
		{"key generate", 2, "--config FILE"},
		{"key list " + bare, 2, "roamsignd token list"},
		{"key generate --token ceremony " + bare, 1, "key_label: missing"},
		{"key generate --bits 1024 " + whole, 2, "want 2048, 3072 or 4096"},
		{"key generate now " + whole, 2, `unexpected argument "now"`},
		{"key generate --ask-pin --pin-file pin " + whole, 2, "give one of them"},
		{"key delete --label signing-2026 " + whole, 2, "both --label LABEL and --id ID"},
		{"key list --config=" + d.path("wrong.yaml"), 1, "line 1: token.modul is not a key here"},
		{"key list --token other " + whole, 1, "no such token"},
		{"key list --serial 0 " + whole, 1, "no such token"},
		{"key csr --subject " + d.path("subject.yaml") + " " + whole, 1, "line 2: O must be a text"},
		{"key csr --subject " + d.path("list.yaml") + " " + whole, 1, "key csr --help shows one"},
		{"key csr --subject " + d.path("short.yaml") + " " + whole, 1, "serialNumber is missing: the organization's BRN"},
		{"key csr --subject x --tin C20880050010 " + whole, 2, "one or the other"},
		{"key csr --out " + d.path("bare.yaml") + " " + whole, 1, "is there already"},
		{"cert import " + whole, 2, "name one file of a certificate"},
		{"cert show --token ceremony " + bare, 2, "roamsignd key list"},
		{"token list --module x " + whole, 2, "give one of them"},
		{"token init " + bare, 2, "--label LABEL"},
		{"token init --so-pin-file " + d.path("so-pin") + " " + whole, 1, "there is one already"},
	} {
		code, out, errs := ends(t, strings.Fields(row.args)...)
		if code != row.code || out != "" || !strings.Contains(errs, row.words) {
			t.Errorf("roamsignd %s: got code %d, %q and %q, want %d and %q", row.args, code, out, errs, row.code, row.words)
		}
	}
}

// TestASubjectOfFlagsKeepsTheirOrder, and a doubtful TIN is told.
func TestASubjectOfFlagsKeepsTheirOrder(t *testing.T) {
	d := made(t)
	args := []string{"key", "csr", "--config", d.path("roamsignd.yaml"), "--brn", "202001234567", "--common-name", "Contoh", "--unit", "e-Invoice",
		"--organization", "Contoh", "--country", "MY", "--tin"}
	code, out, errs := ends(t, append(args, "C20880050010")...)
	write(t, d.path("request.pem"), out)
	subject := openssl(t, "req", "-in", d.path("request.pem"), "-noout", "-subject", "-verify")
	const want = "serialNumber = 202001234567, CN = Contoh, OU = e-Invoice, O = Contoh, C = MY, organizationIdentifier = C20880050010"
	if code != 0 || errs != "" || !strings.Contains(subject, want) {
		t.Errorf("got code %d, %q and the subject %q, want %q", code, errs, subject, want)
	}
	if code, _, errs := ends(t, append(args, "20880050010")...); code != 0 || !strings.Contains(errs, "warning: organizationIdentifier") {
		t.Errorf("a doubtful TIN: got code %d and %q, want a warning", code, errs)
	}
}
