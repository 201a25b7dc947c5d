package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/client"
)

// succeeds runs the program, which must have nothing to complain of.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := ends(t, args...)
	if code != 0 || errs != "" {
		t.Fatalf("roamsignd %s: got code %d and %q, want 0 and nothing", strings.Join(args, " "), code, errs)
	}
	return out
}

// modes are those of the files in a folder.
func modes(t *testing.T, folder string) map[string]fs.FileMode {
	t.Helper()
	entries, err := os.ReadDir(folder)
	check(t, err)
	all := map[string]fs.FileMode{}
	for _, entry := range entries {
		info, err := entry.Info()
		check(t, err)
		all[entry.Name()] = info.Mode()
	}
	return all
}

const tillName = "spiffe://example.com/till"

// listedClients is what client list --json tells.
func listedClients(t *testing.T, where ...string) []clientReport {
	t.Helper()
	var all []clientReport
	check(t, json.Unmarshal([]byte(succeeds(t, append([]string{"client", "list", "--json"}, where...)...)), &all))
	return all
}

func TestAClientThatIsAddedConnectsUntilItIsRevoked(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	replaceLine(t, config, "listen:", "listen: 127.0.0.1:0") // which the server's certificate names
	d := start(t, "serve", "--config", config)
	replaceLine(t, config, "listen:", "listen: "+d.address(t)) // as dev mode would have it
	till := filepath.Join(t.TempDir(), "till")
	out := succeeds(t, "client", "add", tillName, "--config", config, "--out", till)
	for _, part := range []string{"Issued a certificate for " + tillName, "until the policy names it"} {
		if !strings.Contains(out, part) {
			t.Errorf("client add says:\n%s\nwant %q in it", out, part)
		}
	}
	want := map[string]fs.FileMode{"client.key": 0o600, "client.pem": 0o600, "client.yaml": 0o600, "server-ca.pem": 0o600}
	if diff := cmp.Diff(want, modes(t, till)); diff != "" {
		t.Errorf("the client's files (-want +got):\n%s", diff)
	}
	settings, err := client.Load(filepath.Join(till, "client.yaml"))
	check(t, err)
	if diff := cmp.Diff([]string{d.address(t)}, settings.Servers); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	pool, err := ca.LoadPool(settings.CA)
	check(t, err)
	own, err := ca.LoadPair(settings.Certificate, settings.Key)
	check(t, err)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", settings.Servers[0])
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	if _, err := conn.Read(make([]byte, 1)); err != nil { // only who is let in is told anything
		t.Fatalf("the new client is not let in: %v\n%s", err, d.errs)
	}

	serial := ca.FormatSerial(own.Leaf.SerialNumber)
	out = succeeds(t, "client", "revoke", tillName, "--config", config)
	if !strings.Contains(out, "Revoked the certificate of "+tillName+", serial "+serial) {
		t.Errorf("client revoke says:\n%s", out)
	}
	for err = nil; err == nil; { // until it is cut
		_, err = conn.Read(make([]byte, 4096))
	}
	if os.IsTimeout(err) {
		t.Fatalf("the revoked client is still connected:\n%s", d.errs)
	}
	greets(t, dir, d.address(t)) // others are let in
	if log := d.errs.String(); !strings.Contains(log, `msg="connection cut"`) || !strings.Contains(log, serial) {
		t.Errorf("the log does not say what was cut:\n%s", log)
	}
}

func TestClientsAreListedWithWhatBecameOfThem(t *testing.T) {
	dir := folder(t)
	where := []string{"--config", filepath.Join(dir, devConfig)}
	add := func(name string, args ...string) {
		succeeds(t, slices.Concat([]string{"client", "add", name, "--out", filepath.Join(t.TempDir(), "out")}, where, args)...)
	}
	add(tillName, "--days", "30")
	add(tillName)
	add("Portal.Example.com", "--days", "1")
	all := listedClients(t, where...)
	var got []string
	for _, r := range all {
		got = append(got, r.Name)
		if r.Revoked || !r.NotBefore.Before(r.NotAfter) {
			t.Errorf("got %+v, want it not revoked, and dates", r)
		}
	}
	want := []string{devCaller, tillName, tillName, "portal.example.com"}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("names (-want +got):\n%s", diff)
	}
	short := slices.IndexFunc(all, func(r clientReport) bool { return r.Name == tillName && r.DaysLeft < 31 })
	if short < 0 || all[short].DaysLeft < 29 {
		t.Fatalf("got %+v, want one of %s with 29 or 30 days left", all, tillName)
	}

	succeeds(t, append([]string{"client", "revoke", strings.ToLower(all[short].Serial)}, where...)...)
	table := succeeds(t, append([]string{"client", "list"}, where...)...)
	if found := regexp.MustCompile(`(?m)^spiffe://example.com/till +` + all[short].Serial + ` +\S+Z +\S+Z +\d+ +revoked$`).FindString(table); found == "" || strings.Count(table, "revoked") != 1 || strings.Count(table, " valid\n") != 3 {
		t.Errorf("the list:\n%s\nwant one revoked and three valid", table)
	}
	if out := succeeds(t, append([]string{"client", "revoke", tillName}, where...)...); strings.Count(out, "Was revoked already") != 1 || strings.Count(out, "Revoked the") != 1 {
		t.Errorf("revoking the name:\n%s\nwant one that was and one that is", out)
	}
	before := read(t, filepath.Join(dir, devRevoked))
	succeeds(t, append([]string{"client", "revoke", tillName}, where...)...)
	if after := read(t, filepath.Join(dir, devRevoked)); after != before || strings.Count(after, tillName) != 2 {
		t.Errorf("the list of revocations, once more:\n%s", after)
	}
	for _, r := range listedClients(t, where...) {
		if r.Revoked != (r.Name == tillName) {
			t.Errorf("got %+v", r)
		}
	}
}

func TestTheAuthorityIsMadeWhenItIsFirstNeeded(t *testing.T) {
	dir := t.TempDir()
	clients, out := filepath.Join(dir, "clients"), filepath.Join(dir, "erp")
	code, _, errs := ends(t, "client", "list", "--dir", clients)
	if code != 1 || !strings.Contains(errs, "client add makes it") {
		t.Errorf("listing before there is one: got code %d and %q", code, errs)
	}
	code, text, errs := ends(t, "client", "add", "erp.example.com", "--dir", clients, "--out", out)
	if code != 0 || !strings.Contains(text, "Made an authority") || !strings.Contains(errs, "tls.client_ca") {
		t.Errorf("got code %d, %q and %q, want that it is made and where to name it", code, text, errs)
	}
	want := map[string]fs.FileMode{"ca.key": 0o600, "ca.pem": 0o644, "issued": fs.ModeDir | 0o700, "revoked": 0o644}
	if diff := cmp.Diff(want, modes(t, clients)); diff != "" {
		t.Errorf("the authority's files (-want +got):\n%s", diff)
	}
	if text := read(t, filepath.Join(out, "client.yaml")); !strings.Contains(text, "# servers:") || !strings.Contains(text, "# ca:") {
		t.Errorf("without a configuration client.yaml is\n%s\nwant that it says what to fill in", text)
	}
	verified := exec.CommandContext(t.Context(), "openssl", "verify", "-purpose", "sslclient", "-CAfile", filepath.Join(clients, "ca.pem"), filepath.Join(out, "client.pem"))
	if said, err := verified.CombinedOutput(); err != nil {
		t.Errorf("openssl verify: %v\n%s", err, said)
	}
	_, text, _ = ends(t, "client", "add", "two.example.com", "--dir", clients, "--out", filepath.Join(dir, "two"))
	if strings.Contains(text, "Made an authority") {
		t.Errorf("the second time: %q, want the same authority", text)
	}
	if all := listedClients(t, "--dir", clients); len(all) != 2 {
		t.Errorf("got %+v, want two", all)
	}
}

func TestClientCommandsRefuseWhatCannotBeMeant(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	out := t.TempDir()
	write(t, filepath.Join(out, "client.yaml"), "mine")
	other := filepath.Join(t.TempDir(), "other.yaml")
	write(t, other, "clients: clients\n")
	before := snapshot(t, dir)
	fresh := filepath.Join(t.TempDir(), "fresh")
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"add", 2, "name one client"},
		{"add a.example.com b.example.com --config " + config + " --out " + fresh, 2, "name one client"},
		{"add a.example.com --out " + fresh, 2, "--config FILE"},
		{"add a.example.com --config " + config + " --dir x --out " + fresh, 2, "give one of them"},
		{"add a.example.com --config " + config, 2, "--out DIR"},
		{"add *.example.com --config " + config + " --out " + fresh, 2, "is not a caller's name"},
		{"add a.example.com --days 4000 --config " + config + " --out " + fresh, 2, "--days must be"},
		{"add a.example.com --days 3000 --config " + config + " --out " + fresh, 1, "but the authority"},
		{"add a.example.com --config " + config + " --out " + out, 1, "is there already"},
		{"add a.example.com --config " + other + " --out " + fresh, 1, "tls.revoked: missing"},
		{"list a.example.com --config " + config, 2, "unexpected argument"},
		{"revoke --config " + config, 2, "name one client"},
		{"revoke nobody.example.com --config " + config, 1, "client list shows them"},
		{"revoke 4711 --config " + config, 1, "client list shows them"},
	} {
		code, text, errs := ends(t, append([]string{"client"}, strings.Fields(row.args)...)...)
		if code != row.code || text != "" || !strings.Contains(errs, row.want) {
			t.Errorf("client %s: got code %d, %q and %q, want %d and %q", row.args, code, text, errs, row.code, row.want)
		}
	}
	if _, err := os.Lstat(fresh); !os.IsNotExist(err) {
		t.Errorf("%s was made, and left where nothing could be written into it", fresh)
	}
	if read(t, filepath.Join(out, "client.yaml")) != "mine" {
		t.Error("a file was overwritten")
	}
	unchanged(t, dir, before)
}

func TestAListThatTheServiceWouldRefuseIsNotAddedTo(t *testing.T) {
	dir := folder(t)
	write(t, filepath.Join(dir, devRevoked), "by hand\n")
	before := snapshot(t, dir)
	code, _, errs := ends(t, "client", "revoke", devCaller, "--config", filepath.Join(dir, devConfig))
	if code != 1 || !strings.Contains(errs, "line 1") {
		t.Errorf("got code %d and %q, want 1 and the line at fault", code, errs)
	}
	unchanged(t, dir, before)
}

func TestRevocationsAtTheSameTimeAreAllKept(t *testing.T) {
	dir := t.TempDir()
	clients := filepath.Join(dir, "clients")
	const many = 8
	var serials []string
	for i := range many {
		code, _, errs := ends(t, "client", "add", "c"+string(rune('a'+i))+".example.com", "--dir", clients, "--out", filepath.Join(dir, string(rune('a'+i))))
		if code != 0 {
			t.Fatal(errs)
		}
	}
	for _, r := range listedClients(t, "--dir", clients) {
		serials = append(serials, r.Serial)
	}
	list := filepath.Join(clients, "revoked")
	check(t, os.WriteFile(list, []byte("# no end of line: 1F\n2F"), 0o640))
	check(t, os.Chmod(list, 0o640))
	var revoking sync.WaitGroup
	for _, serial := range serials {
		revoking.Go(func() { ends(t, "client", "revoke", serial, "--dir", clients) })
	}
	revoking.Wait()
	revoked, err := ca.LoadSerials(list)
	if err != nil || revoked.Len() != many+1 {
		t.Errorf("got %d, %v, want %d:\n%s", revoked.Len(), err, many+1, read(t, list))
	}
	if info, err := os.Stat(list); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got %v, %v, want its mode as it was", info.Mode(), err)
	}
}

func TestKeysThatOthersCanReadAreRefusedAtTheStart(t *testing.T) {
	for name, args := range map[string][]string{
		"server.key":           {"check"},
		devClients + "/ca.key": {"client", "add", "a.example.com", "--out", filepath.Join(t.TempDir(), "out")},
	} {
		dir := folder(t)
		check(t, os.Chmod(filepath.Join(dir, name), 0o640))
		code, _, errs := ends(t, append(args, "--config", filepath.Join(dir, devConfig))...)
		if code != 1 || !strings.Contains(errs, name) || !strings.Contains(errs, "mode is 0640") || !strings.Contains(errs, "run chmod 600 on it") {
			t.Errorf("%s: got code %d and %q, want it refused", name, code, errs)
		}
	}
}
