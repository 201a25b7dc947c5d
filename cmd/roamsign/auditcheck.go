package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/schollz/progressbar/v3"
)

func auditCheckCommand(config *string) command.Command {
	return command.Command{
		Name: "audit check", Args: "--log URL|DIR --log-key FILE [FLAGS]",
		Purpose: "Check that a whole log is sound, and only grew.",
		About: `
Reads a whole log, from its directory or from where it is served, and recomputes
every hash in it: each entry is well-formed, the newest checkpoint is signed and is
over just these entries, and so is the one seen before, which --since or --state
names. So nothing was changed, taken away or put in between.

--state names a file that remembers the checkpoint, for cron. It is made if it is
missing, and renewed only if the log is sound. Keep it where the log's owner
cannot write.

Over https the configuration's certificates are used. Entries are given to the
identities that the signer's policy calls auditors; all others check with
--hashes-only that the log only grew.

Exit status: 0 if the log is sound; 1 if it is not, each problem in a line; 2 if it
could not be read to its end, or the usage is wrong: that says nothing of the log.`,
		Example: `
roamsign audit check --log /var/lib/roamsign/log --log-key log.pub
roamsign audit check --log https://sign.example.com:7444/ --log-key log.pub --state seen.checkpoint --quiet`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &checking{config: config}
			flags.StringVar(&c.log, "log", "", "the log's directory, or the `URL` where it is served")
			flags.StringVar(&c.key, "log-key", "", "the `FILE` with the log's verifier key, one a line")
			flags.StringVar(&c.since, "since", "", "the `FILE` with the checkpoint seen before")
			flags.StringVar(&c.state, "state", "", "the `FILE` that remembers the checkpoint from one check to the next")
			flags.BoolVar(&c.hashesOnly, "hashes-only", false, "leave the entries out")
			flags.BoolVar(&c.quiet, "quiet", false, "print nothing if the log is sound")
			return c.run
		},
	}
}

// checking is what the flags of audit check say.
type checking struct {
	config            *string
	log, key          string
	since, state      string
	hashesOnly, quiet bool
}

func (c *checking) run(ctx context.Context, streams command.Streams, args []string) error {
	switch {
	case len(args) > 0:
		return command.Usagef("unexpected argument %q", args[0])
	case c.log == "":
		return command.Usagef("name the log with --log URL or --log DIR")
	case c.key == "":
		return command.Usagef("name the file of the log's verifier key with --log-key FILE")
	case c.since != "" && c.state != "":
		return command.Usagef("--since or --state, not both")
	case c.state == standard:
		return command.Usagef("--state names a file: standard output remembers nothing")
	}
	verifiers, err := logKeys(c.key)
	if err != nil {
		return err
	}
	source, err := c.source()
	if err != nil {
		return err
	}
	before, err := c.before()
	if err != nil {
		return err
	}
	bar := newCheckBar(streams)
	report, err := audit.Check(ctx, source, verifiers, audit.CheckOptions{Since: before, HashesOnly: c.hashesOnly, Progress: bar.step})
	bar.finish()
	if err != nil {
		return c.advised(err)
	}
	return c.tell(streams, report, verifiers, before)
}

// source is where the log is read.
func (c *checking) source() (audit.Source, error) {
	if !strings.Contains(c.log, "://") {
		if info, err := os.Stat(c.log); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("--log %s: there is no such directory", c.log)
		}
		return audit.Dir(c.log), nil
	}
	prefix, err := url.Parse(c.log)
	if err != nil || prefix.Scheme != "https" || prefix.Host == "" {
		return nil, command.Usagef("--log is a directory, or a URL such as https://sign.example.com/log, not %q", c.log)
	}
	cfg, err := configuration(*c.config)
	if err != nil {
		return nil, err
	}
	secured, err := cfg.TLS()
	if err != nil {
		return nil, err
	}
	return audit.URL(prefix, &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			TLSClientConfig: secured, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 30 * time.Second,
		},
	}), nil
}

// before reads the checkpoint seen before; none where the state is yet to be made.
func (c *checking) before() ([]byte, error) {
	name := c.since
	if name == "" {
		name = c.state
	}
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if c.state != "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && len(text) == 0 {
		err = fmt.Errorf("%s is empty, which no checkpoint is", name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint seen before: %w", err)
	}
	return text, nil
}

// advised adds what helps where entries are not given.
func (c *checking) advised(err error) error {
	if errors.Is(err, fs.ErrPermission) && strings.Contains(c.log, "://") {
		return fmt.Errorf("%w: entries are for identities that the signer's policy calls auditors; --hashes-only does without", err)
	}
	return err
}

// tell prints the outcome, and remembers the checkpoint of a log that is sound.
func (c *checking) tell(streams command.Streams, report audit.Report, verifiers audit.Verifiers, before []byte) error {
	if len(report.Findings) > 0 {
		fmt.Fprintf(streams.Out, "%s: NOT SOUND\n", c.log)
		for _, f := range report.Findings {
			fmt.Fprintf(streams.Out, "  %s\n", oneLine(f.String()))
		}
		return command.Status(command.Failed)
	}
	if c.state != "" {
		if err := write(streams, task{standard, c.state}, report.Text); err != nil {
			return fmt.Errorf("remembering the checkpoint in %s: %w", c.state, err)
		}
	}
	if c.quiet {
		return nil
	}
	what := fmt.Sprintf("all %d entries are well-formed", report.Entries)
	if c.hashesOnly {
		what = "its entries were not read"
	}
	fmt.Fprintf(streams.Out, "%s: sound\n  log           %s\n  checkpoint    %d entries, root hash %s\n  entries       %s\n",
		c.log, report.Checkpoint.Origin, report.Checkpoint.Size, base64Of(report.Checkpoint.Root), what)
	if before != nil {
		seen, err := verifiers.Checkpoint(before)
		if err != nil {
			return err
		}
		fmt.Fprintf(streams.Out, "  seen before   %d entries, and they are still the same\n", seen.Size)
	} else {
		fmt.Fprintf(streams.Out, "  seen before   nothing: keep the checkpoint (--state FILE), so that the next check shows that the log only grew\n")
	}
	for _, remnant := range report.Remnants {
		fmt.Fprintf(streams.Out, "  remnant       %s (nothing reads it)\n", oneLine(remnant))
	}
	return nil
}

// checkBar shows on a terminal how far a check has come.
type checkBar struct {
	streams command.Streams
	bar     *progressbar.ProgressBar
}

func newCheckBar(streams command.Streams) *checkBar { return &checkBar{streams: streams} }

func (b *checkBar) step(done, total uint64) {
	if b.bar == nil {
		if !terminal(b.streams.Err) {
			return
		}
		b.bar = progressbar.NewOptions64(int64(total),
			progressbar.OptionSetWriter(b.streams.Err),
			progressbar.OptionSetDescription("checking"),
			progressbar.OptionShowCount(),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = b.bar.Set64(int64(done)) // the bar is an ornament
}

func (b *checkBar) finish() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
