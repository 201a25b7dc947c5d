package main

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/policy"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

func TestDevMakesWhatServeNeedsAndNothingElse(t *testing.T) {
	from, err := model()
	check(t, err)
	want := map[string]fs.FileMode{
		".":          fs.ModeDir | 0o700,
		devTokens:    fs.ModeDir | 0o700,
		devLock:      0o600,
		devPIN:       0o600,
		devSoftHSM:   0o600,
		devConfig:    0o600,
		devPolicy:    0o600,
		devClient:    0o600,
		devRoots:     0o644,
		"tls-ca.pem": 0o644, "server.pem": 0o644, "client.pem": 0o644, devSigning: 0o644,
		"server.key": 0o600, "client.key": 0o600,
		devClients: fs.ModeDir | 0o700, devClients + "/ca.pem": 0o644, devClients + "/ca.key": 0o600, devRevoked: 0o644,
		devLogKey: 0o600, devLogPub: 0o600, devAudit: fs.ModeDir | 0o700, devState: fs.ModeDir | 0o700,
		devClients + "/issued": fs.ModeDir | 0o700, devClients + "/issued/*.pem": 0o644,
	}
	got := map[string]fs.FileMode{}
	check(t, filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		check(t, err)
		name, err := filepath.Rel(from, path)
		check(t, err)
		info, err := os.Stat(path)
		check(t, err)
		if strings.HasPrefix(name, devClients+"/issued/") {
			name = devClients + "/issued/*.pem"
		}
		if strings.HasPrefix(name, devAudit+"/") || strings.HasPrefix(name, devState+"/") {
			return nil // of package audit, and of package signer
		}
		// The index is made while it serves, if there is time for it.
		if inside := strings.HasPrefix(name, devTokens+"/") || strings.HasPrefix(name, devAudit+".index"); !inside {
			got[name] = info.Mode()
		} else if info.Mode()&0o077 != 0 {
			t.Errorf("%s: got mode %v, want it closed to others", name, info.Mode())
		}
		return nil
	}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files and modes (-want +got):\n%s", diff)
	}
}

func TestDevShowsNoSecret(t *testing.T) {
	dir := folder(t)
	d := start(t, "dev", "--dir", dir)
	d.stop(t)
	keepsPIN(t, dir, d.out.String(), d.errs.String(), read(t, filepath.Join(dir, devConfig)), read(t, filepath.Join(dir, devClient)))
}

func TestTheDevCertificateIsOfLHDNsProfile(t *testing.T) {
	from, err := model()
	check(t, err)
	chain, err := ca.LoadCertificates(filepath.Join(from, devSigning))
	check(t, err)
	if len(chain) != 2 {
		t.Fatalf("got %d certificates, want the signing certificate and its issuer", len(chain))
	}
	leaf, issuer := chain[0], chain[1]

	var subject pkix.RDNSequence // as it stands: pkix.Name loses the order
	if _, err := asn1.Unmarshal(leaf.RawSubject, &subject); err != nil {
		t.Fatal(err)
	}
	var elements []string
	for _, set := range subject {
		for _, element := range set {
			elements = append(elements, fmt.Sprint(element.Type, " ", element.Value))
		}
	}
	want := []string{
		"2.5.4.6 MY", "2.5.4.10 Contoh Perantara Sdn. Bhd.", "2.5.4.97 C20880050090", "2.5.4.11 NOT FOR SUBMISSION",
		"2.5.4.3 Contoh Perantara Sdn. Bhd.", "2.5.4.5 202001234590",
	}
	if diff := cmp.Diff(want, elements); diff != "" {
		t.Errorf("subject (-want +got):\n%s", diff)
	}
	if leaf.KeyUsage != x509.KeyUsageContentCommitment {
		t.Errorf("key usage: got %b, want non-repudiation alone", leaf.KeyUsage)
	}
	documents := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 12}
	if !slices.ContainsFunc(leaf.UnknownExtKeyUsage, documents.Equal) {
		t.Errorf("extended key usage: got %v, want %v among it", leaf.UnknownExtKeyUsage, documents)
	}
	if public, ok := leaf.PublicKey.(*rsa.PublicKey); !ok || public.N.BitLen() != 2048 || leaf.SignatureAlgorithm != x509.SHA256WithRSA {
		t.Errorf("got a key of %T signed with %v, want RSA-2048 and sha256WithRSA", leaf.PublicKey, leaf.SignatureAlgorithm)
	}
	if leaf.SerialNumber.BitLen() > 64 {
		t.Errorf("the serial number has %d bits, want 64 at most", leaf.SerialNumber.BitLen())
	}
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		t.Errorf("valid from %v to %v, want now to be within", leaf.NotBefore, leaf.NotAfter)
	}
	if !strings.Contains(issuer.Subject.CommonName, "NOT FOR SUBMISSION") {
		t.Errorf("issuer: got %q, want NOT FOR SUBMISSION in its name", issuer.Subject.CommonName)
	}
	roots, err := ca.LoadPool(filepath.Join(from, devRoots))
	check(t, err)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("verifying under %s: %v", devRoots, err)
	}
}

// readyFile reads DIR/ready; "" if there is none.
func readyFile(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, devReady))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadyIsThereWholeOnceItServesAndGoneAfterwards(t *testing.T) {
	dir := folder(t)
	write(t, filepath.Join(dir, devReady), "127.0.0.1:1\n") // of a run that was killed
	d := begin("dev", "--dir", dir)
	t.Cleanup(func() { d.stop(t) })
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	seen := "127.0.0.1:1\n"
	for seen == "127.0.0.1:1\n" || seen == "" {
		select {
		case <-ticks.C:
			seen = readyFile(t, dir)
		case <-d.ended:
			t.Fatalf("ended with code %d before it served:\n%s", d.code, d.errs)
		case <-t.Context().Done():
			t.Fatal("not ready when the tests' time is over")
		}
	}
	address := strings.TrimSuffix(seen, "\n")
	if _, _, err := net.SplitHostPort(address); err != nil || seen != address+"\n" {
		t.Errorf("the first that is seen of ready is %q, want an address and a newline", seen)
	}
	greets(t, dir, address)
	if !strings.Contains(d.out.String(), "Serving on "+address) {
		t.Errorf("ready holds %s, and it says:\n%s", address, d.out)
	}
	if code := d.stop(t); code != 0 {
		t.Errorf("interrupted: got exit code %d, want 0:\n%s", code, d.errs)
	}
	if left := readyFile(t, dir); left != "" {
		t.Errorf("stopped: ready still holds %q", left)
	}
}

func TestASecondStartUsesWhatIsThere(t *testing.T) {
	dir := folder(t)
	first := start(t, "dev", "--dir", dir, "--listen", quiet)
	first.stop(t)
	replace(t, filepath.Join(dir, devConfig), "policy: policy.yaml\n", "policy: policy.yaml\nlimits: {queue: 7} # by hand\n")
	before := snapshot(t, dir)

	second := start(t, "dev", "--dir", dir)
	if got, want := second.address(t), first.address(t); got != want {
		t.Errorf("got address %s, want that of the first start, %s", got, want)
	}
	greets(t, dir, second.address(t))
	second.stop(t)
	after := snapshot(t, dir)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the second start changed (-before +after):\n%s", diff)
	}
	if !strings.Contains(second.out.String(), "Found") || strings.Contains(second.out.String(), "Made") {
		t.Errorf("the second start says:\n%s\nwant that it found all and made nothing", second.out)
	}
}

func TestAnAddressThatIsTakenIsNotInsistedOn(t *testing.T) {
	dir := folder(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	replaceLine(t, filepath.Join(dir, devConfig), "listen:", "listen: "+taken.Addr().String())

	d := start(t, "dev", "--dir", dir)
	if d.address(t) == taken.Addr().String() {
		t.Fatalf("serves on %s, which is somebody else's", d.address(t))
	}
	for _, name := range []string{devConfig, devClient, devReady} {
		if text := read(t, filepath.Join(dir, name)); !strings.Contains(text, d.address(t)) {
			t.Errorf("it serves on %s, and %s says:\n%s", d.address(t), name, text)
		}
	}
	greets(t, dir, d.address(t))
}

// replaceLine changes the line of a file that begins so.
func replaceLine(t *testing.T, path, beginning, with string) {
	t.Helper()
	lines := strings.Split(read(t, path), "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), beginning) })
	if at < 0 {
		t.Fatalf("%s has no line that begins with %q", path, beginning)
	}
	lines[at] = with
	write(t, path, strings.Join(lines, "\n"))
}

func TestThePolicyMayBeEditedAndTaxpayersAdded(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, devPolicy)
	replace(t, path, "name: Contoh Kedai Sdn. Bhd.", "name: Kedai Runcit Baru # since June\n    to: 2030-06-30")
	text := read(t, path)
	start(t, "dev", "--dir", dir).stop(t)
	if got := read(t, path); got != text {
		t.Errorf("the policy was edited by hand and became:\n%s", got)
	}

	for range 2 { // the second time it is there
		start(t, "dev", "--dir", dir, "--taxpayer", "C25845632020", "--taxpayer", "IG12345678912:201901234567").stop(t)
	}
	got := read(t, path)
	if !strings.Contains(got, "# since June") {
		t.Errorf("the comment is lost:\n%s", got)
	}
	rules, err := policy.Parse([]byte(got))
	check(t, err)
	var tins []policy.TIN
	for _, taxpayer := range rules.Taxpayers(devCaller, [32]byte{1}, time.Now()) {
		tins = append(tins, taxpayer.TIN)
		if taxpayer.TIN == "C20880050020" && (taxpayer.Name != "Kedai Runcit Baru" || taxpayer.To.IsZero()) {
			t.Errorf("the taxpayer edited by hand became %+v", taxpayer)
		}
	}
	want := []policy.TIN{"C20880050010", "C20880050020", "C25845632020", "IG12345678912:201901234567"}
	if diff := cmp.Diff(want, tins); diff != "" {
		t.Errorf("taxpayers of the client (-want +got):\n%s", diff)
	}
}

func TestAFolderHasOneDaemon(t *testing.T) {
	dir := folder(t)
	first := start(t, "dev", "--dir", dir)
	before := snapshot(t, dir)
	code, out, errs := ends(t, "dev", "--dir", dir)
	if want := "roamsignd: " + dir + " is in use by another roamsignd: stop it, or name another folder\n"; code != 1 || errs != want || out != "" {
		t.Errorf("a second daemon: got code %d and %q, want 1 and %q", code, errs, want)
	}
	unchanged(t, dir, before)
	greets(t, dir, first.address(t))
}

func TestTheModuleIsRemembered(t *testing.T) {
	dir := folder(t)
	module := filepath.Join(t.TempDir(), "libsofthsm2-copy.so")
	write(t, module, read(t, softhsmtest.Library(t)))
	start(t, "dev", "--dir", dir, "--module", module).stop(t)
	if text := read(t, filepath.Join(dir, devConfig)); !strings.Contains(text, module) {
		t.Fatalf("--module %s, and the configuration says:\n%s", module, text)
	}
	start(t, "dev", "--dir", dir).stop(t)
	if text := read(t, filepath.Join(dir, devConfig)); !strings.Contains(text, module) {
		t.Errorf("the second start forgot the module:\n%s", text)
	}
}
