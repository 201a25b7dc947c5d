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

// guest is one of them. It has shown its certificate, and that the key is its own.
type guest struct {
	caller policy.Caller
	state  tls.ConnectionState
}

func newGuests(to *signer.Server, log *slog.Logger) *guests {
	return &guests{to: to, log: log, open: map[net.Conn]guest{}, by: map[policy.Caller]int{}}
}

// enter counts one that has made the handshake, unless there are too many.
func (g *guests) enter(conn *tls.Conn) error {
	state := conn.ConnectionState()
	caller, err := g.to.Caller(&state)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.open) >= verifiersMost {
		return fmt.Errorf("%d connections are open already, which is the most", verifiersMost)
	}
	if g.by[caller] >= verifiersEach {
		return fmt.Errorf("%d connections of caller %q are open already, which is the most", verifiersEach, caller)
	}
	g.open[conn.NetConn()] = guest{caller, state}
	g.by[caller]++
	return nil
}

// leave takes one out that is closed.
func (g *guests) leave(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gone, found := g.open[conn]
	if !found {
		return
	}
	delete(g.open, conn)
	if g.by[gone.caller]--; g.by[gone.caller] == 0 {
		delete(g.by, gone.caller)
	}
}

// noted is told of what becomes of connections, as [http.Server.ConnState].
func (g *guests) noted(conn net.Conn, state http.ConnState) {
	if secured, ok := conn.(*tls.Conn); ok && state == http.StateClosed {
		g.leave(secured.NetConn())
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
