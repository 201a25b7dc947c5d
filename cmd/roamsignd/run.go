package main

import (
	"context"
	"errors"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
)

// exitPIN is the exit code when the token refused the PIN, or would be locked by
// a wrong one. Starting again would only try once more, so a supervisor must not.
const exitPIN = 77

// run is the program. It returns the exit code.
func run(ctx context.Context, args []string, streams command.Streams) int {
	program := command.Program{
		Name: "roamsignd",
		About: `roamsignd signs MyInvois documents with an RSA key that never leaves its PKCS#11
token. It serves over gRPC, to the callers and for the taxpayers its policy names.`,
		Commands: []command.Command{
			devCommand(), serveCommand(), checkCommand(),
			tokenListCommand(), tokenInitCommand(),
			keyGenerateCommand(), keyListCommand(), keyCSRCommand(), keyImportP12Command(), keyDeleteCommand(),
			certImportCommand(), certShowCommand(),
			clientAddCommand(), clientListCommand(), clientRevokeCommand(),
			stopSigningCommand(),
			auditInitCommand(),
		},
		Code: func(err error) int {
			if errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked) {
				return exitPIN
			}
			return command.Failed
		},
	}
	return program.Run(ctx, args, streams)
}
