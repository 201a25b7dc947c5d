package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/myinvois/sandbox"
	"github.com/roamsign/roamsign/policy"
	"github.com/rogpeppe/go-internal/testscript"
)

// The desk's intermediary, whose certificate the documents are signed with.
const deskAgent, deskAgentBRN = "C10000000010", "202001000001"

// openPlatform runs a sandbox until the test ends, and writes the configuration of
// its clients into a folder of theirs: platform.yaml, and refused.yaml with a secret
// that is refused.
func (d *desk) openPlatform(t *testing.T) {
	t.Helper()
	roots, err := ca.LoadPool(d.path("roots.pem"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	represented := func(from, to time.Time) []sandbox.Representation {
		return []sandbox.Representation{{By: deskAgent, From: from, To: to, Rights: sandbox.Rights()}}
	}
	platform, err := sandbox.New(sandbox.Config{
		Clients: []sandbox.Client{{ID: "erp", Secrets: []string{"the-secret"}, TIN: deskAgent}},
		Taxpayers: []sandbox.Taxpayer{
			{TIN: deskAgent, BRN: deskAgentBRN, Name: "Perantara Ujian Sdn. Bhd."},
			{TIN: "C20880050010", Name: "Pustaka Bukit Pelangi Sdn. Bhd.", Represented: represented(now.AddDate(0, -1, 0), now.AddDate(1, 0, 0))},
			{TIN: "C31450097020", Name: "Another", Represented: represented(now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0))},
		},
		Validation: 100 * time.Millisecond, Limits: map[sandbox.Endpoint]int{sandbox.Login: 0, sandbox.Cancel: 0}, Roots: roots,
	})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := d.tls.Server([]string{"127.0.0.1"}, d.validity)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- platform.Serve(ctx, listener, tls.Certificate{Certificate: [][]byte{pair.Certificate.Raw}, PrivateKey: pair.Key})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the sandbox: %v", err)
		}
	})
	d.platformFiles(t, listener.Addr().String())
}

func (d *desk) platformFiles(t *testing.T, address string) {
	t.Helper()
	soon := time.Now().AddDate(0, 0, 10).Format(time.DateOnly)
	for name, text := range map[string]string{
		"platform.yaml":    fmt.Sprintf("api: https://%s\nca: ca.pem\ncredentials: credentials.yaml\nroots: roots.pem\npoll_interval: 50ms\nshare: 1000\n", address),
		"refused.yaml":     fmt.Sprintf("api: https://%s\nca: ca.pem\ncredentials: refused-credentials.yaml\nshare: 1000\n", address),
		"credentials.yaml": "clients:\n  - client_id: erp\n    secrets: [{secret: the-secret, expires: " + soon + "}]\n",
		"refused-credentials.yaml": `clients:
  - {client_id: erp, secrets: [{secret: not-the-secret, expires: 2099-12-31}]}
  - {client_id: own, tin: C31450097020, secrets: [{secret: nor-this, expires: 1999-12-31}]}
`,
	} {
		if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d.hand(name)
	}
}

// reissued is, in scripts: issued FILE NEW NUMBER [HOURS]. It writes a
// document anew as one issued an hour ago, or so many, under a number.
func reissued(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: issued FILE NEW NUMBER [HOURS]")
	}
	hours := 1
	if len(args) == 4 {
		_, err := fmt.Sscan(args[3], &hours)
		ts.Check(err)
	}
	at := time.Now().UTC().Add(-time.Duration(hours) * time.Hour)
	text := ts.ReadFile(args[0])
	for _, place := range []struct{ xml, json, value string }{
		{`<cbc:ID>`, `"ID"`, args[2]},
		{`<cbc:IssueDate>`, `"IssueDate"`, at.Format(time.DateOnly)},
		{`<cbc:IssueTime>`, `"IssueTime"`, at.Format("15:04:05Z")},
	} {
		pattern := `(?s)^(.*?` + place.xml + `)[^<]*`
		if filepath.Ext(args[0]) == ".json" {
			pattern = `(?s)^(.*?` + place.json + `[^"]*"_"[^"]*")[^"]*`
		}
		before := text
		if text = regexp.MustCompile(pattern).ReplaceAllString(text, "${1}"+place.value); text == before {
			ts.Fatalf("%s has no place for %q", args[0], place.value)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

func TestWhatATaxpayerHasNotAllowedIsRefusedHere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.yaml")
	const text = "clients:\n  - {client_id: a, secrets: [{secret: a-secret, expires: 2099-12-31}]}\n" +
		"  - {client_id: b, as: taxpayer, tin: C55555555550, secrets: [{secret: a-secret, expires: 2099-12-31}]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets, err := myinvois.LoadCredentials(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	submit, hour := []string{"submit"}, time.Hour
	c := &counter{secrets: secrets, taxpayers: []client.Taxpayer{
		{TIN: "C11111111110", Rights: submit},
		{TIN: "C22222222220", Rights: []string{"cancel"}},
		{TIN: "C33333333330", Rights: submit, NotAfter: now},
		{TIN: "C44444444440", Rights: submit, NotBefore: now.Add(hour)},
		{TIN: "C55555555550"},
		{TIN: "IG12345678912:201901234567", Rights: submit, NotBefore: now, NotAfter: now.Add(hour)},
		{TIN: "C66666666660", Intermediary: true},
	}}
	for _, row := range []struct{ tin, brn, want string }{
		{"C11111111110", "", ""},
		{"C22222222220", "", `has not given its intermediary the right "submit"`},
		{"C33333333330", "", "ended at 2026-07-01"},
		{"C44444444440", "", "begins at 2026-07-01T01:00:00Z"},
		{"C55555555550", "", ""}, // logs in itself
		{"IG12345678912", "201901234567", ""},
		{"IG12345678912", "201901234599", "does not let this client act for IG12345678912"},
		{"C66666666660", "", ""},
		{"C77777777770", "", "does not let this client act for C77777777770"},
		{"", "", "does not let this client act for"},
	} {
		found, err := c.of(row.tin, row.brn)
		if err == nil {
			err = c.may(found, policy.Submit, now)
		}
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s %s: got %v, want %q", row.tin, row.brn, err, row.want)
		}
	}
}

func TestTheHelpNamesEachKeyOfThePlatformsConfiguration(t *testing.T) {
	for _, key := range []string{"environment", "api", "identity", "portal", "ca", "credentials", "journal", "roots", "timeout", "poll_interval", "share"} {
		if !strings.Contains(aboutPlatform, key) {
			t.Errorf("the help does not name %s", key)
		}
	}
}
