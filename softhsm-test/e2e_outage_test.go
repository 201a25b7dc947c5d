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

// TestDrillTheService: the whole of it, from the client library to the token, while
// the processes that hold the tokens are killed and started again under load.
func TestDrillTheService(t *testing.T) {
	t.Run("tokens go in turn", tokensGoInTurn)
	t.Run("its one token goes", itsOneTokenGoes)
}

// tokensGoInTurn: with two tokens no caller sees any of it.
func tokensGoInTurn(t *testing.T) {
	t.Parallel() // with the other: both wait more than they work
	s := host(t, 2)
	l := askFor(t, 5*time.Second, s.library(t))
	l.goesOn(5)
	for i := range atFull(3, 20) {
		gone := time.Now()
		s.remotes[i%2].Kill()
		s.logs(i%2, outOfService)
		l.goesOn(10)
		s.remotes[i%2].Restart()
		back := time.Now()
		s.logs(i%2, inService)
		t.Logf("token %d away for %v, in service %v after its return, the longest request %v",
			i%2, back.Sub(gone), time.Since(back), l.worst(gone).took())
		l.goesOn(10)
	}
	l.end()
	l.unharmed(time.Time{}, 2*time.Second)
	for _, change := range s.health.all()[1:] {
		t.Errorf("health was %v for a time, want SERVING throughout", change)
	}
	t.Logf("of those requests the library made %d again", len(refused.FindAllString(s.stop(t), -1)))
}

// itsOneTokenGoes: callers get UNAVAILABLE and nothing else, at once where they
// ask the service itself, health tells it, and signatures are back within a second
// of the token.
func itsOneTokenGoes(t *testing.T) {
	t.Parallel()
	s := host(t, 1)
	direct := askFor(t, 5*time.Second, s.direct(t))
	through := askFor(t, 5*time.Second, s.library(t))
	direct.goesOn(5)
	through.goesOn(5)
	for range atFull(3, 20) {
		gone := time.Now()
		s.remotes[0].Kill()
		s.tells(healthv1.HealthCheckResponse_NOT_SERVING, time.Second+direct.slack())
		told := time.Now()
		<-time.After(atFull(1200*time.Millisecond, 3*time.Second) - time.Since(gone)) // the outage's length
		down := time.Now()
		s.remotes[0].Restart()
		back := time.Now()
		signs := within(t.Context(), time.Second+direct.slack(), func() bool { return direct.signedSince(back) })
		signed := time.Now()
		if !signs {
			t.Error("a second after the token's return nothing is signed")
		}
		s.tells(healthv1.HealthCheckResponse_SERVING, time.Second+direct.slack())
		// The library waits for as long as it is told, which is a second.
		if !within(t.Context(), 2*time.Second+direct.slack(), func() bool { return through.signedSince(back) }) {
			t.Error("two seconds after the token's return nothing is signed through the library")
		}
		through.goesOn(5)
		direct.refused(gone, down)
		t.Logf("away for %v, told so after %v, signed again %v after its return; the longest request %v, through the library %v",
			down.Sub(gone), told.Sub(gone), signed.Sub(back), direct.worst(gone).took(), through.worst(gone).took())
	}
	direct.end()
	through.end()
	for _, l := range []*load{direct, through} {
		for _, r := range l.failed(time.Time{}) {
			if fault.Of(r.err) != fault.TokenUnavailable {
				t.Errorf("got %v, want nothing but %v", r.err, fault.TokenUnavailable)
				break
			}
		}
		t.Logf("%d requests, %d errors", len(l.all(time.Time{})), len(l.failed(time.Time{})))
	}
}

// refused is the service's line for a request that it did not sign.
var refused = regexp.MustCompile(`(?m)^.* msg=request method=SignDigest .* outcome=[^O].*$`)

// hosted is a roamsignd whose tokens stand in processes of their own.
type hosted struct {
	*daemon
	t       *testing.T
	token   *softhsmtest.Token // what all hold
	remotes []*softhsmtest.Remote
	health  *changes

	read   int // bytes of the log
	states map[int]string
}

// host starts a roamsignd with tokens that hold the same key, each behind a
// server of p11-kit's, and returns when all are in service.
func host(t *testing.T, tokens int) *hosted {
	t.Helper()
	dir := copied(t)
	token := softhsmtest.New(t)
	token.Config.Sessions = oneCall
	s := &hosted{t: t, token: token, states: map[int]string{}}
	var configs []hsm.Config
	for i := range tokens {
		each := token
		if i > 0 {
			each = softhsmtest.Twin(t, token)
			each.Config.TokenSerial = token.Serial // the log tells them apart by that
		}
		s.remotes = append(s.remotes, softhsmtest.NewRemote(t, each))
		configs = append(configs, s.remotes[i].Token.Config)
	}
	check(t, ca.WriteCertificates(filepath.Join(dir, "signing.pem"), token.Certificate))
	config := filepath.Join(dir, "roamsignd.yaml")
	text, err := yaml.Marshal(map[string]any{
		"listen": "127.0.0.1:0", "policy": "policy.yaml", "tokens": configs,
		"tls":     map[string]string{"certificate": "server.pem", "key": "server.key", "client_ca": "tls-ca.pem"},
		"signing": map[string]string{"certificate": "signing.pem"},
	})
	check(t, err)
	s.daemon = begin(t, dir, "serve", "--config", write(t, config, text))
	s.await(t, "serve", func() bool {
		_, rest, _ := strings.Cut(s.errs.from(0), "msg=serving address=")
		s.address, _, _ = strings.Cut(rest, " ")
		return s.address != ""
	})
	for i := range tokens {
		s.logs(i, inService)
	}
	s.health = s.watch(t)
	s.tells(healthv1.HealthCheckResponse_SERVING, patience)
	return s
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

// tells waits until that is what the health service said last.
func (s *hosted) tells(want healthv1.HealthCheckResponse_ServingStatus, atMost time.Duration) {
	s.t.Helper()
	last := func() healthv1.HealthCheckResponse_ServingStatus {
		all := s.health.all()
		return all[len(all)-1]
	}
	if !within(s.t.Context(), atMost, func() bool { return last() == want }) {
		s.t.Errorf("after %v health is %v, want %v", atMost, last(), want)
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
