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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
