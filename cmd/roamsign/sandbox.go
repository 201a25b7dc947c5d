package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois/sandbox"
)

func sandboxCommand() command.Command {
	return command.Command{
		Name: "sandbox", Args: "--dir DIR [--roots FILE] [FLAGS]",
		Purpose: "Run a stand-in for the MyInvois platform, on loopback.",
		About: `
It is not LHDN, and nothing submitted to it is an e-invoice. It has the platform's
paths, bodies, limits and errors, and validates as far as that is known: it verifies
signatures, and finds duplicates. What it has it forgets when it ends; the journal of
roamsign submit, DIR/myinvois.journal, remembers, so remove that when you begin anew.

Makes under DIR what it needs, and what its clients do: myinvois.yaml, for
roamsign submit --platform, with credentials.yaml and ca.pem beside it. Who exists
there stands in sandbox.yaml, which you may change: by default the taxpayers of
roamsignd dev, and their intermediary. Started again with the same DIR it uses what
is there. DIR/ready holds the address while it serves.

--roots names the authorities whose signing certificates it accepts, such as the
roots.pem of roamsignd dev; needed at the first start.

Faults are written ENDPOINT:KIND[-applied][/EVERY][*TIMES]. Endpoints: any, login,
submit, submission, details, raw, cancel, reject, recent, search, tin. Kinds:
too-many (429), duplicate (422), fail (503), slow (5s), cut, half (the reply), expire
(the tokens). With -applied the request is done first: submit:cut-applied is a
submission that is accepted and whose reply is lost. While it serves, faults are set
with POST ` + sandbox.FaultsPath + ` and JSON, listed with GET, and removed with DELETE;
GET ` + sandbox.DocumentsPath + ` lists what was accepted.`,
		Example: `
roamsign sandbox --dir sandbox --roots dev/roots.pem
roamsign --config dev/client.yaml submit --platform sandbox/myinvois.yaml invoice.xml
roamsign sandbox --dir sandbox --fault submit:cut-applied/5 --fault any:too-many/50
curl --cacert sandbox/ca.pem -H 'Content-Type: application/json' -d '{"on":"login","kind":"fail","times":3}' https://127.0.0.1:8443` + sandbox.FaultsPath,
		Define: func(flags *flag.FlagSet) command.Runner {
			s := &stand{}
			flags.StringVar(&s.dir, "dir", "", "the `DIR` for everything it makes (created; 0700)")
			flags.StringVar(&s.listen, "listen", "", "the loopback `ADDR` to serve on (default: the last one, else a free port)")
			flags.StringVar(&s.roots, "roots", "", "a PEM `FILE` with the authorities to trust for signing certificates")
			flags.Var(&s.taxpayers, "taxpayer", "the `TIN[:BRN]` of a further taxpayer that the intermediary represents; may be repeated")
			flags.Var(&s.faults, "fault", "a `FAULT` that is there from the start; may be repeated")
			flags.DurationVar(&s.validation, "validation", 0, "how `LONG` validation takes (default: 2s)")
			return s.run
		},
	}
}

// stand is one run of the sandbox.
type stand struct {
	dir, listen, roots string
	taxpayers, faults  command.Strings
	validation         time.Duration
}

// The files under DIR.
const (
	standWorld       = "sandbox.yaml"
	standCredentials = "credentials.yaml"
	standPlatform    = "myinvois.yaml"
	standRoots       = "roots.pem"
	standCA          = "ca.pem"
	standServer      = "server.pem"
	standKey         = "server.key"
	standReady       = "ready"
	standLock        = "sandbox.lock" // where it is, the sandbox made the folder
)

func (s *stand) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stand) check(args []string) error {
	switch {
	case len(args) > 0:
		return command.Usagef("unexpected argument %q", args[0])
	case s.dir == "":
		return command.Usagef("name a folder for what it makes with --dir DIR")
	case s.validation < 0:
		return command.Usagef("--validation must not be negative")
	}
	if s.listen == "" {
		return nil
	}
	if err := onLoopback(s.listen); err != nil {
		return command.Usagef("--listen: %v", err)
	}
	return nil
}

// onLoopback refuses an address that others could reach: its faults are anybody's
// to set.
func onLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:8443", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is not a loopback address; the sandbox serves on 127.0.0.1, ::1 or localhost only", host)
	}
	return nil
}

func (s *stand) run(ctx context.Context, streams command.Streams, args []string) error {
	if err := s.check(args); err != nil {
		return err
	}
	unlock, err := s.claim()
	if err != nil {
		return err
	}
	defer unlock()
	config, err := s.world(time.Now())
	if err != nil {
		return err
	}
	config.Log = slog.New(slog.NewTextHandler(streams.Err, nil))
	platform, err := sandbox.New(config)
	if err != nil {
		return err
	}
	listener, err := s.bind(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	address := listener.Addr().String()
	if err := errors.Join(s.certify(time.Now()), s.tell(address, config)); err != nil {
		return fmt.Errorf("setting up %s: %w", s.dir, err)
	}
	certificate, err := ca.LoadPair(s.path(standServer), s.path(standKey))
	if err != nil {
		return err
	}
	remove := func() { _ = os.Remove(s.path(standReady)) }
	defer remove()
	defer context.AfterFunc(ctx, remove)() // as soon as stopping begins
	if err := s.put(standReady, address+"\n"); err != nil {
		return err
	}
	s.greet(streams.Out, address)
	return platform.Serve(ctx, listener, certificate)
}

// claim makes DIR, or finds that an earlier run made it, and keeps other runs out
// until the function it returns is called.
func (s *stand) claim() (unlock func(), err error) {
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the folder: %w", err)
	}
	if _, err := os.Stat(s.path(standLock)); err != nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s holds something else (%s): name a folder of its own", s.dir, entries[0].Name())
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("closing the folder to others: %w", err)
	}
	lock, err := os.OpenFile(s.path(standLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%s is in use by another sandbox: stop it, or name another folder", s.dir)
	}
	if err := os.Remove(s.path(standReady)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = lock.Close()
		return nil, fmt.Errorf("removing what a killed run left: %w", err)
	}
	return func() { _ = lock.Close() }, nil
}

// bind opens the address asked for; else the one of the last run; else, if that was
// none or is taken, a free one.
func (s *stand) bind(ctx context.Context) (net.Listener, error) {
	const free = "127.0.0.1:0"
	var listening net.ListenConfig
	last := s.lastAddress()
	switch {
	case s.listen != "":
		return listening.Listen(ctx, "tcp", s.listen)
	case last == "":
		return listening.Listen(ctx, "tcp", free)
	}
	listener, err := listening.Listen(ctx, "tcp", last)
	if errors.Is(err, syscall.EADDRINUSE) {
		return listening.Listen(ctx, "tcp", free)
	}
	return listener, err
}

func (s *stand) greet(to io.Writer, address string) {
	fmt.Fprintf(to, `THIS IS NOT LHDN. It is a stand-in for trying things out: nothing submitted to it is
an e-invoice, and what it finds valid LHDN may refuse.

Serving on https://%s, until interrupted. In another terminal:

  roamsign --config CLIENT.yaml submit --platform %s INVOICE.xml
  curl --cacert %s https://%s%s
`, address, s.path(standPlatform), s.path(standCA), address, sandbox.DocumentsPath)
}

// put writes a file of the folder in one step, readable by its owner alone.
func (s *stand) put(name, text string) error {
	temporary := s.path("." + name + ".new")
	if err := removed(temporary); err != nil {
		return err
	}
	if err := writeWhole(temporary, 0o600, []byte(text)); err != nil {
		return errors.Join(err, removed(temporary))
	}
	return os.Rename(temporary, s.path(name))
}

// missing tells whether the folder lacks a file.
func (s *stand) missing(name string) (bool, error) {
	_, err := os.Stat(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// lastAddress is where the last run served, or "".
func (s *stand) lastAddress() string {
	text, err := os.ReadFile(s.path(standPlatform))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if address, found := strings.CutPrefix(strings.TrimSpace(line), `api: "https://`); found {
			if address = strings.TrimSuffix(address, `"`); onLoopback(address) == nil {
				return address
			}
		}
	}
	return ""
}
