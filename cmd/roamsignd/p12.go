package main

import (
	"context"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/internal/strict"
)

func keyImportP12Command() command.Command {
	return command.Command{
		Name: "key import-p12", Args: "FILE (--config FILE | --module PATH --token LABEL --label LABEL --id ID) [FLAGS]",
		Purpose: "Move a soft certificate's key into the token.",
		About: `Moves the key of a .p12 file into the token, sensitive, not extractable and good for
signing only, and its certificate beside it. Where the token can unwrap, the key goes
in under a key that only the token and this process know; where it cannot, it goes in in
the clear, which is told.

What it does not do: the key was made in software. Whoever has a copy of the file and its
password, or had one of the machine that used it, can sign as before. A key that was made
in the token (roamsignd key generate) and a certificate for it are better.`,
		Example: `roamsignd key import-p12 soft.p12 --config /etc/roamsign/roamsign.yaml --out /etc/roamsign/signing.pem
roamsignd key import-p12 soft.p12 --config roamsignd.yaml --label soft --id 0b --password-file password`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			c.loginFlags(flags)
			c.keyFlags(flags)
			c.logFlags(flags)
			i := &p12Import{ceremony: c}
			flags.StringVar(&i.password, "password-file", "", "the `FILE` with the .p12 file's password (default: it is asked for)")
			flags.StringVar(&i.via, "via", "", "the `WAY` in: unwrap or create (default: unwrap where the token can)")
			flags.StringVar(&i.out, "out", "", "write the certificate and its issuers, in PEM, to `FILE`")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				file, err := one(args, ".p12 file")
				if err != nil {
					return err
				}
				return i.run(ctx, streams, file)
			}
		},
	}
}

type p12Import struct {
	*ceremony
	password, via, out string
}

// ways are the values of --via.
var ways = map[string]hsm.Way{"": hsm.BestWay, "unwrap": hsm.Wrapped, "create": hsm.InTheClear}

// maxP12 bounds a .p12 file; they are a few kilobytes.
const maxP12 = 1 << 20

func (i *p12Import) run(ctx context.Context, streams command.Streams, file string) error {
	way, known := ways[i.via]
	switch {
	case !known:
		return command.Usagef("--via %q: want unwrap or create", i.via)
	case i.out != "" && isThere(i.out):
		return fmt.Errorf("%s is there already: remove it, or name another with --out", i.out)
	}
	soft, err := i.parse(ctx, streams, file)
	if err != nil {
		return err
	}
	defer soft.Wipe()
	chain := append([]*x509.Certificate{soft.Certificate}, soft.Issuers...)
	report, err := judge(chain, "", time.Now())
	if err != nil {
		return err
	}
	s, wipe, err := i.enter(ctx, streams)
	defer wipe()
	if err != nil {
		return err
	}
	outcome := p12Report{Certificate: report}
	err = i.perform(ctx, s, "key import-p12", func(e *entry) error {
		e.Certificate = report.Fingerprint
		took, err := hsm.ImportKey(ctx, s.Token, soft, way)
		if err != nil {
			return err
		}
		e.Detail = "by " + string(took)
		if err := hsm.ImportCertificate(ctx, s.Token, soft.Certificate); err != nil {
			return fmt.Errorf("the key is in the token, and its certificate is not (roamsignd cert import puts it there): %w", err)
		}
		key, err := proven(ctx, s.Token)
		e.SPKI = key.Fingerprint()
		outcome.Key, outcome.Way = reportKey(key), took
		outcome.Key.Used = i.asConfigured()
		if err == nil && i.out != "" {
			err = writeNewCertificates(i.out, chain...)
		}
		if err != nil {
			err = fmt.Errorf("the key and its certificate are in the token (roamsignd cert import --out writes the file): %w", err)
		}
		return err
	})
	if err != nil {
		return err
	}
	outcome.Advice = advice(file, outcome.Way)
	return i.tell(streams.Out, outcome, outcome.print)
}

func (i *p12Import) parse(ctx context.Context, streams command.Streams, file string) (*hsm.SoftKey, error) {
	content, err := strict.ReadFile(file, maxP12)
	if err != nil {
		return nil, fmt.Errorf("reading the .p12 file: %w", err)
	}
	password, err := secrets{streams}.read(ctx, i.password, "the password of "+file, "--password-file")
	if err != nil {
		return nil, err
	}
	defer password.Wipe()
	return hsm.ParseP12(content, password)
}

type p12Report struct {
	Key         keyReport         `json:"key"`
	Certificate certificateReport `json:"certificate"`
	Way         hsm.Way           `json:"way"`
	Advice      []string          `json:"advice"`
}

// advice tells plainly what the move protects, and what it does not.
func advice(file string, way hsm.Way) []string {
	all := []string{"From now on nobody can read the key out of the token."}
	if way == hsm.InTheClear {
		all = append(all, "It went to the token in the clear ("+string(way)+"): whoever listened on the way there has it.")
	} else {
		all = append(all, "It went to the token wrapped ("+string(way)+"): whoever listened on the way there learned nothing.")
	}
	return append(all,
		"The key was made in software. Each copy of "+file+", in backups, mail and on every machine that used it, still signs in your name, and the token cannot prevent it.",
		"Destroy those copies, and keep a backup only where it is as safe as the token.",
		"Better: ask for the next certificate for a key made in the token (roamsignd key generate, key csr).")
}

func (r p12Report) print(out io.Writer) {
	r.Key.print(out)
	r.Certificate.print(out)
	for _, line := range r.Advice {
		fmt.Fprintln(out, line)
	}
}
