package signer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

func uris(names ...string) (list []*url.URL) {
	for _, name := range names {
		u, err := url.Parse(name)
		if err != nil {
			panic(err)
		}
		list = append(list, u)
	}
	return list
}

// The kinds of name, by their tags (RFC 5280, section 4.2.1.6).
const dnsName, uri = 2, 6

// named has a certificate carry one name, just as it is written.
func named(kind int, name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: kind, Bytes: []byte(name)}})
		if err != nil {
			panic(err)
		}
		c.URIs = nil
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
	}
}

func TestWhoHasNoSingleNameCannotConnect(t *testing.T) {
	r := start(t, setting{})
	_, foreignCA := newAuthority(t)
	hour := time.Now().Add(-time.Hour)
	for _, row := range []struct {
		name string
		own  []tls.Certificate
		why  string // in the log
	}{
		{"no certificate", nil, "didn't provide a certificate"},
		{"of another authority", []tls.Certificate{odd(t, foreignCA, func(*x509.Certificate) {})}, "certificate signed by unknown authority"},
		{"signed by itself", []tls.Certificate{foreignCA}, "certificate"},
		{"expired", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = hour.Add(-time.Hour), hour
		})}, "expired or is not yet valid"},
		{"not yet valid", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })}, "expired or is not yet valid"},
		{"two URIs", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) { c.URIs = uris(erp, "spiffe://example.com/two") })}, "it has 2 URIs"},
		{"two URIs and one DNS name", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) {
			c.URIs, c.DNSNames = uris(erp, "spiffe://example.com/two"), []string{portal}
		})}, "it has 2 URIs"},
		{"two DNS names", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) {
			c.URIs, c.DNSNames = nil, []string{portal, "two.example.com"}
		})}, "it has 2 DNS names"},
		{"a wildcard", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"*.example.com"} })}, "is not a caller's name"},
		{"a DNS name that is a URI", []tls.Certificate{odd(t, r.tlsCA, named(dnsName, erp))}, "is none"},
		{"a URI that is a DNS name", []tls.Certificate{odd(t, r.tlsCA, named(uri, portal))}, "is not absolute"},
		{"a URI in another spelling", []tls.Certificate{odd(t, r.tlsCA, named(uri, "SPIFFE"+strings.TrimPrefix(erp, "spiffe")))}, "not in the form"},
		{"a URI with an empty fragment", []tls.Certificate{odd(t, r.tlsCA, named(uri, erp+"#"))}, "not in the form"},
		{"a DNS name with its last dot", []tls.Certificate{odd(t, r.tlsCA, named(dnsName, portal+"."))}, "certificate"},
		{"no name", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) { c.URIs = nil; c.Subject.CommonName = portal })}, "neither a URI nor a DNS name"},
		{"no extended key usage", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) { c.ExtKeyUsage = nil })}, "not for client authentication"},
		{"any extended key usage", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		})}, "not for client authentication"},
		{"a server's certificate", []tls.Certificate{odd(t, r.tlsCA, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})}, "incompatible key usage"},
	} {
		client := roamsignv1.NewSignerServiceClient(r.connect(row.own...))
		_, err := client.SignDigest(t.Context(), r.request())
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v, want no connection (UNAVAILABLE)", row.name, err)
		}
		r.journal.await(t, func(line map[string]any) bool {
			text, _ := line["error"].(string)
			return line["msg"] == "connection refused" && strings.Contains(text, row.why)
		})
	}
	if n := r.key.used(); n != 0 {
		t.Errorf("the key was used %d times, want never", n)
	}
}

func TestNamesByWhichCallersAreKnown(t *testing.T) {
	r := start(t, setting{})
	for _, row := range []struct {
		name   string
		change func(*x509.Certificate)
		caller string
	}{
		{"one URI", func(*x509.Certificate) {}, erp},
		{"one URI beside DNS names", func(c *x509.Certificate) { c.DNSNames = []string{portal, "two.example.com"} }, erp},
		{"one DNS name", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{portal} }, portal},
		{"one DNS name in capitals", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"Portal.Example.COM"} }, portal},
		{"one URI with an escaped letter", named(uri, "spiffe://example.com/%65rp"), "spiffe://example.com/%65rp"},
		{"client and server", func(c *x509.Certificate) {
			c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}, erp},
	} {
		client := roamsignv1.NewSignerServiceClient(r.connect(odd(t, r.tlsCA, row.change)))
		in := r.request()
		in.RequestId = row.name
		_, _ = client.SignDigest(t.Context(), in)
		if lines := r.journal.requests(row.name); len(lines) != 1 || lines[0]["caller"] != row.caller {
			t.Errorf("%s: got %v in the log, want caller %s", row.name, lines, row.caller)
		}
	}
}

func TestACertificateThatExpiresEndsAConnectionsRights(t *testing.T) {
	r := start(t, setting{})
	pair, err := r.authority.Client(erp, lasting(1))
	must(t, err)
	client := roamsignv1.NewSignerServiceClient(r.connect(pairOf(pair.Key, pair.Certificate)))
	if _, err := client.SignDigest(t.Context(), r.request()); err != nil {
		t.Fatalf("before: %v", err)
	}
	r.advance(48 * time.Hour)
	_, err = client.SignDigest(t.Context(), r.request())
	checkRefused(t, "after", err, codes.PermissionDenied, "NOT_ALLOWED")
	if n := r.key.used(); n != 1 {
		t.Errorf("the key was used %d times, want once", n)
	}
}

// handshake connects as far as TLS 1.3 lets a client see: its certificate is
// judged only after its own handshake is done.
func handshakeWith(ctx context.Context, address string, config *tls.Config) (tls.ConnectionState, error) {
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, errors.New("not TLS")
	}
	// The server's first bytes: HTTP/2 settings, or an alert. Session tickets
	// would come before them.
	if _, err := secured.Read(make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, err
	}
	return secured.ConnectionState(), nil
}

func TestOnlyTLS13(t *testing.T) {
	r := start(t, setting{})
	config := r.clientTLS(r.client(erp))
	config.NextProtos = []string{"h2"}
	state, err := handshakeWith(t.Context(), r.address, config)
	if err != nil || state.Version != tls.VersionTLS13 {
		t.Errorf("a free choice: got version %x, %v, want TLS 1.3", state.Version, err)
	}
	config.MaxVersion = tls.VersionTLS12
	if _, err := handshakeWith(t.Context(), r.address, config); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: got %v, want that the version is refused", err)
	}
}

func TestSessionsAreNotResumed(t *testing.T) {
	r := start(t, setting{})
	config := r.clientTLS(r.client(erp))
	config.NextProtos = []string{"h2"}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for range 3 {
		state, err := handshakeWith(t.Context(), r.address, config)
		if err != nil || state.DidResume {
			t.Fatalf("got %v, resumed %v, want a full handshake", err, state.DidResume)
		}
	}
}

func TestNobodyIsIdentifiedWithoutAVerifiedCertificate(t *testing.T) {
	a, err := ca.New("CA", ca.ECDSA, lasting(2))
	must(t, err)
	pair, err := a.Client(erp, lasting(1))
	must(t, err)
	unverified := tls.ConnectionState{PeerCertificates: []*x509.Certificate{pair.Certificate}}
	for name, state := range map[string]tls.ConnectionState{"zero": {}, "unverified": unverified} {
		if caller, err := identify(state, &Credentials{}, time.Now()); err == nil || caller != "" {
			t.Errorf("%s state: got %q, %v, want nobody", name, caller, err)
		}
	}
	if caller, err := start(t, setting{}).server.identifyPeer(t.Context()); err == nil || caller != "" {
		t.Errorf("no peer: got %q, %v, want nobody", caller, err)
	}
}
