package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
)

func loginCommand(config *string) command.Command {
	return command.Command{
		Name: "login", Args: "[FLAGS]",
		Purpose: "Try to log in to MyInvois, and tell what may be done for whom.",
		About: `
Logs in on behalf of --tin, else of the configuration's tin, or with --all of every
taxpayer that the signer lets this client act for, and prints for each: as what,
with which client ID, until when, and what the taxpayer has allowed. Warns of
secrets that end within 30 days. Keeps nothing but when it was: submit logs in by
itself. There may be 12 logins a minute for a client ID, in all runs together that
share a journal, so --all takes its time.
` + aboutPlatform + `

Exit status: 0 if every login succeeds, 1 if one does not or its taxpayer may not be
submitted for, 2 if the usage or the configuration is wrong or no signer answers.`,
		Example: `
roamsign login
roamsign --config dev/client.yaml login --platform sandbox/myinvois.yaml --all
roamsign login --tin IG20880051110:202203054321`,
		Define: func(flags *flag.FlagSet) command.Runner {
			l := &entering{config: config}
			platformFlag(flags, &l.platform)
			flags.StringVar(&l.tin, "tin", "", "the `TIN` of the taxpayer on whose behalf")
			flags.BoolVar(&l.all, "all", false, "all taxpayers that the signer lets this client act for")
			return l.run
		},
	}
}

// entering is what the flags of login say.
type entering struct {
	config        *string
	platform, tin string
	all           bool
}

func (l *entering) run(ctx context.Context, streams command.Streams, args []string) error {
	switch err := checkTIN(l.tin); {
	case err != nil:
		return err
	case len(args) > 0:
		return command.Usagef("login takes no arguments: name the taxpayer with --tin")
	case l.all && l.tin != "":
		return command.Usagef("--all and --tin exclude each other")
	}
	return withPlatform(ctx, streams, *l.config, l.platform, func(c *counter) error {
		taxpayers := c.taxpayers
		if !l.all {
			tin := cmp.Or(l.tin, c.fallback)
			if tin == "" {
				return command.Usagef("say on whose behalf: --tin TIN, or --all")
			}
			one, err := c.of(tin, "")
			if err != nil {
				return err
			}
			taxpayers = []client.Taxpayer{one}
		}
		code := command.OK
		for _, t := range taxpayers {
			if err := c.enter(ctx, streams, t); err != nil {
				complain(streams, t.TIN, err)
				code = command.Failed
			}
			if ctx.Err() != nil {
				break
			}
		}
		return ended(code)
	})
}

// enter logs in for one taxpayer, and tells what that gives.
func (c *counter) enter(ctx context.Context, streams command.Streams, t client.Taxpayer) error {
	access, err := c.platform.Login(ctx, t.TIN)
	if err != nil {
		return err
	}
	rights := slices.Clone(t.Rights)
	slices.Sort(rights)
	fmt.Fprintf(streams.Out, "%s  %s  client ID %s  until %s  may %s%s\n", t.TIN, access.Role, access.Client,
		access.Ends.UTC().Format(time.RFC3339), cmp.Or(strings.Join(rights, ", "), "do nothing"), representation(t))
	return c.may(t, policy.Submit, time.Now())
}

// representation tells from when to when a taxpayer is represented.
func representation(t client.Taxpayer) string {
	said := ""
	if !t.NotBefore.IsZero() {
		said += " from " + t.NotBefore.Format(time.RFC3339)
	}
	if !t.NotAfter.IsZero() {
		said += " until " + t.NotAfter.Format(time.RFC3339)
	}
	return said
}
