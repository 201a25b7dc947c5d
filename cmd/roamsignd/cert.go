package main

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
)

// soon is when a certificate's end is worth a warning: authorities take days,
// and the rotation wants days of both certificates.
const soon = 30 * 24 * time.Hour

func certImportCommand() command.Command {
	return command.Command{
		Name: "cert import", Args: "FILE (--config FILE | --module PATH --token LABEL) [--out FILE] [--skip-token] [FLAGS]",
		Purpose: "Put the certificate for the key into the token, and into a file.",
		About: `FILE is PEM: the certificate first, then its issuers. It is refused unless it is for the
key, which is proven with a signature. Each point in which it leaves LHDN's profile is
named as a warning. The certificate goes into the token beside its key, where other
programs look for it; with --out the whole of FILE goes to a file, which is where serve
reads it (signing.certificate).`,
		Example: `roamsignd cert import issued.pem --config /etc/roamsign/roamsign.yaml --out /etc/roamsign/signing.pem
roamsignd cert import issued.pem --config roamsignd.yaml --out signing.pem --replace --roots roots.pem`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			c.loginFlags(flags)
			c.keyFlags(flags)
			c.logFlags(flags)
			i := &certImport{ceremony: c}
			flags.StringVar(&i.out, "out", "", "write the certificate and its issuers, in PEM, to `FILE`")
			flags.BoolVar(&i.replace, "replace", false, "replace the file of --out if it is there")
			flags.BoolVar(&i.skipToken, "skip-token", false, "leave the token as it is: --out alone")
			flags.StringVar(&i.roots, "roots", "", "the PEM `FILE` of the authorities that the chain must end at")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				file, err := one(args, "file of a certificate")
				if err != nil {
					return err
				}
				return i.run(ctx, streams, file)
			}
		},
	}
}

type certImport struct {
	*ceremony
	out, roots         string
	replace, skipToken bool
}

func (i *certImport) run(ctx context.Context, streams command.Streams, file string) error {
	if i.skipToken && i.out == "" {
		return command.Usagef("--skip-token leaves nothing to do without --out FILE")
	}
	chain, err := ca.LoadCertificates(file)
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	if i.out != "" && !i.replace && isThere(i.out) {
		return fmt.Errorf("%s is there already: give --replace to replace it, or name another with --out", i.out)
	}
	report, err := judgeFile(chain, i.roots, time.Now())
	if err != nil {
		return err
	}
	s, wipe, err := i.enter(ctx, streams)
	defer wipe()
	if err != nil {
		return err
	}
	err = i.perform(ctx, s, "cert import", func(e *entry) error {
		e.Certificate, e.Detail = report.Fingerprint, i.where()
		if public, ok := chain[0].PublicKey.(*rsa.PublicKey); ok {
			e.SPKI = hsm.Key{Public: public}.Fingerprint()
		}
		return i.store(ctx, s.Token, chain)
	})
	if err != nil {
		return err
	}
	return i.tell(streams.Out, report, func(out io.Writer) {
		report.print(out)
		if !i.skipToken {
			fmt.Fprintf(out, "It is for the key, and in token %q beside it.\n", s.tokenName())
		}
		if i.out != "" {
			fmt.Fprintf(out, "It is for the key, and with its issuers in %s.\nNext: roamsignd check --login, then roamsignd serve\n", i.out)
		} else if s.Signing.Certificate != "" {
			fmt.Fprintf(out, "Next: serve reads the certificate from a file: repeat this with --out %s\n", s.Signing.Certificate)
		}
	})
}

// where says where the certificate goes, for the record.
func (i *certImport) where() string {
	switch {
	case i.skipToken:
		return "into " + i.out
	case i.out == "":
		return "into the token"
	}
	return "into the token and " + i.out
}

// store proves that the certificate is the key's, and puts it where it was asked for.
func (i *certImport) store(ctx context.Context, config hsm.Config, chain []*x509.Certificate) error {
	if i.skipToken {
		public, err := hsm.PublicKey(ctx, config)
		if err != nil {
			return err
		}
		if err := hsm.Certifies(chain[0], public); err != nil {
			return err
		}
	} else if err := hsm.ImportCertificate(ctx, config, chain[0]); err != nil {
		return err
	}
	var err error
	switch {
	case i.out == "":
	case i.replace:
		err = ca.WriteCertificates(i.out, chain...)
	default:
		err = writeNewCertificates(i.out, chain...)
	}
	if err != nil && !i.skipToken {
		err = fmt.Errorf("the certificate is in the token, and not in the file: repeat this: %w", err)
	}
	return err
}

// judge tells what a certificate is, and each point in which it, or its chain,
// leaves what LHDN wants. Roots may be "".
func judge(chain []*x509.Certificate, roots string, now time.Time) (certificateReport, error) {
	leaf := chain[0]
	report := reportCertificate(leaf, now)
	warn := func(format string, args ...any) {
		report.Warnings = append(report.Warnings, fmt.Sprintf(format, args...))
	}
	for _, issuer := range chain[1:] {
		if now.Before(issuer.NotBefore) || now.After(issuer.NotAfter) {
			warn("chain: its issuer %s is not valid now", nameOf(issuer.RawSubject))
		}
	}
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		warn("chain: it signed itself; MyInvois takes certificates of licensed authorities only")
	}
	if roots == "" {
		return report, nil
	}
	pool, err := ca.LoadPool(roots)
	if err != nil {
		return report, fmt.Errorf("reading the roots: %w", err)
	}
	between := x509.NewCertPool()
	for _, issuer := range chain[1:] {
		between.AddCert(issuer)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		warn("chain: it does not end at the roots given: %v", err)
	}
	return report, nil
}

// judgeFile is judge for a file, which is to hold the issuers, too.
func judgeFile(chain []*x509.Certificate, roots string, now time.Time) (certificateReport, error) {
	report, err := judge(chain, roots, now)
	if len(chain) == 1 && !bytes.Equal(chain[0].RawIssuer, chain[0].RawSubject) {
		report.Warnings = append(report.Warnings,
			fmt.Sprintf("chain: its issuer %s is not in the file: append it, so that callers get it with the certificate", report.Issuer))
	}
	return report, err
}

func (r certificateReport) print(out io.Writer) {
	fmt.Fprintf(out, "Certificate %s\n  issued by %s\n  serial %s, in documents %s\n  valid %s to %s, %d days left\n  SHA-256 %s\n",
		r.Subject, r.Issuer, r.Serial, r.Decimal, r.NotBefore, r.NotAfter, r.DaysLeft, r.Fingerprint)
	for _, w := range r.Warnings {
		fmt.Fprintf(out, "  warning: %s\n", w)
	}
}

func certShowCommand() command.Command {
	return command.Command{
		Name: "cert show", Args: "(--config FILE | --module PATH --token LABEL) [FLAGS]", Purpose: "Show the key's certificates, in the token and in the file.",
		About: `Shows the certificates of the key in the token, and the one that the configuration's
signing.certificate names, with the days that are left and each point in which they leave
LHDN's profile. It fails where the file's certificate is not for the key. Most tokens show
certificates without a login; where this one does not, it logs in.`,
		Example: `roamsignd cert show --config /etc/roamsign/roamsign.yaml
roamsignd cert show --config roamsignd.yaml --roots roots.pem --json`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			c.loginFlags(flags)
			c.keyFlags(flags)
			roots := flags.String("roots", "", "the PEM `FILE` of the authorities that the chain must end at")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := none(args); err != nil {
					return err
				}
				return c.certShow(ctx, streams, *roots)
			}
		},
	}
}

// certificates are those of a key, by where they are.
type certificates struct {
	Token []certificateReport `json:"token"`
	File  *certificateReport  `json:"file"`
	Path  string              `json:"path,omitempty"`
	Match bool                `json:"file_matches_key"`
}

func (c *ceremony) certShow(ctx context.Context, streams command.Streams, roots string) error {
	s, err := c.read()
	if err != nil {
		return err
	}
	var chain []*x509.Certificate
	if s.Signing.Certificate != "" && isThere(s.Signing.Certificate) {
		if chain, err = s.Signing.load(); err != nil {
			return fmt.Errorf("reading the configuration's signing.certificate: %w", err)
		}
	}
	key, err := c.certified(ctx, streams, s)
	if err != nil {
		return err
	}
	now := time.Now()
	shown := certificates{Token: []certificateReport{}, Path: s.Signing.Certificate}
	for _, certificate := range key.Certificates {
		whole := []*x509.Certificate{certificate}
		if len(chain) > 0 && certificate.Equal(chain[0]) {
			whole = chain // the token has no room for issuers
		}
		report, err := judge(whole, roots, now)
		if err != nil {
			return err
		}
		shown.Token = append(shown.Token, report)
	}
	var mismatch error
	if len(chain) > 0 {
		report, err := judgeFile(chain, roots, now)
		if err != nil {
			return err
		}
		mismatch = hsm.Certifies(chain[0], key.Public)
		shown.File, shown.Match = &report, mismatch == nil
	}
	if err := c.tell(streams.Out, shown, shown.print); err != nil {
		return err
	}
	if mismatch != nil {
		return fmt.Errorf("%s: %w", shown.Path, mismatch)
	}
	return nil
}

// certified returns the one key that the configuration names, with its
// certificates. It logs in only where the token does not show them without.
func (c *ceremony) certified(ctx context.Context, streams command.Streams, s *setup) (hsm.Key, error) {
	if s.Token.KeyLabel+s.Token.KeyID == "" {
		return hsm.Key{}, command.Usagef("name the key with --label LABEL or --id ID; roamsignd key list shows them")
	}
	if s.Token.TokenLabel+s.Token.TokenSerial != "" {
		keys, err := hsm.ShownKeys(ctx, s.Token)
		if err == nil && len(keys) == 1 && keys[0].Public != nil {
			return keys[0], nil
		}
	}
	s, wipe, err := c.enter(ctx, streams)
	defer wipe()
	if err != nil {
		return hsm.Key{}, err
	}
	keys, err := hsm.Keys(ctx, s.Token)
	switch {
	case err != nil:
		return hsm.Key{}, err
	case len(keys) != 1:
		return hsm.Key{}, fmt.Errorf("the token has %d keys of label %q and ID %q, want one; roamsignd key list shows them",
			len(keys), s.Token.KeyLabel, s.Token.KeyID)
	case keys[0].Public == nil:
		return hsm.Key{}, errors.New("the token does not tell the key's modulus")
	}
	return keys[0], nil
}

func (s certificates) print(out io.Writer) {
	if len(s.Token) == 0 {
		fmt.Fprintln(out, "The token has no certificate for the key.")
	}
	for _, r := range s.Token {
		fmt.Fprint(out, "In the token: ")
		r.print(out)
	}
	switch {
	case s.File != nil:
		fmt.Fprintf(out, "In %s: ", s.Path)
		s.File.print(out)
	case s.Path != "":
		fmt.Fprintf(out, "%s is not there yet: roamsignd cert import --out writes it.\n", s.Path)
	}
}
