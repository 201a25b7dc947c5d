package signer

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// material is what all tests share, since making RSA keys takes a while.
type material struct {
	key, otherKey *rsa.PrivateKey
	authority     *ca.Authority
	root, leaf    *x509.Certificate
	next          *x509.Certificate // of otherKey
}

var shared = sync.OnceValues(func() (*material, error) {
	m := &material{}
	var err error
	if m.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	if m.otherKey, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	// The signing certificate ends before those of TLS do.
	validity := lasting(10)
	authority, err := ca.New("Test CA, NOT FOR SUBMISSION", ca.RSA, validity)
	if err != nil {
		return nil, err
	}
	m.authority, m.root = authority, authority.Certificate()
	who := ca.Organization{
		Country: "MY", Name: "Perantara Sdn. Bhd.", TIN: "C25845632020", CommonName: "Perantara Sdn. Bhd.", BRN: "202001234567",
	}
	if m.leaf, err = authority.Signing(who, &m.key.PublicKey, validity); err != nil {
		return nil, err
	}
	m.next, err = authority.Signing(who, &m.otherKey.PublicKey, validity)
	return m, err
})

// lasting is a validity from an hour ago, for some days.
func lasting(days int) ca.Validity {
	now := time.Now().Truncate(time.Second)
	return ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, days)}
}

const rules = `
taxpayers:
  - {tin: C20880050010, brn: "201901054321", name: Syarikat Seri Melur Sdn. Bhd.}
  - {tin: C25814470030, name: Wau Bulan Ventures Sdn. Bhd., from: 2020-01-01, to: 9999-12-31}
  - {tin: D4800990020, to: 2020-12-31}
  - {tin: "IG40125678090:202003123456"}
callers:
  - name: spiffe://example.com/erp
    taxpayers: [C20880050010, D4800990020, "IG40125678090:202003123456"]
    methods: [SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers]
  - name: portal.example.com
    taxpayers: [C25814470030]
    methods: [SignDocument]
`

// The names in the rules, and one that is not.
const (
	erp, portal, stranger = "spiffe://example.com/erp", "portal.example.com", "spiffe://example.com/stranger"

	ownTIN, foreignTIN, endedTIN, soleTIN = "C20880050010", "C25814470030", "D4800990020", "IG40125678090:202003123456"
	unknownTIN                            = "C99999999990"
)

// rig is a running server and what is around it.
type rig struct {
	t         testing.TB
	server    *Server
	key       *fakeKey
	nextKey   *fakeKey // where a certificate follows
	record    *fakeRecord
	material  *material
	authority *ca.Authority
	tlsCA     tls.Certificate // the authority as a key pair, to issue what it would not
	journal   *journal
	address   string
	stop      func() error // ends Serve and returns what it returned

	mu    sync.Mutex
	ahead time.Duration // the server's clock before the machine's
}

// setting is how a rig differs from the standard one.
type setting struct {
	sessions int
	limits   Limits
	policy   string // instead of rules
	state    string
	follows  time.Duration // when the next certificate does, from now; 0: none does
	log      slog.Handler  // instead of the journal
}

func start(t testing.TB, how setting) *rig {
	t.Helper()
	m, err := shared()
	if err != nil {
		t.Fatalf("making keys: %v", err)
	}
	if how.sessions == 0 {
		how.sessions = 4
	}
	r := &rig{t: t, material: m, journal: &journal{changed: make(chan struct{})}, key: newFakeKey(t, m, how.sessions), record: newFakeRecord(t)}
	r.authority, r.tlsCA = newAuthority(t)
	own, err := r.authority.Server([]string{"localhost", "127.0.0.1"}, lasting(30))
	must(t, err)
	allowed, err := policy.Parse([]byte(cmp.Or(how.policy, rules)))
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(r.authority.Certificate())
	var next *Next
	if how.follows != 0 {
		r.nextKey = newFakeKey(t, m, how.sessions)
		r.nextKey.private, r.nextKey.other = m.otherKey, m.key
		next = &Next{Key: r.nextKey, Certificate: m.next, Chain: []*x509.Certificate{m.root}, From: time.Now().Add(how.follows)}
	}
	r.server, err = New(Parts{
		Config: Config{
			Instance: instance, Listen: "127.0.0.1:0", TLS: TLS{Certificate: "server.pem", Key: "server.key", ClientCA: "ca.pem"}, Limits: how.limits, State: how.state,
		},
		Credentials: Credentials{Certificate: pairOf(own.Key, own.Certificate), ClientCAs: pool},
		Policy:      allowed, Key: r.key, Sessions: how.sessions, Record: r.record,
		Certificate: m.leaf, Chain: []*x509.Certificate{m.root}, Next: next,
		Log: slog.New(cmp.Or[slog.Handler](how.log, slog.NewJSONHandler(r.journal, nil))), Clock: r.now,
	})
	must(t, err)
	r.serve()
	return r
}

func (r *rig) serve() {
	r.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	must(r.t, err)
	r.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Serve(ctx, listener) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		r.record.letGo()
		err := <-ended
		r.key.close()
		if r.nextKey != nil {
			r.nextKey.close()
		}
		r.record.close()
		return err
	})
	r.t.Cleanup(func() {
		if err := r.stop(); err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// now is the server's clock.
func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.ahead)
}

func (r *rig) advance(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead += by
}

func newAuthority(t testing.TB) (*ca.Authority, tls.Certificate) {
	t.Helper()
	a, err := ca.New("Test TLS CA", ca.ECDSA, lasting(60))
	must(t, err)
	folder := t.TempDir()
	certificate, key := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key")
	must(t, a.Save(certificate, key))
	pair, err := ca.LoadPair(certificate, key)
	must(t, err)
	return a, pair
}

func pairOf(key crypto.Signer, chain ...*x509.Certificate) tls.Certificate {
	pair := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// client returns a client certificate as the authority issues them.
func (r *rig) client(name string) tls.Certificate {
	r.t.Helper()
	pair, err := r.authority.Client(name, lasting(30))
	must(r.t, err)
	return pairOf(pair.Key, pair.Certificate)
}

// odd returns a client certificate changed from a good one.
func odd(t *testing.T, issuer tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	uri, err := url.Parse(erp)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: lasting(1).NotBefore, NotAfter: lasting(30).NotAfter,
		URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	change(template)
	authority, err := ca.New("unused", ca.ECDSA, lasting(2)) // for a fresh key
	must(t, err)
	fresh, err := authority.Client("unused", lasting(1))
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, fresh.Key.Public(), issuer.PrivateKey)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return pairOf(fresh.Key, leaf)
}

// clientTLS is how a client connects; without certificates it shows none.
func (r *rig) clientTLS(own ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(r.authority.Certificate())
	return &tls.Config{RootCAs: roots, Certificates: own, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

func (r *rig) connect(own ...tls.Certificate) *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(credentials.NewTLS(r.clientTLS(own...))), grpc.WithDisableServiceConfig())
	must(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// as returns a client of that name.
func (r *rig) as(name string) roamsignv1.SignerServiceClient {
	r.t.Helper()
	return roamsignv1.NewSignerServiceClient(r.connect(r.client(name)))
}

func (r *rig) fingerprint() []byte {
	sum := sha256.Sum256(r.material.leaf.Raw)
	return sum[:]
}

// request is one that is granted to erp.
func (r *rig) request() *roamsignv1.SignDigestRequest {
	return &roamsignv1.SignDigestRequest{
		Tin: ownTIN, DocumentDigest: digestOf(1), CertificateSha256: r.fingerprint(), RequestId: "request-1",
	}
}

func digestOf(first byte) []byte {
	digest := sha256.Sum256([]byte{first})
	digest[0] = first
	return digest[:]
}

// verifies tells whether a signature is the key's over the digest.
func (r *rig) verifies(digest, signature []byte) bool {
	return rsa.VerifyPKCS1v15(&r.material.key.PublicKey, crypto.SHA256, digest, signature) == nil
}

// journal is the log, as lines that a test can wait for.
type journal struct {
	mu      sync.Mutex
	lines   []map[string]any
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at each line
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		return 0, err
	}
	j.lines = append(j.lines, fields)
	j.text.Write(line)
	close(j.changed)
	j.changed = make(chan struct{})
	return len(line), nil
}

// await returns the first line that matches, waiting for it if need be.
func (j *journal) await(t *testing.T, matches func(line map[string]any) bool) map[string]any {
	t.Helper()
	seen := 0
	for {
		j.mu.Lock()
		fresh, changed := j.lines[seen:], j.changed
		j.mu.Unlock()
		for _, line := range fresh {
			if matches(line) {
				return line
			}
		}
		seen += len(fresh)
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("no such line in the log:\n%s", j.all())
		}
	}
}

func (j *journal) all() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// requests are the lines of requests by that ID.
func (j *journal) requests(id string) []map[string]any {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []map[string]any
	for _, line := range j.lines {
		if line["msg"] == "request" && line["request_id"] == id {
			lines = append(lines, line)
		}
	}
	return lines
}

// tells says whether an error in the log, a batch's items included, has that
// text in it.
func (j *journal) tells(text string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		errors := []any{line["error"]}
		for _, value := range line {
			if group, ok := value.(map[string]any); ok {
				errors = append(errors, group["first"])
			}
		}
		for _, each := range errors {
			if s, ok := each.(string); ok && strings.Contains(s, text) {
				return true
			}
		}
	}
	return false
}
