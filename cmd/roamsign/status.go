package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
)

func statusCommand(config *string) command.Command {
	return command.Command{
		Name: "status", Args: "[FLAGS] [NUMBER|UUID]...",
		Purpose: "Show what was submitted, and what became of it.",
		About: `
Prints a line for each document in the journal, or for those named: number, UUID,
status, what was found wrong, for whom, since when, and the file it came from.
Signed means not sent yet; Sending, that there is no answer yet; Withdrawn, that
another document of its number was submitted in its place.

It can be run while submit is running: each document is shown as it is written down,
and neither waits for the other longer than a moment.

With --refresh the platform is asked what became of each that was accepted, since a
document may be cancelled later, and no other command may be using the journal.
Without it neither platform nor signer is needed, and nothing is written.
` + aboutPlatform + `

Exit status: 0; 1 if a document named is not in the journal or the platform did not
answer; 2 if the usage or the configuration is wrong, or there is no journal.`,
		Example: `
roamsign status --open
roamsign status --tin C20880050010 INV-1001
roamsign status --refresh --json F9D425P6DS7D8IU`,
		Define: func(flags *flag.FlagSet) command.Runner {
			s := &showing{config: config}
			platformFlag(flags, &s.platform)
			flags.StringVar(&s.tin, "tin", "", "only those of this taxpayer's `TIN`")
			flags.BoolVar(&s.open, "open", false, "only those whose outcome is not known yet")
			flags.BoolVar(&s.refresh, "refresh", false, "ask the platform about those that were accepted")
			flags.BoolVar(&s.json, "json", false, "print JSON, an array of the journal's entries")
			return s.run
		},
	}
}

// showing is what the flags of status say.
type showing struct {
	config              *string
	platform, tin       string
	open, refresh, json bool
}

func (s *showing) run(ctx context.Context, streams command.Streams, names []string) error {
	if err := checkTIN(s.tin); err != nil {
		return err
	}
	if s.refresh {
		return withCounter(ctx, streams, *s.config, s.platform, func(c *counter) error {
			courier := &myinvois.Courier{Client: c.platform, Journal: c.journal}
			return s.show(c.journal, streams, names, func(e myinvois.Entry) (myinvois.Entry, error) {
				if _, err := c.of(e.Taxpayer, ""); err != nil {
					return e, err
				}
				return courier.Refresh(ctx, e)
			})
		})
	}
	cfg, err := platformConfig(s.platform, *s.config)
	if err != nil {
		return err
	}
	api, _, _ := cfg.Places()
	journal, err := myinvois.ReadJournal(cfg.Journal, api)
	if err != nil {
		return err
	}
	shown := s.show(journal, streams, names, func(e myinvois.Entry) (myinvois.Entry, error) { return e, nil })
	return errors.Join(shown, journal.Close())
}

// show prints the entries that were asked for, as now tells they are.
func (s *showing) show(journal *myinvois.Journal, streams command.Streams, names []string, now func(myinvois.Entry) (myinvois.Entry, error)) error {
	missing := map[string]bool{}
	for _, name := range names {
		missing[name] = true
	}
	list := &roster{out: streams.Out, json: s.json}
	code := command.OK
	for e, err := range journal.Entries() {
		if err != nil {
			return err
		}
		named := len(names) == 0 || slices.Contains(names, e.Number) || e.UUID != "" && slices.Contains(names, e.UUID)
		delete(missing, e.Number)
		delete(missing, e.UUID)
		if !named || !concerns(s.tin, e) || s.open && e.State.Final() {
			continue
		}
		if e, err = now(e); err != nil {
			complain(streams, e.Number, err)
			code = command.Failed
		}
		if err := list.add(e); err != nil {
			return err
		}
	}
	for _, name := range names {
		if missing[name] {
			complain(streams, name, fmt.Errorf("it is no number or UUID in the journal"))
			code = command.Failed
		}
	}
	if err := list.end(); err != nil {
		return err
	}
	return ended(code)
}

// roster prints entries one after another, so that their number takes no room.
type roster struct {
	out   io.Writer
	json  bool
	shown int
}

func (l *roster) add(e myinvois.Entry) error {
	l.shown++
	if !l.json {
		_, err := fmt.Fprintf(l.out, "%s  for %s since %s  (%s)\n", told(e), e.Taxpayer, e.Changed.Format(time.RFC3339), oneLine(e.Name))
		return err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("  ", "  ")
	if err := encoder.Encode(e); err != nil {
		return err
	}
	before := ",\n  "
	if l.shown == 1 {
		before = "[\n  "
	}
	_, err := fmt.Fprint(l.out, before, strings.TrimSpace(text.String()))
	return err
}

func (l *roster) end() error {
	after := ""
	switch {
	case l.json && l.shown == 0:
		after = "[]\n"
	case l.json:
		after = "\n]\n"
	}
	_, err := fmt.Fprint(l.out, after)
	return err
}
