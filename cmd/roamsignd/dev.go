package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
)

func devCommand() command.Command {
	return command.Command{
		Name: "dev", Args: "--dir DIR [--listen ADDR] [--taxpayer TIN]... [--module PATH]", Purpose: "Try it: a throw-away token, key, certificates and policy, then serve.",
		About: `Needs no configuration. Makes under DIR a SoftHSM2 token with an RSA key generated
inside it, a certificate of LHDN's profile under an authority named NOT FOR
SUBMISSION, a server and a client certificate, and a policy for two made-up taxpayers
and those named; then it serves on loopback until interrupted. What it writes are the
very files that serve reads. Started again with the same DIR it uses what is there.

DIR/client.yaml is the client's configuration; roamsignd client add makes others'.
DIR/ready holds the address while it serves. Nothing here is good for real documents: LHDN does not know the authority.`,
		Example: `roamsignd dev --dir /tmp/roamsign
roamsignd dev --dir /tmp/roamsign --listen 127.0.0.1:7443 --taxpayer C25845632020`,
		Define: func(flags *flag.FlagSet) command.Runner {
			d := &dev{}
			flags.StringVar(&d.dir, "dir", "", "the `DIR` for everything it makes (created; 0700)")
			flags.StringVar(&d.listen, "listen", "", "the loopback `ADDR` to serve on (default: the last one, else a free port)")
			flags.Var(&d.taxpayers, "taxpayer", "the `TIN` of a further taxpayer; may be repeated")
			flags.StringVar(&d.module, "module", "", "the `PATH` of SoftHSM2's library (default: where Debian has it)")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := d.check(args); err != nil {
					return err
				}
				return d.run(ctx, streams)
			}
		},
	}
}

// dev is one run of dev mode.
type dev struct {
	dir, listen, module string
	taxpayers           command.Strings
}

// The files under DIR.
const (
	devConfig  = "roamsignd.yaml"
	devPolicy  = "policy.yaml"
	devClient  = "client.yaml"
	devSoftHSM = "softhsm2.conf"
	devSigning = "signing.pem"
	devRoots   = "roots.pem" // of the signing certificate, for roamsign verify
	devTokens  = "tokens"
	devClients = "clients" // the authority for TLS
	devRevoked = devClients + "/revoked"
	devState   = "state"
	devAudit   = "audit" // the log
	devLogKey  = "audit.key"
	devLogPub  = "audit.pub" // its verifier key, for --log-key
	devPIN     = "pin"
	devReady   = "ready"
	devLock    = "roamsignd.lock" // where it is, dev mode made the folder
)

func (d *dev) path(name string) string { return filepath.Join(d.dir, name) }

func (d *dev) check(args []string) error {
	switch {
	case len(args) > 0:
		return command.Usagef("unexpected argument %q", args[0])
	case d.dir == "":
		return command.Usagef("name a folder for what it makes with --dir DIR")
	}
	for _, tin := range d.taxpayers {
		if _, err := policy.ParseTIN(tin); err != nil {
			return command.Usagef("--taxpayer: %v", err)
		}
	}
	if d.listen != "" {
		if err := loopback(d.listen); err != nil {
			return command.Usagef("--listen: %v", err)
		}
	}
	var err error
	if d.dir, err = filepath.Abs(d.dir); err == nil && strings.ContainsAny(d.dir, "#\r\n") {
		return command.Usagef("--dir: %q: SoftHSM2's configuration can name no folder with # or a line break in its path", d.dir)
	}
	return err
}

// loopback refuses an address that others could reach: the PIN lies beside the
// token.
func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:7443", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is not a loopback address; dev mode serves on 127.0.0.1, ::1 or localhost only", host)
	}
	return nil
}

func (d *dev) run(ctx context.Context, streams command.Streams) error {
	before := d.recorded()
	module, err := d.library(before)
	if err != nil {
		return err
	}
	unlock, err := d.claim()
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := d.bind(before)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	address := listener.Addr().String()
	if err := d.make(ctx, streams.Out, module); err != nil {
		return fmt.Errorf("setting up %s: %w", d.dir, err)
	}
	if err := d.configure(before, module, address); err != nil {
		return fmt.Errorf("setting up %s: %w", d.dir, err)
	}
	s, err := load(d.path(devConfig))
	if err != nil {
		return err
	}
	remove := func() { _ = os.Remove(d.path(devReady)) }
	defer remove()
	defer context.AfterFunc(ctx, remove)() // as soon as stopping begins, which may take a while
	return s.serve(ctx, listener, streams.Err, func() error {
		d.greet(streams.Out, address)
		return writeFile(d.path(devReady), address+"\n", 0o600)
	})
}

// claim makes DIR, or finds that an earlier run made it, and keeps other runs
// out until the function it returns is called.
func (d *dev) claim() (unlock func(), err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder: %w", err)
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the folder: %w", err)
	}
	if _, err := os.Stat(d.path(devLock)); err != nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s holds something else (%s): name a folder of its own", d.dir, entries[0].Name())
	}
	if err := os.Chmod(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("closing the folder to others: %w", err)
	}
	lock, err := os.OpenFile(d.path(devLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%s is in use by another roamsignd: stop it, or name another folder", d.dir)
	}
	if err := os.Remove(d.path(devReady)); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = lock.Close()
		return nil, fmt.Errorf("removing what a killed run left: %w", err)
	}
	return func() { _ = lock.Close() }, nil
}

// bind opens the address asked for; else the one of the last run; else, if that
// was none or is taken, a free one.
func (d *dev) bind(before recorded) (net.Listener, error) {
	if d.listen != "" {
		return listen(d.listen)
	}
	const free = "127.0.0.1:0"
	if loopback(before.Listen) != nil {
		return listen(free)
	}
	listener, err := listen(before.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return listen(free)
	}
	return listener, err
}

func (d *dev) greet(to io.Writer, address string) {
	fmt.Fprintf(to, `
Serving on %s, until interrupted. In another terminal:

  roamsign --config %s sign INVOICE.xml
  roamsign verify --roots %s INVOICE.signed.xml

NOT FOR SUBMISSION: LHDN does not know the authority of this certificate.
`, address, d.path(devClient), d.path(devRoots))
}
