package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/internal/command"
)

func TestARunThatIsInterruptedEndsAtOnceAndSaysSo(t *testing.T) {
	desk := openDesk(t)
	invoice := filepath.Join("..", "..", "client", "testdata", "invoice-1.1.xml")
	for name, args := range map[string][]string{
		"sign one":           {"--config", desk.path("client.yaml"), "sign", "--out", t.TempDir(), invoice},
		"sign several":       {"--config", desk.path("client.yaml"), "sign", "--out", t.TempDir(), invoice, filepath.Join("testdata", "none.xml")},
		"sign what is typed": {"--config", desk.path("client.yaml"), "sign", "-"},
		"verify":             {"verify", invoice},
		"verify as typed":    {"verify", "-"},
		"digest":             {"digest", invoice},
	} {
		t.Run(name, func(t *testing.T) {
			typed, keyboard := io.Pipe() // nobody types
			defer func() { _ = keyboard.Close() }()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var out, errs strings.Builder
			code := run(ctx, args, command.Streams{In: typed, Out: &out, Err: &errs})
			if code != command.Usage || out.Len() > 0 || !strings.Contains(errs.String(), "interrupted") {
				t.Errorf("got exit code %d, output %q, complaints %q; want %d, none, interrupted", code, out.String(), errs.String(), command.Usage)
			}
		})
	}
}
