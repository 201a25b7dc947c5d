package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
)

func submitCommand(config *string) command.Command {
	return command.Command{
		Name: "submit", Args: "[FLAGS] FILE...",
		Purpose: "Submit documents to MyInvois, and tell what became of them.",
		About: `
Signs what is unsigned with the signer's certificate, as sign does, and verifies
each document as LHDN would: one that LHDN would refuse is not sent. Submits them
on behalf of their taxpayer, waits until they are validated, and prints a line for
each: file, number, UUID, status, and what was found wrong.

On whose behalf: of --tin, else of the taxpayer whom the document names, else of
the configuration's tin. It must be one that the signer lets this client act for,
and one that has given its intermediary the right to submit, today.

What is to be sent is written down in a journal before it is sent, so this can be
interrupted at any point and run again with the same files: it goes on where it
was. A document that was submitted is not submitted again, whatever is run;
--again does so with those that were rejected, invalid or cancelled; of one that is
given signed, LHDN refuses the same bytes for ten minutes.

Name many files at once: each run logs in anew, which LHDN allows 12 times a minute.
Runs that share a journal keep to that together: one more waits, and says so.
` + aboutPlatform + `

Exit status: 0 if all are Valid, 1 if one is not or is not known to be yet, 2 if the
usage or the configuration is wrong, no signer answers, or a file cannot be read.`,
		Example: `
roamsign --config dev/client.yaml submit --platform sandbox/myinvois.yaml invoice.xml
roamsign submit --tin C20880050010 outbox/*.json
roamsign submit --resume`,
		Define: func(flags *flag.FlagSet) command.Runner {
			s := &submitting{config: config}
			platformFlag(flags, &s.platform)
			flags.StringVar(&s.tin, "tin", "", "the `TIN` of the taxpayer on whose behalf")
			flags.BoolVar(&s.force, "force", false, "send what LHDN would refuse, and a number that was submitted with other content")
			flags.BoolVar(&s.again, "again", false, "submit anew what was rejected, invalid or cancelled before")
			flags.BoolVar(&s.resume, "resume", false, "finish what earlier runs left; takes no FILE")
			flags.StringVar(&s.out, "out", "", "the `DIR` for the documents as they are sent, made if it is missing")
			flags.DurationVar(&s.wait, "wait", 10*time.Minute, "how `LONG` to wait for the validation, such as 30s")
			documentFlags(flags, &s.opts)
			return s.run
		},
	}
}

// submitting is what the flags of submit say.
type submitting struct {
	config               *string
	platform, tin, out   string
	force, again, resume bool
	wait                 time.Duration
	opts                 client.Options
}

func (s *submitting) check(files []string) error {
	switch {
	case s.resume && len(files) > 0:
		return command.Usagef("--resume takes no files: it finishes those of earlier runs")
	case !s.resume && len(files) == 0:
		return command.Usagef("name at least one file, or - for standard input")
	case s.wait <= 0:
		return command.Usagef("--wait is more than nothing, not %s", s.wait)
	case s.out == standard:
		return command.Usagef("--out names a folder")
	}
	if s.out != "" && !s.resume {
		if _, err := plan(files, s.out); err != nil {
			return err
		}
	}
	return cmp.Or(checkVersion(s.opts.SetVersion), checkTIN(s.tin))
}

func (s *submitting) run(ctx context.Context, streams command.Streams, files []string) error {
	if err := s.check(files); err != nil {
		return err
	}
	return withCounter(ctx, streams, *s.config, s.platform, func(c *counter) error {
		r := &submission{submitting: s, counter: c, streams: streams, papers: map[uint64]*paper{}}
		if c.config.Roots != "" {
			roots, err := ca.LoadPool(c.config.Roots)
			if err != nil {
				return fmt.Errorf("reading roots: %w", err)
			}
			r.roots = roots
		}
		return r.all(ctx, files)
	})
}

// all brings every document as far as it gets, and reports each.
func (r *submission) all(ctx context.Context, files []string) error {
	papers, err := r.take(ctx, files)
	defer r.report.hide() // of a run that breaks off, too
	if err != nil {
		return err
	}
	if err := r.prepare(ctx, papers); err != nil {
		return err
	}
	var open []uint64
	for _, p := range papers {
		switch {
		case p.entry == nil:
		case p.entry.State.Final():
			r.tell(*p.entry)
		default:
			open = append(open, p.entry.ID)
		}
	}
	if err := r.deliver(ctx, open); err != nil {
		return err
	}
	r.report.finish()
	r.remind()
	return ended(r.code)
}

// deliver has the documents submitted and followed. An error is the journal's.
func (r *submission) deliver(ctx context.Context, open []uint64) error {
	limited, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	note := func(text string) { r.report.complain("", errors.New(text)) }
	r.heed(note)
	courier := &myinvois.Courier{Client: r.counter.platform, Journal: r.journal, Seen: r.seen, Note: note, Same: same}
	err := courier.Deliver(limited, open)
	switch {
	case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
		return err // whatever has ended besides
	case ctx.Err() != nil:
		r.report.complain("", errors.New("interrupted: run the same again, or roamsign submit --resume, to go on"))
	case limited.Err() != nil:
		r.report.complain("", fmt.Errorf("not all outcomes are known after %s: run the same again, or roamsign submit --resume, to go on", r.wait))
	case err != nil:
		return err
	default:
		return r.confirm(open)
	}
	r.code = max(r.code, command.Failed)
	return nil
}

// confirm is what success rests on: that the journal has each document Valid, whoever
// told what. An error is the journal's.
func (r *submission) confirm(delivered []uint64) error {
	for _, id := range delivered {
		e, err := r.journal.Entry(id)
		if err != nil {
			return err
		}
		if e.State != myinvois.Valid {
			r.code = max(r.code, command.Failed)
		}
	}
	return nil
}

// seen tells a document that the courier is done with.
func (r *submission) seen(e myinvois.Entry, why error) error {
	if why == nil {
		r.tell(e)
		return nil
	}
	r.code = max(r.code, command.Failed)
	if !errors.Is(why, context.Canceled) && !errors.Is(why, context.DeadlineExceeded) {
		r.report.complain(r.nameOf(e), fmt.Errorf("%s: %w", e.State, why))
	}
	r.count(e, string(e.State))
	return nil
}

// count counts a document of this run as one that something became of.
func (r *submission) count(e myinvois.Entry, what string) {
	if r.papers[e.ID] == nil {
		return // of an earlier run, in the same submission
	}
	if e.State == myinvois.Valid {
		r.report.signed++
	} else {
		r.report.amiss(what, 1)
	}
	r.report.step()
}

// tell prints a document's line.
func (r *submission) tell(e myinvois.Entry) {
	note := ""
	if p := r.papers[e.ID]; p != nil && p.note != "" {
		note = "  (" + p.note + ")"
	}
	if link := r.counter.config.Link(e.UUID, e.LongID); link != "" && e.State == myinvois.Valid {
		note += "  " + link
	}
	r.report.line("%s: %s%s", oneLine(r.nameOf(e)), told(e), note)
	if e.State != myinvois.Valid {
		r.code = max(r.code, command.Failed)
	}
	r.count(e, string(e.State))
}

// nameOf is the file that a document is of: of this run, or of an earlier one.
func (r *submission) nameOf(e myinvois.Entry) string {
	if p := r.papers[e.ID]; p != nil {
		return p.name
	}
	return filepath.Base(e.Name)
}

// remind tells of what earlier runs have left.
func (r *submission) remind() {
	left, err := r.journal.Unfinished()
	if err != nil {
		return
	}
	n := 0
	for _, e := range left {
		if r.papers[e.ID] == nil {
			n++
		}
	}
	if n > 0 {
		r.report.complain("", fmt.Errorf("%d documents of earlier runs are not finished: roamsign submit --resume does that, roamsign status shows them", n))
	}
}
