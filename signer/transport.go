package signer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"
)

// transport is TLS 1.3 with a client certificate that names one caller. There
// are no session tickets: each connection proves itself.
func (s *Server) transport() credentials.TransportCredentials {
	return &transport{
		TransportCredentials: credentials.NewTLS(&tls.Config{
			MinVersion:             tls.VersionTLS13,
			Certificates:           []tls.Certificate{s.credentials.Certificate},
			ClientAuth:             tls.RequireAndVerifyClientCert,
			ClientCAs:              s.credentials.ClientCAs,
			SessionTicketsDisabled: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				_, err := identify(state, s.clock())
				return err
			},
			Time: s.clock,
		}),
		log: s.log,
	}
}

// transport writes refused connections into the log, which gRPC keeps to
// itself.
type transport struct {
	credentials.TransportCredentials
	log *slog.Logger
}

func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if err != nil && !errors.Is(err, io.EOF) { // a probe of the port says nothing
		t.log.LogAttrs(context.Background(), slog.LevelInfo, "connection refused",
			slog.String("remote", raw.RemoteAddr().String()), slog.String("error", err.Error()))
	}
	return conn, info, err
}

func (t *transport) Clone() credentials.TransportCredentials {
	return &transport{TransportCredentials: t.TransportCredentials.Clone(), log: t.log}
}
