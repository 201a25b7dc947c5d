package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/signer"
)

// One caller has half of the connections at most, so that it keeps no other out.
// Whether their clients may still connect is looked at every judging.
const (
	verifiersEach = verifiersMost / 2
	judging       = time.Second
)

// guests are the connections of those who check the log. Safe for concurrent use.
type guests struct {
	to  *signer.Server
	log *slog.Logger

	mu   sync.Mutex
	open map[net.Conn]guest // by what is under TLS
	by   map[policy.Caller]int
}

// guest is one of them, once it has shown its certificate.
type guest struct {
	caller policy.Caller
	state  tls.ConnectionState
}

func newGuests(to *signer.Server, log *slog.Logger) *guests {
	return &guests{to: to, log: log, open: map[net.Conn]guest{}, by: map[policy.Caller]int{}}
}

// tls is the service's, which lets those in of whom there are not too many.
func (g *guests) tls() *tls.Config {
	config := g.to.TLS()
	current := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		own, err := current(hello)
		if err != nil {
			return nil, err
		}
		verify := own.VerifyConnection
		own.VerifyConnection = func(state tls.ConnectionState) error {
			if err := verify(state); err != nil {
				return err
			}
			return g.enter(hello.Conn, state)
		}
		return own, nil
	}
	return config
}

func (g *guests) enter(conn net.Conn, state tls.ConnectionState) error {
	caller, err := g.to.Caller(&state)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.by[caller] >= verifiersEach {
		return fmt.Errorf("%d connections of caller %q are open already, which is the most", verifiersEach, caller)
	}
	g.open[conn] = guest{caller, state}
	g.by[caller]++
	return nil
}

// noted is told of what becomes of connections, as [http.Server.ConnState].
func (g *guests) noted(conn net.Conn, state http.ConnState) {
	secured, ok := conn.(*tls.Conn)
	if !ok || state != http.StateClosed {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gone, found := g.open[secured.NetConn()]
	if !found {
		return // it never showed who it is
	}
	delete(g.open, secured.NetConn())
	if g.by[gone.caller]--; g.by[gone.caller] == 0 {
		delete(g.by, gone.caller)
	}
}

// watch cuts those that may not connect any more, until ctx ends.
func (g *guests) watch(ctx context.Context) {
	for wait(ctx, judging) {
		g.mu.Lock()
		all := maps.Clone(g.open)
		g.mu.Unlock()
		for conn, guest := range all {
			if err := g.to.Welcomes(&guest.state); err != nil {
				g.log.Info("connection cut", "remote", conn.RemoteAddr().String(), "caller", string(guest.caller), "error", err.Error())
				_ = conn.Close() // its reader notices
			}
		}
	}
}
