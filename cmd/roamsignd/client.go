package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/internal/strict"
	"github.com/roamsign/roamsign/policy"
)

// What the small authority's certificates are valid for.
const (
	authorityName = "roamsign client CA"
	authorityDays = 3650
	clientDays    = 365
)

// clientDesk is what the commands for client certificates have in common: where
// the authority is, and how the outcome is told.
type clientDesk struct {
	config, dir string
	json        bool

	setup   *setup // what --config says; empty without it
	folder  string // the authority's
	revoked string // the list that revocations go to
}

func (d *clientDesk) flags(flags *flag.FlagSet) {
	flags.StringVar(&d.config, "config", "", "the configuration `FILE`, whose clients names the authority's folder")
	flags.StringVar(&d.dir, "dir", "", "the authority's `DIR`, where no configuration is at hand")
	flags.BoolVar(&d.json, "json", false, "tell the outcome in JSON")
}

func clientAddCommand() command.Command {
	return command.Command{
		Name: "client add", Args: "NAME --config FILE --out DIR", Purpose: "Make a key and a certificate for a client.",
		About: `Makes a key and a certificate for the client NAME under the small authority that
roamsign keeps for operators who have none, and writes them into a folder of their
own, with a client.yaml that roamsign --config reads. NAME is how the policy names
the caller: a URI such as spiffe://example.com/erp, or a DNS name. Hand the folder to
the client, then remove it here: the authority keeps no copy of the key.

The first time, the authority is made, too. The configuration names its folder:

  clients: clients
  tls:
    client_ca: clients/ca.pem
    revoked: clients/revoked`,
		Example: `roamsignd client add spiffe://example.com/erp --config roamsignd.yaml --out erp
roamsignd client add till-7.example.com --config roamsignd.yaml --out till-7 --days 90`,
		Define: func(flags *flag.FlagSet) command.Runner {
			d, a := &clientDesk{}, addition{}
			d.flags(flags)
			flags.StringVar(&a.out, "out", "", "the `DIR` to write to (created; 0700); nothing in it is overwritten")
			flags.IntVar(&a.days, "days", 0, fmt.Sprintf("for how many `DAYS` it is valid (default: %d, or as long as the authority is)", clientDays))
			return func(_ context.Context, streams command.Streams, args []string) error {
				var err error
				if a.name, err = one(args, "client: a URI such as spiffe://example.com/erp, or a DNS name"); err != nil {
					return err
				}
				return d.add(streams, a)
			}
		},
	}
}

func clientListCommand() command.Command {
	return command.Command{
		Name: "client list", Args: "--config FILE", Purpose: "List the certificates that client add made.",
		About: `Lists each certificate that the small authority issued: the client's name, the serial
number, from when to when it is valid, the days left, and whether it is revoked.`,
		Example: `roamsignd client list --config roamsignd.yaml
roamsignd client list --dir clients --json`,
		Define: func(flags *flag.FlagSet) command.Runner {
			d := &clientDesk{}
			d.flags(flags)
			return func(_ context.Context, streams command.Streams, args []string) error {
				if err := none(args); err != nil {
					return err
				}
				return d.list(streams.Out, time.Now())
			}
		},
	}
}

func clientRevokeCommand() command.Command {
	return command.Command{
		Name: "client revoke", Args: "NAME|SERIAL --config FILE", Purpose: "Revoke a client's certificates.",
		About: `Adds a certificate that client add made to the list that tls.revoked names: by its
serial number, or all those of a client by its name. A service that runs reads the
list within seconds, without a restart; it cuts the client's connections and refuses
new ones. A certificate cannot be un-revoked: make another.`,
		Example: `roamsignd client revoke spiffe://example.com/erp --config roamsignd.yaml
roamsignd client revoke 4A3B9C01D2E5F678 --config roamsignd.yaml`,
		Define: func(flags *flag.FlagSet) command.Runner {
			d := &clientDesk{}
			d.flags(flags)
			return func(_ context.Context, streams command.Streams, args []string) error {
				who, err := one(args, "client, or the serial number of a certificate")
				if err != nil {
					return err
				}
				return d.revoke(streams.Out, who, time.Now())
			}
		},
	}
}

// locate finds the authority's folder and the list of revocations.
func (d *clientDesk) locate() (err error) {
	d.setup = &setup{}
	switch {
	case d.config != "" && d.dir != "":
		return command.Usagef("--config and --dir: give one of them")
	case d.dir != "":
		d.folder, d.revoked = d.dir, filepath.Join(d.dir, "revoked")
		return nil
	case d.config == "":
		return command.Usagef("name the configuration with --config FILE, or the authority's folder with --dir DIR")
	}
	var document *strict.Document
	if d.setup, document, err = readForm(d.config); err != nil {
		return err
	}
	if err := document.Err(); err != nil {
		return errors.Join(faultsOf(d.config, err)...)
	}
	d.folder, d.revoked = d.setup.Clients, d.setup.Signer.TLS.Revoked
	if d.folder == "" {
		return fmt.Errorf("%s: clients: missing: name a folder for the authority (clients: clients), or give it with --dir DIR", d.config)
	}
	if d.revoked == "" {
		return fmt.Errorf("%s: tls.revoked: missing: without a list of revocations (revoked: clients/revoked) no certificate could be revoked", d.config)
	}
	return nil
}

// open opens the authority.
func (d *clientDesk) open() (*ca.Register, error) {
	register, err := ca.OpenRegister(d.folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no authority in %s yet: roamsignd client add makes it", d.folder)
	}
	return register, err
}

// clientReport is a client certificate as the commands tell of it.
type clientReport struct {
	Name      string    `json:"name"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"`
	Revoked   bool      `json:"revoked"`

	certificate *x509.Certificate
}

// reports tells of all certificates that were issued.
func (d *clientDesk) reports(now time.Time) ([]clientReport, error) {
	register, err := d.open()
	if err != nil {
		return nil, err
	}
	issued, err := register.Clients()
	if err != nil {
		return nil, err
	}
	revoked, err := ca.LoadSerials(d.revoked)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading what is revoked: %w", err)
	}
	all := []clientReport{}
	for _, c := range issued {
		all = append(all, reportOn(c, revoked, now))
	}
	return all, nil
}

func reportOn(c *x509.Certificate, revoked *ca.Serials, now time.Time) clientReport {
	name, _ := ca.NameOf(c) // client add issues none without
	return clientReport{
		Name: name, Serial: ca.FormatSerial(c.SerialNumber), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		DaysLeft: max(0, int(c.NotAfter.Sub(now).Hours()/24)), Revoked: revoked.Revokes(c), certificate: c,
	}
}

// state is in a word whether the certificate opens connections.
func (r clientReport) state(now time.Time) string {
	switch {
	case r.Revoked:
		return "revoked"
	case now.After(r.NotAfter):
		return "expired"
	}
	return "valid"
}

func (d *clientDesk) list(out io.Writer, now time.Time) error {
	if err := d.locate(); err != nil {
		return err
	}
	all, err := d.reports(now)
	if err != nil {
		return err
	}
	return (&ceremony{json: d.json}).tell(out, all, func(out io.Writer) {
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tSERIAL\tNOT BEFORE\tNOT AFTER\tDAYS LEFT\tSTATE")
		for _, r := range all {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", r.Name, r.Serial,
				r.NotBefore.Format(time.RFC3339), r.NotAfter.Format(time.RFC3339), r.DaysLeft, r.state(now))
		}
		_ = table.Flush()
	})
}

func (d *clientDesk) revoke(out io.Writer, who string, now time.Time) error {
	if err := d.locate(); err != nil {
		return err
	}
	all, err := d.reports(now)
	if err != nil {
		return err
	}
	meant := slices.DeleteFunc(all, func(r clientReport) bool { return !r.meantBy(who) })
	if len(meant) == 0 {
		return fmt.Errorf("%q is neither a client nor the serial number of a certificate that was issued here: roamsignd client list shows them", who)
	}
	if err := appendSerials(d.revoked, meant, now); err != nil {
		return fmt.Errorf("revoking %s: %w", who, err)
	}
	return (&ceremony{json: d.json}).tell(out, meant, func(out io.Writer) {
		for _, r := range meant {
			said := map[bool]string{true: "Was revoked already: ", false: "Revoked "}[r.Revoked]
			fmt.Fprintf(out, "%sthe certificate of %s, serial %s.\n", said, r.Name, r.Serial)
		}
		fmt.Fprintf(out, "It is in %s, which a running service reads within seconds.\n", d.revoked)
	})
}

// meantBy tells whether a certificate is that of a name or a serial number.
func (r clientReport) meantBy(who string) bool {
	if caller, err := policy.ParseCaller(who); err == nil && string(caller) == r.Name {
		return true
	}
	serial, err := ca.ParseSerial(who)
	return err == nil && serial.Cmp(r.certificate.SerialNumber) == 0
}
