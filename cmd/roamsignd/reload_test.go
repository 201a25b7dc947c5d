package main

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/signer"
)

// changes records what a server was told.
type changes struct {
	policies    []*policy.Policy
	credentials []signer.Credentials
	stopped     []map[[32]byte]bool
	crls        []*ca.CRLs
	next        []*successor
	inForce     bool // the next certificate is
	report      error
}

func (c *changes) SetPolicy(p *policy.Policy) { c.policies = append(c.policies, p) }

func (c *changes) SetCredentials(next signer.Credentials) error {
	c.credentials = append(c.credentials, next)
	return nil
}

func (c *changes) SetStopped(list map[[32]byte]bool) { c.stopped = append(c.stopped, list) }

func (c *changes) SetRevocations(lists *ca.CRLs) { c.crls = append(c.crls, lists) }

func (c *changes) SetNext(_, next *successor) error {
	if c.inForce {
		return signer.ErrInForce
	}
	c.next = append(c.next, next)
	return nil
}

func (c *changes) ReportFiles(err error) { c.report = err }

// lookout is a reloader on the files of a folder of dev mode, which serve would read.
type lookout struct {
	t   *testing.T
	dir string
	*reloader
	told *changes
	log  *transcript
}

func newLookout(t *testing.T, prepare func(dir string)) *lookout {
	t.Helper()
	dir := folder(t)
	prepare(dir)
	return lookoutOn(t, dir)
}

func lookoutOn(t *testing.T, dir string) *lookout {
	t.Helper()
	d := &lookout{t: t, dir: dir, told: &changes{}, log: awaiting("never")}
	s, err := load(filepath.Join(d.dir, devConfig))
	check(t, err)
	d.reloader = newReloader(s, d.told, slog.New(slog.NewTextHandler(d.log, nil)))
	d.look()
	d.look() // at rest: read once more
	d.expect("")
	if len(d.told.policies) != 1 || len(d.told.credentials) != 1 || d.told.report != nil {
		t.Fatalf("at the start: got %+v, want everything once, and no fault", d.told)
	}
	return d
}

func asMade(string) {}

func (d *lookout) file(name string) string { return filepath.Join(d.dir, name) }

// expect compares what the log has got since the last time: lines that have
// these parts in them.
func (d *lookout) expect(lines ...string) {
	d.t.Helper()
	d.log.mu.Lock()
	text := d.log.text.String()
	d.log.text.Reset()
	d.log.mu.Unlock()
	got := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(got) != len(lines) {
		d.t.Fatalf("the log got %d lines, want %d:\n%s", len(got), len(lines), text)
	}
	for i, parts := range lines {
		for part := range strings.SplitSeq(parts, "|") {
			if !strings.Contains(got[i], part) {
				d.t.Errorf("the log got %q, want %q in it", got[i], part)
			}
		}
	}
}

func TestAChangedPolicyComesIntoForceOnceItIsAtRest(t *testing.T) {
	d := newLookout(t, asMade)
	text := read(t, d.file(devPolicy))
	half := text[:strings.Index(text, "callers:")] // a policy, but nobody's
	write(t, d.file(devPolicy), half)
	d.look()
	write(t, d.file(devPolicy), strings.ReplaceAll(text, "Kopi Kampung Baru", "Kopi Kampung Lama"))
	d.look()
	if len(d.told.policies) != 1 {
		t.Fatal("a file was read that was being written")
	}
	d.look()
	d.look()
	if len(d.told.policies) != 2 {
		t.Fatalf("the policy was read %d times, want twice", len(d.told.policies))
	}
	for _, taxpayer := range d.told.policies[1].Taxpayers(devCaller, sha256.Sum256(d.setup.chain[0].Raw), time.Now()) {
		if taxpayer.TIN == "C20880050010" && taxpayer.Name != "Kopi Kampung Lama Sdn. Bhd." {
			t.Errorf("got %+v, want the new name", taxpayer)
		}
	}
	d.expect(`level=INFO msg="in force" what=policy`)
}

func TestAFaultyFileIsRefusedUntilAGoodOneComes(t *testing.T) {
	d := newLookout(t, asMade)
	good := read(t, d.file(devPolicy))
	write(t, d.file(devPolicy), good+"nonsense: true\n")
	for range 5 {
		d.look()
	}
	d.expect("level=WARN|stays in force|what=policy|" + d.file(devPolicy) + "|nonsense")
	if len(d.told.policies) != 1 || d.told.report == nil || !strings.Contains(d.told.report.Error(), "nonsense") {
		t.Errorf("got %+v, want that the old policy stays and health is told", d.told)
	}
	check(t, os.Remove(d.file(devPolicy)))
	d.look()
	d.look()
	d.expect("level=WARN|what=policy|no such file")
	write(t, d.file(devPolicy), good)
	d.look()
	d.look()
	d.expect(`level=INFO msg="in force" what=policy`)
	if len(d.told.policies) != 2 || d.told.report != nil {
		t.Errorf("got %+v, want the policy again, and health told that all is well", d.told)
	}
}

func TestToldToReadItReadsAtOnce(t *testing.T) {
	d := newLookout(t, asMade)
	replace(t, d.file(devPolicy), "Kopi Kampung Baru", "Kopi Kampung Lama")
	d.readAll()
	d.expect("what=stopped", "what=policy", "what=tls", "what=signing.certificate", "what=configuration")
	d.look()
	d.look()
	d.expect("")
	if len(d.told.policies) != 2 || len(d.told.credentials) != 2 {
		t.Errorf("got %d policies and %d credentials, want two each", len(d.told.policies), len(d.told.credentials))
	}
}

func TestCertificatesAndTheirKeysComeIntoForceTogether(t *testing.T) {
	d := newLookout(t, asMade)
	now := time.Now()
	validity := ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	authority, err := ca.New("another", ca.ECDSA, validity)
	check(t, err)
	next, err := authority.Server([]string{"localhost"}, validity)
	check(t, err)
	aside := t.TempDir()
	check(t, next.Save(filepath.Join(aside, "server.pem"), filepath.Join(aside, "server.key")))
	check(t, os.Rename(filepath.Join(aside, "server.pem"), d.file("server.pem")))
	d.look()
	d.look() // the key is late
	d.expect("level=WARN|what=tls|does not belong")
	check(t, os.Rename(filepath.Join(aside, "server.key"), d.file("server.key")))
	d.look()
	d.look()
	d.expect(`level=INFO msg="in force" what=tls`)
	last := d.told.credentials[len(d.told.credentials)-1]
	if !last.Certificate.Leaf.Equal(next.Certificate) || d.told.report != nil {
		t.Errorf("got certificate %v and report %v, want the new one and none", last.Certificate.Leaf.SerialNumber, d.told.report)
	}
}

func TestFilesMayBeLinksThatAreExchanged(t *testing.T) {
	d := newLookout(t, func(dir string) { // as Kubernetes mounts them
		check(t, os.Mkdir(filepath.Join(dir, "one"), 0o700))
		check(t, os.Rename(filepath.Join(dir, devPolicy), filepath.Join(dir, "one", devPolicy)))
		check(t, os.Symlink("one", filepath.Join(dir, "data")))
		check(t, os.Symlink(filepath.Join("data", devPolicy), filepath.Join(dir, devPolicy)))
	})
	check(t, os.Mkdir(d.file("two"), 0o700))
	write(t, filepath.Join(d.file("two"), devPolicy), strings.ReplaceAll(read(t, d.file(devPolicy)), "Kopi", "Teh"))
	check(t, os.Symlink("two", d.file("new")))
	check(t, os.Rename(d.file("new"), d.file("data")))
	d.look()
	d.look()
	d.expect("what=policy")
}

func TestARevocationIsTakenOverThoughOtherFilesAreFaulty(t *testing.T) {
	d := newLookout(t, asMade)
	write(t, d.file(devRevoked), "# erp, lost\n4711\n")
	write(t, d.file("server.pem"), "")
	write(t, d.file(devPolicy), "")
	write(t, d.file(devSigning), "")
	d.look()
	d.look()
	d.expect("level=WARN|what=policy", "level=WARN|what=tls|tls.certificate", "level=WARN|what=signing.certificate")
	last := d.told.credentials[len(d.told.credentials)-1]
	if !last.Revoked.Revokes(&x509.Certificate{SerialNumber: big.NewInt(0x4711)}) || last.Certificate.Leaf == nil {
		t.Error("the revocation is not in force, or the server has no certificate any more")
	}
	for _, part := range []string{"policy: ", "tls: tls.certificate: ", "signing.certificate: "} {
		if d.told.report == nil || !strings.Contains(d.told.report.Error(), part) {
			t.Errorf("health is told %v, want %q in it", d.told.report, part)
		}
	}
}

// TestRevocationsThatAreGoneAreTold: an empty list is a good one, and what a file
// that is written slowly looks like, too.
func TestRevocationsThatAreGoneAreTold(t *testing.T) {
	d := newLookout(t, func(dir string) { write(t, filepath.Join(dir, devRevoked), "4711\n4712\n") })
	write(t, d.file(devRevoked), "4712\n4713\n4714\n")
	d.look()
	d.look()
	d.expect("level=INFO|what=tls")
	write(t, d.file(devRevoked), "")
	d.look()
	d.look()
	d.expect("level=WARN|may connect again|gone=3", "level=INFO|what=tls")
}

func TestWhatIsNoFileHoldsNothingUp(t *testing.T) {
	for _, row := range []struct {
		name  string
		place func(path string) error
		want  string
	}{
		{"a named pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		{"a link to itself", func(path string) error { return os.Symlink(path, path) }, "too many levels"},
		{"a device without an end", func(path string) error { return os.Symlink("/dev/zero", path) }, "not a regular file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newLookout(t, asMade)
			for _, name := range []string{devPolicy, "server.pem", devClients + "/ca.pem", devSigning, devConfig} {
				check(t, os.Remove(d.file(name)))
				check(t, row.place(d.file(name)))
			}
			write(t, d.file(devRevoked), "4711\n")
			d.look()
			d.look()
			d.expect("what=policy|"+row.want, "what=tls|"+row.want, "what=signing.certificate|"+row.want, "what=configuration|"+row.want)
			last := d.told.credentials[len(d.told.credentials)-1]
			if !last.Revoked.Revokes(&x509.Certificate{SerialNumber: big.NewInt(0x4711)}) || last.Certificate.Leaf == nil {
				t.Error("a revocation beside them is not in force, or the server has no certificate any more")
			}
		})
	}
}

func TestWhatWantsARestartIsSaid(t *testing.T) {
	d := newLookout(t, asMade)
	replace(t, d.file(devConfig), "listen:", "limits: {queue: 7}\nlisten:")
	replace(t, d.file(devConfig), "127.83", "127.84")
	replace(t, d.file(devConfig), "label: roamsign-dev", "label: roamsign-other")
	check(t, ca.WriteCertificates(d.file(devSigning), rsaCertificate(t)))
	d.look()
	d.look()
	d.look()
	d.expect(`wants a restart|what=signing.certificate`, `wants a restart|what="listen, limits, token"`)
	write(t, d.file(devConfig), "listen: [")
	d.look()
	d.look()
	d.expect("level=WARN|what=configuration|" + d.file(devConfig))
	if d.told.report == nil || len(d.told.policies) != 1 {
		t.Errorf("got %+v, want health to be told, and nothing changed", d.told)
	}
}

// rsaCertificate is a certificate that documents could be signed under.
func rsaCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	now := time.Now()
	authority, err := ca.New("another", ca.RSA, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	check(t, err)
	return authority.Certificate()
}

func TestARevocationListThatIsOverdueIsToldAndStaysInForce(t *testing.T) {
	var config string
	d := newLookout(t, func(dir string) {
		config = filepath.Join(dir, devConfig)
		now := time.Now()
		a := newListing(t, dir, now.Add(-time.Hour), now.Add(time.Hour))
		replace(t, config, "tls:\n", "tls:\n  crl: "+a+"\n")
	})
	d.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	d.look()
	d.look()
	d.expect("level=WARN|overdue")
	if d.told.report == nil || !strings.Contains(d.told.report.Error(), "tls.crl") {
		t.Errorf("health is told %v, want that the list is overdue", d.told.report)
	}
	d.now = time.Now
	d.look()
	d.expect("up to date again")
	if d.told.report != nil {
		t.Errorf("health is told %v, want none", d.told.report)
	}
	s, err := load(config)
	check(t, err)
	if err := s.current(time.Now().Add(2 * time.Hour)); err == nil || !strings.Contains(err.Error(), "tls.crl") {
		t.Errorf("check says %v, want that the list is overdue", err)
	}
}

// newListing writes a revocation list of the folder's authority, which revokes
// nobody, and returns its name.
func newListing(t *testing.T, dir string, from, to time.Time) string {
	t.Helper()
	pair, err := ca.LoadPair(filepath.Join(dir, devClients, "ca.pem"), filepath.Join(dir, devClients, "ca.key"))
	check(t, err)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: to},
		pair.Leaf, pair.PrivateKey.(crypto.Signer))
	check(t, err)
	write(t, filepath.Join(dir, "clients.crl"), string(der))
	return "clients.crl"
}
