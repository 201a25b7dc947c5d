package softhsmtest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// Line is the way to a [Remote], and can break in the middle of an answer, as a
// server's does that dies between two writes.
type Line struct {
	// Token is the token at the end of the line; its Config leads there.
	Token *Token

	server  string
	asked   atomic.Int64 // calls that went to the server and have no answer yet
	broken  chan struct{}
	toBreak atomic.Bool
	passing sync.WaitGroup
}

// NewLine lays a line to the remote's server until the end of the test.
func NewLine(t testing.TB, remote *Remote) *Line {
	t.Helper()
	socket := filepath.Join(shortDir(t), "line")
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", socket)
	check(t, err)
	far := *remote.Token
	far.Config.Environment = map[string]string{"P11_KIT_SERVER_ADDRESS": "unix:path=" + socket}
	l := &Line{Token: &far, server: remote.socket, broken: make(chan struct{})}
	l.passing.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			l.passing.Go(func() { l.pass(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		remote.Kill()
		l.passing.Wait()
	})
	return l
}

// Break ends the connection after the header of an answer while another call
// waits for its own. It happens once; the channel is closed then.
func (l *Line) Break() <-chan struct{} {
	l.toBreak.Store(true)
	return l.broken
}

// pass carries one connection's calls and answers.
func (l *Line) pass(client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "unix", l.server)
	if err != nil {
		return
	}
	l.asked.Store(0)
	var calls sync.WaitGroup
	calls.Go(func() {
		_ = carry(server, client, func() error {
			l.asked.Add(1)
			return nil
		})
		_ = server.Close()
	})
	_ = carry(client, server, func() error {
		if l.asked.Add(-1) > 0 && l.toBreak.CompareAndSwap(true, false) {
			close(l.broken)
			return errBroken
		}
		return nil
	})
	_ = server.Close()
	_ = client.Close()
	calls.Wait()
}

var errBroken = errors.New("the line is broken")

// carry passes on p11-kit's messages: a byte at first, then headers of a call's
// number and two lengths, with so many bytes after each. It asks between them.
func carry(to io.Writer, from io.Reader, next func() error) error {
	if _, err := io.CopyN(to, from, 1); err != nil {
		return err
	}
	for {
		var header struct{ Call, Options, Length uint32 }
		if err := binary.Read(from, binary.BigEndian, &header); err != nil {
			return err
		}
		if err := binary.Write(to, binary.BigEndian, header); err != nil {
			return err
		}
		if err := next(); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, int64(header.Options)+int64(header.Length)); err != nil {
			return err
		}
	}
}
