package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/roamsign/roamsign/signer"
)

// door is a listener that lets in who has shown a certificate, and that its key is
// its own: a server asks for the one before the other, and would count by what
// anybody may show. Who has not yet keeps nobody out, as at the service's own.
type door struct {
	net.Listener
	guests  *guests
	secured *tls.Config
	log     *slog.Logger
	arrived chan arrival
	close   context.CancelFunc
	closed  <-chan struct{}
	under   sync.WaitGroup // who accepts, and the handshakes
}

// arrival is a connection, or why there is none.
type arrival struct {
	conn net.Conn
	err  error
}

// openDoor opens a door before a listener.
func openDoor(listener net.Listener, present *guests, log *slog.Logger) *door {
	ctx, cancel := context.WithCancel(context.Background())
	d := &door{
		Listener: signer.Reception(listener), guests: present, secured: present.to.TLS(), log: log,
		arrived: make(chan arrival), close: cancel, closed: ctx.Done(),
	}
	d.under.Go(func() { d.receive(ctx) })
	return d
}

// receive accepts until the listener is closed.
func (d *door) receive(ctx context.Context) {
	for {
		conn, err := d.Listener.Accept()
		switch {
		case err == nil:
			d.under.Go(func() { d.admit(ctx, conn) })
		case !d.hand(arrival{err: err}):
			return
		}
	}
}

// admit makes the handshake with one.
func (d *door) admit(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, verifiersHeader)
	defer cancel()
	secured := tls.Server(conn, d.secured)
	err := secured.HandshakeContext(ctx)
	if err == nil {
		err = d.guests.enter(secured)
	}
	if err != nil {
		if !errors.Is(err, io.EOF) { // a probe of the port says nothing
			d.log.Info("connection refused", "remote", conn.RemoteAddr().String(), "error", err.Error())
		}
		_ = conn.Close() // it has been told why, or will not hear
		return
	}
	signer.Proven(conn)
	if !d.hand(arrival{conn: secured}) {
		d.guests.leave(conn)
		_ = conn.Close()
	}
}

// hand passes on who or what arrived, unless the door is closed.
func (d *door) hand(a arrival) bool {
	select {
	case d.arrived <- a:
		return true
	case <-d.closed:
		return false
	}
}

// Accept returns one who was let in.
func (d *door) Accept() (net.Conn, error) {
	select {
	case a := <-d.arrived:
		return a.conn, a.err
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the listener, and ends the handshakes.
func (d *door) Close() error {
	d.close()
	return d.Listener.Close()
}
