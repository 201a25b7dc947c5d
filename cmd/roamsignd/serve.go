package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/signer"
	"github.com/roamsign/roamsign/xades"
)

// The token's share of starting and stopping. A network HSM answers within
// seconds or not at all.
const (
	openTimeout  = 30 * time.Second
	closeTimeout = 5 * time.Second
)

func serveCommand() command.Command {
	return command.Command{
		Name: "serve", Args: "--config FILE", Purpose: "Serve signatures until interrupted.",
		About: `Reads the configuration, logs in to the token, proves that its key belongs to the
signing certificate, and serves. With several tokens one is enough to start and to
go on with. On SIGINT or SIGTERM it finishes what is in
flight, within the configuration's limits.drain.

The policy, the server's certificate and key, the client authorities and the
revocations are read again when they change, and on SIGHUP; so is signing.next in the
configuration, with its certificate, which takes over by itself at its time. A file
with a fault is not taken over: what was before stays in force, and the log says so.

Where systemd listens for it (roamsignd.socket) it serves on that socket, not on
the configuration's listen: a restart then refuses no connection.

Exit codes: 0 stopped as told; 1 it could not start or go on; 2 wrong usage; 77 the
token refused the PIN or would lock: do not start it again before that is mended.`,
		Example: "roamsignd serve --config /etc/roamsign/roamsign.yaml",
		Define: func(flags *flag.FlagSet) command.Runner {
			path := configFlag(flags)
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := onlyConfig(*path, args); err != nil {
					return err
				}
				s, err := load(*path)
				if err != nil {
					return err
				}
				socket, err := listener(os.Getenv, s.Signer.Listen)
				if err != nil {
					return err
				}
				return s.serve(ctx, socket, streams.Err, nil)
			}
		},
	}
}

func configFlag(flags *flag.FlagSet) *string {
	return flags.String("config", "", "the configuration `FILE`")
}

func onlyConfig(path string, args []string) error {
	switch {
	case len(args) > 0:
		return command.Usagef("unexpected argument %q", args[0])
	case path == "":
		return command.Usagef("name the configuration with --config FILE")
	}
	return nil
}

// listen opens the address. The caller closes it, or hands it to serve.
func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return listener, nil
}

// serve opens the record and the tokens, and serves on the listener, which it
// closes, until ctx ends or no token will ever serve again. It calls ready, if there is one, as soon
// as connections are accepted.
func (s *setup) serve(ctx context.Context, listener net.Listener, logs io.Writer, ready func() error) error {
	log := slog.New(slog.NewTextHandler(logs, nil))
	defer func() { _ = listener.Close() }() // for the early returns; Serve closes it itself
	hangups := make(chan os.Signal, 1)      // from here on SIGHUP ends nothing
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	if err := s.holders(s.policy); err != nil {
		return err
	}
	limitMemory()
	super, err := newSupervisor(os.Getenv)
	if err != nil {
		return err
	}
	scrapes, checks, err := s.listenBeside(log)
	if err != nil {
		return err
	}
	defer closeAll(scrapes, checks)
	record, err := audit.Open(ctx, s.Audit.log(), log)
	if err != nil {
		return err
	}
	tokens, err := s.open(ctx, log)
	if err != nil {
		return errors.Join(err, closeRecord(record))
	}
	traces, delivered, err := s.Tracing.open(ctx, s.Signer.Instance, log)
	if err != nil {
		return errors.Join(err, closeRecord(record), shut(tokens))
	}
	defer delivered()
	meter := newMetrics(s)
	questions := &finder{dir: s.Audit.index(), log: record, lines: log}
	server, err := signer.New(signer.Parts{
		Config: s.Signer, Credentials: s.credentials, Policy: s.policy,
		Key: meter.timed(tokens, false), Next: s.next.part(meter, tokens), Sessions: tokens.Sessions(), Record: meter.timedRecord(record),
		Receipts: record, Index: questions,
		Certificate: s.chain[0], Chain: s.chain[1:], Log: log, Observer: meter, Tracing: traces, Clock: s.clock,
	})
	if err == nil {
		server.SetStopped(s.stopped)
		server.SetRevocations(s.crls)
	}
	if err == nil && ready != nil {
		err = ready()
	}
	if err == nil {
		defer super.attend(ctx, tokens.Hung)()
		log.Info("serving", "address", listener.Addr().String(), "sessions", tokens.Sessions(), "certificate", subjectOf(s.chain[0]), "expires", s.chain[0].NotAfter)
		err = whileAny(ctx, tokens, func(ctx context.Context) error {
			files := newReloader(s, watched{server, meter, tokens}, log)
			defer meter.serve(scrapes, moment{meter, s, tokens, server, files.sources}, log)()
			defer serveAudit(checks, record.Source(), server, log)()
			defer files.start(ctx, hangups)()
			defer questions.start(ctx)()
			defer trim(ctx)()
			return server.Serve(ctx, listener)
		})
		log.Info("stopped")
	}
	return errors.Join(err, closeRecord(record), shut(tokens))
}

// whileAny runs serve until it returns, and ends its context when no token will
// ever serve in this process. The error tells why, then.
func whileAny(ctx context.Context, tokens *hsm.Group, serve func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var over error
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-tokens.Over():
			over = tokens.Ready()
			cancel()
		case <-ctx.Done():
		}
	})
	err := serve(ctx)
	cancel()
	waiting.Wait()
	return errors.Join(over, err)
}

// open logs in to the tokens and proves their key.
func (s *setup) open(ctx context.Context, log *slog.Logger) (*hsm.Group, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return hsm.OpenGroup(ctx, s.next.inTokens(s.all()), s.chain[0], log)
}

// subjectOf writes the certificate's subject as MyInvois documents write names.
func subjectOf(certificate *x509.Certificate) string {
	name, err := xades.Name(certificate.RawSubject)
	if err != nil {
		return certificate.Subject.String()
	}
	return name
}

func shut(tokens *hsm.Group) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return tokens.Close(ctx)
}
