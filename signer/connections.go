package signer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// FilesService is the name under which the health service tells whether what
// stands in the files that the service goes by (policy, certificates,
// revocations) is in force. While it is not, the service goes on under what was
// before, so the service itself stays SERVING.
const FilesService = "roamsign.v1.SignerService/files"

func (s *Server) filesStatus() healthv1.HealthCheckResponse_ServingStatus {
	if s.stale.Load() || s.lacking.Load() {
		return healthv1.HealthCheckResponse_NOT_SERVING
	}
	return healthv1.HealthCheckResponse_SERVING
}

// connections are those that are open. The zero value is ready for use, by any
// number of goroutines.
type connections struct {
	mu   sync.Mutex
	open map[*connection]struct{}
	by   map[policy.Caller]int
}

// connection is an open one, which leaves when it is closed.
type connection struct {
	net.Conn
	raw     net.Conn // what is closed to cut it: closing TLS waits for the peer
	state   tls.ConnectionState
	counted policy.Caller // whose it is; of all whom the policy does not know, ""
	among   *connections
}

// add takes a connection on, if there are fewer than that in all, and of its caller.
func (c *connections) add(added *connection, all, each int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open := len(c.open); open >= all {
		return fault.New(fault.Overloaded, "%d connections are open already, which is the most", open)
	}
	switch open := c.by[added.counted]; {
	case open < each:
	case added.counted == "":
		return fault.New(fault.Overloaded, "%d connections of callers that are not in the policy are open already, which is the most", open)
	default:
		return fault.New(fault.Overloaded, "%d connections of caller %q are open already, which is the most", open, added.counted)
	}
	if c.open == nil {
		c.open, c.by = map[*connection]struct{}{}, map[policy.Caller]int{}
	}
	added.among = c
	c.open[added] = struct{}{}
	c.by[added.counted]++
	return nil
}

// Close closes the connection.
func (c *connection) Close() error {
	c.among.remove(c)
	return c.Conn.Close()
}

func (c *connections) remove(gone *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.open[gone]; !open {
		return
	}
	delete(c.open, gone)
	if c.by[gone.counted]--; c.by[gone.counted] == 0 {
		delete(c.by, gone.counted)
	}
}

// judge cuts the connections that are not welcome any more.
func (c *connections) judge(welcome func(*connection) bool) {
	c.mu.Lock()
	all := slices.Collect(maps.Keys(c.open))
	c.mu.Unlock()
	for _, each := range all {
		if !welcome(each) {
			_ = each.raw.Close() // its reader notices, and closes the rest
		}
	}
}

// stillWelcome judges a connection by the credentials in force now. One that is
// not welcome gets its line in the log.
func (s *Server) stillWelcome(c *connection) bool {
	now := s.credentials.Load()
	caller, err := identify(c.state, now, s.clock())
	if err == nil {
		err = s.verifies(c.state, now)
	}
	if err == nil {
		return true
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "connection cut",
		slog.String("remote", c.raw.RemoteAddr().String()), slog.String("caller", string(caller)), slog.String("error", err.Error()))
	return false
}

// verifies does again what the handshake did, under the authorities of now.
func (s *Server) verifies(state tls.ConnectionState, c *Credentials) error {
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: c.ClientCAs, Intermediates: ca.PoolOf(state.PeerCertificates[1:]), CurrentTime: s.clock(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fault.New(fault.NotAllowed, "client certificate %v: %w", state.PeerCertificates[0].Subject, err)
	}
	return nil
}
