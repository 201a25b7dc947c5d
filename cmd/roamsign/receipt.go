package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
)

// receiptExtension is what names of receipts end in.
const receiptExtension = ".tlog-proof"

func receiptGetCommand(config *string) command.Command {
	return command.Command{
		Name: "receipt get", Args: "[FLAGS] INDEX",
		Purpose: "Fetch the proof that a signature is on record.",
		About: `
Fetches the receipt of a signature by its index in the signer's audit log, which
sign prints. It is text, and proves to whoever has the log's verifier key that
signing was authorised and recorded; receipt verify shows it. A caller gets
receipts of its own signatures, and of others' if the signer's policy says so.

Exit status: 0 if it was fetched, 1 if the signer has or gives none, 2 if the usage
or the configuration is wrong, no signer answers, or the file cannot be written.`,
		Example: `
roamsign receipt get 270 --out invoice` + receiptExtension + `
roamsign --config dev/client.yaml receipt get 0`,
		Define: func(flags *flag.FlagSet) command.Runner {
			g := &getting{config: config}
			flags.StringVar(&g.out, "out", standard, "the `FILE` for the receipt; - for standard output")
			flags.StringVar(&g.server, "server", "", "the `ADDRESS` of the signer that signed, if several are configured")
			return g.run
		},
	}
}

// getting is what the flags of receipt get say.
type getting struct {
	config      *string
	out, server string
}

func (g *getting) run(ctx context.Context, streams command.Streams, args []string) error {
	if len(args) != 1 {
		return command.Usagef("name one index, such as sign prints it")
	}
	index, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return command.Usagef("an index is a number such as 270, not %q", args[0])
	}
	return withSigner(*g.config, func(signer *client.Client) error {
		receipt, err := signer.Receipt(ctx, g.server, index)
		if err != nil {
			return refused(streams, fmt.Sprintf("entry %d", index), err)
		}
		return write(streams, task{standard, g.out}, receipt)
	})
}

// withSigner runs something with a client for the configured signers.
func withSigner(config string, do func(*client.Client) error) error {
	cfg, err := configuration(config)
	if err != nil {
		return err
	}
	signer, err := client.Dial(cfg)
	if err != nil {
		return err
	}
	return errors.Join(do(signer), signer.Close())
}

// refused reports what a signer said, or else returns the error of one that could
// not be asked.
func refused(streams command.Streams, what string, err error) error {
	if e, answered := errors.AsType[*client.Error](err); !answered || e.Unreached() {
		return err
	}
	complain(streams, what, err)
	return command.Status(command.Failed)
}

func receiptVerifyCommand() command.Command {
	return command.Command{
		Name: "receipt verify", Args: "--log-key FILE [FLAGS] RECEIPT",
		Purpose: "Verify a receipt, and with --document that it is this document's.",
		About: `
Verifies, offline, that the receipt's entry is in the log whose verifier key
--log-key holds: by itself that proves that signing was authorised and recorded, at
this time, for this taxpayer, by this caller. With --document it verifies the
signed document as well: that its digest, its certificate and, where the entry has
them, its signed properties are the entry's, and that it is valid (as roamsign verify
has it, --roots at the entry's time); together they prove the signature. A document of
another taxpayer than the caller stated is warned of.
What is printed can be handed on as it is.

Exit status: 0 if all that was asked for is proven, 1 if not, 2 if the usage is
wrong or a file cannot be read.`,
		Example: `
roamsign receipt verify --log-key log.pub invoice` + receiptExtension + `
roamsign receipt verify --log-key log.pub --document invoice.signed.xml invoice` + receiptExtension,
		Define: func(flags *flag.FlagSet) command.Runner {
			p := &proving{}
			flags.StringVar(&p.key, "log-key", "", "the `FILE` with the log's verifier key, one a line")
			flags.StringVar(&p.document, "document", "", "the signed document's `FILE`")
			flags.StringVar(&p.judge.roots, "roots", "", "a PEM `FILE` with the authorities to trust for the document's certificate")
			flags.BoolVar(&p.json, "json", false, "print JSON")
			return p.run
		},
	}
}

// proving is what the flags of receipt verify say.
type proving struct {
	key, document string
	json          bool
	judge         verifying
}

func (p *proving) run(ctx context.Context, streams command.Streams, args []string) error {
	switch {
	case len(args) != 1:
		return command.Usagef("name one receipt, or - for standard input")
	case p.key == "":
		return command.Usagef("name the file of the log's verifier key with --log-key FILE: without it nothing is proven")
	case p.judge.roots != "" && p.document == "":
		return command.Usagef("--roots goes with --document")
	case args[0] == standard && p.document == standard:
		return command.Usagef("only one of the receipt and the document is standard input")
	}
	verifiers, err := logKeys(p.key)
	if err != nil {
		return err
	}
	options, err := p.judge.options()
	if err != nil {
		return err
	}
	text, err := read(ctx, streams, args[0])
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	shown := proof{File: args[0]}
	if receipt, err := audit.VerifyReceipt(text, verifiers); err != nil {
		shown.Problems = append(shown.Problems, oneLine(err.Error()))
	} else {
		shown.take(receipt)
		if p.document != "" {
			content, err := read(ctx, streams, p.document)
			if err != nil {
				return fmt.Errorf("%s: %w", p.document, err)
			}
			report := p.report(content, options, receipt.Entry)
			shown.hold(p.judge.advised(judge(p.document, report)), report, receipt.Entry)
		}
	}
	shown.Proven = len(shown.Problems) == 0
	if p.json {
		err = writeJSON(streams.Out, shown)
	} else {
		shown.show(streams.Out)
	}
	if err == nil && !shown.Proven {
		err = command.Status(command.Failed)
	}
	return err
}

// report judges a document, and the chain of its certificate at the time that the
// entry proves, rather than at what the document says; the clock of whoever signed
// may have been ahead, though.
func (p *proving) report(content []byte, options xades.VerifyOptions, e audit.Entry) *xades.Report {
	report := xades.Verify(content, options)
	p.judge.at = e.Time.Format(time.RFC3339)
	if options.Roots == nil || report.SigningTime.After(e.Time) {
		return report
	}
	options.At = e.Time
	return xades.Verify(content, options)
}

// logKeys reads a file of verifier keys.
func logKeys(path string) (audit.Verifiers, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return audit.Verifiers{}, fmt.Errorf("reading --log-key: %w", err)
	}
	verifiers, err := audit.ParseVerifiers(text)
	if err != nil {
		return audit.Verifiers{}, fmt.Errorf("reading --log-key %s: %w", path, err)
	}
	return verifiers, nil
}

// proof is what receipt verify tells. Its JSON is a contract: what the receipt
// does not prove is null.
type proof struct {
	File       string      `json:"file"`
	Proven     bool        `json:"proven"`
	Log        *string     `json:"log"`
	Entry      *logged     `json:"entry"`
	Checkpoint *checkpoint `json:"checkpoint"`
	Document   *verdict    `json:"document"`
	Problems   []string    `json:"problems"`
	Warnings   []string    `json:"warnings"`
}

type checkpoint struct {
	Size uint64 `json:"size"`
	Root string `json:"root"`
}

// take takes over what a receipt proves.
func (p *proof) take(r audit.Receipt) {
	p.Log, p.Entry = new(r.Checkpoint.Origin), new(loggedEntry(r))
	p.Checkpoint = &checkpoint{r.Checkpoint.Size, base64.StdEncoding.EncodeToString(r.Checkpoint.Root[:])}
}

// hold holds a signed document against the entry.
func (p *proof) hold(judged verdict, report *xades.Report, e audit.Entry) {
	p.Document = &judged
	if report.Digest != e.Document {
		p.Problems = append(p.Problems, fmt.Sprintf("%s is another document than the entry's: its digest is %s", judged.File, base64.StdEncoding.EncodeToString(report.Digest[:])))
	}
	if told := e.SignedProperties; told != (audit.Digest{}) && report.PropsDigest != told {
		p.Problems = append(p.Problems, fmt.Sprintf("%s has other signed properties than the entry's: their digest is %s", judged.File, base64.StdEncoding.EncodeToString(report.PropsDigest[:])))
	}
	if c := report.Certificate; c != nil && sha256.Sum256(c.Raw) != e.Certificate {
		fingerprint := sha256.Sum256(c.Raw)
		p.Problems = append(p.Problems, fmt.Sprintf("%s is signed under another certificate than the entry's: %s", judged.File, hex.EncodeToString(fingerprint[:])))
	}
	if named := report.Facts.TIN; named != "" && named != policy.TIN(e.TIN).Number() {
		p.Warnings = append(p.Warnings, oneLine(fmt.Sprintf("%s is issued on behalf of %s; it was signed as one of %s, as the caller stated", judged.File, named, e.TIN)))
	}
	if !judged.Valid {
		p.Problems = append(p.Problems, judged.File+" is not valid")
	}
}

// show prints a proof so that it can be handed to a taxpayer or an auditor.
func (p *proof) show(to io.Writer) {
	word := "proven"
	if !p.Proven {
		word = "NOT PROVEN"
	}
	fmt.Fprintf(to, "%s: %s\n", p.File, word)
	for _, problem := range p.Problems {
		fmt.Fprintf(to, "  problem       %s\n", problem)
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(to, "  warning       %s\n", warning)
	}
	if p.Entry != nil {
		e := p.Entry
		row := func(name, value string) {
			if value != "" {
				fmt.Fprintf(to, "  %-13s %s\n", name, oneLine(value))
			}
		}
		row("log", fmt.Sprintf("%s, entry %d", *p.Log, e.Index))
		row("recorded", e.Time.Format(time.RFC3339Nano))
		row("on behalf of", e.TIN+" "+e.how())
		row("asked for by", e.Caller)
		row("method", e.Method+", request "+e.Request)
		row("number", e.Number)
		row("digest", e.Document)
		row("certificate", "SHA-256 "+e.Certificate)
		row("signer", e.Signer)
		row("checkpoint", fmt.Sprintf("%d entries, root hash %s", p.Checkpoint.Size, p.Checkpoint.Root))
	}
	if p.Document != nil {
		show(to, *p.Document)
	}
	switch {
	case p.Proven && p.Document != nil:
		fmt.Fprintf(to, "The log records that signing this document was authorised, and the document carries the signature.\n")
	case p.Proven:
		fmt.Fprintf(to, "The log records that signing a document of this digest was authorised. That it was signed, the signed document shows (--document).\n")
	}
}
