package signer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

const serviceName = "roamsign.v1.SignerService"

// watched yields the states that a health watch tells.
func watched(t *testing.T, r *rig, service string) (next func() healthv1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	watch, err := healthv1.NewHealthClient(r.connect(r.client(stranger))).Watch(t.Context(), &healthv1.HealthCheckRequest{Service: service})
	must(t, err)
	return func() healthv1.HealthCheckResponse_ServingStatus {
		t.Helper()
		told, err := watch.Recv()
		must(t, err)
		return told.GetStatus()
	}
}

func TestHealthFollowsTheKey(t *testing.T) {
	r := start(t, setting{})
	whole, service := watched(t, r, ""), watched(t, r, serviceName)
	check := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if a, b := whole(), service(); a != want || b != want {
			t.Errorf("health: got %v and %v, want %v", a, b, want)
		}
	}
	check(healthv1.HealthCheckResponse_SERVING)
	r.key.goDown(errors.New("the token is away"))
	check(healthv1.HealthCheckResponse_NOT_SERVING)
	r.journal.await(t, func(line map[string]any) bool {
		return line["msg"] == "the key cannot sign" && line["error"] == "the token is away"
	})
	r.key.goDown(nil)
	check(healthv1.HealthCheckResponse_SERVING)
	r.journal.await(t, func(line map[string]any) bool { return line["msg"] == "the key can sign again" })
}

func TestHealthIsForThoseWithACertificate(t *testing.T) {
	r := start(t, setting{})
	out, err := healthv1.NewHealthClient(r.connect(r.client(stranger))).Check(t.Context(), &healthv1.HealthCheckRequest{Service: serviceName})
	if err != nil || out.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("Check: got %v, %v, want SERVING", out, err)
	}
	_, err = healthv1.NewHealthClient(r.connect(r.client(stranger))).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "another"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("another service: got %v, want NOT_FOUND", err)
	}
	if _, err := healthv1.NewHealthClient(r.connect()).Check(t.Context(), &healthv1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: got %v, want no connection", err)
	}
}

func TestHealthEndsWithTheCertificateToo(t *testing.T) {
	r := start(t, setting{})
	pair, err := r.authority.Client(stranger, lasting(1))
	must(t, err)
	client := healthv1.NewHealthClient(r.connect(pairOf(pair.Key, pair.Certificate)))
	if _, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Fatalf("before: %v", err)
	}
	r.advance(48 * time.Hour)
	_, err = client.Check(t.Context(), &healthv1.HealthCheckRequest{})
	checkRefused(t, "Check", err, codes.PermissionDenied, "NOT_ALLOWED")
	watch, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	_, err = watch.Recv()
	checkRefused(t, "Watch", err, codes.PermissionDenied, "NOT_ALLOWED")
	for _, method := range []string{"Check", "Watch"} {
		r.journal.await(t, func(line map[string]any) bool {
			return line["method"] == method && line["outcome"] == "NOT_ALLOWED"
		})
	}
}

func TestReflectionListsTheService(t *testing.T) {
	r := start(t, setting{})
	stream, err := reflectionv1.NewServerReflectionClient(r.connect(r.client(stranger))).ServerReflectionInfo(t.Context())
	must(t, err)
	must(t, stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}))
	out, err := stream.Recv()
	must(t, err)
	must(t, stream.CloseSend())
	var names []string
	for _, service := range out.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	for _, want := range []string{serviceName, "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("services: got %v, want %s among them", names, want)
		}
	}
}

func TestStoppingLetsRequestsFinish(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	next := watched(t, r, "") // a watch that nobody ends must not hold it up
	next()
	gate := make(chan struct{})
	r.key.behave(gated(gate))
	ended := make(chan error, 1)
	go func() {
		_, err := client.SignDigest(t.Context(), r.request())
		ended <- err
	}()
	<-r.key.entered
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	// The listener is closed first; then what is in flight may go on.
	for open := true; open; {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.address)
		if open = err == nil; open {
			_ = conn.Close()
		}
	}
	close(gate)
	if err := <-ended; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: got %v, want none", err)
	}
	if _, err := client.SignDigest(t.Context(), r.request()); status.Code(err) != codes.Unavailable {
		t.Errorf("afterwards: got %v, want UNAVAILABLE", err)
	}
}

// lateListener accepts a connection when it is being closed.
type lateListener struct {
	net.Listener
	accepted func()
	closed   chan struct{}
	once     sync.Once
}

func (l *lateListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted()
		<-l.closed
	}
	return conn, err
}

func (l *lateListener) Close() error {
	defer l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func TestStoppingHangsUpOnNobody(t *testing.T) {
	r := start(t, setting{})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- r.server.Serve(ctx, &lateListener{Listener: listener, accepted: stop, closed: make(chan struct{})})
	}()
	config := r.clientTLS(r.client(erp))
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", listener.Addr().String())
	must(t, err)
	if _, err := conn.Read(make([]byte, 1)); err != nil { // the server's settings
		t.Errorf("on a connection that was accepted when the server was told to stop: got %v, want an answer", err)
	}
	must(t, conn.Close())
	if err := <-ended; err != nil {
		t.Errorf("Serve: got %v, want none", err)
	}
}

func TestStoppingIsBounded(t *testing.T) {
	r := start(t, setting{limits: Limits{Drain: 100 * time.Millisecond}})
	client := r.as(erp)
	r.key.behave(hangs)
	ended := make(chan error, 1)
	go func() {
		_, err := client.SignDigest(t.Context(), r.request())
		ended <- err
	}()
	<-r.key.entered
	if err := r.stop(); err != nil {
		t.Errorf("Serve: got %v, want none: the key obeys its context", err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the request in flight: got %v, want UNAVAILABLE", err)
	}
}

func TestAListenerThatFailsEndsServing(t *testing.T) {
	r := start(t, setting{})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	if err := r.server.Serve(t.Context(), listener); err == nil {
		t.Error("Serve on a closed listener: got none, want an error")
	}
}

func TestServingEndsThoughItNeverBegan(t *testing.T) {
	r := start(t, setting{})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.server.Serve(ctx, listener); err != nil {
		t.Errorf("Serve: got %v, want none", err)
	}
	if _, err := listener.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	r := start(t, setting{sessions: 2})
	outcomes := make(chan error)
	for range 4 {
		client := r.as(erp)
		for i := range 25 {
			go func() {
				in := r.request()
				in.DocumentDigest = digestOf(byte(i))
				out, err := client.SignDigest(t.Context(), in)
				if err == nil && !r.verifies(in.GetDocumentDigest(), out.GetSignature()) {
					err = fmt.Errorf("request %d got a signature that is not over its digest", i)
				}
				outcomes <- err
			}()
		}
	}
	for range 100 {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
}

func TestAServerWithPartsMissingIsNotMade(t *testing.T) {
	r := start(t, setting{})
	whole := Parts{
		Config: r.server.config, Credentials: *r.server.credentials.Load(), Key: r.key, Sessions: 1, Record: r.record,
		Certificate: r.material.leaf, Log: r.server.log,
	}
	if _, err := New(whole); err != nil {
		t.Fatalf("New: %v", err)
	}
	for name, change := range map[string]func(*Parts){
		"no configuration":       func(p *Parts) { p.Config = Config{} },
		"no record":              func(p *Parts) { p.Record = nil },
		"no server certificate":  func(p *Parts) { p.Credentials.Certificate.Certificate = nil },
		"no client authority":    func(p *Parts) { p.Credentials.ClientCAs = nil },
		"no key":                 func(p *Parts) { p.Key = nil },
		"no sessions":            func(p *Parts) { p.Sessions = 0 },
		"no signing certificate": func(p *Parts) { p.Certificate = nil },
		"no RSA certificate":     func(p *Parts) { p.Certificate = r.authority.Certificate() },
		"no logger":              func(p *Parts) { p.Log = nil },
	} {
		parts := whole
		change(&parts)
		if s, err := New(parts); err == nil || s != nil {
			t.Errorf("%s: got a server, want an error", name)
		}
	}
}

func TestAServerWithoutAPolicyDeniesEverything(t *testing.T) {
	r := start(t, setting{})
	r.server.SetPolicy(nil)
	client := r.as(erp)
	for _, method := range []string{"SignDigest", "SignDigests", "SignDocument"} {
		checkRefused(t, method, ask(t.Context(), client, method, r.request()), codes.PermissionDenied, "NOT_ALLOWED")
	}
	_, err := client.ListTaxpayers(t.Context(), &roamsignv1.ListTaxpayersRequest{})
	checkRefused(t, "ListTaxpayers", err, codes.PermissionDenied, "NOT_ALLOWED")
	_, err = client.GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
	checkRefused(t, "GetCertificate", err, codes.PermissionDenied, "NOT_ALLOWED")
}
