package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
)

func checkCommand() command.Command {
	return command.Command{
		Name: "check", Args: "--config FILE [--login | --ready [--as FILE] [--service NAME]]", Purpose: "Report every fault of a configuration at once.",
		About: `Reads the configuration and all files it names: the policy, the certificates, and
what the token's module is configured by, and the audit log. Every fault is told with its line. A warning
is no fault: something stands in the policy that denies more than it seems to, such as
a representation that has ended. With --login it also logs in to the token
and proves that the key there belongs to the signing certificate, and that of the next
one to it. It warns of a certificate that ends within 30 days. A wrong PIN counts
against the token's tries, so do not repeat it.

With --ready it asks the running service instead, over gRPC as its callers do, whether
it can sign, and answers within a second: for probes. It asks as the client whose
client.yaml, as roamsignd client add makes it, the configuration names with probe, or
--as does; the policy need not name that client. It reads no PIN and touches no token.
Exit codes: 0 it serves; 1 it does not, or does not answer; 2 wrong usage.`,
		Example: `roamsignd check --config /etc/roamsign/roamsign.yaml
roamsignd check --config /etc/roamsign/roamsign.yaml --login
roamsignd check --config /etc/roamsign/roamsign.yaml --ready`,
		Define: func(flags *flag.FlagSet) command.Runner {
			path := configFlag(flags)
			login := flags.Bool("login", false, "log in to the token, too, and prove its key")
			ready := readyFlags(flags)
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := cmp.Or(onlyConfig(*path, args), ready.check(*login)); err != nil {
					return err
				}
				if ready.asked {
					return ready.ask(ctx, *path, streams.Out)
				}
				s, err := load(*path)
				if s != nil {
					err = errors.Join(err, s.holders(s.policy), s.current(time.Now()), s.recorded(ctx))
					s.warn(streams.Err, time.Now())
				}
				if err != nil {
					return err
				}
				if !*login {
					fmt.Fprintf(streams.Out, "%s: no faults found; the token was not touched (--login logs in)\n", *path)
					return nil
				}
				if err := s.prove(ctx); err != nil {
					return err
				}
				fmt.Fprintf(streams.Out, "%s: no faults found; the token's key belongs to the certificate\n", *path)
				return nil
			}
		},
	}
}

// warn tells what is no fault, and likely not what is wanted.
func (s *setup) warn(to io.Writer, now time.Time) {
	for _, w := range s.warnings(s.policy, now) {
		fmt.Fprintf(to, "roamsignd: %s: line %d: warning: %s\n", s.Policy, w.Line, w.Message)
	}
	if err := s.ending(now); err != nil {
		fmt.Fprintf(to, "roamsignd: warning: %v\n", err)
	}
	if s.Signer.State == "" && s.policy.Daily() {
		fmt.Fprintf(to, "roamsignd: %s: warning: a restart forgets what was used of daily quotas: name a folder for it with the key state\n", s.path)
	}
}

// recorded tells whether the audit log is there, as the service needs it.
func (s *setup) recorded(ctx context.Context) error {
	if s.Audit.Validate() != nil {
		return nil //nolint:nilerr // loading has told it
	}
	return errors.Join(faultsOf(s.path, s.Audit.check(ctx))...)
}

// prove logs in to the tokens and out again.
func (s *setup) prove(ctx context.Context) error {
	tokens, err := s.open(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, h := range tokens.Health() {
		err = errors.Join(err, h.Err)
		if h.Err == nil {
			err = errors.Join(err, prefixed("signing.next", h.Next))
		}
	}
	return errors.Join(err, shut(tokens))
}

// holders tells whether the signing certificates are those of the policy's
// intermediary, as far as all could be read, and what to do if they are not.
func (s *setup) holders(rules *policy.Policy) error {
	var err error
	if len(s.chain) > 0 {
		err = s.holder(rules, s.chain[0], "signing.certificate")
	}
	if s.next != nil {
		err = errors.Join(err, s.holder(rules, s.next.chain[0], "signing.next.certificate"))
	}
	return err
}

func (s *setup) holder(rules *policy.Policy, certificate *x509.Certificate, key string) error {
	var tin, brn string
	for _, name := range certificate.Subject.Names {
		value, _ := name.Value.(string)
		switch name.Type.String() {
		case "2.5.4.97": // organizationIdentifier
			tin = value
		case "2.5.4.5": // serialNumber
			brn = value
		}
	}
	if err := rules.CheckHolder(tin, brn); err != nil {
		return fmt.Errorf("%w: LHDN would refuse what is signed (DS311, DS312): correct the intermediary there, or name the certificate of its own in %s",
			errors.Join(faultsOf(s.Policy, err)...), key)
	}
	return nil
}

// warnings are the policy's, under the signing certificates that could be read: who
// is bound to one of them would be stopped by the change to the next.
func (s *setup) warnings(rules *policy.Policy, now time.Time) policy.Faults {
	var certificate [32]byte
	if len(s.chain) > 0 {
		certificate = sha256.Sum256(s.chain[0].Raw)
	}
	all := rules.Warnings(certificate, now)
	if s.next == nil {
		return all
	}
	for _, w := range rules.Warnings(sha256.Sum256(s.next.chain[0].Raw), now) {
		if !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}
