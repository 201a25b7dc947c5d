package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
)

// readyWithin is how long the service may take to say how it is. With the start of
// the program a probe has its answer within a second.
const readyWithin = 900 * time.Millisecond

// readiness is what check --ready is told.
type readiness struct {
	asked   bool
	as      string // the client.yaml of whoever asks; empty: the configuration's probe
	service string
}

func readyFlags(flags *flag.FlagSet) *readiness {
	r := &readiness{}
	flags.BoolVar(&r.asked, "ready", false, "ask the running service whether it can sign, and nothing else")
	flags.StringVar(&r.as, "as", "", "with --ready: the client.yaml `FILE` to ask by (default: the configuration's probe)")
	flags.StringVar(&r.service, "service", "", "with --ready: the `NAME` of one of its services (default: the signer as a whole)")
	return r
}

func (r *readiness) check(login bool) error {
	switch {
	case r.asked && login:
		return command.Usagef("--ready touches no token: leave out --login, or --ready")
	case !r.asked && (r.as != "" || r.service != ""):
		return command.Usagef("--as and --service are for --ready")
	}
	return nil
}

// ask asks the running service for its health, over the listener that the
// configuration names. It touches no token and reads neither PIN nor policy.
func (r *readiness) ask(ctx context.Context, path string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	s, document, err := readForm(path)
	if err != nil {
		return err
	}
	if err := errors.Join(faultsOf(path, document.Err())...); err != nil {
		return err
	}
	as := cmp.Or(r.as, s.Probe)
	if as == "" {
		return command.Usagef("the service answers clients with a certificate only: name the client.yaml of one, as roamsignd client add makes it, with --as FILE or with the key probe of the configuration")
	}
	asker, err := client.Load(as)
	if err != nil {
		return err
	}
	address, err := reached(s.Signer.Listen)
	if err != nil {
		return fmt.Errorf("%s: listen: %w", path, err)
	}
	name, err := ownName(s.Signer.TLS.Certificate)
	if err != nil {
		return fmt.Errorf("%s: tls.certificate: %w", path, err)
	}
	if err := asker.Health(ctx, address, name, r.service); err != nil {
		return fmt.Errorf("asking the service at %s: %w", address, err)
	}
	fmt.Fprintf(out, "%s: serving\n", path)
	return nil
}

// reached is where a listener's address is reached from this machine.
func reached(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("must be HOST:PORT, such as 127.0.0.1:7443, not %q", listen)
	}
	if port == "0" {
		return "", errors.New("the port is chosen at each start, so nobody can know it: give it a number")
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// ownName is a name that the service's certificate is for: the first one.
func ownName(path string) (string, error) {
	chain, err := ca.LoadCertificates(path)
	if err != nil {
		return "", err
	}
	switch leaf := chain[0]; {
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0], nil
	case len(leaf.IPAddresses) > 0:
		return leaf.IPAddresses[0].String(), nil
	}
	return "", fmt.Errorf("%s: it names no host", path)
}
