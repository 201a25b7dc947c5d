// Package client signs MyInvois documents with a certificate that a signer
// holds in its HSM, for the services that submit them.
//
// The documents stay here: the client builds the signature block itself and
// sends nothing but hashes ([Client.SignXML], [Client.SignJSON] and
// [Client.SignAll]); [Client.SignDocument] is the exception. It holds no key but
// that of its own TLS certificate, which is who it is to the signer, and trusts
// no signature that it has not verified.
//
// The one idea: everything that it asks is safe to ask again, since the same
// hash has the same signature. So each attempt has a deadline of its own, and
// whatever goes wrong at one server is tried at the next, within the caller's
// context and never beyond it.
package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/keepalive"
)

// Client calls the signers of a configuration. It is safe for concurrent use;
// one for the whole process is enough.
type Client struct {
	servers *servers
	conn    *grpc.ClientConn
	signer  roamsignv1.SignerServiceClient
	timeout time.Duration
	tin     policy.TIN
	now     func() time.Time
	current certificates
	config  Config
	traced  tracing

	mu   sync.Mutex
	each map[string]*Client // for single servers, by address
}

// serviceConfig is how gRPC spreads the calls: over all servers in turn that are
// connected and say that they can sign. That last part works only in programs
// that link the package grpc/health, whose init provides it; gRPC has no other way.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": ""}
}`

// connecting is how long a connection may take to come about, however short the
// attempts are: one that is given up begins anew, after a pause.
const connecting = 5 * time.Second

// Linking the package is all that is wanted of it.
var _ = health.NewServer

// Dial checks the configuration, reads its certificates and returns a Client. It
// connects with the first call, so servers that are down are found then. The
// error tells all faults at once. The caller has to Close the Client.
func Dial(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	secured, err := cfg.TLS()
	if err != nil {
		return nil, err
	}
	c := &Client{
		servers: newServers(cfg.Servers),
		timeout: cfg.AttemptTimeout,
		now:     cfg.Now,
		current: certificates{turn: make(chan struct{}, 1)},
		tin:     policy.TIN(cfg.TIN),
		config:  cfg,
		traced:  newTracing(cfg.Tracing),
	}
	if c.timeout == 0 {
		c.timeout = DefaultAttemptTimeout
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.conn, err = grpc.NewClient(scheme+":///signers",
		grpc.WithResolvers(c.servers.resolver),
		grpc.WithTransportCredentials(credentials.NewTLS(secured)),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		c.traced.option(),
		grpc.WithContextDialer(dial), // no proxy: the file alone says where hashes go
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: max(c.timeout, connecting),
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	c.signer = roamsignv1.NewSignerServiceClient(c.conn)
	return c, nil
}

// Close ends the connections; calls under way fail.
func (c *Client) Close() error { return errors.Join(c.closeEach(), c.conn.Close()) }

// TLS reads the certificates and returns how the client connects. The error tells
// all their faults at once.
func (c Config) TLS() (*tls.Config, error) {
	roots, noRoots := ca.LoadPool(c.CA)
	own, noOwn := ca.LoadPair(c.Certificate, c.Key)
	var faults []error
	if noRoots != nil {
		faults = append(faults, fmt.Errorf("reading ca: %w", noRoots))
	}
	if noOwn != nil {
		faults = append(faults, fmt.Errorf("reading certificate and key: %w", noOwn))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      roots,
		Certificates: []tls.Certificate{own},
	}, nil
}
