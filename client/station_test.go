package client

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// station is a signer that fails in the ways that a test names. It signs with
// the old certificate until it is told to rotate.
type station struct {
	roamsignv1.UnimplementedSignerServiceServer
	address string
	health  *health.Server

	// before runs before each signing call, with how many signatures there have
	// been; an error is the answer. It may block until the context ends.
	before func(ctx context.Context, signed int) error
	// item decides on one digest, with mu held; nil signs it.
	item func(request *roamsignv1.SignDigestRequest, calls int) *roamsignv1.ItemError
	// twist changes a signature before it is released.
	twist func([]byte) []byte

	mu         sync.Mutex
	generation int // which key and certificate
	signed     int
	calls      int      // SignDigest and SignDigests
	fetched    int      // GetCertificate
	requests   []string // request IDs, as they came
}

// startStation runs a station on a host's name, until the test ends.
func startStation(t *testing.T, s *station, hosts ...string) *station {
	t.Helper()
	if hosts == nil {
		hosts = []string{"127.0.0.1"}
	}
	listener := listen(t)
	made := credentialsFor(t, hosts...)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{made.Certificate},
		ClientCAs: made.ClientCAs, ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	s.health = health.NewServer()
	healthv1.RegisterHealthServer(server, s.health)
	roamsignv1.RegisterSignerServiceServer(server, s)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s.address = net.JoinHostPort(hosts[0], port)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving: %v", err)
		}
	})
	return s
}

// rotate puts the new certificate in place of the old one.
func (s *station) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation = 1
}

// counts returns the calls for signatures, and the signatures.
func (s *station) counts() (calls, signed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.signed
}

func (s *station) GetCertificate(context.Context, *roamsignv1.GetCertificateRequest) (*roamsignv1.GetCertificateResponse, error) {
	a, err := shared()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetched++
	return &roamsignv1.GetCertificateResponse{Certificate: a.certificates[s.generation].Raw, Chain: [][]byte{a.signing.Certificate().Raw}}, nil
}

func (s *station) SignDigest(ctx context.Context, in *roamsignv1.SignDigestRequest) (*roamsignv1.SignDigestResponse, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	signature, failed := s.sign(in)
	if failed != nil {
		return nil, refusal(codes.Code(uint32(failed.GetCode())), failed.GetReason(), failed.GetRetryDelay().AsDuration())
	}
	return &roamsignv1.SignDigestResponse{Signature: signature}, nil
}

func (s *station) SignDigests(ctx context.Context, in *roamsignv1.SignDigestsRequest) (*roamsignv1.SignDigestsResponse, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	answer := &roamsignv1.SignDigestsResponse{}
	for _, request := range in.GetItems() {
		result := &roamsignv1.SignDigestsResult{}
		if signature, failed := s.sign(request); failed != nil {
			result.Outcome = &roamsignv1.SignDigestsResult_Error{Error: failed}
		} else {
			result.Outcome = &roamsignv1.SignDigestsResult_Signature{Signature: signature}
		}
		answer.Results = append(answer.Results, result)
	}
	return answer, nil
}

func (s *station) begin(ctx context.Context) error {
	s.mu.Lock()
	s.calls++
	signed := s.signed
	s.mu.Unlock()
	if s.before == nil {
		return nil
	}
	return s.before(ctx, signed)
}

func (s *station) sign(in *roamsignv1.SignDigestRequest) ([]byte, *roamsignv1.ItemError) {
	a, err := shared()
	if err != nil {
		return nil, itemRefusal(codes.Internal, "INTERNAL", 0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, in.GetRequestId())
	if s.item != nil {
		if failed := s.item(in, s.calls); failed != nil {
			return nil, failed
		}
	}
	if current := sha256.Sum256(a.certificates[s.generation].Raw); string(in.GetCertificateSha256()) != string(current[:]) {
		return nil, itemRefusal(codes.FailedPrecondition, "CERTIFICATE_ROTATED", 0)
	}
	signature, err := rsa.SignPKCS1v15(nil, a.keys[s.generation], crypto.SHA256, in.GetDocumentDigest())
	if err != nil {
		return nil, itemRefusal(codes.InvalidArgument, "INVALID_REQUEST", 0)
	}
	if s.twist != nil {
		signature = s.twist(signature)
	}
	s.signed++
	return signature, nil
}

// refusal is a status as the signer's.
func refusal(code codes.Code, reason string, retry time.Duration) error {
	st, err := status.New(code, "refused by the station").WithDetails(
		&errdetails.ErrorInfo{Domain: "roamsign", Reason: reason, Metadata: map[string]string{"station": "one"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)},
	)
	if err != nil {
		return err
	}
	return st.Err()
}

func itemRefusal(code codes.Code, reason string, retry time.Duration) *roamsignv1.ItemError {
	return &roamsignv1.ItemError{Code: int32(code), Reason: reason, Message: "refused by the station", RetryDelay: durationpb.New(retry)}
}

// hang blocks until the call is given up.
func hang(ctx context.Context, _ int) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// deadAddress is a port that nobody listens on, nor will until the test ends: a
// connection has it.
func deadAddress(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	t.Cleanup(func() { _ = listener.Close() })
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String()
}

// gated is a port whose connections lead to another one, once the gate is open.
func gated(t *testing.T, to string, gate <-chan struct{}) string {
	t.Helper()
	listener := listen(t)
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	through := func(from net.Conn) {
		defer from.Close()
		select {
		case <-gate:
		case <-ctx.Done():
			return
		}
		onward, err := net.Dial("tcp", to)
		if err != nil {
			return // its client sees it
		}
		defer onward.Close()
		defer context.AfterFunc(ctx, func() { _ = from.Close() })()
		all.Go(func() { _, _ = io.Copy(from, onward); _ = from.Close() })
		_, _ = io.Copy(onward, from)
	}
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { through(conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		all.Wait()
	})
	return listener.Addr().String()
}

// silentAddress is a port that accepts connections and never answers.
func silentAddress(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	var accepted sync.WaitGroup
	accepted.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepted.Wait()
	})
	return listener.Addr().String()
}
