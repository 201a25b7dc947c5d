// Command roamsign signs and verifies MyInvois documents. It holds no key: the
// signatures come from a roamsignd, to which it sends nothing but hashes; digest
// and verify need no signer at all.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/roamsign/roamsign/internal/command"
)

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) }) // a second Ctrl-C does not wait
	os.Exit(run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
