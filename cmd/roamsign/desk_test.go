package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/signer"
)

// desk is a signer that runs, and the files that its clients need.
type desk struct {
	files    []string
	folder   string
	validity ca.Validity
	tls      *ca.Authority
}

const deskRules = `
taxpayers:
  - tin: C20880050010
    rights: [submit, cancel]
  - tin: C31450097020
callers:
  - name: erp.test
    taxpayers: all
    methods: [ListTaxpayers, SignDigest, SignDigests, SignDocument, GetCertificate, GetReceipt, ListSignatures, FindSignature]
  - name: shop.test
    taxpayers: [C31450097020]
    methods: [SignDigest, GetCertificate, GetReceipt, ListSignatures, FindSignature]
  - name: auditor.test
    taxpayers: []
    methods: [GetReceipt, ListSignatures, FindSignature]
    auditor: true
`

// memoryKey is a key in memory: the program under test sees no difference.
type memoryKey struct{ key *rsa.PrivateKey }

func (k memoryKey) SignDigest(_ context.Context, digest [32]byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, k.key, crypto.SHA256, digest[:])
}

func (k memoryKey) Ready() error { return nil }

// Suspect is never called: this key makes no wrong signature.
func (k memoryKey) Suspect([32]byte) { panic("a signature of the key in memory did not verify") }

// openDesk starts the signer, until the test ends, and writes the files.
func openDesk(t *testing.T) *desk {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	d := &desk{folder: t.TempDir(), validity: ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}}
	address, err := d.start(t)
	if err == nil {
		err = errors.Join(
			d.client("client", "erp.test", address),
			d.client("stranger", "stranger.test", address),
			d.client("shop", "shop.test", address),
			d.client("auditor", "auditor.test", address),
			d.client("dead", "erp.test", "127.0.0.1:1"),
		)
	}
	if err != nil {
		t.Fatalf("opening the desk: %v", err)
	}
	return d
}

func (d *desk) path(name string) string { return filepath.Join(d.folder, name) }

// hand adds files to those that scripts find.
func (d *desk) hand(names ...string) {
	for _, name := range names {
		d.files = append(d.files, d.path(name))
	}
}

// client writes a client's certificate, key and configuration.
func (d *desk) client(name, caller, server string) error {
	pair, err := d.tls.Client(caller, d.validity)
	if err != nil {
		return err
	}
	if err := pair.Save(d.path(name+".pem"), d.path(name+".key")); err != nil {
		return err
	}
	d.hand(name+".pem", name+".key", name+".yaml")
	return os.WriteFile(d.path(name+".yaml"), fmt.Appendf(nil,
		"servers: [%s]\nca: ca.pem\ncertificate: %s.pem\nkey: %s.key\ntin: C20880050010\n", server, name, name), 0o600)
}

func (d *desk) start(t *testing.T) (address string, err error) {
	t.Helper()
	if d.tls, err = ca.New("Test TLS", ca.ECDSA, d.validity); err != nil {
		return "", err
	}
	parts := signer.Parts{
		Config: signer.Config{
			Listen: "127.0.0.1:0",
			TLS:    signer.TLS{Certificate: d.path("server.pem"), Key: d.path("server.key"), ClientCA: d.path("ca.pem")},
		},
		Sessions: 2,
		Log:      slog.New(slog.DiscardHandler),
	}
	pair, err := d.tls.Server([]string{"127.0.0.1"}, d.validity)
	if err != nil {
		return "", err
	}
	if err := errors.Join(pair.Save(d.path("server.pem"), d.path("server.key")), ca.WriteCertificates(d.path("ca.pem"), d.tls.Certificate())); err != nil {
		return "", err
	}
	d.hand("ca.pem")
	if parts.Credentials, err = parts.Config.TLS.Load(); err != nil {
		return "", err
	}
	if parts.Policy, err = policy.Parse([]byte(deskRules)); err != nil {
		return "", err
	}
	if err := errors.Join(d.sign(&parts), d.record(t, &parts)); err != nil {
		return "", err
	}
	server, err := signer.New(parts)
	if err != nil {
		return "", err
	}
	return serve(t, server)
}

// record makes the log, until the test ends, and writes its verifier key.
func (d *desk) record(t *testing.T, parts *signer.Parts) error {
	t.Helper()
	config := audit.Config{Dir: d.path("log"), KeyFiles: []string{d.path("log.key")}}
	key, err := audit.NewKey("desk.test/log")
	if err != nil {
		return err
	}
	d.hand("log.pub")
	if err := errors.Join(key.Write(d.path("log.key")), os.WriteFile(d.path("log.pub"), []byte(key.Verifier()+"\n"), 0o600)); err != nil {
		return err
	}
	if err := audit.Create(t.Context(), config); err != nil {
		return err
	}
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := log.Close(context.Background()); err != nil {
			t.Errorf("closing the log: %v", err)
		}
	})
	index, err := audit.OpenIndex(t.Context(), d.path("index"), log.Source(), log.Size)
	parts.Record, parts.Receipts, parts.Index = log, log, index
	return err
}

// sign makes the signing key and its certificate.
func (d *desk) sign(parts *signer.Parts) error {
	authority, err := ca.New("Test Signing", ca.RSA, d.validity)
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	parts.Key = memoryKey{key}
	parts.Certificate, err = authority.Signing(ca.Organization{
		Country: "MY", Name: "Perantara Ujian Sdn. Bhd.", TIN: "C10000000010", CommonName: "Perantara Ujian", BRN: "202001000001",
	}, &key.PublicKey, d.validity)
	if err != nil {
		return err
	}
	d.hand("roots.pem")
	return ca.WriteCertificates(d.path("roots.pem"), authority.Certificate())
}

// serve runs the server until the test ends.
func serve(t *testing.T, server *signer.Server) (address string, err error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return listener.Addr().String(), nil
}
