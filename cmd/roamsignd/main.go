// Command roamsignd is the signer: it keeps the RSA key of a roaming certificate
// in a PKCS#11 token and signs MyInvois documents with it over gRPC, for callers
// and taxpayers that its policy names.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/command"
)

func main() {
	if err := undumpable(); err != nil {
		fmt.Fprintf(os.Stderr, "roamsignd: this process's memory is not kept out of core dumps: %v\n", err)
	}
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) }) // a second Ctrl-C does not wait
	audit.LogTo(slog.New(slog.NewTextHandler(os.Stderr, nil)))    // once, for the whole process
	os.Exit(run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
