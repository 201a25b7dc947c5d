package myinvois

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEachFaultOfAConfigurationIsToldWithItsLine(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"LHDN's", "environment: preprod\ncredentials: c.yaml\n", ""},
		{"a stand-in", "api: https://127.0.0.1:8443\nca: ca.pem\ncredentials: c.yaml\npoll_interval: 10ms\nshare: 50\n", ""},
		{"nothing", "", "environment: missing"},
		{"no credentials", "environment: production\n", "credentials: missing"},
		{"a key that nobody knows", "environment: preprod\ncredentials: c\nsecret: x\n", "line 3: secret is not a key here"},
		{"another environment", "environment: sandbox\ncredentials: c\n", `line 1: environment: it is production or preprod, not "sandbox"`},
		{"both", "environment: preprod\napi: https://x.test\ncredentials: c\n", "line 2: api: goes without environment"},
		{"no https", "api: http://127.0.0.1\ncredentials: c\n", "line 1: api: it must be https://HOST"},
		{"a password in the address", "api: https://me:pass@x.test\ncredentials: c\n", "line 1: api: it must be https://HOST"},
		{"a path in the address", "api: https://x.test/api\ncredentials: c\n", "line 1: api: it must be https://HOST"},
		{"too fast for LHDN", "environment: preprod\ncredentials: c\npoll_interval: 1s\n", "line 3: poll_interval: must be 3s to 10m0s"},
		{"too much for LHDN", "environment: preprod\ncredentials: c\nshare: 2\n", "line 3: share: must be 0.25 to 1"},
		{"no share", "environment: preprod\ncredentials: c\nshare: .nan\n", "line 3: share: must be 0.25 to 1"},
		{"no time", "environment: preprod\ncredentials: c\ntimeout: 1ms\n", "line 3: timeout: must be 1s to 10m0s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "myinvois.yaml")
			if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := Load(path)
			switch {
			case row.want != "":
				if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "pass@") {
					t.Errorf("got %v, want %q", err, row.want)
				}
			case err != nil:
				t.Error(err)
			case cfg.Credentials != filepath.Join(filepath.Dir(path), "c.yaml") || cfg.Journal != filepath.Join(filepath.Dir(path), "myinvois.journal"):
				t.Errorf("got %+v, want files beside the configuration", cfg)
			}
		})
	}
}

func TestThePlatformsAddressesAreLHDNs(t *testing.T) {
	for environment, want := range map[string]string{
		"production": "https://api.myinvois.hasil.gov.my https://api.myinvois.hasil.gov.my https://myinvois.hasil.gov.my",
		"preprod":    "https://preprod-api.myinvois.hasil.gov.my https://preprod-api.myinvois.hasil.gov.my https://preprod.myinvois.hasil.gov.my",
	} {
		api, identity, portal := Config{Environment: environment}.Places()
		if got := api + " " + identity + " " + portal; got != want {
			t.Errorf("%s: got %s, want %s", environment, got, want)
		}
	}
	if got, want := (Config{Environment: "preprod"}).Link("U1", "L1"), "https://preprod.myinvois.hasil.gov.my/U1/share/L1"; got != want {
		t.Errorf("got the link %s, want %s", got, want)
	}
	if got := (Config{API: "https://x.test/"}).Link("U1", "L1"); got != "" {
		t.Errorf("without a portal: got the link %q", got)
	}
}

const goodCredentials = `
clients:
  - client_id: all-of-them
    secrets:
      - secret: the-first
        expires: 2027-06-30
      - {secret: the-second, expires: 2028-06-30}
  - {client_id: own, as: taxpayer, tin: C20880050010, secrets: [{secret: the-third, expires: 2029-01-31}]}
`

func TestCredentialsAreReadStrictly(t *testing.T) {
	for _, row := range []struct {
		name, text, want string
		mode             os.FileMode
	}{
		{"good ones", goodCredentials, "", 0o600},
		{"that others can read", goodCredentials, "chmod 600", 0o644},
		{"that the group can read", goodCredentials, "chmod 600", 0o640},
		{"none", "clients: []\n", "clients: missing", 0o600},
		{"a key that nobody knows", "clients:\n  - {client_id: a, pin: x, secrets: [{secret: hushhush, expires: 2027-01-01}]}\n", "clients[0] has a key that is none; the keys are client_id, tin, as, secrets", 0o600},
		{"no secret", "clients:\n  - {client_id: a}\n", "line 2: clients[0].secrets: there are 0", 0o600},
		{"three secrets", "clients:\n  - {client_id: a, secrets: [{secret: hushhush, expires: 2027-01-01},{secret: hushhush, expires: 2027-01-01},{secret: hushhush, expires: 2027-01-01}]}\n", "there are 3", 0o600},
		{"a secret without an end", "clients:\n  - {client_id: a, secrets: [{secret: hushhush}]}\n", "expires: want the day", 0o600},
		{"a secret with a blank", "clients:\n  - {client_id: a, secrets: [{secret: hushhush hushhush, expires: 2027-01-01}]}\n", "secret: missing, or not of printable", 0o600},
		{"a secret of a few letters", "clients:\n  - {client_id: a, secrets: [{secret: pssst, expires: 2027-01-01}]}\n", "secrets[0].secret: it has fewer than 8 characters", 0o600},
		{"another role", "clients:\n  - {client_id: a, as: erp, secrets: [{secret: hushhush, expires: 2027-01-01}]}\n", "neither intermediary nor taxpayer", 0o600},
		{"a taxpayer without a TIN", "clients:\n  - {client_id: a, as: taxpayer, secrets: [{secret: hushhush, expires: 2027-01-01}]}\n", "tin: missing", 0o600},
		{"no TIN", "clients:\n  - {client_id: a, tin: me, secrets: [{secret: hushhush, expires: 2027-01-01}]}\n", "tin: it is not a TIN", 0o600},
		{"two for the same", "clients:\n  - {client_id: a, secrets: [{secret: hushhush, expires: 2027-01-01}]}\n  - {client_id: b, secrets: [{secret: hushhush, expires: 2027-01-01}]}\n", "another client ID is for all", 0o600},
		{"a secret where none belongs", "clients:\n  - hushhush\n", "clients[0] must have the keys", 0o600},
		{"a secret as a key", "clients:\n  - {client_id: a, secrets: [{hushhush: x, expires: 2027-01-01}]}\n", "clients[0].secrets[0] has a key that is none", 0o600},
		{"a secret as a role and as TINs", "clients:\n  - {client_id: a, as: hushhush, tin: hushhush, secrets: []}\n  - {client_id: b, tin: hushhush, secrets: []}\n", "neither intermediary nor taxpayer", 0o600},
		{"a secret that begins like an alias", "clients:\n  - {client_id: a, secrets: [{secret: *hushhush, expires: 2027-01-01}]}\n", "in quotes", 0o600},
		{"a secret that begins like a tag", "clients:\n  - client_id: a\n    secrets:\n      - {secret: !hushhush x, expires: 2027-01-01}\n", "line 4: clients[0].secrets[0].secret begins with a special character", 0o600},
		{"a secret that begins like an anchor", "clients:\n  - client_id: a\n    secrets:\n      - {secret: &hushhush x, expires: 2027-01-01}\n", "in quotes", 0o600},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials.yaml")
			if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, row.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadCredentials(path)
			switch {
			case row.want == "" && err != nil:
				t.Error(err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("got %v, want %q", err, row.want)
			case err != nil && (strings.Contains(err.Error(), "hushhush") || strings.Contains(err.Error(), "first")):
				t.Errorf("a secret is in %q", err)
			}
		})
	}
}

func TestCredentialsMayBeSystemds(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "myinvois"), []byte(goodCredentials), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(folder, "myinvois"), 0o440); err != nil { // as systemd's access list shows
		t.Fatal(err)
	}
	const path = "$CREDENTIALS_DIRECTORY/myinvois"
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := LoadCredentials(path); err == nil || !strings.Contains(err.Error(), "LoadCredentialEncrypted=myinvois") {
		t.Errorf("without systemd: got %v, want what to do", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	got, err := LoadCredentials(path)
	if err != nil || got.Role(seller) != Taxpayer || got.Role(other) != Intermediary {
		t.Errorf("got %v, want both client IDs", err)
	}
	if _, err := LoadCredentials("$CREDENTIALS_DIRECTORY/../myinvois"); err == nil {
		t.Error("a path out of the folder: got no error")
	}
}

func TestSecretsAreWarnedOfBeforeTheyEnd(t *testing.T) {
	credentials := lasting(t, clientEntry{ID: "erp", Secrets: []secretEntry{{"secret-a", "2027-06-30"}, {"secret-b", "2028-06-30"}}})
	for _, row := range []struct {
		now  string
		want string
	}{
		{"2027-05-01T00:00:00Z", ""},
		{"2027-06-01T00:00:00Z", "secret 1 of client ID erp ends with 2027-06-30, in 29 days"},
		{"2027-06-30T15:59:59Z", "secret 1 of client ID erp ends with 2027-06-30, in 0 days"},
		{"2027-06-30T16:00:00Z", "secret 1 of client ID erp has ended (its last day was 2027-06-30)"}, // Malaysia's midnight
	} {
		now, err := time.Parse(time.RFC3339, row.now)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(credentials.Warnings(now), "\n")
		if row.want == "" && got != "" || !strings.HasPrefix(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.now, got, row.want)
		}
	}
}
