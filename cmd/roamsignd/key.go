package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/xades"
)

// defaultKeyBits is what LHDN's sample certificates have, and the fastest.
const defaultKeyBits = 2048

func keyGenerateCommand() command.Command {
	return command.Command{
		Name: "key generate", Args: "(--config FILE | --module PATH --token LABEL --label LABEL --id ID) [FLAGS]",
		Purpose: "Make an RSA key inside the token.",
		About: `Makes the key inside the token: sensitive, not extractable, and good for signing only.
A label or ID that is taken is refused. Then it asks the token whether all that is so,
and tells what it said.`,
		Example: `roamsignd key generate --config /etc/roamsign/roamsign.yaml
roamsignd key generate --config roamsignd.yaml --label signing-2027 --id 2027 --bits 3072`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			c.loginFlags(flags)
			c.keyFlags(flags)
			c.logFlags(flags)
			bits := flags.Int("bits", defaultKeyBits, "the key's `BITS`: 2048, 3072 or 4096")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := none(args); err != nil {
					return err
				}
				if *bits != 2048 && *bits != 3072 && *bits != 4096 {
					return command.Usagef("--bits: %d, want 2048, 3072 or 4096", *bits)
				}
				return c.keyGenerate(ctx, streams, *bits)
			}
		},
	}
}

func (c *ceremony) keyGenerate(ctx context.Context, streams command.Streams, bits int) error {
	s, wipe, err := c.enter(ctx, streams)
	defer wipe()
	if err != nil {
		return err
	}
	var key hsm.Key
	err = c.perform(ctx, s, "key generate", func(e *entry) error {
		if _, err := hsm.GenerateKey(ctx, s.Token, bits); err != nil {
			return err
		}
		key, err = proven(ctx, s.Token)
		e.SPKI = key.Fingerprint()
		if err == nil && !key.BornInside() {
			err = errors.New("the token does not say that it made the key itself and never let it out: do not use it, delete it (roamsignd key delete)")
		}
		return err
	})
	if err != nil {
		return err
	}
	report := reportKey(key)
	report.Used = c.asConfigured()
	return c.tell(streams.Out, report, func(out io.Writer) {
		fmt.Fprintf(out, "Made a key in token %q. What the token says of it:\n", s.tokenName())
		report.print(out)
		fmt.Fprintln(out, "It cannot be read out, and can do nothing but sign.\nNext: roamsignd key csr")
	})
}

// asConfigured reports whether the key is the one that the configuration names.
func (c *ceremony) asConfigured() bool { return c.config != "" && c.label+c.id == "" }

// proven returns the one key that the config names, after asking the token
// whether it keeps it as it must.
func proven(ctx context.Context, config hsm.Config) (hsm.Key, error) {
	keys, err := hsm.Keys(ctx, config)
	if err != nil {
		return hsm.Key{}, err
	}
	if len(keys) != 1 {
		return hsm.Key{}, fmt.Errorf("the token has %d keys of label %q and ID %q, want one", len(keys), config.KeyLabel, config.KeyID)
	}
	if faults := keys[0].Faults(); len(faults) > 0 {
		return keys[0], fmt.Errorf("the token does not keep the key as it must be: %s: do not use it, delete it (roamsignd key delete)",
			strings.Join(faults, "; "))
	}
	return keys[0], nil
}

func keyListCommand() command.Command {
	return command.Command{
		Name: "key list", Args: "(--config FILE | --module PATH --token LABEL) [FLAGS]", Purpose: "List the RSA keys of a token, and how it keeps them.",
		About: `Logs in and lists the token's RSA keys with their attributes and certificates. With
--label or --id it lists those that fit.`,
		Example: `roamsignd key list --config /etc/roamsign/roamsign.yaml
roamsignd key list --module /usr/lib/softhsm/libsofthsm2.so --token roamsign --json`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			c.loginFlags(flags)
			c.keyFlags(flags)
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := none(args); err != nil {
					return err
				}
				return c.keyList(ctx, streams)
			}
		},
	}
}

func (c *ceremony) keyList(ctx context.Context, streams command.Streams) error {
	s, wipe, err := c.enter(ctx, streams)
	defer wipe()
	if err != nil {
		return err
	}
	own := s.Token
	s.Token.KeyLabel, s.Token.KeyID = c.label, c.id // all, unless the flags say which
	keys, err := hsm.Keys(ctx, s.Token)
	if err != nil {
		return err
	}
	reports := []keyReport{}
	for _, k := range keys {
		r := reportKey(k)
		r.Used = k.Private && own.KeyLabel+own.KeyID != "" && c.config != "" &&
			(own.KeyLabel == "" || own.KeyLabel == k.Label) && (own.KeyID == "" || strings.EqualFold(own.KeyID, k.ID))
		reports = append(reports, r)
	}
	return c.tell(streams.Out, reports, func(out io.Writer) {
		if len(reports) == 0 {
			fmt.Fprintf(out, "Token %q has no such RSA key.\n", s.tokenName())
		}
		for _, r := range reports {
			r.print(out)
		}
	})
}

func keyDeleteCommand() command.Command {
	return command.Command{
		Name: "key delete", Args: "(--config FILE | --module PATH --token LABEL) --label LABEL --id ID [FLAGS]",
		Purpose: "Destroy a key in the token, for good.",
		About: `Destroys both halves of the one key that has both the label and the ID, and the
certificates of that key in the token. There is no way back, so it asks for the label
once more, unless --confirm gives it. Signatures already made stay valid.`,
		Example: `roamsignd key delete --config roamsignd.yaml --label signing-2026 --id 2026`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			c.loginFlags(flags)
			flags.StringVar(&c.label, "label", "", "the key's `LABEL`")
			flags.StringVar(&c.id, "id", "", "the key's `ID`, hexadecimal")
			c.logFlags(flags)
			confirm := flags.String("confirm", "", "the `LABEL` once more, instead of typing it")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				switch err := none(args); {
				case err != nil:
					return err
				case c.label == "" || c.id == "":
					return command.Usagef("name the key with both --label LABEL and --id ID; roamsignd key list shows them")
				case *confirm != "" && *confirm != c.label:
					return command.Usagef("--confirm %q is not the label %q: nothing was deleted", *confirm, c.label)
				}
				return c.keyDelete(ctx, streams, *confirm != "")
			}
		},
	}
}

func (c *ceremony) keyDelete(ctx context.Context, streams command.Streams, confirmed bool) error {
	s, wipe, err := c.enter(ctx, streams)
	defer wipe()
	if err != nil {
		return err
	}
	if !confirmed {
		if err := c.confirm(ctx, streams, s.Token); err != nil {
			return err
		}
	}
	var key hsm.Key
	err = c.perform(ctx, s, "key delete", func(e *entry) error {
		var err error
		key, err = hsm.DeleteKey(ctx, s.Token)
		e.SPKI = key.Fingerprint()
		return err
	})
	if err != nil {
		return err
	}
	return c.tell(streams.Out, reportKey(key), func(out io.Writer) {
		fmt.Fprintf(out, "Destroyed key label %q, ID %s, SPKI SHA-256 %s, and its %d certificates in the token.\n",
			key.Label, key.ID, key.Fingerprint(), len(key.Certificates))
	})
}

// confirm shows what is to be deleted, and has its label typed.
func (c *ceremony) confirm(ctx context.Context, streams command.Streams, config hsm.Config) error {
	keys, err := hsm.Keys(ctx, config)
	if err != nil {
		return err
	}
	for _, k := range keys {
		reportKey(k).print(streams.Err)
	}
	if len(keys) > 0 {
		_, _ = io.WriteString(streams.Err, "This destroys the key for good. Type its label to go on: ")
		line, err := readLine(ctx, streams.In)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading the label: nothing was deleted: %w", err)
		}
		if strings.TrimRight(line, "\r\n") != c.label {
			return fmt.Errorf("that is not the label %q: nothing was deleted", c.label)
		}
	}
	return nil
}

// readLine reads a line. When ctx ends first the reader is left to the end of the
// process.
func readLine(ctx context.Context, from io.Reader) (string, error) {
	type outcome struct {
		line string
		err  error
	}
	read := make(chan outcome, 1)
	go func() {
		line, err := bufio.NewReader(from).ReadString('\n')
		read <- outcome{line, err}
	}()
	select {
	case o := <-read:
		return o.line, o.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// keyReport is a key as it is told.
type keyReport struct {
	Label        string                `json:"label"`
	ID           string                `json:"id"`
	Bits         int                   `json:"bits"`
	SPKI         string                `json:"spki_sha256"`
	Private      bool                  `json:"private_half"`
	Verifying    bool                  `json:"public_half"`
	Attributes   map[string]hsm.Answer `json:"attributes"`
	BornInside   bool                  `json:"made_in_token_and_never_outside"`
	Faults       []string              `json:"faults"`
	Certificates []certificateReport   `json:"certificates"`
	Used         bool                  `json:"used_by_configuration"`

	attributes []hsm.Attribute // in order
}

func reportKey(k hsm.Key) keyReport {
	r := keyReport{
		Label: k.Label, ID: k.ID, SPKI: k.Fingerprint(), Private: k.Private, Verifying: k.Verifying, BornInside: k.BornInside(),
		Faults: append([]string{}, k.Faults()...), Attributes: map[string]hsm.Answer{}, Certificates: []certificateReport{},
		attributes: k.Attributes,
	}
	if k.Public != nil {
		r.Bits = k.Public.N.BitLen()
	}
	for _, a := range k.Attributes {
		r.Attributes[a.Name] = a.Value
	}
	for _, certificate := range k.Certificates {
		r.Certificates = append(r.Certificates, reportCertificate(certificate, time.Now()))
	}
	return r
}

func (r keyReport) print(out io.Writer) {
	fmt.Fprintf(out, "Key label %q, ID %s, RSA-%d, SPKI SHA-256 %s\n", r.Label, r.ID, r.Bits, r.SPKI)
	if r.Used {
		fmt.Fprintln(out, "  => the configuration names this key")
	}
	var said []string
	for _, a := range r.attributes {
		said = append(said, fmt.Sprintf("%s: %s", a.Name, a.Value))
	}
	for len(said) > 0 {
		n := min(4, len(said))
		fmt.Fprintf(out, "  %s\n", strings.Join(said[:n], ", "))
		said = said[n:]
	}
	if !r.Verifying {
		fmt.Fprintln(out, "  without a public half in the token, which other programs may want")
	}
	for _, fault := range r.Faults {
		fmt.Fprintf(out, "  FAULT: %s\n", fault)
	}
	for _, certificate := range r.Certificates {
		fmt.Fprintf(out, "  certificate %s, valid to %s\n", certificate.Subject, certificate.NotAfter)
	}
}

// certificateReport is a certificate as it is told.
type certificateReport struct {
	Subject     string   `json:"subject"`
	Issuer      string   `json:"issuer"`
	Serial      string   `json:"serial"`         // hexadecimal, as everywhere
	Decimal     string   `json:"serial_decimal"` // as documents have it
	NotBefore   string   `json:"not_before"`
	NotAfter    string   `json:"not_after"`
	DaysLeft    int      `json:"days_left"` // negative once it has ended
	Fingerprint string   `json:"sha256"`
	Warnings    []string `json:"warnings"`
}

// reportCertificate tells what a certificate is, and each point in which it leaves
// LHDN's profile or is not valid, or not for long.
func reportCertificate(c *x509.Certificate, now time.Time) certificateReport {
	r := certificateReport{
		Subject: nameOf(c.RawSubject), Issuer: nameOf(c.RawIssuer), Serial: ca.FormatSerial(c.SerialNumber), Decimal: c.SerialNumber.String(),
		NotBefore: c.NotBefore.UTC().Format(time.RFC3339), NotAfter: c.NotAfter.UTC().Format(time.RFC3339),
		DaysLeft: daysLeft(c, now), Fingerprint: fingerprint(c), Warnings: append([]string{}, xades.CheckProfile(c)...),
	}
	switch {
	case now.Before(c.NotBefore):
		r.Warnings = append(r.Warnings, fmt.Sprintf("validity: it begins at %s, which is not yet", r.NotBefore))
	case now.After(c.NotAfter):
		r.Warnings = append(r.Warnings, fmt.Sprintf("validity: it ended at %s", r.NotAfter))
	case c.NotAfter.Sub(now) < soon:
		r.Warnings = append(r.Warnings, fmt.Sprintf("validity: it ends in %d days: ask for the next one now", r.DaysLeft))
	}
	return r
}

// nameOf writes a name as MyInvois documents do.
func nameOf(der []byte) string {
	name, err := xades.Name(der)
	if err != nil {
		return "a name that cannot be read: " + err.Error()
	}
	return name
}

func daysLeft(c *x509.Certificate, now time.Time) int {
	left := c.NotAfter.Sub(now)
	days := int(left / (24 * time.Hour))
	if left < 0 {
		days--
	}
	return days
}

func fingerprint(c *x509.Certificate) string {
	digest := sha256.Sum256(c.Raw)
	return hex.EncodeToString(digest[:])
}
