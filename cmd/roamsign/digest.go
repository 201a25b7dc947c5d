package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/xades"
)

func digestCommand() command.Command {
	return command.Command{
		Name: "digest", Args: "[FLAGS] FILE...",
		Purpose: "Print the digest that a document's signature is made over.",
		About: `
Prints a line for each file: the base64 of its DocDigest, two blanks, its name.
The file is taken as it stands, signed or not, and nothing in it is normalised:
what stands in a signed document is to be the same. With --as-signed, it is what
sign would hash. Needs no signer.

Exit status: 0 if all have a digest, 1 if a document is malformed, 2 if the usage
is wrong or a file cannot be read.`,
		Example: `
roamsign digest invoice.signed.xml
roamsign digest --as-signed --set-version 1.1 invoice.json
roamsign digest - < invoice.xml`,
		Define: func(flags *flag.FlagSet) command.Runner {
			d := &digesting{}
			flags.BoolVar(&d.asSigned, "as-signed", false, "what sign would hash; the flags below go with it")
			documentFlags(flags, &d.opts)
			return onFiles(d.run)
		},
	}
}

// digesting is what the flags of digest say.
type digesting struct {
	asSigned bool
	opts     client.Options
}

func (d *digesting) run(ctx context.Context, streams command.Streams, files []string) error {
	if err := checkVersion(d.opts.SetVersion); err != nil {
		return err
	}
	if !d.asSigned && d.opts != (client.Options{}) {
		return command.Usagef("--set-version, --replace and --keep-literals go with --as-signed: a file as it stands has one digest")
	}
	code := command.OK
	for _, name := range files {
		digest, err := d.digest(ctx, streams, name)
		if err != nil {
			complain(streams, name, advised(err))
			code = max(code, codeOf(err))
			continue
		}
		fmt.Fprintf(streams.Out, "%s  %s\n", base64.StdEncoding.EncodeToString(digest[:]), name)
	}
	return ended(code)
}

func (d *digesting) digest(ctx context.Context, streams command.Streams, name string) ([32]byte, error) {
	content, err := read(ctx, streams, name)
	if err != nil {
		return [32]byte{}, err
	}
	if d.asSigned {
		return xades.DigestAsSigned(content, xades.Options{
			SetVersion: d.opts.SetVersion, ReplaceSignature: d.opts.ReplaceSignature, KeepLiterals: d.opts.KeepLiterals,
		})
	}
	return xades.DigestAsIs(content)
}
