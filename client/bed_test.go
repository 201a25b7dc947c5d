package client

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/signer"
)

// seller is the taxpayer of the invoices in testdata.
const seller = "C20880050010"

// rules let the client under test sign for the seller and one other, and tell
// of a third whose representation has ended.
const rules = `
taxpayers:
  - tin: C20880050010
    brn: "201901045678"
    name: Pustaka Bukit Pelangi Sdn. Bhd.
  - tin: C31450097020
  - tin: C20990060020
    to: 2020-12-31
callers:
  - name: erp.test
    taxpayers: all
    methods: [SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers, GetReceipt, ListSignatures, FindSignature]
`

// authorities are what all tests share, since RSA keys take their time.
type authorities struct {
	tls, signing *ca.Authority
	keys         []*rsa.PrivateKey // of the signing certificates, old and new
	certificates []*x509.Certificate
	roots        *x509.CertPool
}

var shared = sync.OnceValues(func() (*authorities, error) {
	a := &authorities{roots: x509.NewCertPool()}
	now := time.Now().Truncate(time.Second)
	validity := ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	var err error
	if a.tls, err = ca.New("Test TLS", ca.ECDSA, validity); err != nil {
		return nil, err
	}
	if a.signing, err = ca.New("Test Signing", ca.RSA, validity); err != nil {
		return nil, err
	}
	a.roots.AddCert(a.signing.Certificate())
	for range 2 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		certificate, err := a.signing.Signing(ca.Organization{
			Country: "MY", Name: "Perantara Ujian Sdn. Bhd.", TIN: "C10000000010", CommonName: "Perantara Ujian Sdn. Bhd.", BRN: "202001000001",
		}, &key.PublicKey, validity)
		if err != nil {
			return nil, err
		}
		a.keys, a.certificates = append(a.keys, key), append(a.certificates, certificate)
	}
	return a, nil
})

func sharedBy(t *testing.T) *authorities {
	t.Helper()
	a, err := shared()
	if err != nil {
		t.Fatalf("making the authorities: %v", err)
	}
	return a
}

// memoryKey is a key in memory, for signers that are about something else.
type memoryKey struct{ key *rsa.PrivateKey }

func (k memoryKey) SignDigest(_ context.Context, digest [32]byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, k.key, crypto.SHA256, digest[:])
}

func (k memoryKey) Ready() error { return nil }

// Suspect is never called: this key makes no wrong signature.
func (k memoryKey) Suspect([32]byte) { panic("a signature of the key in memory did not verify") }

// listen opens a loopback port.
func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// startSigner runs the real service, with a key in memory, until the test ends.
func startSigner(t *testing.T) string {
	t.Helper()
	a := sharedBy(t)
	permitted, err := policy.Parse([]byte(rules))
	if err != nil {
		t.Fatalf("parsing the policy: %v", err)
	}
	listener := listen(t)
	log, index := recordOn(t)
	server, err := signer.New(signer.Parts{
		Config: signer.Config{
			Listen: listener.Addr().String(),
			TLS:    signer.TLS{Certificate: "-", Key: "-", ClientCA: "-"},
		},
		Credentials: credentialsFor(t, "127.0.0.1"),
		Policy:      permitted,
		Key:         memoryKey{a.keys[0]},
		Sessions:    2,
		Record:      log,
		Receipts:    log,
		Index:       index,
		Certificate: a.certificates[0],
		Chain:       []*x509.Certificate{a.signing.Certificate()},
		Log:         slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatalf("making the signer: %v", err)
	}
	serve(t, func(ctx context.Context) error { return server.Serve(ctx, listener) })
	return listener.Addr().String()
}

// recordOn makes an audit log of its own, until the test ends.
func recordOn(t *testing.T) (*audit.Log, *audit.Index) {
	t.Helper()
	folder := t.TempDir()
	config := audit.Config{Dir: filepath.Join(folder, "log"), KeyFiles: []string{filepath.Join(folder, "key")}}
	key, err := audit.NewKey(rand.Text() + ".test/log")
	if err == nil {
		err = errors.Join(key.Write(config.KeyFiles[0]), audit.Create(t.Context(), config))
	}
	if err != nil {
		t.Fatalf("making the audit log: %v", err)
	}
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("opening the audit log: %v", err)
	}
	t.Cleanup(func() {
		if err := log.Close(context.Background()); err != nil {
			t.Errorf("closing the audit log: %v", err)
		}
	})
	index, err := audit.OpenIndex(t.Context(), filepath.Join(folder, "index"), log.Source(), log.Size)
	if err != nil {
		t.Fatalf("opening the index: %v", err)
	}
	return log, index
}

// serve runs a server until the test ends, and complains if it failed.
func serve(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
}

func credentialsFor(t *testing.T, hosts ...string) signer.Credentials {
	t.Helper()
	a := sharedBy(t)
	folder := t.TempDir()
	pair, err := a.tls.Server(hosts, tlsValidity())
	if err != nil {
		t.Fatal(err)
	}
	files := signer.TLS{
		Certificate: filepath.Join(folder, "server.pem"), Key: filepath.Join(folder, "server.key"), ClientCA: filepath.Join(folder, "ca.pem"),
	}
	if err := pair.Save(files.Certificate, files.Key); err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteCertificates(files.ClientCA, a.tls.Certificate()); err != nil {
		t.Fatal(err)
	}
	loaded, err := files.Load()
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func tlsValidity() ca.Validity {
	return ca.Validity{NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(30 * time.Minute)}
}

// configFor is the configuration of a client named erp.test.
func configFor(t *testing.T, servers ...string) Config {
	t.Helper()
	return configOf(t, "erp.test", servers...)
}

func configOf(t *testing.T, caller string, servers ...string) Config {
	t.Helper()
	a := sharedBy(t)
	folder := t.TempDir()
	pair, err := a.tls.Client(caller, tlsValidity())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Servers: servers,
		CA:      filepath.Join(folder, "ca.pem"), Certificate: filepath.Join(folder, "client.pem"), Key: filepath.Join(folder, "client.key"),
	}
	if err := pair.Save(cfg.Certificate, cfg.Key); err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteCertificates(cfg.CA, a.tls.Certificate()); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// dialled returns a client that is closed when the test ends.
func dialled(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Dial(cfg)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// document reads one of the invoices in testdata.
func document(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
