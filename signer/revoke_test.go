package signer

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// amend changes the credentials in force.
func (r *rig) amend(change func(*Credentials)) {
	r.t.Helper()
	next := *r.server.credentials.Load()
	change(&next)
	must(r.t, r.server.SetCredentials(next))
}

// speaking is the TLS of a client that speaks HTTP/2.
func speaking(config *tls.Config) *tls.Config {
	config.NextProtos = []string{"h2"}
	return config
}

// serials is a list that revokes a certificate.
func serials(t testing.TB, own tls.Certificate) *ca.Serials {
	t.Helper()
	list, err := ca.ParseSerials([]byte(ca.FormatSerial(own.Leaf.SerialNumber)))
	must(t, err)
	return list
}

// crls is a list of the rig's authority that revokes a certificate.
func (r *rig) crls(own tls.Certificate) *ca.CRLs {
	r.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: own.Leaf.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)}},
	}, r.tlsCA.Leaf, r.tlsCA.PrivateKey.(crypto.Signer))
	must(r.t, err)
	lists, err := ca.ParseCRLs(der, []*x509.Certificate{r.tlsCA.Leaf})
	must(r.t, err)
	return lists
}

// ways are how a client's rights end while it is connected.
var ways = []struct {
	name string
	end  func(r *rig, own tls.Certificate) func(*Credentials)
	why  string // in the log
}{
	{"its serial number is listed", func(r *rig, own tls.Certificate) func(*Credentials) {
		return func(c *Credentials) { c.Revoked = serials(r.t, own) }
	}, "is revoked"},
	{"its authority lists it", func(r *rig, own tls.Certificate) func(*Credentials) {
		return func(c *Credentials) { c.CRLs = r.crls(own) }
	}, "is revoked"},
	{"its authority itself is listed", func(r *rig, _ tls.Certificate) func(*Credentials) {
		return func(c *Credentials) { c.Revoked = serials(r.t, r.tlsCA) }
	}, "is revoked"},
	{"its authority is trusted no more", func(r *rig, _ tls.Certificate) func(*Credentials) {
		return func(c *Credentials) {
			other, _ := newAuthority(r.t)
			c.ClientCAs = ca.PoolOf([]*x509.Certificate{other.Certificate()})
		}
	}, "unknown authority"},
}

func TestARevocationCutsConnectionsAndRefusesNewOnes(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			r := start(t, setting{})
			own := r.client(erp)
			conn := r.connect(own)
			client := roamsignv1.NewSignerServiceClient(conn)
			gate := make(chan struct{})
			defer close(gate)
			r.key.behave(gated(gate))
			ended := make(chan error, 1)
			go func() {
				_, err := client.SignDigest(t.Context(), r.request())
				ended <- err
			}()
			<-r.key.entered

			r.amend(way.end(r, own))
			if err := <-ended; status.Code(err) != codes.Unavailable {
				t.Errorf("what was in flight: got %v, want that the connection is gone (UNAVAILABLE)", err)
			}
			line := r.journal.await(t, func(line map[string]any) bool { return line["msg"] == "connection cut" })
			if text, _ := line["error"].(string); !strings.Contains(text, way.why) {
				t.Errorf("the log says %q, want %q in it", text, way.why)
			}
			if _, err := client.SignDigest(t.Context(), r.request()); status.Code(err) != codes.Unavailable {
				t.Errorf("afterwards: got %v, want no connection (UNAVAILABLE)", err)
			}
			r.journal.await(t, func(line map[string]any) bool {
				text, _ := line["error"].(string)
				return line["msg"] == "connection refused" && strings.Contains(text, way.why)
			})
			if n := r.key.used(); n != 1 {
				t.Errorf("the key was used %d times, want once, before", n)
			}
		})
	}
}

func TestARevocationConcernsNobodyElse(t *testing.T) {
	r := start(t, setting{})
	revoked, other := r.client(erp), r.client(erp)
	client := roamsignv1.NewSignerServiceClient(r.connect(other))
	watch, err := healthv1.NewHealthClient(r.connect(other)).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	_, err = watch.Recv()
	must(t, err)
	r.amend(func(c *Credentials) { c.Revoked, c.CRLs = serials(t, revoked), r.crls(revoked) })
	for range 2 {
		if _, err := client.SignDigest(t.Context(), r.request()); err != nil {
			t.Errorf("another certificate of the same caller: %v", err)
		}
	}
	r.key.goDown(fmt.Errorf("away"))
	if told, err := watch.Recv(); err != nil || told.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("a watch that was open: got %v, %v, want that it goes on", told, err)
	}
	if strings.Contains(r.journal.all(), "connection cut") {
		t.Errorf("a connection was cut:\n%s", r.journal.all())
	}
}

// TestEveryCallIsJudgedByTheRevocationsOfNow takes the cutting of connections
// out of the way.
func TestEveryCallIsJudgedByTheRevocationsOfNow(t *testing.T) {
	r := start(t, setting{})
	own := r.client(erp)
	client := roamsignv1.NewSignerServiceClient(r.connect(own))
	if _, err := client.SignDigest(t.Context(), r.request()); err != nil {
		t.Fatalf("before: %v", err)
	}
	next := *r.server.credentials.Load()
	next.Revoked = serials(t, own)
	r.server.credentials.Store(&next)
	_, err := client.SignDigest(t.Context(), r.request())
	checkRefused(t, "after", err, codes.PermissionDenied, "NOT_ALLOWED")
	if !r.journal.tells("is revoked") || r.key.used() != 1 {
		t.Errorf("the key was used %d times, want once, and the log says:\n%s", r.key.used(), r.journal.all())
	}
}

// TestAConnectionMadeWhileItIsRevokedIsCut has the revocation come between the
// handshake and the moment in which the connection is known to be open.
func TestAConnectionMadeWhileItIsRevokedIsCut(t *testing.T) {
	r := start(t, setting{})
	own := r.client(erp)
	state, err := handshakeWith(t.Context(), r.address, speaking(r.clientTLS(own)))
	must(t, err)
	state.PeerCertificates, state.VerifiedChains = []*x509.Certificate{own.Leaf}, [][]*x509.Certificate{{own.Leaf, r.tlsCA.Leaf}}
	r.amend(func(c *Credentials) { c.Revoked = serials(t, own) })
	near, far := net.Pipe()
	defer far.Close()
	must(t, r.server.open.add(&connection{Conn: near, raw: near, state: state, counted: erp}, 10, 10))
	r.server.open.judge(r.server.stillWelcome)
	if _, err := near.Write([]byte{1}); err == nil {
		t.Error("the connection is open, want it cut")
	}
}

func TestCredentialsThatNobodyCouldUseAreRefused(t *testing.T) {
	r := start(t, setting{})
	if err := r.server.SetCredentials(Credentials{}); err == nil {
		t.Error("no credentials at all: got none, want an error")
	}
	if _, err := r.as(erp).SignDigest(t.Context(), r.request()); err != nil {
		t.Errorf("afterwards: %v, want that the old ones are in force", err)
	}
}

func TestOpenConnectionsAreForgottenOnceClosed(t *testing.T) {
	r := start(t, setting{})
	conn := r.connect(r.client(erp))
	if _, err := roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request()); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		r.server.open.mu.Lock()
		defer r.server.open.mu.Unlock()
		return len(r.server.open.open)
	}
	if n := count(); n != 1 {
		t.Errorf("got %d open connections, want 1", n)
	}
	must(t, conn.Close())
	if err := r.stop(); err != nil { // which waits for connections to end
		t.Error(err)
	}
	if n := count(); n != 0 {
		t.Errorf("got %d open connections after all, want none", n)
	}
}

// TestChangesUnderLoadFailNoRequest swaps the policy and the server's certificate
// under callers that sign all the time, over connections that live on and over
// fresh ones.
func TestChangesUnderLoadFailNoRequest(t *testing.T) {
	const swaps = 30
	r := start(t, setting{})
	ctx, cancel := context.WithCancel(t.Context())
	type count struct {
		signed int
		err    error
	}
	const callers = 6
	outcomes := make(chan count, callers)
	for i := range callers {
		own := r.client(erp)
		go func() {
			client := roamsignv1.NewSignerServiceClient(r.connect(own))
			var done count
			for ctx.Err() == nil && done.err == nil {
				if i%3 == 0 { // a connection of its own for each
					conn := r.connect(own)
					_, done.err = roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request())
					_ = conn.Close()
				} else {
					_, done.err = client.SignDigest(t.Context(), r.request())
				}
				done.signed++
			}
			outcomes <- done
		}()
	}
	seen := map[string]bool{}
	for range swaps {
		allowed, err := policy.Parse([]byte(rules))
		must(t, err)
		r.server.SetPolicy(allowed)
		pair, err := r.authority.Server([]string{"localhost"}, lasting(20))
		must(t, err)
		r.amend(func(c *Credentials) { c.Certificate = pairOf(pair.Key, pair.Certificate) })
		state, err := handshakeWith(t.Context(), r.address, speaking(r.clientTLS(r.client(erp))))
		must(t, err)
		if !state.PeerCertificates[0].Equal(pair.Certificate) {
			t.Error("a new connection is shown an old certificate")
		}
		seen[ca.FormatSerial(state.PeerCertificates[0].SerialNumber)] = true
	}
	cancel()
	for range callers {
		if done := <-outcomes; done.err != nil || done.signed == 0 {
			t.Errorf("a caller: %d requests, then %v; want some, and no failure", done.signed, done.err)
		}
	}
	if len(seen) != swaps {
		t.Errorf("%d certificates were shown, want %d", len(seen), swaps)
	}
}

func TestRequestsInFlightFinishUnderThePolicyTheyBeganWith(t *testing.T) {
	r := start(t, setting{sessions: 1})
	client := r.as(erp)
	gate := make(chan struct{})
	r.key.behave(gated(gate))
	many := &roamsignv1.SignDigestsRequest{}
	for i := range 5 {
		item := r.request()
		item.DocumentDigest, item.RequestId = digestOf(byte(i)), fmt.Sprint("item-", i)
		many.Items = append(many.Items, item)
	}
	type answer struct {
		out *roamsignv1.SignDigestsResponse
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		out, err := client.SignDigests(t.Context(), many)
		answered <- answer{out, err}
	}()
	<-r.key.entered
	r.server.SetPolicy(nil)
	_, err := client.SignDigest(t.Context(), r.request())
	checkRefused(t, "one that begins afterwards", err, codes.PermissionDenied, "NOT_ALLOWED")
	close(gate)
	got := <-answered
	must(t, got.err)
	for i, result := range got.out.GetResults() {
		if !r.verifies(many.GetItems()[i].GetDocumentDigest(), result.GetSignature()) {
			t.Errorf("item %d of what was in flight: got %v, want a signature", i, result)
		}
	}
}

func TestHealthTellsOfFilesThatAreNotInForce(t *testing.T) {
	r := start(t, setting{})
	files, whole := watched(t, r, FilesService), watched(t, r, "")
	if got := whole(); got != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("the whole: got %v", got)
	}
	for _, step := range []struct {
		report error
		want   healthv1.HealthCheckResponse_ServingStatus
	}{
		{nil, healthv1.HealthCheckResponse_SERVING},
		{fmt.Errorf("policy.yaml: line 3"), healthv1.HealthCheckResponse_NOT_SERVING},
		{nil, healthv1.HealthCheckResponse_SERVING},
	} {
		r.server.ReportFiles(step.report)
		if got := files(); got != step.want {
			t.Errorf("reported %v: got %v, want %v", step.report, got, step.want)
		}
	}
	out, err := healthv1.NewHealthClient(r.connect(r.client(stranger))).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || out.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("the whole, at the end: got %v, %v, want SERVING", out, err)
	}
}
