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

// A server that failed an attempt is left out for a second; for twice as long each
// time that it fails again before it has answered, and for half a minute at most.
const (
	leastOut = time.Second
	mostOut  = 30 * time.Second
)

// servers is the list of addresses that gRPC's round-robin picks from. A server
// that hangs, or answers that it cannot sign, is taken off the list: so the next
// attempt goes elsewhere, other calls do not run into it again, and its connection
// is given up. When it is back on the list it needs another connection, and gRPC
// picks it once its health service has said over that one that it can sign. A
// process that is stopped says nothing. Where no other one on the list is known to
// answer, none is left out for longer than it takes to connect anew: all are tried.
// Safe for concurrent use.
type servers struct {
	resolver *manual.Resolver
	all      []string

	mu       sync.Mutex
	standing map[string]*standing // by server
}

// standing is how a server stands.
type standing struct {
	out     time.Time // left out until then; zero: it is on the list
	back    time.Time // when it came back on it
	proven  bool      // it has answered since then
	strikes int       // how often it failed since it answered
}

// scheme is the name under which the connection knows its list of addresses.
const scheme = "roamsign"

func newServers(addresses []string) *servers {
	s := &servers{
		resolver: manual.NewBuilderWithScheme(scheme),
		all:      slices.Clone(addresses),
		standing: map[string]*standing{},
	}
	for _, server := range s.all {
		s.standing[server] = &standing{}
	}
	s.resolver.InitialState(s.state())
	return s
}

// state lists the servers that are not left out. Each is its own authority: the
// certificate it shows has to name its host, whatever the others are called.
func (s *servers) state() resolver.State {
	var state resolver.State
	for _, server := range s.all {
		if s.standing[server].isOut() {
			continue
		}
		address := resolver.Address{Addr: server, ServerName: server}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{address}})
	}
	return state
}

func (g *standing) isOut() bool { return !g.out.IsZero() }

// failed leaves a server out that failed an attempt which began then. One that
// began before the server came back tells nothing of its new connection.
func (s *servers) failed(server string, began, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.standing[server]
	if g == nil || g.isOut() || began.Before(g.back) {
		return
	}
	hold := min(leastOut<<min(g.strikes, 5), mostOut)
	g.strikes++
	s.leaveOut(g, now, hold)
}

// shun leaves a server out for the longest time.
func (s *servers) shun(server string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.standing[server]; g != nil {
		s.leaveOut(g, now, mostOut)
	}
}

// leaveOut takes a server off the list; all are put on it, to be connected anew,
// where no other one is known to answer. The caller holds mu.
func (s *servers) leaveOut(g *standing, now time.Time, hold time.Duration) {
	if len(s.all) == 1 {
		return
	}
	g.out, g.proven = now.Add(hold), false
	if !s.sure() {
		s.putBack(now, func(each *standing) bool { return each != g })
		s.resolver.UpdateState(s.state())
		s.putBack(now, (*standing).isOut)
	}
	s.resolver.UpdateState(s.state())
}

// sure tells whether a server on the list is known to answer. The caller holds mu.
func (s *servers) sure() bool {
	for _, g := range s.standing {
		if !g.isOut() && g.proven {
			return true
		}
	}
	return false
}

// putBack puts those that are due back on the list, and tells whether there were
// any. The caller holds mu.
func (s *servers) putBack(now time.Time, due func(*standing) bool) (some bool) {
	for _, g := range s.standing {
		if g.isOut() && due(g) {
			g.out, g.back, some = time.Time{}, now, true
		}
	}
	return some
}

// readmit puts back the servers whose time is over.
func (s *servers) readmit(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putBack(now, func(g *standing) bool { return !now.Before(g.out) }) {
		s.resolver.UpdateState(s.state())
	}
}

// answered notes that a server did what it was asked.
func (s *servers) answered(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.standing[server]; g != nil {
		g.strikes, g.proven = 0, true
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
