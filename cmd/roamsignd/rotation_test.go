package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/hsm"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
)

const (
	nextLabel, nextID = "signing-next", "02"
	nextFile          = "signing-next.pem"
)

// renewing is a folder of dev mode's whose signing certificate is of an authority
// that is still there, and which has a second key in its token.
type renewing struct {
	t           *testing.T
	dir, config string
	issuer      *x509.Certificate
	issuerKey   crypto.Signer
	authority   *ca.Authority
	first       *x509.Certificate
	key         *rsa.PublicKey // of the next certificate
}

func newRenewing(t *testing.T) *renewing {
	t.Helper()
	r := &renewing{t: t, dir: folder(t)}
	r.config = r.file(devConfig)
	r.under("roamsign tests, NOT FOR SUBMISSION")
	before, err := ca.LoadCertificates(r.file(devSigning))
	check(t, err)
	r.first = r.issues(devSigning, before[0].PublicKey.(*rsa.PublicKey), time.Now().Add(-time.Hour), time.Now().AddDate(0, 3, 0))
	return r
}

// under has an authority of that name issue from now on.
func (r *renewing) under(name string) {
	r.t.Helper()
	now := time.Now()
	var err error
	r.authority, err = ca.New(name, ca.RSA, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)})
	check(r.t, err)
	aside := r.t.TempDir()
	check(r.t, r.authority.Save(filepath.Join(aside, "ca.pem"), filepath.Join(aside, "ca.key")))
	pair, err := ca.LoadPair(filepath.Join(aside, "ca.pem"), filepath.Join(aside, "ca.key"))
	check(r.t, err)
	r.issuer, r.issuerKey = pair.Leaf, pair.PrivateKey.(crypto.Signer)
}

func (r *renewing) file(name string) string { return filepath.Join(r.dir, name) }

// issues writes a signing certificate and its issuer.
func (r *renewing) issues(name string, key *rsa.PublicKey, from, to time.Time) *x509.Certificate {
	r.t.Helper()
	self := devIntermediary
	certificate, err := r.authority.Signing(ca.Organization{
		Country: "MY", Name: self.name, TIN: self.tin, CommonName: self.name, BRN: self.brn,
	}, key, ca.Validity{NotBefore: from, NotAfter: to})
	check(r.t, err)
	if err := os.Remove(r.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	check(r.t, ca.WriteCertificates(r.file(name), certificate, r.authority.Certificate()))
	return certificate
}

// generates makes the second key.
func (r *renewing) generates() {
	r.t.Helper()
	form, _, err := readForm(r.config)
	check(r.t, err)
	token := form.Token
	token.KeyLabel, token.KeyID = nextLabel, nextID
	r.key, err = hsm.GenerateKey(r.t.Context(), token, 2048)
	check(r.t, err)
}

// follows has a certificate follow the first one.
func (r *renewing) follows(key *rsa.PublicKey, from time.Time, named bool) *x509.Certificate {
	r.t.Helper()
	next := r.issues(nextFile, key, time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0))
	text := fmt.Sprintf("signing:\n  next:\n    certificate: %s\n    from: %s\n", nextFile, from.Format(time.RFC3339))
	if named {
		text += fmt.Sprintf("    key_label: %s\n    key_id: %q\n", nextLabel, nextID)
	}
	replace(r.t, r.config, "signing:\n", text)
	return next
}

// lists writes a revocation list of the issuer's.
func (r *renewing) lists(serials ...*big.Int) {
	r.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, r.issuer, r.issuerKey)
	check(r.t, err)
	check(r.t, writeFile(r.file("signing.crl"), string(der), 0o600))
}

// serves has the folder served by a clock.
func (r *renewing) serves(clock func() time.Time) *daemon {
	r.t.Helper()
	s, err := load(r.config)
	check(r.t, err)
	s.clock = clock
	socket, err := listen("127.0.0.1:0") // which the server's certificate names
	check(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{out: awaiting("-"), errs: awaiting("msg=serving"), interrupt: cancel, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		if err := s.serve(ctx, socket, d.errs, nil); err != nil {
			fmt.Fprintln(d.errs, err)
			d.code = 1
		}
	}()
	r.t.Cleanup(func() { d.stop(r.t) })
	select {
	case <-d.errs.seen:
	case <-d.ended:
		r.t.Fatalf("ended before it served:\n%s", d.errs)
	case <-time.After(patience):
		r.t.Fatalf("does not serve:\n%s", d.errs)
	}
	return d
}

func (r *renewing) caller(d *daemon) roamsignv1.SignerServiceClient {
	r.t.Helper()
	return caller(r.t, d, r.file("tls-ca.pem"), r.file("client.pem"), r.file("client.key"))
}

// asks asks for one signature under a certificate, and returns the reason if there is none.
func (r *renewing) asks(api roamsignv1.SignerServiceClient, under *x509.Certificate, id string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	digest, fingerprint := sha256.Sum256([]byte(id)), sha256.Sum256(under.Raw)
	out, err := api.SignDigest(ctx, &roamsignv1.SignDigestRequest{
		Tin: devTaxpayers[0].tin, DocumentDigest: digest[:], CertificateSha256: fingerprint[:], RequestId: id,
	})
	if err != nil {
		return status.Convert(err).Message()
	}
	if err := rsa.VerifyPKCS1v15(under.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], out.GetSignature()); err != nil {
		r.t.Errorf("%s: the signature is not one under the certificate: %v", id, err)
	}
	return ""
}

// becomes waits until a request is answered by a text.
func (r *renewing) becomes(api roamsignv1.SignerServiceClient, under *x509.Certificate, want string) {
	r.t.Helper()
	tries := 0
	eventually(r.t, func() bool {
		tries++
		return r.asks(api, under, fmt.Sprint("becomes", time.Now().UnixNano(), tries)) == want
	})
}

const (
	toldStopped = "signing under the present certificate was stopped"
	toldRevoked = "the signing certificate is revoked"
)

func fingerprintOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// TestTheNextCertificateTakesOverWhileCallersSign with both keys in one token: every
// document is whole under the one or the other, and no client sees an error.
func TestTheNextCertificateTakesOverWhileCallersSign(t *testing.T) {
	r := newRenewing(t)
	r.generates()
	next := r.follows(r.key, time.Now().Add(30*time.Minute), true)
	if code, out, errs := ends(t, "check", "--config", r.config, "--login"); code != 0 {
		t.Fatalf("check: got %d, %s%s", code, out, errs)
	}
	var ahead atomic.Int64
	d := r.serves(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	document, err := os.ReadFile("../../xades/testdata/xml/invoice-1.1.xml")
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	config, err := client.Load(r.file(devClient))
	check(t, err)
	config.Servers = []string{d.address(t)}
	own, err := client.Dial(config)
	check(t, err)
	defer own.Close()
	api := r.caller(d)
	var before, after atomic.Int64
	const enough = 12
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for n := 0; after.Load() < enough; n++ {
				began := ahead.Load() > 0
				var signed []byte
				if i%2 == 0 { // builds it itself, for the certificate that it knows
					out, err := own.SignXML(ctx, "", document, client.Options{})
					if err != nil {
						t.Errorf("caller %d: %v", i, err)
						return
					}
					signed = out.Document
				} else {
					out, err := api.SignDocument(ctx, &roamsignv1.SignDocumentRequest{Tin: devTaxpayers[0].tin, RequestId: fmt.Sprint(i, "-", n), Document: document})
					if err != nil {
						t.Errorf("caller %d: %v", i, err)
						return
					}
					signed = out.GetDocument()
				}
				report := xades.Verify(signed, xades.VerifyOptions{})
				switch {
				case !report.Valid():
					t.Errorf("caller %d: the document is not valid: %+v", i, report.Findings)
				case report.Certificate.Equal(next):
					after.Add(1)
				case !report.Certificate.Equal(r.first) || began:
					t.Errorf("caller %d: signed under %s, begun after the change: %v", i, fingerprintOf(report.Certificate), began)
				case before.Add(1) == enough:
					ahead.Store(int64(time.Hour))
				}
				if t.Failed() {
					return
				}
			}
		})
	}
	callers.Wait()
	if log := d.errs.String(); strings.Count(log, "the next signing certificate is in force") != 1 {
		t.Errorf("the log does not tell of one change:\n%s", log)
	}
}

// TestANextKeyThatIsNotThereStopsNothing and is told by check --login, the log and
// the metrics.
func TestANextKeyThatIsNotThereStopsNothing(t *testing.T) {
	r := newRenewing(t)
	absent, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	next := r.follows(&absent.PublicKey, time.Now().Add(-time.Minute), true)
	replace(t, r.config, "tls:\n", "metrics: "+strconv.Quote(quiet)+"\ntls:\n")
	if code, _, errs := ends(t, "check", "--config", r.config); code != 0 {
		t.Errorf("check: got %d, %s, want no fault without a login", code, errs)
	}
	if code, _, errs := ends(t, "check", "--config", r.config, "--login"); code != 1 || !strings.Contains(errs, "signing.next: ") || !strings.Contains(errs, nextLabel) {
		t.Errorf("check --login: got %d, %s, want that the next key is not there", code, errs)
	}
	d := start(t, "serve", "--config", r.config)
	if told := r.asks(r.caller(d), r.first, "one"); told != "" {
		t.Errorf("got %q, want a signature under the certificate before", told)
	}
	eventually(t, func() bool {
		return strings.Contains(d.errs.String(), "the next signing certificate could not take over")
	})
	now := await(t, d, `roamsign_certificate_usable{certificate="`+fingerprintOf(next)[:16]+`",which="next"}`, 0)
	if got := now.values[`roamsign_certificate_usable{certificate="`+fingerprintOf(r.first)[:16]+`",which="signing"}`]; got != 1 {
		t.Errorf("the one in force is told as %v, want 1", got)
	}
}

// TestARenewalUnderTheSameKeyNamesNone and takes over at a time that has come.
func TestARenewalUnderTheSameKeyNamesNone(t *testing.T) {
	r := newRenewing(t)
	next := r.follows(r.first.PublicKey.(*rsa.PublicKey), time.Now().Add(-time.Minute), false)
	d := start(t, "serve", "--config", r.config)
	api := r.caller(d)
	if told := r.asks(api, r.first, "one"); !strings.HasPrefix(told, "built for another certificate") {
		t.Errorf("for the first: got %q, want that another is in force", told)
	}
	if told := r.asks(api, next, "two"); told != "" {
		t.Errorf("for the next: got %q, want a signature", told)
	}
}

// TestASuccessionThatCannotBeMeantIsRefused before anything is served.
func TestASuccessionThatCannotBeMeantIsRefused(t *testing.T) {
	r := newRenewing(t)
	r.key = r.first.PublicKey.(*rsa.PublicKey)
	absent, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	r.issues("other.pem", &absent.PublicKey, time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0))
	r.issues(nextFile, r.key, time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0))
	check(t, ca.WriteCertificates(r.file("bare.pem"), r.first))
	r.lists()
	config := read(t, r.config)
	later := time.Now().AddDate(0, 0, 2).Format(time.DateOnly) // tomorrow has begun in Malaysia, maybe, before the certificates
	for _, row := range []struct{ name, text, want string }{
		{"no time", "  next: {certificate: " + nextFile + "}\n", "signing.next.from: "},
		{"no certificate", "  next: {from: " + later + "}\n", "signing.next.certificate: missing"},
		{"a time that is none", "  next: {certificate: " + nextFile + ", from: soon}\n", "signing.next.from: must be a date"},
		{"before it is valid", "  next: {certificate: " + nextFile + ", from: 2001-01-01}\n", "signing.next.from: at 2000-12-31T16:00:00Z the certificate is not valid"},
		{"after it is valid", "  next: {certificate: " + nextFile + ", from: 2999-01-01}\n", "signing.next.from: at"},
		{"another key without a name", "  next: {certificate: other.pem, from: " + later + "}\n", "signing.next.key_label: missing"},
		{"an ID that is none", "  next: {certificate: other.pem, from: " + later + ", key_id: xyz}\n", "signing.next.key_id: "},
		{"a key that does not exist", "  next: {certificate: other.pem, from: " + later + ", pin: 1}\n", "signing.next.pin"},
		{"no list", "  crl: absent.crl\n", "signing.crl: "},
		{"a list that nobody can check", "  crl: signing.crl\n  certificate: bare.pem\n", "signing.crl: no list can be checked"},
	} {
		text := strings.Replace(config, "signing:\n", "signing:\n"+row.text, 1)
		if strings.Contains(row.text, "bare.pem") {
			text = strings.Replace(text, "  certificate: "+devSigning+"\n", "", 1)
		}
		write(t, r.config, text)
		for _, command := range []string{"check", "serve"} {
			if code, _, errs := ends(t, command, "--config", r.config); code != 1 || !strings.Contains(errs, row.want) {
				t.Errorf("%s: %s: got %d and %s, want %q", row.name, command, code, errs, row.want)
			}
		}
	}
}

// TestACertificateThatEndsIsWarnedOfOnceADay unless another one takes over before.
func TestACertificateThatEndsIsWarnedOfOnceADay(t *testing.T) {
	r := newRenewing(t)
	r.issues(devSigning, r.first.PublicKey.(*rsa.PublicKey), time.Now().Add(-time.Hour), time.Now().Add(20*24*time.Hour+time.Hour))
	if code, _, errs := ends(t, "check", "--config", r.config); code != 0 || !strings.Contains(errs, "warning: ") || !strings.Contains(errs, "ends in 20 days") {
		t.Errorf("check: got %d, %s, want a warning and no fault", code, errs)
	}
	s, err := load(r.config)
	check(t, err)
	began := time.Now()
	d := newLookout(t, func(dir string) {})
	for _, row := range []struct {
		after time.Duration
		lines []string
	}{
		{0, []string{"wants to be renewed|ends in 20 days"}},
		{time.Minute, nil},
		{23 * time.Hour, nil},
		{24 * time.Hour, []string{"ends in 19 days"}},
		{47 * time.Hour, nil},
		{48 * time.Hour, []string{"ends in 18 days"}},
		{30 * 24 * time.Hour, nil}, // it is over, which others tell
	} {
		d.setup.chain, d.setup.next = s.chain, nil
		d.remind(began.Add(row.after))
		if row.lines == nil {
			d.expect("")
		} else {
			d.expect(row.lines...)
		}
	}
	r.follows(r.first.PublicKey.(*rsa.PublicKey), began.Add(10*24*time.Hour), false)
	s, err = load(r.config)
	check(t, err)
	if err := s.ending(began); err != nil {
		t.Errorf("with one that follows: got %v, want nothing", err)
	}
	replace(t, r.config, began.Add(10*24*time.Hour).Format(time.RFC3339), began.Add(25*24*time.Hour).Format(time.RFC3339))
	s, err = load(r.config)
	check(t, err)
	if err := s.ending(began); err == nil || !strings.Contains(err.Error(), "nothing can be signed between") {
		t.Errorf("with one that follows too late: got %v, want that it is told", err)
	}
}

// TestACallerBoundToOneOfTwoCertificatesIsWarnedOf before the change stops it.
func TestACallerBoundToOneOfTwoCertificatesIsWarnedOf(t *testing.T) {
	r := newRenewing(t)
	next := r.follows(r.first.PublicKey.(*rsa.PublicKey), time.Now().Add(time.Hour), false)
	policy := read(t, r.file(devPolicy))
	for _, row := range []struct {
		bound []string
		want  []string // those that are told
	}{
		{[]string{fingerprintOf(r.first)}, []string{fingerprintOf(next)}},
		{[]string{fingerprintOf(next)}, []string{fingerprintOf(r.first)}},
		{[]string{fingerprintOf(r.first), fingerprintOf(next)}, nil},
	} {
		write(t, r.file(devPolicy), policy+"    certificate: ["+strings.Join(row.bound, ", ")+"]\n")
		code, _, errs := ends(t, "check", "--config", r.config)
		if code != 0 || strings.Count(errs, "may not use signing certificate") != len(row.want) {
			t.Errorf("bound to %v: got %d and %s, want %d warnings", row.bound, code, errs, len(row.want))
		}
		for _, each := range row.want {
			if !strings.Contains(errs, "may not use signing certificate "+each) {
				t.Errorf("bound to %v: got %s, want %s told", row.bound, errs, each)
			}
		}
	}
}
