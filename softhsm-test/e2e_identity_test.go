package softhsmtest_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// The callers, as their certificates and the policy name them.
const (
	erpCaller  = "spiffe://example.com/erp"
	tillCaller = "till.example.com"
	lostCaller = "spiffe://example.com/lost"
	foreign    = "C20880050020" // a taxpayer, but none of erp's

	callerRules = `
taxpayers:
  - tin: C20880050010
  - tin: C20880050020
callers:
  - name: spiffe://example.com/erp
    taxpayers: [C20880050010]
    methods: [SignDigest, GetCertificate]
  - name: till.example.com
    taxpayers: [C20880050010]
    methods: [SignDigest]
    limits: {daily: 1}
  - name: spiffe://example.com/lost
    taxpayers: [C20880050010]
    methods: [SignDigest]
`
)

// gate is a roamsignd whose token's module counts the calls, and whose callers
// have certificates that "roamsignd client add" made.
type gate struct {
	*daemon
	t           *testing.T
	shim        *softhsmtest.Shim
	fingerprint [32]byte
}

func newGate(t *testing.T) *gate {
	t.Helper()
	dir := copied(t)
	write(t, filepath.Join(dir, "policy.yaml"), []byte(callerRules))
	shim := softhsmtest.NewShim(t, &softhsmtest.Token{Config: hsm.Config{Module: softhsmtest.Library(t)}})
	g := &gate{t: t, shim: shim, daemon: serve(t, dir, "--listen", "127.0.0.1:0", "--module", shim.Token.Config.Module)}
	chain, err := ca.LoadCertificates(g.file("signing.pem"))
	check(t, err)
	g.fingerprint = sha256.Sum256(chain[0].Raw)
	return g
}

// roamsignd runs another roamsignd to its end.
func (g *gate) roamsignd(args ...string) result {
	g.t.Helper()
	got := ran(g.t, exec.CommandContext(g.t.Context(), filepath.Join(scratch, "roamsignd"), append(args, "--config", g.file("roamsignd.yaml"))...))
	if got.code != 0 || got.errs != "" {
		g.t.Fatalf("roamsignd %s: got %+v", strings.Join(args, " "), got)
	}
	return got
}

// add has a client certificate made.
func (g *gate) add(name string) tls.Certificate {
	g.t.Helper()
	folder := filepath.Join(g.t.TempDir(), "client")
	g.roamsignd("client", "add", name, "--out", folder)
	own, err := ca.LoadPair(filepath.Join(folder, "client.pem"), filepath.Join(folder, "client.key"))
	check(g.t, err)
	return own
}

// connect returns a client that tries to connect once only, so that what it
// leaves in the log can be counted. It shows its certificate even to a server that
// asks for none of its authority.
func (g *gate) connect(own ...tls.Certificate) roamsignv1.SignerServiceClient {
	g.t.Helper()
	how := g.tls(g.t)
	how.Certificates = nil
	how.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(own) == 0 {
			return &tls.Certificate{}, nil
		}
		return &own[0], nil
	}
	conn, err := grpc.NewClient(g.address, grpc.WithTransportCredentials(credentials.NewTLS(how)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Hour, Multiplier: 1, MaxDelay: time.Hour}, MinConnectTimeout: patience}))
	check(g.t, err)
	g.t.Cleanup(func() { _ = conn.Close() })
	return roamsignv1.NewSignerServiceClient(conn)
}

// ask asks for a signature and returns what is said of it.
func (g *gate) ask(client roamsignv1.SignerServiceClient, tin, id string) (codes.Code, string) {
	g.t.Helper()
	digest := make([]byte, 32)
	_, _ = rand.Read(digest) // never fails
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	_, err := client.SignDigest(ctx, &roamsignv1.SignDigestRequest{
		Tin: tin, DocumentDigest: digest, CertificateSha256: g.fingerprint[:], RequestId: id,
	})
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return status.Code(err), info.GetReason()
		}
	}
	return status.Code(err), ""
}

// lines counts those of the log that have all these parts in them.
func (g *gate) lines(parts ...string) (n int) {
	for line := range strings.Lines(g.errs.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			n++
		}
	}
	return n
}

// says waits for the one line that has these parts.
func (g *gate) says(parts ...string) {
	g.t.Helper()
	g.await(g.t, "write a line with "+strings.Join(parts, ", "), func() bool { return g.lines(parts...) > 0 })
	if n := g.lines(parts...); n != 1 {
		g.t.Errorf("the log has %d lines with %q, want one:\n%s", n, parts, g.errs)
	}
}

func TestCallersWithoutARightAreRefusedAndNothingIsSigned(t *testing.T) {
	g := newGate(t)
	erp, till, lost := g.add(erpCaller), g.add(tillCaller), g.add(lostCaller)
	now := time.Now()
	validity := ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	stranger, err := ca.New("another authority", ca.ECDSA, validity)
	check(t, err)
	namesake, err := stranger.Client(erpCaller, validity)
	check(t, err)
	authority, err := ca.Load(g.file("clients/ca.pem"), g.file("clients/ca.key"))
	check(t, err)
	begun := authority.Certificate().NotBefore
	past, err := authority.Client(erpCaller, ca.Validity{NotBefore: begun, NotAfter: begun.Add(time.Minute)}) // an hour ago
	check(t, err)
	presented := func(p *ca.Pair) tls.Certificate {
		return tls.Certificate{Certificate: [][]byte{p.Certificate.Raw}, PrivateKey: p.Key, Leaf: p.Certificate}
	}

	erpClient, tillClient, lostClient := g.connect(erp), g.connect(till), g.connect(lost)
	for name, client := range map[string]roamsignv1.SignerServiceClient{"erp-1": erpClient, "till-1": tillClient, "lost-1": lostClient} {
		if code, reason := g.ask(client, own, name); code != codes.OK {
			t.Fatalf("%s, which is granted: got %v %s", name, code, reason)
		}
	}
	signed := g.shim.Calls("C_Sign")

	expect := func(who string, client roamsignv1.SignerServiceClient, tin string, want codes.Code, reason string) {
		t.Helper()
		if code, got := g.ask(client, tin, who); code != want || got != reason {
			t.Errorf("%s: got %v %q, want %v %q", who, code, got, want, reason)
		}
	}
	expect("no-certificate", g.connect(), own, codes.Unavailable, "")
	g.says(`msg="connection refused"`, "didn't provide a certificate")
	expect("another-authority", g.connect(presented(namesake)), own, codes.Unavailable, "")
	g.says(`msg="connection refused"`, "unknown authority")
	expect("expired", g.connect(presented(past)), own, codes.Unavailable, "")
	g.says(`msg="connection refused"`, "expired")
	expect("foreign-taxpayer", erpClient, foreign, codes.PermissionDenied, "NOT_ALLOWED")
	g.says("request_id=foreign-taxpayer", "caller="+erpCaller, "outcome=NOT_ALLOWED", "no grant for taxpayer", foreign)
	expect("over-quota", tillClient, own, codes.ResourceExhausted, "QUOTA_EXCEEDED")
	g.says("request_id=over-quota", "caller="+tillCaller, "outcome=QUOTA_EXCEEDED")

	// lost is connected when its certificate is revoked.
	serial := "serial " + ca.FormatSerial(lost.Leaf.SerialNumber)
	g.roamsignd("client", "revoke", lostCaller)
	g.says(`msg="connection cut"`, "is revoked", serial)
	expect("revoked-while-connected", lostClient, own, codes.Unavailable, "")
	g.says(`msg="connection refused"`, "is revoked", serial)
	late := g.add("spiffe://example.com/late")
	g.roamsignd("client", "revoke", ca.FormatSerial(late.Leaf.SerialNumber))
	g.await(t, "read the list again", func() bool { return g.lines(`msg="in force"`, "what=tls") == 2 })
	expect("revoked", g.connect(late), own, codes.Unavailable, "")
	g.says(`msg="connection refused"`, "is revoked", "serial "+ca.FormatSerial(late.Leaf.SerialNumber))

	if now := g.shim.Calls("C_Sign"); now != signed {
		t.Errorf("the token was asked to sign %d times by those without a right", now-signed)
	}
	if code, reason := g.ask(erpClient, own, "erp-2"); code != codes.OK {
		t.Errorf("who was granted, after all those, over the same connection: got %v %s", code, reason)
	}
	if g.shim.Calls("C_Sign") == signed {
		t.Error("a signature was made and not counted, so the count proves nothing")
	}
	g.stop(t)
}

func TestFilesChangeUnderLoadWithoutOneFailedRequest(t *testing.T) {
	const swaps = 24
	g := newGate(t)
	register, err := ca.OpenRegister(g.file("clients"))
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	outcomes := make(chan error)
	const callers = 4
	signed := make(chan struct{}, 1) // that something is signed all the time
	for i := range callers {
		client := g.connect(g.add(erpCaller))
		go func() {
			var failed error
			for n := 0; ctx.Err() == nil && failed == nil; n++ {
				if code, reason := g.ask(client, own, fmt.Sprintf("load-%d-%d", i, n)); code != codes.OK {
					failed = fmt.Errorf("request %d of caller %d: %v %s", n, i, code, reason)
				}
				select {
				case signed <- struct{}{}:
				default:
				}
			}
			outcomes <- failed
		}()
	}
	pool := g.tls(t)
	for i := range swaps {
		<-signed
		server, err := register.Server([]string{"localhost", "127.0.0.1"}, register.Within(ca.Validity{NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour)}))
		check(t, err)
		aside := t.TempDir()
		check(t, server.Save(filepath.Join(aside, "server.pem"), filepath.Join(aside, "server.key")))
		for _, name := range []string{"server.key", "server.pem"} {
			replaceFile(t, g.file(name), read(t, filepath.Join(aside, name)))
		}
		replaceFile(t, g.file("policy.yaml"), fmt.Appendf(nil, "# change %d\n%s", i, callerRules))
		before := g.lines("what=tls")
		if i%8 != 7 { // every eighth is noticed without being told of
			g.signal(t, hangup)
		}
		g.await(t, "take the files over", func() bool { return g.lines("what=tls") > before && g.shows(pool, server) })
	}
	cancel()
	for range callers {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if n := g.lines("not taken over"); n != 0 {
		t.Logf("%d times the files were found half changed:\n%s", n, g.errs)
	}
	g.stop(t)
}

// shows reports whether new connections are shown that certificate.
func (g *gate) shows(how *tls.Config, server *ca.Pair) bool {
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: how}).DialContext(ctx, "tcp", g.address)
	if err != nil {
		return false
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Equal(server.Certificate)
}

func TestAFaultyPolicyLeavesTheOldOneInForce(t *testing.T) {
	g := newGate(t)
	erp := g.connect(g.add(erpCaller))
	replaceFile(t, g.file("policy.yaml"), []byte("callers: everybody\n"))
	g.says("level=WARN", "not taken over", "what=policy", "policy.yaml")
	if code, reason := g.ask(erp, own, "under-the-old-one"); code != codes.OK {
		t.Errorf("under the old policy: got %v %s", code, reason)
	}
	replaceFile(t, g.file("policy.yaml"), []byte(strings.ReplaceAll(callerRules, erpCaller, "spiffe://example.com/other")))
	g.says("level=INFO", "in force", "what=policy")
	if code, reason := g.ask(erp, own, "under-the-new-one"); code != codes.PermissionDenied || reason != "NOT_ALLOWED" {
		t.Errorf("under the new policy: got %v %s, want NOT_ALLOWED", code, reason)
	}
	g.stop(t)
}

// hangup has the service read its files at once.
const hangup = syscall.SIGHUP

// replaceFile replaces a file in one step, as careful tools do.
func replaceFile(t *testing.T, path string, content []byte) {
	t.Helper()
	check(t, os.WriteFile(path+".new", content, 0o600))
	check(t, os.Rename(path+".new", path))
}
