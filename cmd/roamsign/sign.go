package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
)

// signing is what the flags of sign say.
type signing struct {
	config        *string
	tin, out, via string
	receipts      bool
	opts          client.Options
}

func signCommand(config *string) command.Command {
	return command.Command{
		Name: "sign", Args: "[FLAGS] FILE...",
		Purpose: "Sign documents with the signer's certificate.",
		About: `
Signs UBL 2.1 documents, XML or JSON, each into NAME.signed.EXT: beside it, or
in the folder that --out names. A document on standard input (-) goes to standard
output. An earlier signed file of that name is replaced, an input never; keep
what has been submitted, since signing again gives other bytes.

On whose behalf: of --tin, else of the taxpayer whom the document names (its
supplier, or its buyer if it is self-billed), else, where it names no valid TIN,
of the configuration's tin. A document that names another taxpayer than --tin is
refused.

Each line tells the signature's entry in the signer's audit log. With --receipts, the
proof of that entry is written beside the signed file, as NAME.signed.EXT` + receiptExtension + `;
receipt get fetches it later.

Each document ends as it would alone: one that cannot be signed is reported and
leaves nothing behind, and the others go on. Exit status: 0 if all are signed, 1
if one is not, 2 if the usage or the configuration is wrong or a file cannot be
read or written.`,
		Example: `
roamsign --config dev/client.yaml sign invoice.xml
roamsign sign --set-version 1.1 --out signed/ *.json
roamsign sign --tin C20880050010 --allow-mismatch sample.xml
generate-invoice | roamsign sign - > invoice.signed.xml`,
		Define: func(flags *flag.FlagSet) command.Runner {
			s := &signing{config: config}
			flags.StringVar(&s.tin, "tin", "", "the `TIN` of the taxpayer on whose behalf")
			flags.BoolVar(&s.opts.AllowMismatch, "allow-mismatch", false, "sign although the document names another taxpayer than --tin")
			flags.StringVar(&s.out, "out", "", "the `DIR` for the signed files, made if it is missing; - for standard output")
			flags.StringVar(&s.via, "via", "digest", "`HOW`: digest sends hashes only, document has the signer do it all")
			flags.BoolVar(&s.receipts, "receipts", false, "write the proof that it is on record beside each signed file")
			documentFlags(flags, &s.opts)
			return onFiles(s.run)
		},
	}
}

// documentFlags are those that change what is hashed.
func documentFlags(flags *flag.FlagSet, opts *client.Options) {
	flags.StringVar(&opts.SetVersion, "set-version", "", "set the document's `VERSION`, 1.1 or 1.3, before it is hashed")
	flags.BoolVar(&opts.ReplaceSignature, "replace", false, "replace a signature that the document already carries")
	flags.BoolVar(&opts.KeepLiterals, "keep-literals", false, "keep JSON numbers and escapes as written, although servers may rewrite them")
}

// check refuses flags that make no sense.
func (s *signing) check() error {
	if err := checkVersion(s.opts.SetVersion); err != nil {
		return err
	}
	if s.tin != "" {
		if _, err := policy.ParseTIN(s.tin); err != nil {
			return command.Usagef("--tin: %v", err)
		}
	}
	switch {
	case s.via != "digest" && s.via != "document":
		return command.Usagef("--via is digest or document, not %q", s.via)
	case s.via == "document" && s.opts.AllowMismatch:
		return command.Usagef("--allow-mismatch goes with --via digest only: with document, the signer itself checks whom it names")
	}
	return nil
}

func checkVersion(version string) error {
	switch version {
	case "", "1.1", "1.3":
		return nil
	}
	return command.Usagef("--set-version is 1.1 or 1.3, not %q: the other versions are not signed", version)
}

func (s *signing) run(ctx context.Context, streams command.Streams, files []string) error {
	if err := s.check(); err != nil {
		return err
	}
	tasks, err := plan(files, s.out)
	if err != nil {
		return err
	}
	if s.receipts && tasks[0].output == standard {
		return command.Usagef("--receipts goes with signed files, not with standard output")
	}
	cfg, err := configuration(*s.config)
	if err != nil {
		return err
	}
	signer, err := client.Dial(cfg)
	if err != nil {
		return err
	}
	code := s.all(ctx, streams, signer, tasks)
	if err := signer.Close(); err != nil {
		return err
	}
	return ended(code)
}

// all signs every document and reports each. It stops where going on is
// pointless.
func (s *signing) all(ctx context.Context, streams command.Streams, signer *client.Client, tasks []task) int {
	to := newReporter(streams, len(tasks), "signing", "signed")
	code, done := command.OK, 0
	var owed []receiptOwed
	for signed, err := range s.results(ctx, signer, len(tasks), s.documents(ctx, streams, tasks)) {
		t := tasks[done]
		done++
		if err == nil {
			err = to.deliver(t, signed)
		}
		if err == nil {
			to.signed++
			to.step()
			if s.receipts {
				owed = append(owed, receiptOwed{t, signed.Server, signed.LogIndex})
			}
			continue
		}
		code = max(code, codeOf(err))
		if why := pointless(ctx, err); why != nil {
			to.complain("", why)
			break
		}
		to.complain(t.input, advised(err))
		to.step()
	}
	to.finish()
	return max(code, to.fetch(ctx, signer, owed))
}

// receiptOwed is a receipt that is to be fetched: one follows its signature, so all
// are fetched at the end.
type receiptOwed struct {
	task   task
	server string
	index  uint64
}

// fetch writes receipts beside the signed documents.
func (r *reporter) fetch(ctx context.Context, signer *client.Client, owed []receiptOwed) int {
	code := command.OK
	for _, o := range owed {
		receipt, err := signer.Receipt(ctx, o.server, o.index)
		if err == nil {
			err = write(r.streams, task{o.task.input, o.task.output + receiptExtension}, receipt)
		}
		if err == nil {
			continue
		}
		r.complain(o.task.output, fmt.Errorf("signed, but its receipt (entry %d) was not written: %w", o.index, err))
		code = max(code, codeOf(err))
		if why := pointless(ctx, err); why != nil {
			break
		}
	}
	return code
}

// documents reads the inputs, one at a time as they are needed.
func (s *signing) documents(ctx context.Context, streams command.Streams, tasks []task) iter.Seq2[client.Document, error] {
	return func(yield func(client.Document, error) bool) {
		for _, t := range tasks {
			content, err := read(ctx, streams, t.input)
			if !yield(client.Document{TIN: s.tin, Content: content, Options: s.opts}, err) {
				return
			}
		}
	}
}

// results signs in the way that was asked for; a single document by a call that
// is for one.
func (s *signing) results(ctx context.Context, signer *client.Client, n int, documents iter.Seq2[client.Document, error]) iter.Seq2[*client.Signed, error] {
	one := signer.Sign
	switch {
	case s.via == "document":
		one = signer.SignDocument
	case n > 1:
		return signer.SignAll(ctx, documents)
	}
	return func(yield func(*client.Signed, error) bool) {
		for doc, err := range documents {
			var signed *client.Signed
			if err == nil {
				signed, err = one(ctx, doc)
			}
			if !yield(signed, err) {
				return
			}
		}
	}
}

// deliver writes a signed document, and a line that says where, for whom.
func (r *reporter) deliver(t task, signed *client.Signed) error {
	_, err := os.Lstat(t.output)
	replaced := err == nil
	if err := write(r.streams, t, signed.Document); err != nil {
		return err
	}
	for _, warning := range signed.Warnings {
		r.complain(t.input, fmt.Errorf("warning: %s", warning))
	}
	if t.output == standard {
		return nil
	}
	note := ""
	if replaced {
		note = " (replaced)"
	}
	r.line("%s -> %s  for %s, entry %d%s", t.input, t.output, signed.TIN, signed.LogIndex, note)
	return nil
}

// advised adds which flag helps, where one does: the errors of documents are a
// library's, which knows no flags.
func advised(err error) error {
	for _, known := range []struct {
		kind error
		flag string
	}{
		{xades.ErrSigned, "--replace"},
		{xades.ErrVersion, "--set-version 1.1 or 1.3"},
		{xades.ErrLiteral, "--keep-literals"},
	} {
		if errors.Is(err, known.kind) {
			return fmt.Errorf("%w (%s)", err, known.flag)
		}
	}
	return err
}

// codeOf tells a file that cannot be read or written from one that cannot be
// signed.
func codeOf(err error) int {
	if _, ok := errors.AsType[unreadable](err); ok {
		return command.Usage
	}
	return command.Failed
}

// pointless tells why it makes no sense to go on with the other documents, or
// nil.
func pointless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	if e, ok := errors.AsType[*client.Error](err); ok && e.Unreached() {
		return e
	}
	return nil
}
