package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPathsStartFromTheFilesFolder(t *testing.T) {
	path := write(t, "client.yaml", `
servers: [signer-a.example:7443, "[::1]:7443"]
ca: ca.pem
certificate: /etc/roamsign/client.pem
key: ../keys/client.key
tin: C20880050010
attempt_timeout: 1s500ms
`)
	folder := filepath.Dir(path)
	want := Config{
		Servers:        []string{"signer-a.example:7443", "[::1]:7443"},
		CA:             filepath.Join(folder, "ca.pem"),
		Certificate:    "/etc/roamsign/client.pem",
		Key:            filepath.Join(filepath.Dir(folder), "keys", "client.key"),
		TIN:            seller,
		AttemptTimeout: 1500 * time.Millisecond,
	}
	got, err := Load(path)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Now" }, cmp.Ignore())); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestAllFaultsOfAFileAreToldAtOnceEachWithItsLine(t *testing.T) {
	path := write(t, "client.yaml", `servers: [7443, "signer:https", "signer:1", "signer:1"]
ca: ca.pem
certificat: client.pem
key: [client.key]
tin: Pustaka
attempt_timeout: 1h
`)
	_, err := Load(path)
	if err == nil {
		t.Fatal("got no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{
		`line 1: servers: "7443" is not an address`,
		`line 3: certificat is not a key here`,
		`line 4: key must be a text`,
		`line 5: tin: "Pustaka" is not a TIN`,
		`line 6: attempt_timeout: must be`,
		`certificate: missing`,
	} {
		found := 0
		for _, line := range lines {
			if strings.HasPrefix(line, path+": ") && strings.Contains(line, want) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("got %d lines with %q, want one:\n%v", found, want, err)
		}
	}
}

func TestAConfigMadeInGoIsChecked(t *testing.T) {
	_, err := Dial(Config{Servers: []string{"signer:https", "signer:1", "signer:1", ":1"}, AttemptTimeout: time.Nanosecond})
	for _, want := range []string{"signer:https", "listed twice", "names no host", "ca: missing", "certificate: missing", "key: missing", "attempt_timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q in it", err, want)
		}
	}
}

func TestFilesThatCannotBeReadAreToldAtOnce(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	_, err := Dial(Config{Servers: []string{"127.0.0.1:1"}, CA: missing, Certificate: missing, Key: missing})
	for _, want := range []string{"reading ca", "reading certificate and key", missing} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q in it", err, want)
		}
	}
	if _, err := Load(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("got error %v, want %q in it", err, missing)
	}
}
