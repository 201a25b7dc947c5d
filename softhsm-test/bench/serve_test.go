package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/signer"
)

// orders tell a process that serves what to be. They come as one line of JSON on
// its standard input, with whose end it ends.
type orders struct {
	Role     string        // one of roles
	Dir      string        // dev mode's folder: TLS, policy, token
	Module   string        // of the token
	Sessions int           // of the token, or stand-in
	Delay    time.Duration // of the stand-in's signatures
	Forget   bool          // put nothing on record
	Rules    string        // the policy, if not dev mode's
	Profile  string        // where to write a CPU profile, if anywhere
}

// servant is the variable that makes this program serve, not test.
const servant = "ROAMSIGN_BENCH_SERVES"

// role gets ready to serve. What it returns serves until the context ends.
type role func(orders) (func(context.Context, net.Listener) error, error)

// roles are what serves beside roamsignd itself: a bare gRPC server in front of the
// token, or in front of a table of signatures; and package signer in front of
// either.
var roles = map[string]role{
	"bare":    overToken,
	"table":   overTable,
	"standin": overStandIn,
	"signer":  overSigner,
}

func TestMain(m *testing.M) {
	if os.Getenv(servant) == "" {
		m.Run()
		return
	}
	if err := obey(os.Stdin, os.Stdout); err != nil {
		panic(err)
	}
}

// obey serves as the input says, and tells the address.
func obey(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var o orders
	if err := json.Unmarshal(line, &o); err != nil {
		return err
	}
	prepare, known := roles[o.Role]
	if !known {
		return fmt.Errorf("no role %q", o.Role)
	}
	serve, err := prepare(o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		cancel()
	}()
	fmt.Fprintln(out, listener.Addr())
	return profiled(o.Profile, func() error { return serve(ctx, listener) })
}

// profiled writes a CPU profile of what it does, if there is somewhere to.
func profiled(path string, do func() error) error {
	if path == "" {
		return do()
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	err = do()
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}

// bare signs whatever it is asked to, for whoever has a client certificate.
type bare struct {
	roamsignv1.UnimplementedSignerServiceServer
	sign func(digest []byte) ([]byte, error)
}

func (b *bare) SignDigest(_ context.Context, in *roamsignv1.SignDigestRequest) (*roamsignv1.SignDigestResponse, error) {
	signature, err := b.sign(in.GetDocumentDigest())
	if err != nil {
		return nil, err
	}
	return &roamsignv1.SignDigestResponse{Signature: signature}, nil
}

func (b *bare) SignDigests(_ context.Context, in *roamsignv1.SignDigestsRequest) (*roamsignv1.SignDigestsResponse, error) {
	out := &roamsignv1.SignDigestsResponse{}
	for _, item := range in.GetItems() {
		signature, err := b.sign(item.GetDocumentDigest())
		if err != nil {
			return nil, err
		}
		out.Results = append(out.Results, &roamsignv1.SignDigestsResult{Outcome: &roamsignv1.SignDigestsResult_Signature{Signature: signature}})
	}
	return out, nil
}

// over is a gRPC server with mutual TLS, all else as it comes.
func (b *bare) over(o orders) (func(context.Context, net.Listener) error, error) {
	pair, err := ca.LoadPair(filepath.Join(o.Dir, "server.pem"), filepath.Join(o.Dir, "server.key"))
	if err != nil {
		return nil, err
	}
	clients, err := ca.LoadPool(filepath.Join(o.Dir, "clients", "ca.pem"))
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	})))
	roamsignv1.RegisterSignerServiceServer(server, b)
	return func(ctx context.Context, listener net.Listener) error {
		defer context.AfterFunc(ctx, server.Stop)()
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	}, nil
}

func overToken(o orders) (func(context.Context, net.Listener) error, error) {
	sign, err := openBare(o)
	if err != nil {
		return nil, err
	}
	return (&bare{sign: sign}).over(o)
}

// openBare opens the token's sessions, and lends each to one signature at a time.
func openBare(o orders) (func([]byte) ([]byte, error), error) {
	pin, err := os.ReadFile(filepath.Join(o.Dir, "pin"))
	if err != nil {
		return nil, err
	}
	p11 := pkcs11.New(o.Module)
	if p11 == nil {
		return nil, errors.New("no module")
	}
	if err := p11.Initialize(); err != nil {
		return nil, err
	}
	slots, err := p11.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	free := make(chan pkcs11.SessionHandle, o.Sessions)
	var session pkcs11.SessionHandle
	for range o.Sessions {
		if session, err = p11.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION); err != nil {
			return nil, err
		}
		free <- session
	}
	if err := p11.Login(session, pkcs11.CKU_USER, string(bytes.TrimSpace(pin))); err != nil {
		return nil, err
	}
	if err := p11.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}); err != nil {
		return nil, err
	}
	keys, _, err := p11.FindObjects(session, 1)
	if err != nil || len(keys) != 1 {
		return nil, fmt.Errorf("no private key: %w", err)
	}
	if err := p11.FindObjectsFinal(session); err != nil {
		return nil, err
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}
	return func(digest []byte) ([]byte, error) {
		session := <-free
		defer func() { free <- session }()
		if err := p11.SignInit(session, mechanism, keys[0]); err != nil {
			return nil, err
		}
		return p11.Sign(session, append([]byte(sha256Prefix), digest...))
	}, nil
}

// sha256Prefix is what stands before a SHA-256 digest that is signed (RFC 8017, section 9.2).
const sha256Prefix = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"

// known is how many digests there are that a stand-in can sign.
const known = 256

// digestOf is one of them.
func digestOf(n uint64) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, "digest ", n%known)) }

// standIn is a token that answers with signatures that were made beforehand,
// after a time that does not depend on the machine.
type standIn struct {
	delay      time.Duration
	signatures map[[sha256.Size]byte][]byte
	leaf       *x509.Certificate
}

func newStandIn(delay time.Duration) (*standIn, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	s := &standIn{delay: delay, signatures: map[[sha256.Size]byte][]byte{}}
	if s.leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	for n := range uint64(known) {
		digest := digestOf(n)
		if s.signatures[digest], err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// SignDigest looks the signature up.
func (s *standIn) SignDigest(ctx context.Context, digest [sha256.Size]byte) ([]byte, error) {
	if s.delay > 0 {
		timer := time.NewTimer(s.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if signature, found := s.signatures[digest]; found {
		return signature, nil
	}
	return nil, errors.New("the stand-in does not know this digest")
}

// Suspect is never called with cause.
func (s *standIn) Suspect([sha256.Size]byte) {}

// Ready is always so.
func (s *standIn) Ready() error { return nil }

func overTable(o orders) (func(context.Context, net.Listener) error, error) {
	s, err := newStandIn(o.Delay)
	if err != nil {
		return nil, err
	}
	sign := func(digest []byte) ([]byte, error) {
		return s.SignDigest(context.Background(), [sha256.Size]byte(digest))
	}
	return (&bare{sign: sign}).over(o)
}

func overStandIn(o orders) (func(context.Context, net.Listener) error, error) {
	s, err := newStandIn(o.Delay)
	if err != nil {
		return nil, err
	}
	parts, err := partsOf(o)
	if err != nil {
		return nil, err
	}
	parts.Key, parts.Certificate = s, s.leaf
	server, err := signer.New(parts)
	if err != nil {
		return nil, err
	}
	return server.Serve, nil
}

func overSigner(o orders) (func(context.Context, net.Listener) error, error) {
	parts, err := partsOf(o)
	if err != nil {
		return nil, err
	}
	chain, err := ca.LoadCertificates(filepath.Join(o.Dir, "signing.pem"))
	if err != nil {
		return nil, err
	}
	config, err := tokenOf(o.Dir)
	if err != nil {
		return nil, err
	}
	config.Sessions = o.Sessions
	tokens, err := hsm.OpenGroup(context.Background(), []hsm.Config{config}, chain[0], parts.Log)
	if err != nil {
		return nil, err
	}
	parts.Key, parts.Sessions, parts.Certificate = tokens, tokens.Sessions(), chain[0]
	server, err := signer.New(parts)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, listener net.Listener) error {
		return errors.Join(server.Serve(ctx, listener), tokens.Close(context.WithoutCancel(ctx)))
	}, nil
}

// tokenOf is the token in dev mode's folder.
func tokenOf(dir string) (hsm.Config, error) {
	var file struct {
		Token hsm.Config `yaml:"token"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "roamsignd.yaml"))
	if err != nil {
		return hsm.Config{}, err
	}
	err = yaml.Unmarshal(text, &file)
	file.Token.PINFile = filepath.Join(dir, file.Token.PINFile)
	return file.Token, err
}

// unrecorded forgets what it is told. Nothing but a measurement may have it.
type unrecorded struct{ entries atomic.Uint64 }

// Begin counts.
func (u *unrecorded) Begin(_ audit.Entry, _ time.Duration, done func(uint64, error)) {
	done(u.entries.Add(1)-1, nil)
}

// Ready is always so.
func (u *unrecorded) Ready() error { return nil }

// recordFor is the record that those orders want.
func recordFor(o orders) (signer.Record, error) {
	if o.Forget {
		return &unrecorded{}, nil
	}
	return recordIn(o.Dir)
}

// recordIn makes an audit log of its own, beside dev mode's, for as long as the
// process lives.
func recordIn(dir string) (*audit.Log, error) {
	folder, err := os.MkdirTemp(dir, "log-")
	if err != nil {
		return nil, err
	}
	config := audit.Config{Dir: filepath.Join(folder, "audit"), KeyFiles: []string{filepath.Join(folder, "key")}}
	key, err := audit.NewKey("bench.test/log")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(key.Write(config.KeyFiles[0]), audit.Create(context.Background(), config)); err != nil {
		return nil, err
	}
	return audit.Open(context.Background(), config, slog.New(slog.DiscardHandler))
}

// partsOf are the parts of a server that come from dev mode's folder: all but
// the key and its certificate.
func partsOf(o orders) (signer.Parts, error) {
	files := signer.Config{Listen: "127.0.0.1:0", TLS: signer.TLS{
		Certificate: "server.pem", Key: "server.key", ClientCA: "clients/ca.pem", Revoked: "clients/revoked",
	}}.Under(o.Dir)
	shown, err := files.TLS.Load()
	if err != nil {
		return signer.Parts{}, err
	}
	text := []byte(o.Rules)
	if o.Rules == "" {
		if text, err = os.ReadFile(filepath.Join(o.Dir, "policy.yaml")); err != nil {
			return signer.Parts{}, err
		}
	}
	rules, err := policy.Parse(text)
	if err != nil {
		return signer.Parts{}, err
	}
	record, err := recordFor(o)
	if err != nil {
		return signer.Parts{}, err
	}
	return signer.Parts{
		Record: record,
		Config: files, Credentials: shown, Policy: rules, Sessions: o.Sessions,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, nil
}
