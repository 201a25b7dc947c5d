package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/myinvois/sandbox"
)

// standing is a sandbox that runs, as the command runs it.
type standing struct {
	dir       string
	interrupt context.CancelFunc
	ended     chan int
	out, errs *voice
}

// voice is an output that tells when it has said something.
type voice struct {
	mu   sync.Mutex
	text bytes.Buffer
	what string
	said chan struct{}
}

func (v *voice) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := strings.Contains(v.text.String(), v.what)
	v.text.Write(p)
	if !before && strings.Contains(v.text.String(), v.what) {
		close(v.said)
	}
	return len(p), nil
}

func (v *voice) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.text.String()
}

// startStand starts the sandbox in a folder and returns once it serves.
func startStand(t *testing.T, dir string, flags ...string) *standing {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &standing{
		dir: dir, interrupt: cancel, ended: make(chan int, 1),
		out: &voice{what: "Serving on", said: make(chan struct{})}, errs: &voice{what: "\x00", said: make(chan struct{})},
	}
	go func() {
		s.ended <- run(ctx, append([]string{"sandbox", "--dir", dir}, flags...), command.Streams{In: strings.NewReader(""), Out: s.out, Err: s.errs})
	}()
	t.Cleanup(func() { s.stop(t, command.OK) })
	select {
	case <-s.out.said:
	case code := <-s.ended:
		s.ended <- code
		t.Fatalf("the sandbox ended with code %d: %s", code, s.errs)
	case <-time.After(time.Minute):
		t.Fatalf("the sandbox does not serve after a minute: %s", s.errs)
	}
	return s
}

// stop ends it, once.
func (s *standing) stop(t *testing.T, want int) {
	t.Helper()
	if s.ended == nil {
		return
	}
	s.interrupt()
	if code := <-s.ended; code != want {
		t.Errorf("the sandbox ended with code %d, want %d: %s", code, want, s.errs)
	}
	s.ended = nil
}

// read reads a file of the folder.
func (s *standing) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// signingRoots writes the root of an authority for signing certificates.
func signingRoots(t *testing.T) string {
	t.Helper()
	now := time.Now()
	authority, err := ca.New("Test Signing", ca.ECDSA, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "roots.pem")
	if err := ca.WriteCertificates(path, authority.Certificate()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheSandboxMakesWhatItsClientsNeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	s := startStand(t, dir, "--roots", signingRoots(t), "--taxpayer", "C25845632020:201901234567", "--fault", "raw:fail")
	if !strings.Contains(s.out.String(), "THIS IS NOT LHDN") {
		t.Errorf("it does not say what it is not:\n%s", s.out)
	}
	for name, mode := range map[string]os.FileMode{
		".": 0o700, standWorld: 0o600, standCredentials: 0o600, standPlatform: 0o600, standKey: 0o600, standReady: 0o600, standCA: 0o644, standRoots: 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has the mode %v, want %v", name, info.Mode().Perm(), mode)
		}
	}
	address := strings.TrimSpace(s.read(t, standReady))
	platform, err := myinvois.Load(filepath.Join(dir, standPlatform))
	if err != nil {
		t.Fatal(err)
	}
	if api, _, _ := platform.Places(); api != "https://"+address {
		t.Errorf("myinvois.yaml has the API %s, ready %s", api, address)
	}
	credentials, err := myinvois.LoadCredentials(platform.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	if warnings := credentials.Warnings(time.Now()); len(warnings) > 0 {
		t.Errorf("got warnings of fresh credentials: %q", warnings)
	}
	for path, want := range map[string]string{
		sandbox.DocumentsPath: "[]", sandbox.FaultsPath: `[{"on":"raw","kind":"fail"}]`,
	} {
		if got := fetch(t, platform.CA, "https://"+address+path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	client, err := myinvois.New(platform, credentials)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, tin := range []string{"C20880050010", "C20880050020", "C25845632020"} {
		if _, err := client.Recent(t.Context(), tin, time.Now().Add(-time.Hour), time.Now()); err != nil {
			t.Errorf("logging in for %s: %v", tin, err)
		}
	}
}

// fetch reads what is at an address, from a server under the authority.
func fetch(t *testing.T, authority, address string) string {
	t.Helper()
	pool, err := ca.LoadPool(authority)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.Header.Get(sandbox.Header) != sandbox.Notice {
		t.Errorf("%s: the header does not say what it is not: %v", address, response.Header)
	}
	return string(text)
}

func TestASecondStartUsesWhatIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	s := startStand(t, dir, "--roots", signingRoots(t), "--listen", "127.83.12.2:0") // where nothing else takes the port meanwhile
	files := []string{standWorld, standCredentials, standPlatform, standCA, standServer, standKey, standRoots, standReady}
	before := map[string]string{}
	for _, name := range files {
		before[name] = s.read(t, name)
	}
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"sandbox", "--dir", dir}, command.Streams{Out: io.Discard, Err: &errs}); code != command.Usage || !strings.Contains(errs.String(), "in use by another sandbox") {
		t.Errorf("beside it: got code %d: %s", code, &errs)
	}
	s.stop(t, command.OK)
	if _, err := os.Stat(filepath.Join(dir, standReady)); err == nil {
		t.Error("it has ended, and ready is still there")
	}
	s = startStand(t, dir)
	for _, name := range files {
		if s.read(t, name) != before[name] {
			t.Errorf("%s is another one now", name)
		}
	}
}

func TestTheSandboxSaysWhatItWants(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	roots, fresh := signingRoots(t), func() string { return filepath.Join(t.TempDir(), "fresh") }
	leaf := filepath.Join(t.TempDir(), "leaf.pem")
	if err := ca.WriteCertificates(leaf, leafCertificate(t)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"a folder", nil, "--dir DIR"},
		{"a folder of its own", []string{"--dir", full, "--roots", roots}, "holds something else (letter)"},
		{"roots", []string{"--dir", fresh()}, "--roots FILE"},
		{"roots that are there", []string{"--dir", fresh(), "--roots", roots + "x"}, "no such file"},
		{"roots that are authorities", []string{"--dir", fresh(), "--roots", leaf}, "not an authority's"},
		{"loopback", []string{"--dir", fresh(), "--roots", roots, "--listen", "0.0.0.0:8443"}, "not a loopback address"},
		{"an address", []string{"--dir", fresh(), "--roots", roots, "--listen", "8443"}, "not HOST:PORT"},
		{"a TIN", []string{"--dir", fresh(), "--roots", roots, "--taxpayer", "kopi"}, "--taxpayer"},
		{"a fault", []string{"--dir", fresh(), "--roots", roots, "--fault", "submit:bite"}, "no kind of fault"},
		{"no more", []string{"--dir", fresh(), "extra"}, "unexpected argument"},
		{"time that passes", []string{"--dir", fresh(), "--validation", "-1s"}, "must not be negative"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var errs bytes.Buffer
			code := run(t.Context(), append([]string{"sandbox"}, row.args...), command.Streams{Out: io.Discard, Err: &errs})
			if code != command.Usage || !strings.Contains(errs.String(), row.want) {
				t.Errorf("got code %d, %s want 2, and %q", code, &errs, row.want)
			}
		})
	}
}

func TestTheSandboxTellsAllFaultsOfItsWorld(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	s := startStand(t, dir, "--roots", signingRoots(t))
	s.stop(t, command.OK)
	broken := strings.Replace(s.read(t, standWorld), "name: Contoh Kedai", "nom: Contoh Kedai", 1) + "errors: loud\n"
	if err := os.WriteFile(filepath.Join(dir, standWorld), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	code := run(t.Context(), []string{"sandbox", "--dir", dir}, command.Streams{Out: io.Discard, Err: &errs})
	for _, want := range []string{"sandbox.yaml: line 23: taxpayers[2].nom is not a key here", "sandbox.yaml: line 26: errors: \"loud\""} {
		if code != command.Usage || !strings.Contains(errs.String(), want) {
			t.Errorf("got code %d, want 2 and %q:\n%s", code, want, &errs)
		}
	}
}

// leafCertificate is a certificate that is no authority's.
func leafCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	now := time.Now()
	validity := ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	authority, err := ca.New("Test", ca.ECDSA, validity)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Server([]string{"127.0.0.1"}, validity)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Certificate
}
