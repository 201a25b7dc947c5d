package client

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// penalty is how long a server that failed an attempt is left out.
const penalty = 30 * time.Second

// servers is the list of addresses that gRPC's round-robin picks from. A server
// that hangs, or answers that it cannot sign, is taken off the list for a while:
// so the next attempt goes elsewhere, and other calls do not run into it again.
// When every server is off the list, all are back on it. Safe for concurrent
// use.
type servers struct {
	resolver *manual.Resolver
	all      []string

	mu  sync.Mutex
	out map[string]time.Time // servers left out, until when
}

// scheme is the name under which the connection knows its list of addresses.
const scheme = "roamsign"

func newServers(addresses []string) *servers {
	s := &servers{
		resolver: manual.NewBuilderWithScheme(scheme),
		all:      slices.Clone(addresses),
		out:      map[string]time.Time{},
	}
	s.resolver.InitialState(s.state())
	return s
}

// state lists the servers that are not left out. Each is its own authority: the
// certificate it shows has to name its host, whatever the others are called.
func (s *servers) state() resolver.State {
	var state resolver.State
	for _, server := range s.all {
		if _, out := s.out[server]; out {
			continue
		}
		address := resolver.Address{Addr: server, ServerName: server}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{address}})
	}
	return state
}

// avoid leaves a server out from now on.
func (s *servers) avoid(server string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.all, server) {
		return
	}
	s.out[server] = now.Add(penalty)
	if len(s.out) == len(s.all) {
		clear(s.out)
	}
	s.resolver.UpdateState(s.state())
}

// readmit puts back the servers whose time is over.
func (s *servers) readmit(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.out)
	for server, until := range s.out {
		if !now.Before(until) {
			delete(s.out, server)
		}
	}
	if len(s.out) != before {
		s.resolver.UpdateState(s.state())
	}
}

// dial connects to a server and marks the connection with the server's address
// as configured, so that a failed attempt can be laid at its door.
func dial(ctx context.Context, server string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	return marked{Conn: conn, server: server}, nil
}

// marked is a connection whose remote address is the server as configured.
type marked struct {
	net.Conn
	server string
}

func (m marked) RemoteAddr() net.Addr { return serverAddr(m.server) }

type serverAddr string

func (serverAddr) Network() string  { return "tcp" }
func (a serverAddr) String() string { return string(a) }
