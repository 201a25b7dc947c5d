package signer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// transport is TLS 1.3 with a client certificate that names one caller. There
// are no session tickets: each connection proves itself. Each begins under the
// credentials that are in force then.
func (s *Server) transport() credentials.TransportCredentials {
	return &transport{server: s, TransportCredentials: credentials.NewTLS(s.TLS())}
}

// TLS returns that of the service's connections, for what is served beside it: it
// shows the same certificate and lets the same clients connect, by the credentials
// in force when a connection begins.
func (s *Server) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.handshake(s.credentials.Load()), nil
		},
	}
}

// Welcomes judges a connection under [Server.TLS] once more, by the credentials in
// force now. The error, of kind NotAllowed, tells why its client may not connect
// any more.
func (s *Server) Welcomes(state *tls.ConnectionState) error {
	now := s.credentials.Load()
	if _, err := s.callerBy(state, now); err != nil {
		return err
	}
	return s.verifies(*state, now)
}

// Audits tells whether the client of such a connection is one of the policy's
// auditors now.
func (s *Server) Audits(state *tls.ConnectionState) bool {
	caller, err := s.Caller(state)
	return err == nil && s.policy.Load().Audits(caller)
}

// Caller tells whose such a connection is, by the credentials in force now.
func (s *Server) Caller(state *tls.ConnectionState) (policy.Caller, error) {
	return s.callerBy(state, s.credentials.Load())
}

func (s *Server) callerBy(state *tls.ConnectionState, c *Credentials) (policy.Caller, error) {
	if state == nil {
		return "", fault.New(fault.NotAllowed, "the connection is not TLS")
	}
	return identify(*state, c, s.clock())
}

// handshake is the TLS of one connection.
func (s *Server) handshake(c *Credentials) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{c.Certificate},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              c.ClientCAs,
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := identify(state, c, s.clock())
			return err
		},
		Time: s.clock,
	}
}

// transport writes refused connections into the log, which gRPC keeps to
// itself, and knows those that are open.
type transport struct {
	credentials.TransportCredentials
	server *Server
}

func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	before := t.server.credentials.Load()
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if n, ok := raw.(*newcomer); ok {
		if n.among.remove(n); n.closed.Load() {
			err = fault.New(fault.Overloaded, "closed before it proved who it is: too many others were about to")
		}
	}
	var open *connection
	if err == nil {
		open, err = t.server.welcome(conn, raw, info.(credentials.TLSInfo).State)
	}
	if err != nil && !errors.Is(err, io.EOF) { // a probe of the port says nothing
		t.server.log.LogAttrs(context.Background(), slog.LevelInfo, "connection refused",
			slog.String("remote", raw.RemoteAddr().String()), slog.String("error", err.Error()))
	}
	if err != nil {
		return nil, nil, err
	}
	if t.server.credentials.Load() != before { // they changed before it was known to be open
		t.server.open.judge(t.server.stillWelcome)
	}
	return open, info, nil
}

// welcome takes a connection on, if there may be one more and its caller has not
// half of them: one that opens more and more keeps no other out. Callers that the
// policy does not know have an eighth, all together.
func (s *Server) welcome(conn, raw net.Conn, state tls.ConnectionState) (*connection, error) {
	caller, err := identify(state, s.credentials.Load(), s.clock())
	if err != nil {
		return nil, err
	}
	open := &connection{Conn: conn, raw: raw, state: state, counted: caller}
	all := s.config.Limits.Connections
	if !s.policy.Load().Knows(caller) {
		open.counted = ""
		return open, s.open.add(open, all, max(1, all/8))
	}
	return open, s.open.add(open, all, max(1, all/2))
}

func (t *transport) Clone() credentials.TransportCredentials {
	return &transport{TransportCredentials: t.TransportCredentials.Clone(), server: t.server}
}
