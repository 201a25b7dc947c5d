package sandbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/strict"
)

func TestEveryFaultOfAConfigurationIsTold(t *testing.T) {
	const text = `
clients:
  - {id: a, secrets: [one, two, three], tin: C20880050010}
  - {id: a, secrets: [""], tin: C99999999990}
taxpayers:
  - {tin: C20880050010, represented: [{by: C20880050090, from: 2026-01-02, to: 2026-01-01, rights: [submit, sign]}]}
  - {tin: C20880050010}
  - {tin: kopi}
token_life: 1ms
validation: -1s
errors: loud
limits: {submit: -1, invoices: 3}
faults: [{on: submit, kind: bite}]
max_documents: -1
`
	var config Config
	document := strict.Decode([]byte(text), &config)
	document.Locate("", config.Validate())
	err := document.Err()
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{
		"clients[0].secrets: must be one or two", "clients[1].id: \"a\" is listed twice", "clients[1].tin",
		"taxpayers[0].represented[0].from: from and to are both needed", "taxpayers[0].represented[0].rights: \"sign\"",
		"taxpayers[1].tin: C20880050010 is listed twice", "taxpayers[2].tin: \"kopi\" is no TIN",
		"token_life: must be at least 1s", "validation: must not be negative", "errors: \"loud\"", "limits: submit must not be negative",
		"limits: \"invoices\" is no endpoint", "faults[0]: \"bite\" is no kind", "max_documents",
	} {
		// Of several faults on one line the first is told.
		if all := err.Error() + "\n" + config.Validate().Error(); !strings.Contains(all, want) {
			t.Errorf("%s is not told:\n%s", want, all)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "nobody could log in") {
		t.Errorf("of no configuration: got %v", err)
	}
	if _, err := New(world(func(c *Config) { c.Roots = nil })); err == nil || !strings.Contains(err.Error(), "roots") {
		t.Errorf("without roots: got %v", err)
	}
}

func TestTokensSayWhatTheyAreNot(t *testing.T) {
	b := lay(t, nil)
	middle := strings.Split(b.agent(), ".")[1]
	body, err := base64.RawURLEncoding.DecodeString(middle)
	if err != nil || !strings.Contains(string(body), `"iss":"roamsign sandbox, NOT LHDN"`) {
		t.Errorf("got %s, %v", body, err)
	}
}

// TestServingEndsWithItsContext holds that it serves over HTTPS, and ends at once
// although a fault keeps a request waiting for an hour.
func TestServingEndsWithItsContext(t *testing.T) {
	now := time.Now()
	authority, err := ca.New("Sandbox", ca.ECDSA, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Server([]string{"127.0.0.1"}, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := lay(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Serve(ctx, listener, tls.Certificate{Certificate: [][]byte{pair.Certificate.Raw}, PrivateKey: pair.Key})
	}()
	roots := x509.NewCertPool()
	roots.AddCert(authority.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+listener.Addr().String()+"/sandbox/documents", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || string(body) != "[]" || response.Header.Get(Header) != Notice {
		t.Errorf("got %q, %v, %v", body, response.Header, err)
	}
	if err := b.Inject(Fault{On: Any, Kind: Slow, Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	written, answered := make(chan struct{}), make(chan struct{})
	waiting := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(written) }})
	go func() { // one whom a fault keeps waiting
		defer close(answered)
		slow, err := http.NewRequestWithContext(waiting, "GET", "https://"+listener.Addr().String()+"/api/v1.0/documents/recent", http.NoBody)
		if err != nil {
			t.Error(err)
			return
		}
		if late, err := transport.RoundTrip(slow); err == nil { // else the server was quicker to go
			_ = late.Body.Close()
		}
	}()
	<-written
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-answered
}
