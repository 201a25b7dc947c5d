// Command roamsignd is the signer: it keeps the RSA key of a roaming certificate
// in a PKCS#11 token and signs MyInvois documents with it over gRPC, for callers
// and taxpayers that its policy names.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/command"
)

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) }) // a second Ctrl-C does not wait
	audit.LogTo(slog.New(slog.NewTextHandler(os.Stderr, nil)))    // once, for the whole process
	os.Exit(run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
