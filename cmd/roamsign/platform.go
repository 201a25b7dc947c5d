package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/policy"
)

// counter is the platform as the commands use it: who may act for whom is the
// signer's to say, what is done is in the journal.
type counter struct {
	signer    *client.Client
	config    myinvois.Config
	secrets   *myinvois.Credentials
	platform  *myinvois.Client
	journal   *myinvois.Journal
	taxpayers []client.Taxpayer
	fallback  string // the configuration's taxpayer

	mu     sync.Mutex
	notice func(string) // is told why a login waits
}

// heed has others than standard error told why a login waits.
func (c *counter) heed(notice func(string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notice = notice
}

func (c *counter) note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notice(text)
}

// aboutPlatform is what the help of every command tells of the configuration.
const aboutPlatform = `
Where the platform is and who logs in stands in a file of its own: --platform FILE,
else myinvois.yaml beside the client's configuration. Its keys: environment
(production or preprod), or api, identity and portal of a stand-in; ca;
credentials, the file of the client IDs and secrets, which only you may read;
journal; roots; timeout; poll_interval; share.`

func platformFlag(flags *flag.FlagSet, path *string) {
	flags.StringVar(path, "platform", "", "the platform's configuration `FILE` (default: myinvois.yaml beside the client's)")
}

// platformConfig reads the platform's configuration.
func platformConfig(path, config string) (myinvois.Config, error) {
	if path != "" {
		return myinvois.Load(path)
	}
	path = filepath.Join(filepath.Dir(cmp.Or(config, defaultConfig())), "myinvois.yaml")
	cfg, err := myinvois.Load(path)
	if errors.Is(err, os.ErrNotExist) {
		return cfg, fmt.Errorf("there is no configuration of the platform: name its file with --platform FILE, or put it at %s", path)
	}
	return cfg, err
}

// withCounter runs something with the signer, the platform and the journal.
func withCounter(ctx context.Context, streams command.Streams, config, path string, do func(*counter) error) error {
	return withPlatform(ctx, streams, config, path, func(c *counter) error {
		return withJournal(c.config, func(journal *myinvois.Journal) error {
			c.journal = journal
			return do(c)
		})
	})
}

// withPlatform runs something with the signer and the platform.
func withPlatform(ctx context.Context, streams command.Streams, config, path string, do func(*counter) error) error {
	cfg, err := platformConfig(path, config)
	if err != nil {
		return err
	}
	secrets, err := myinvois.LoadCredentials(cfg.Credentials)
	if err != nil {
		return err
	}
	for _, warning := range secrets.Warnings(time.Now()) {
		fmt.Fprintf(streams.Err, "roamsign: warning: %s\n", oneLine(warning))
	}
	c := &counter{config: cfg, secrets: secrets}
	c.heed(func(text string) { fmt.Fprintf(streams.Err, "roamsign: %s\n", oneLine(text)) })
	cfg.Note = c.note
	if c.platform, err = myinvois.New(cfg, secrets); err != nil {
		return err
	}
	defer c.platform.Close()
	own, err := configuration(config)
	if err != nil {
		return err
	}
	return withSigner(config, func(signer *client.Client) error {
		c.signer, c.fallback = signer, own.TIN
		if c.taxpayers, err = signer.Taxpayers(ctx); err != nil {
			return fmt.Errorf("asking the signer for whom this client may act: %w", err)
		}
		return do(c)
	})
}

// withJournal runs something with the journal, which others only read meanwhile.
func withJournal(cfg myinvois.Config, do func(*myinvois.Journal) error) error {
	api, _, _ := cfg.Places()
	journal, err := myinvois.OpenJournal(cfg.Journal, api)
	if errors.Is(err, myinvois.ErrInUse) {
		return fmt.Errorf("%w: wait for it to end (roamsign status shows how far it is)", err)
	}
	if err != nil {
		return err
	}
	return errors.Join(do(journal), journal.Close())
}

// of returns the taxpayer whom the signer lets this client act for. A document
// states a sole proprietor's TIN and registration number apart.
func (c *counter) of(tin, brn string) (client.Taxpayer, error) {
	for _, want := range []string{tin, tin + ":" + brn} {
		if i := slices.IndexFunc(c.taxpayers, func(t client.Taxpayer) bool { return t.TIN == want }); i >= 0 {
			return c.taxpayers[i], nil
		}
	}
	return client.Taxpayer{}, fmt.Errorf("the signer does not let this client act for %s: its operator has to grant that in the policy (%s)", tin, allowedTo(c.taxpayers))
}

// allowedTo says for whom the client may act, in short.
func allowedTo(taxpayers []client.Taxpayer) string {
	const most = 5
	tins := make([]string, 0, most+1)
	for i, t := range taxpayers {
		if i == most {
			tins = append(tins, fmt.Sprintf("and %d others", len(taxpayers)-most))
			break
		}
		tins = append(tins, t.TIN)
	}
	return "it may for " + cmp.Or(strings.Join(tins, ", "), "nobody")
}

// may refuses what the taxpayer has not allowed its intermediary, as the signer's
// policy has it, before the platform has to. Who logs in as the taxpayer itself
// needs none of it.
func (c *counter) may(t client.Taxpayer, right policy.Right, now time.Time) error {
	if c.secrets.Role(t.TIN) == "" {
		return fmt.Errorf("the credentials file has no client ID for %s, and none for all", t.TIN)
	}
	if err := c.represented(t, now); err != nil {
		return fmt.Errorf("%w: %s", err, renew)
	}
	if !c.itself(t) && !slices.Contains(t.Rights, string(right)) {
		return fmt.Errorf("%s has not given its intermediary the right %q: %s", t.TIN, right, renew)
	}
	return nil
}

// renew is what to do about a representation that is not as it has to be.
const renew = "the taxpayer has to set it in the MyInvois portal, and the operator of the signer in its policy"

// represented refuses an instant at which the taxpayer has no intermediary.
func (c *counter) represented(t client.Taxpayer, at time.Time) error {
	switch {
	case c.itself(t):
	case !t.NotBefore.IsZero() && at.Before(t.NotBefore):
		return fmt.Errorf("the representation of %s begins at %s", t.TIN, t.NotBefore.Format(time.RFC3339))
	case !t.NotAfter.IsZero() && !at.Before(t.NotAfter):
		return fmt.Errorf("the representation of %s ended at %s", t.TIN, t.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// itself tells whether a taxpayer acts for itself, by its own credentials or as the
// intermediary that it is.
func (c *counter) itself(t client.Taxpayer) bool {
	return c.secrets.Role(t.TIN) == myinvois.Taxpayer || t.Intermediary
}

// intermediary is who submits as the holder of the signing certificate, if the
// signer tells; nobody where the taxpayer logs in itself.
func (c *counter) intermediary(t client.Taxpayer) (tin, brn string) {
	if c.secrets.Role(t.TIN) != myinvois.Intermediary {
		return "", ""
	}
	for _, one := range c.taxpayers {
		if one.Intermediary {
			return one.TIN, one.BRN
		}
	}
	return "", ""
}

// checkTIN refuses a --tin that is none.
func checkTIN(tin string) error {
	if tin == "" {
		return nil
	}
	if _, err := policy.ParseTIN(tin); err != nil {
		return command.Usagef("--tin: %v", err)
	}
	return nil
}

// concerns tells whether an entry is a taxpayer's, named as TIN or TIN:ROB; no tin
// means anybody's. A TIN alone stands for each of its businesses.
func concerns(tin string, e myinvois.Entry) bool {
	asked, named := policy.TIN(tin), policy.TIN(e.Taxpayer)
	return tin == "" || asked.Number() == named.Number() && (asked.ROB() == "" || named.ROB() == "" || asked.ROB() == named.ROB())
}

// told is a document's line: its number, UUID and status, and what was found.
func told(e myinvois.Entry) string {
	line := oneLine(cmp.Or(e.Number, "-")) + "  " + oneLine(cmp.Or(e.UUID, "-")) + "  " + string(e.State)
	if len(e.Findings) > 0 {
		line += "  " + oneLine(strings.Join(e.Findings, "; "))
	}
	return line
}
