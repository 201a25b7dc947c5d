package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/policy"
)

func cancelCommand(config *string) command.Command {
	return command.Command{
		Name: "cancel", Args: "--reason TEXT [FLAGS] UUID|NUMBER...",
		Purpose: "Cancel documents on MyInvois, or ask for the rejection of received ones.",
		About: `
Cancels valid documents that the taxpayer issued, within 72 hours of their
validation. A document in the journal may be named by its number; another is named
by its UUID, and its taxpayer by --tin. The taxpayer must have given its
intermediary the right to cancel. The reason is shown to the other party.

With --reject, asks the issuers of documents that the taxpayer received to take them
back; that right is called reject. An intermediary's credentials cannot see what
others sent to the taxpayer, so the UUID has to come from the taxpayer.
` + aboutPlatform + `

Exit status: 0 if all is done, 1 if one is not, 2 if the usage or the configuration is
wrong or no signer answers.`,
		Example: `
roamsign cancel --reason "wrong buyer" INV-1001
roamsign cancel --reason "wrong amount" --tin C20880050010 F9D425P6DS7D8IU
roamsign cancel --reject --reason "never ordered" --tin C20880050010 F9D425P6DS7D8IU`,
		Define: func(flags *flag.FlagSet) command.Runner {
			w := &withdrawing{config: config}
			platformFlag(flags, &w.platform)
			flags.StringVar(&w.tin, "tin", "", "the `TIN` of the taxpayer on whose behalf")
			flags.StringVar(&w.reason, "reason", "", "why, in at most 300 characters; required")
			flags.BoolVar(&w.reject, "reject", false, "ask the issuers of received documents to take them back")
			return w.run
		},
	}
}

// withdrawing is what the flags of cancel say.
type withdrawing struct {
	config                *string
	platform, tin, reason string
	reject                bool
}

func (w *withdrawing) run(ctx context.Context, streams command.Streams, names []string) error {
	switch n := utf8.RuneCountInString(strings.TrimSpace(w.reason)); {
	case len(names) == 0:
		return command.Usagef("name at least one document, by its UUID or number")
	case n < 1 || n > myinvois.MaxReason:
		return command.Usagef("--reason has %d characters; it takes 1 to %d", n, myinvois.MaxReason)
	}
	if err := checkTIN(w.tin); err != nil {
		return err
	}
	return withCounter(ctx, streams, *w.config, w.platform, func(c *counter) error {
		code := command.OK
		for _, name := range names {
			if err := w.one(ctx, streams, c, name); err != nil {
				complain(streams, name, err)
				code = command.Failed
			}
		}
		return ended(code)
	})
}

// one cancels or rejects one document.
func (w *withdrawing) one(ctx context.Context, streams command.Streams, c *counter, name string) error {
	entry, err := w.find(c.journal, name)
	if err != nil {
		return err
	}
	t, err := c.of(entry.Taxpayer, "")
	if err != nil {
		return err
	}
	right, change := policy.Cancel, c.platform.Cancel
	if w.reject {
		right, change = policy.Reject, c.platform.Reject
	}
	if err := c.may(t, right, time.Now()); err != nil {
		return err
	}
	answer, err := change(ctx, t.TIN, entry.UUID, w.reason)
	if err != nil {
		return err
	}
	if !w.reject && entry.ID != 0 {
		if err := c.journal.Cancelled(entry.ID, w.reason); err != nil {
			return fmt.Errorf("it is cancelled, but the journal does not say so: %w", err)
		}
	}
	fmt.Fprintf(streams.Out, "%s  %s  %s\n", oneLine(cmp.Or(entry.Number, "-")), entry.UUID, oneLine(answer.Status))
	return nil
}

// find returns the document that a name stands for: one in the journal, by UUID or
// by a number that is one document's, else any by its UUID.
func (w *withdrawing) find(journal *myinvois.Journal, name string) (myinvois.Entry, error) {
	var found []myinvois.Entry
	var state myinvois.State // of one that has the number, and cannot be cancelled
	for e, err := range journal.Entries() {
		switch {
		case err != nil:
			return myinvois.Entry{}, err
		case !concerns(w.tin, e):
		case e.UUID != "" && (e.UUID == name || e.Number == name && e.State == myinvois.Valid):
			found = append(found, e)
		case e.Number == name:
			state = e.State
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return myinvois.Entry{}, fmt.Errorf("it is the number of %d documents: name one by its UUID (roamsign status %s)", len(found), name)
	case state != "":
		return myinvois.Entry{}, fmt.Errorf("it is no valid document in the journal: it is %s there", state)
	case w.tin == "":
		return myinvois.Entry{}, fmt.Errorf("it is no valid document in the journal: name it by its UUID, and its taxpayer by --tin")
	}
	return myinvois.Entry{UUID: name, Taxpayer: w.tin}, nil
}
