package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/internal/strict"
)

// ceremony is what the commands of the key ceremony have in common: which token
// and key, whose PIN, where it is recorded, and how the outcome is told.
type ceremony struct {
	config                         string
	module, token, serial, pinFile string
	label, id                      string
	log                            string
	chooser                        string // the flag that is token's, if not --token
	askPIN, json                   bool
}

// tokenFlags define which token is meant.
func (c *ceremony) tokenFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.config, "config", "", "the configuration `FILE`; its section token or tokens counts here")
	flags.StringVar(&c.module, "module", "", "the `PATH` of the PKCS#11 library (default: the configuration's)")
	flags.StringVar(&c.token, "token", "", "the token's `LABEL` (default: the configuration's; chooses one where it has several)")
	flags.StringVar(&c.serial, "serial", "", "the token's `SERIAL` number (default: the configuration's)")
	c.outputFlags(flags)
}

func (c *ceremony) outputFlags(flags *flag.FlagSet) {
	flags.BoolVar(&c.json, "json", false, "tell the outcome in JSON")
}

// loginFlags define the token, and where its PIN comes from.
func (c *ceremony) loginFlags(flags *flag.FlagSet) {
	c.tokenFlags(flags)
	flags.StringVar(&c.pinFile, "pin-file", "", "the `FILE` with the user PIN (default: the configuration's pin_file, else it is asked for)")
	flags.BoolVar(&c.askPIN, "ask-pin", false, "ask for the PIN, whatever file the configuration names")
}

// keyFlags define which key is meant.
func (c *ceremony) keyFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.label, "label", "", "the key's `LABEL` (default: the configuration's)")
	flags.StringVar(&c.id, "id", "", "the key's `ID`, hexadecimal (default: the configuration's)")
}

// logFlags define where a step is recorded.
func (c *ceremony) logFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.log, "ceremony-log", "",
		"the `FILE` to record it in (default: "+ceremonyLogName+" beside the configuration, or here)")
}

// read returns the configuration, if one is named, with the token that is meant in
// its section token, whatever the flags say of it in place of what it says.
func (c *ceremony) read() (*setup, error) {
	s, err := c.parse()
	if err != nil {
		return nil, err
	}
	t := &s.Token
	if len(s.Tokens) > 0 {
		if err := c.choose(s); err != nil {
			return nil, err
		}
	} else if c.token != "" || c.serial != "" { // another token is meant, by these names alone
		t.TokenLabel, t.TokenSerial = c.token, c.serial
	}
	if c.label != "" || c.id != "" {
		t.KeyLabel, t.KeyID = c.label, c.id
	}
	t.Module, t.PINFile = cmp.Or(c.module, t.Module), cmp.Or(c.pinFile, t.PINFile)
	if c.askPIN {
		t.PINFile = ""
	}
	switch {
	case t.Module == "":
		return nil, command.Usagef("name the token with --config FILE, or with --module PATH and --token LABEL")
	case c.askPIN && c.pinFile != "":
		return nil, command.Usagef("--ask-pin and --pin-file: give one of them")
	}
	return s, nil
}

// parse returns the configuration, if one is named. Its other sections need not be
// complete: in a ceremony their files are still to come.
func (c *ceremony) parse() (*setup, error) {
	s := &setup{}
	if c.config == "" {
		return s, nil
	}
	text, err := os.ReadFile(c.config)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	document := strict.Decode(text, &s.config)
	s.under(filepath.Dir(c.config))
	if document.Given("token") && document.Given("tokens") {
		document.Locate("", errors.New("tokens: token is given, too: put all of them under tokens"))
	}
	if err := document.Err(); err != nil {
		return nil, errors.Join(faultsOf(c.config, err)...)
	}
	return s, nil
}

// enter reads the configuration and makes sure of a PIN. Wipe is to be called at
// the end, whatever happened.
func (c *ceremony) enter(ctx context.Context, streams command.Streams) (s *setup, wipe func(), err error) {
	wipe = func() {}
	s, err = c.read()
	if err != nil {
		return nil, wipe, err
	}
	if s.Token.TokenLabel == "" && s.Token.TokenSerial == "" {
		return nil, wipe, command.Usagef("name the token with --token LABEL or --serial SERIAL; roamsignd token list shows what there is")
	}
	if s.Token.PINFile != "" {
		return s, wipe, nil
	}
	pin, err := secrets{streams}.ask(ctx, "the user PIN of token "+s.tokenName(), "--pin-file")
	if err != nil {
		return nil, wipe, err
	}
	s.Token = s.Token.WithPIN(pin)
	return s, pin.Wipe, nil
}

func (s *setup) tokenName() string { return cmp.Or(s.Token.TokenLabel, s.Token.TokenSerial) }

// perform takes one step that is worth a record: it is begun in the log, done,
// and ended in the log. An interrupt before keeps it from being taken; one during
// it comes too late, since half a step is worse.
func (c *ceremony) perform(ctx context.Context, s *setup, step string, do func(*entry) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: nothing was done: %w", step, err)
	}
	path := c.log
	if path == "" {
		path = filepath.Join(filepath.Dir(c.config), ceremonyLogName) // "." where there is none
	}
	log, err := openCeremonyLog(path)
	if err != nil {
		return err
	}
	err = log.begin(entry{
		Step: step, Module: s.Token.Module,
		Token: s.Token.TokenLabel, TokenSerial: c.serialOf(ctx, s.Token), KeyLabel: s.Token.KeyLabel, KeyID: s.Token.KeyID,
	})
	if err != nil {
		return errors.Join(err, log.file.Close())
	}
	return log.end(do(&log.entry))
}

// serialOf looks the token's serial number up, which the record is better for;
// empty where it cannot be told.
func (c *ceremony) serialOf(ctx context.Context, config hsm.Config) string {
	library, err := hsm.Inventory(ctx, config)
	if err != nil || config.TokenSerial != "" {
		return config.TokenSerial
	}
	serial := ""
	for _, slot := range library.Slots {
		switch {
		case !names(config, slot):
		case serial != "":
			return "" // ambiguous: the step itself will say so
		default:
			serial = slot.Serial
		}
	}
	return serial
}

// names reports whether the configuration names the token in a slot.
func names(config hsm.Config, slot hsm.Slot) bool {
	return slot.Initialised && config.TokenLabel+config.TokenSerial != "" &&
		(config.TokenLabel == "" || config.TokenLabel == slot.Label) &&
		(config.TokenSerial == "" || config.TokenSerial == slot.Serial)
}

// tell writes the outcome: as JSON where that was asked for, else as text.
func (c *ceremony) tell(out io.Writer, outcome any, text func(io.Writer)) error {
	if !c.json {
		text(out)
		return nil
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(outcome)
}

// none refuses arguments where there are none to give.
func none(args []string) error {
	if len(args) > 0 {
		return command.Usagef("unexpected argument %q", args[0])
	}
	return nil
}

// one wants exactly one argument.
func one(args []string, what string) (string, error) {
	if len(args) != 1 {
		return "", command.Usagef("name one %s", what)
	}
	return args[0], nil
}
