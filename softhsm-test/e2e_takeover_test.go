package softhsmtest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsign/roamsign/client"
)

// handed starts a roamsignd on a socket that somebody else listens on, as systemd
// hands it over, and returns once it serves.
func handed(t *testing.T, dir string, socket *os.File) *daemon {
	t.Helper()
	check(t, programs())
	command := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh",
		filepath.Join(scratch, "roamsignd"), "serve", "--config", filepath.Join(dir, "roamsignd.yaml"))
	command.Env = append(command.Environ(), "SOFTHSM2_CONF="+filepath.Join(dir, "softhsm2.conf"))
	command.ExtraFiles = []*os.File{socket}
	d := watch(t, dir, command)
	d.await(t, "serve", func() bool { return strings.Contains(d.errs.String(), "msg=serving") })
	return d
}

// TestANewProcessTakesOverWithoutARefusedConnection: callers that connect anew for
// each signature see nothing of three restarts under load.
func TestANewProcessTakesOverWithoutARefusedConnection(t *testing.T) {
	dir := copied(t)
	own, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	t.Cleanup(func() { _ = own.Close() })
	socket, err := own.File()
	check(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	config := client.Config{
		Servers: []string{own.Addr().String()}, CA: filepath.Join(dir, "tls-ca.pem"),
		Certificate: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key"),
		AttemptTimeout: time.Minute, // a process may take long to start
	}

	document := invoice(t, "xml", "TAKEOVER")
	running := handed(t, dir, socket)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	defer func() { cancel(); callers.Wait() }()
	var signed atomic.Int64
	for caller := range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := signOnce(ctx, config, document); err != nil && ctx.Err() == nil {
					t.Errorf("caller %d: %v", caller, err)
					return
				}
				signed.Add(1)
			}
		})
	}
	for range 3 {
		enough := signed.Load() + 8
		running.await(t, "sign", func() bool { return signed.Load() > enough })
		running.stop(t)
		running = handed(t, dir, socket)
	}
	enough := signed.Load() + 8
	running.await(t, "sign after the last restart", func() bool { return signed.Load() > enough })
	if !strings.Contains(running.errs.String(), "address="+own.Addr().String()) {
		t.Errorf("it serves elsewhere than on %v:\n%s", own.Addr(), running.errs)
	}
	t.Logf("%d signatures over as many connections", signed.Load())
}

// signOnce has one document signed over a connection of its own.
func signOnce(ctx context.Context, config client.Config, document []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	signer, err := client.Dial(config)
	if err != nil {
		return err
	}
	_, err = signer.Sign(ctx, client.Document{Content: document})
	return errors.Join(err, signer.Close())
}
