package softhsmtest_test

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
	"github.com/roamsign/roamsign/xades"
)

// refused is the service's line for a request that it did not sign.
var refused = regexp.MustCompile(`(?m)^.* msg=request method=SignDigest .* outcome=[^O].*$`)

// hosted is a roamsignd under "serve", with several tokens.
type hosted struct {
	*daemon
	t      *testing.T
	token  *softhsmtest.Token // what all hold
	health *changes

	read   int // bytes of the log
	states map[int]string
}

// host starts a roamsignd with the token, and its twins, as they are reached, and
// returns when all are in service.
func host(t *testing.T, token *softhsmtest.Token, reached []hsm.Config, environment ...string) *hosted {
	t.Helper()
	dir := copied(t)
	s := &hosted{t: t, token: token, states: map[int]string{}}
	for i := range reached[1:] {
		reached[i+1].TokenSerial = token.Serial // the log tells them apart by that
	}
	check(t, ca.WriteCertificates(filepath.Join(dir, "signing.pem"), token.Certificate))
	text, err := yaml.Marshal(map[string]any{
		"listen": "127.0.0.1:0", "policy": "policy.yaml", "tokens": reached,
		"tls":     map[string]string{"certificate": "server.pem", "key": "server.key", "client_ca": "tls-ca.pem"},
		"signing": map[string]string{"certificate": "signing.pem"},
		"audit":   map[string]any{"dir": "audit", "key_files": []string{"audit.key"}},
	})
	check(t, err)
	s.daemon = begin(t, dir, environment, "serve", "--config", write(t, filepath.Join(dir, "roamsignd.yaml"), text))
	s.await(t, "serve", func() bool {
		_, rest, _ := strings.Cut(s.errs.from(0), "msg=serving address=")
		s.address, _, _ = strings.Cut(rest, " ")
		return s.address != ""
	})
	for i := range reached {
		s.logs(i, inService)
	}
	s.health = s.watch(t)
	s.await(t, "say that it serves", func() bool { return s.health.last() == healthv1.HealthCheckResponse_SERVING })
	return s
}

// far puts a token and its twins behind servers of p11-kit's, each its own.
func far(t *testing.T, token *softhsmtest.Token, n int) (remotes []*softhsmtest.Remote, reached []hsm.Config) {
	t.Helper()
	for i := range n {
		each := token
		if i > 0 {
			each = softhsmtest.Twin(t, token)
		}
		remotes = append(remotes, softhsmtest.NewRemote(t, each))
		reached = append(reached, remotes[i].Token.Config)
	}
	return remotes, reached
}

// What the log says of a token.
const (
	inService    = `msg="token in service"`
	outOfService = `msg="token out of service"`
)

// logs waits until that is what the log said last of a token.
func (s *hosted) logs(token int, want string) {
	s.t.Helper()
	s.await(s.t, fmt.Sprintf("say of token %d %s", token, want), func() bool {
		news := s.errs.from(s.read)
		s.read += len(news)
		for line := range strings.Lines(news) {
			of := 0
			if strings.Contains(line, s.token.Serial) {
				of = 1
			}
			for _, state := range []string{inService, outOfService} {
				if strings.Contains(line, state) {
					s.states[of] = state
				}
			}
		}
		return s.states[token] == want
	})
}

// tells waits until that is what the health service said last, for a second at most.
func (s *hosted) tells(l *load, want healthv1.HealthCheckResponse_ServingStatus) {
	s.t.Helper()
	if !l.within(time.Second, func() bool { return s.health.last() == want }) {
		s.t.Errorf("after a second health is %v, want %v", s.health.last(), want)
	}
}

// changes are what a health service has said so far, one after the other.
type changes struct {
	mu   sync.Mutex
	said []healthv1.HealthCheckResponse_ServingStatus
}

func (c *changes) add(said healthv1.HealthCheckResponse_ServingStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, said)
}

func (c *changes) last() healthv1.HealthCheckResponse_ServingStatus {
	all := c.all()
	return all[len(all)-1]
}

func (c *changes) all() []healthv1.HealthCheckResponse_ServingStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.said)
}

// watch listens to the health service until the end of the test. It returns when
// that has said something.
func (s *hosted) watch(t *testing.T) *changes {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	t.Cleanup(listening.Wait)
	t.Cleanup(cancel)
	stream, err := healthv1.NewHealthClient(dial(t, s.daemon, s.tls(t))).Watch(ctx, &healthv1.HealthCheckRequest{})
	check(t, err)
	first, err := stream.Recv()
	check(t, err)
	c := &changes{}
	c.add(first.GetStatus())
	listening.Go(func() {
		for {
			next, err := stream.Recv()
			if err != nil {
				return
			}
			c.add(next.GetStatus())
		}
	})
	return c
}

// library returns a request as users make it: an invoice signed by the client
// library.
func (s *hosted) library(t *testing.T) func(context.Context) error {
	t.Helper()
	signer, err := client.Dial(client.Config{
		Servers: []string{s.address}, CA: s.file("tls-ca.pem"), Certificate: s.file("client.pem"), Key: s.file("client.key"), TIN: own,
	})
	check(t, err)
	t.Cleanup(func() { check(t, signer.Close()) })
	document := invoice(t, "xml", "E2E-OUTAGE")
	return func(ctx context.Context) error {
		signed, err := signer.Sign(ctx, client.Document{Content: document})
		if err != nil {
			return heard(err)
		}
		report := xades.Verify(signed.Document, xades.VerifyOptions{})
		if public, ok := report.Certificate.PublicKey.(*rsa.PublicKey); !ok || !public.Equal(s.token.Public) {
			return errWrong
		}
		for _, finding := range report.Findings {
			if finding.Severity == xades.SeverityError {
				return errWrong
			}
		}
		return nil
	}
}

// direct returns a request that asks the service once, and takes what it says.
func (s *hosted) direct(t *testing.T) func(context.Context) error {
	t.Helper()
	api := roamsignv1.NewSignerServiceClient(dial(t, s.daemon, s.tls(t)))
	fingerprint := sha256.Sum256(s.token.Certificate.Raw)
	return digests(func(ctx context.Context, digest [sha256.Size]byte) ([]byte, error) {
		answer, err := api.SignDigest(ctx, &roamsignv1.SignDigestRequest{
			Tin: own, DocumentDigest: digest[:], CertificateSha256: fingerprint[:], RequestId: "drill",
		})
		return answer.GetSignature(), told(err)
	}, s.token.Public)
}

// told gives an error of the service the kind that it names. One that names none
// has none.
func told(err error) error {
	var reason string
	var retry time.Duration
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.GetReason()
		case *errdetails.RetryInfo:
			retry = detail.GetRetryDelay().AsDuration()
		}
	}
	return named(reason, retry, err)
}

func named(reason string, retry time.Duration, err error) error {
	for _, kind := range fault.Kinds() {
		if kind.Reason() == reason {
			return &fault.Error{Kind: kind, RetryAfter: retry, Err: err}
		}
	}
	return err
}

// heard is told for an error of the client library, which asks no service that
// says it is not well, and names no reason then.
func heard(err error) error {
	e, known := errors.AsType[*client.Error](err)
	switch {
	case !known:
		return err
	case e.Code == codes.Unavailable && e.Reason == "":
		return fault.Wrap(fault.TokenUnavailable, err)
	}
	return named(e.Reason, e.RetryAfter, err)
}
