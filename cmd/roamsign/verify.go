package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
)

func verifyCommand() command.Command {
	return command.Command{
		Name: "verify", Args: "[FLAGS] FILE...",
		Purpose: "Judge signed documents as LHDN's validator does, offline.",
		About: `
Reports all that is wrong with each document by LHDN's codes (DS300 to DS338), but
for those that depend on who logs in or on LHDN's registers: DS308 to DS310, DS330.
Without --roots the certificate's chain of trust is reported as not checked,
which is no failure. Needs no signer.

With --json, an array of an object for each file: file, valid, format, digest,
signing_time, certificate (subject, issuer, serial, not_before, not_after) and
findings (code, severity, message). What a document does not yield is null, and a
code is empty where LHDN has none. A file that cannot be read is not in it.

Exit status: 0 if all are valid, 1 if one is not, malformed ones included, 2 if the
usage is wrong or a file or the roots cannot be read.`,
		Example: `
roamsign verify invoice.signed.xml
roamsign verify --roots lhdn-roots.pem --at 2026-07-01T08:00:00Z signed/*.json
roamsign verify --submitter C20880050010:201901045678 --json invoice.signed.json`,
		Define: func(flags *flag.FlagSet) command.Runner {
			v := &verifying{}
			flags.BoolVar(&v.json, "json", false, "print JSON")
			flags.StringVar(&v.roots, "roots", "", "a PEM `FILE` with the authorities to trust, issuing ones included")
			flags.StringVar(&v.at, "at", "", "the `TIME` of submission, at which the chain is judged (RFC 3339, or a date)")
			flags.StringVar(&v.submitter, "submitter", "", "`TIN[:BRN]` of who submits: the certificate has to be theirs")
			return onFiles(v.run)
		},
	}
}

// verifying is what the flags of verify say.
type verifying struct {
	json                 bool
	roots, at, submitter string
}

func (v *verifying) options() (xades.VerifyOptions, error) {
	var options xades.VerifyOptions
	var err error
	if v.roots != "" {
		if options.Roots, err = ca.LoadPool(v.roots); err != nil {
			return options, fmt.Errorf("reading --roots: %w", err)
		}
	}
	if v.at != "" {
		if options.At, err = parseTime(v.at); err != nil {
			return options, err
		}
	}
	if v.submitter != "" {
		tin, brn, named := strings.Cut(v.submitter, ":")
		if _, err := policy.ParseTIN(tin); err != nil {
			return options, command.Usagef("--submitter: %v", err)
		}
		if named && brn == "" {
			return options, command.Usagef("--submitter %s: there is no BRN after the colon", v.submitter)
		}
		options.SubmitterTIN, options.SubmitterBRN = tin, brn
	}
	return options, nil
}

func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, command.Usagef("--at is a time such as 2026-07-01T08:00:00Z or a date such as 2026-07-01, not %q", text)
}

func (v *verifying) run(ctx context.Context, streams command.Streams, files []string) error {
	options, err := v.options()
	if err != nil {
		return err
	}
	code := command.OK
	verdicts := make([]verdict, 0, len(files))
	for _, name := range files {
		content, err := read(ctx, streams, name)
		if err != nil {
			complain(streams, name, err)
			code = command.Usage
			continue
		}
		judged := v.advised(judge(name, xades.Verify(content, options)))
		if !judged.Valid {
			code = max(code, command.Failed)
		}
		if !v.json {
			show(streams.Out, judged)
		}
		verdicts = append(verdicts, judged)
	}
	if v.json {
		if err := showJSON(streams.Out, verdicts); err != nil {
			return err
		}
	}
	return ended(code)
}

// advised adds to what was not checked for want of a flag which one that is.
func (v *verifying) advised(judged verdict) verdict {
	for i := range judged.Findings {
		f := &judged.Findings[i]
		switch {
		case f.Code != "DS329":
		case v.roots == "":
			f.Message += " (--roots FILE)"
		case v.at == "" && (f.Severity == string(xades.SeverityWarning) || judged.SigningTime == nil):
			f.Message += " (--at TIME)"
		}
	}
	return judged
}
