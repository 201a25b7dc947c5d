package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"time"

	"github.com/roamsign/roamsign/internal/command"
)

func checkCommand() command.Command {
	return command.Command{
		Name: "check", Args: "--config FILE [--login]", Purpose: "Report every fault of a configuration at once.",
		About: `Reads the configuration and all files it names: the policy, the certificates, and
what the token's module is configured by. With --login it also logs in to the token
and proves that the key there belongs to the signing certificate. A wrong PIN counts
against the token's tries, so do not repeat it.`,
		Example: `roamsignd check --config /etc/roamsign/roamsignd.yaml
roamsignd check --config /etc/roamsign/roamsignd.yaml --login`,
		Define: func(flags *flag.FlagSet) command.Runner {
			path := configFlag(flags)
			login := flags.Bool("login", false, "log in to the token, too, and prove its key")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := onlyConfig(*path, args); err != nil {
					return err
				}
				s, err := load(*path)
				if s != nil {
					err = errors.Join(err, s.current(time.Now()))
				}
				if err != nil {
					return err
				}
				if !*login {
					fmt.Fprintf(streams.Out, "%s: no faults found; the token was not touched (--login logs in)\n", *path)
					return nil
				}
				tokens, err := s.open(ctx, slog.New(slog.DiscardHandler))
				if err != nil {
					return err
				}
				for _, h := range tokens.Health() {
					err = errors.Join(err, h.Err)
				}
				if err == nil {
					fmt.Fprintf(streams.Out, "%s: no faults found; the token's key belongs to the certificate\n", *path)
				}
				return errors.Join(err, shut(tokens))
			}
		},
	}
}
