package softhsmtest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Remote is a token behind p11-kit's remoting: a server process holds the token
// and a client module reaches it over a socket, as with a network HSM. Its
// methods are for one goroutine.
type Remote struct {
	// Token is the token behind the server; its Config leads there.
	Token *Token

	t       testing.TB
	module  string // the real one
	socket  string
	conf    string // SOFTHSM2_CONF of the server
	label   string
	serving *exec.Cmd // nil while killed
	output  sync.WaitGroup
}

// NewRemote serves the token's SoftHSM2 by "p11-kit server" until the end of the
// test. The token itself must not be open in this process.
func NewRemote(t testing.TB, token *Token) *Remote {
	t.Helper()
	dir := shortDir(t)
	library, err := os.ReadFile(remoteClient(t))
	check(t, err)
	client := filepath.Join(dir, "p11-kit-client.so")
	check(t, os.WriteFile(client, library, 0o600))
	r := &Remote{t: t, module: token.Config.Module, socket: filepath.Join(dir, "socket"),
		conf: token.Config.Environment["SOFTHSM2_CONF"], label: token.Config.TokenLabel}
	behind := *token
	behind.Config.Module = client
	behind.Config.Environment = map[string]string{"P11_KIT_SERVER_ADDRESS": "unix:path=" + r.socket}
	r.Token = &behind
	r.Restart()
	t.Cleanup(r.Kill)
	return r
}

func remoteClient(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/pkcs11/p11-kit-client.so")
	if len(found) == 0 {
		t.Fatal("p11-kit's client module is missing: apt-get install p11-kit p11-kit-modules")
	}
	return found[0]
}

// Restart starts the server that [Remote.Kill] ended, and returns when it listens.
func (r *Remote) Restart() {
	r.t.Helper()
	if r.serving != nil {
		return
	}
	if err := os.Remove(r.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	server := exec.CommandContext(context.Background(), "p11-kit", "server", "--foreground", "--sh",
		"--provider", r.module, "--name", r.socket, "pkcs11:token="+r.label)
	server.Env = append(server.Environ(), "SOFTHSM2_CONF="+r.conf)
	// It forks a process for each connection: a group of its own, to be ended together.
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	server.Stderr = os.Stderr
	output, err := server.StdoutPipe()
	check(r.t, err)
	check(r.t, server.Start())
	r.serving = server
	r.listens(output)
}

// listens waits until the server takes connections. Before that its client finds
// no slot, and no fault with it. What the server prints is of no use: it prints first.
func (r *Remote) listens(output io.ReadCloser) {
	r.t.Helper()
	r.output.Go(func() { _, _ = io.Copy(io.Discard, output) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
		if err == nil {
			_ = connection.Close()
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			r.t.Fatalf("p11-kit server does not listen: %v", err)
		}
	}
}

// Kill ends the server and all that it forked, by the id of their group, with
// SIGKILL: as if somebody had pulled the plug.
func (r *Remote) Kill() {
	r.t.Helper()
	if r.serving == nil {
		return
	}
	if err := syscall.Kill(-r.serving.Process.Pid, syscall.SIGKILL); err != nil {
		r.t.Error(err)
	}
	r.output.Wait()
	_ = r.serving.Wait() // "killed"
	r.serving = nil
}
