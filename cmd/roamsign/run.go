package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
)

// run is the program. It returns the exit code: 1 if a document was not signed
// or is not valid, 2 if the usage or the configuration is wrong or a file cannot
// be read or written; of two that apply, the higher one.
func run(ctx context.Context, args []string, streams command.Streams) int {
	var config string
	program := command.Program{
		Name: "roamsign",
		About: `roamsign signs and verifies MyInvois documents. It holds no key: signatures come
from a roamsignd, to which it sends nothing but hashes. Where that is, and who
calls, stands in the configuration: --config FILE, else ` + defaultConfig() + `.`,
		Commands: []command.Command{
			signCommand(&config), digestCommand(), verifyCommand(),
			receiptGetCommand(&config), receiptVerifyCommand(),
			submitCommand(&config), statusCommand(&config), cancelCommand(&config), loginCommand(&config), sandboxCommand(),
			auditListCommand(&config), auditFindCommand(&config), auditCheckCommand(&config),
		},
		Global: func(set *flag.FlagSet) {
			set.StringVar(&config, "config", config, "the client's configuration `FILE` (default: "+defaultConfig()+")")
		},
		Code: func(error) int { return command.Usage },
	}
	return program.Run(ctx, args, streams)
}

// defaultConfig is where the configuration is looked for if it is not named.
func defaultConfig() string {
	folder, err := os.UserConfigDir()
	if err != nil {
		folder = "~/.config"
	}
	return filepath.Join(folder, "roamsign", "client.yaml")
}

// configuration reads the client's configuration.
func configuration(path string) (client.Config, error) {
	if path != "" {
		return client.Load(path)
	}
	path = defaultConfig()
	cfg, err := client.Load(path)
	if errors.Is(err, os.ErrNotExist) {
		return cfg, fmt.Errorf("there is no configuration: name its file with --config FILE, or put it at %s", path)
	}
	return cfg, err
}

// onFiles refuses to run on no file.
func onFiles(run command.Runner) command.Runner {
	return func(ctx context.Context, streams command.Streams, files []string) error {
		if len(files) == 0 {
			return command.Usagef("name at least one file, or - for standard input")
		}
		return run(ctx, streams, files)
	}
}

// ended is a run's error for its exit code.
func ended(code int) error {
	if code == command.OK {
		return nil
	}
	return command.Status(code)
}

// complain reports what is wrong with one file.
func complain(streams command.Streams, name string, err error) {
	fmt.Fprintf(streams.Err, "roamsign: %s: %s\n", name, oneLine(err.Error()))
}

// oneLine makes sure that a report stays one.
// A document's text is in it, which must not get at the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.Join(strings.Fields(text), " "))
}
