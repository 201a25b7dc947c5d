package signer

import (
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/roamsign/roamsign/ca"
)

func TestEveryFaultOfAConfigurationIsReported(t *testing.T) {
	bad := Config{
		Listen: "localhost",
		TLS:    TLS{Key: "server.key"},
		Limits: Limits{Queue: -1, QueuePerCaller: 2_000_000, Streams: 1_000_000, Requests: -2, Connections: -5, Request: -time.Second, Drain: 48 * time.Hour},
	}
	want := []string{
		`listen: must be HOST:PORT, such as 127.0.0.1:7443, not "localhost"`,
		`tls.certificate: missing: name the PEM file of the server certificate`,
		`tls.client_ca: missing: name the PEM file of the authorities whose clients may connect`,
		`limits.queue: must be 1 to 1000000 (0 or left out: the default), not -1`,
		`limits.queue_per_caller: must be 1 to 1000000 (0 or left out: the default), not 2000000`,
		`limits.streams: must be 1 to 100000 (0 or left out: the default), not 1000000`,
		`limits.requests: must be 1 to 1000000 (0 or left out: the default), not -2`,
		`limits.connections: must be 1 to 100000 (0 or left out: the default), not -5`,
		`limits.request: must be more than 0 and at most 1h0m0s (0 or left out: the default), not -1s`,
		`limits.drain: must be more than 0 and at most 1h0m0s (0 or left out: the default), not 48h0m0s`,
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("got none, want faults")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if fault, ok := errors.AsType[ConfigFault](err); !ok || fault.Key != "listen" {
		t.Errorf("got %v, want a ConfigFault", err)
	}
	if err := (Config{}).Validate(); err == nil {
		t.Error("the zero Config is valid")
	}
}

func TestAddressesToListenOn(t *testing.T) {
	for address, fine := range map[string]bool{
		"127.0.0.1:7443": true, "[::1]:7443": true, "signer.example.com:443": true, ":7443": true, "127.0.0.1:0": true,
		"": false, "7443": false, "127.0.0.1": false, "127.0.0.1:": false, "127.0.0.1:https": false, "127.0.0.1:70000": false, "::1:7443": false,
	} {
		if err := checkListen(address); (err == nil) != fine {
			t.Errorf("%q: got %v, want fine: %v", address, err, fine)
		}
	}
}

func TestAConfigurationIsReadFromYAML(t *testing.T) {
	const text = `
instance: signer-1
listen: 127.0.0.1:7443
tls: {certificate: server.pem, key: /etc/roamsign/server.key, client_ca: ca.pem, revoked: revoked, crl: crl.pem}
state: state
limits: {queue: 10, request: 30s}
`
	var got Config
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	must(t, decoder.Decode(&got))
	must(t, got.Validate())
	want := Config{
		Instance: "signer-1", Listen: "127.0.0.1:7443",
		TLS:    TLS{Certificate: "/etc/roamsign/server.pem", Key: "/etc/roamsign/server.key", ClientCA: "/etc/roamsign/ca.pem", Revoked: "/etc/roamsign/revoked", CRL: "/etc/roamsign/crl.pem"},
		State:  "/etc/roamsign/state",
		Limits: Limits{Queue: 10, QueuePerCaller: 1000, Streams: 256, Requests: 4096, Connections: 1000, Request: 30 * time.Second, Drain: 10 * time.Second},
	}
	if diff := cmp.Diff(want, got.Under("/etc/roamsign").withDefaults()); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestCredentialsAreReadFromTheirFiles(t *testing.T) {
	r := start(t, setting{})
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	pair, err := r.authority.Server([]string{"localhost"}, lasting(1))
	must(t, err)
	must(t, pair.Save(path("server.pem"), path("server.key")))
	must(t, r.authority.Save(path("ca.pem"), path("ca.key")))
	good := TLS{Certificate: path("server.pem"), Key: path("server.key"), ClientCA: path("ca.pem")}
	loaded, err := good.Load()
	if err != nil || loaded.ClientCAs == nil || len(loaded.Certificate.Certificate) != 1 {
		t.Errorf("Load: got %v, %v", loaded, err)
	}
	_, err = TLS{Certificate: path("server.pem"), Key: path("ca.key"), ClientCA: path("none.pem")}.Load()
	if err == nil || !strings.Contains(err.Error(), "tls.certificate: ") || !strings.Contains(err.Error(), "tls.client_ca: ") {
		t.Errorf("Load of bad files: got %v, want a fault of each", err)
	}
}

func TestWhatIsFaultyIsKeptAsItWasAndTheRestIsTakenOver(t *testing.T) {
	r := start(t, setting{})
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	write := func(name, text string) { must(t, os.WriteFile(path(name), []byte(text), 0o600)) }
	pair, err := r.authority.Server([]string{"localhost"}, lasting(1))
	must(t, err)
	must(t, pair.Save(path("server.pem"), path("server.key")))
	must(t, ca.WriteCertificates(path("ca.pem"), r.authority.Certificate()))
	write("revoked", "")
	files := TLS{Certificate: path("server.pem"), Key: path("server.key"), ClientCA: path("ca.pem"), Revoked: path("revoked")}
	before, err := files.Load()
	must(t, err)

	write("revoked", "4711\n")
	write("server.pem", "half a certif")
	write("ca.pem", "")
	after, err := files.Reload(before)
	for _, key := range []string{"tls.certificate: ", "tls.client_ca: "} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("got %v, want %s among it", err, key)
		}
	}
	if len(after.Certificate.Certificate) != 1 || !after.ClientCAs.Equal(before.ClientCAs) {
		t.Error("what is faulty was taken over")
	}
	if !after.Revoked.Revokes(&x509.Certificate{SerialNumber: big.NewInt(0x4711)}) {
		t.Error("the revocation was not taken over")
	}
	write("revoked", "not a number\n")
	again, err := files.Reload(after)
	if err == nil || !strings.Contains(err.Error(), "tls.revoked: "+path("revoked")+": line 1: ") || again.Revoked != after.Revoked {
		t.Errorf("a list that is faulty: got %v, want that it is refused and the old one stays", err)
	}
}
