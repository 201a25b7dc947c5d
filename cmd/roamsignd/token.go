package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
)

// vendorLibraries are where makers of HSMs put their PKCS#11 libraries.
var vendorLibraries = []string{
	"/usr/safenet/lunaclient/lib/libCryptoki2_64.so", // Thales Luna
	"/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",        // AWS CloudHSM
	"/opt/nfast/toolkits/pkcs11/libcknfast.so",       // Entrust nShield
	"/usr/lib/*/pkcs11/yubihsm_pkcs11.so",            // YubiHSM 2
	"/usr/lib/*/opencryptoki/libopencryptoki.so",
}

func tokenListCommand() command.Command {
	return command.Command{
		Name: "token list", Args: "[--config FILE | --module PATH...] [--json]", Purpose: "List modules, slots and tokens, and which one would be used.",
		About: `Looks at PKCS#11 modules without logging in: their slots, the tokens in them, the state
of their PINs, and the mechanisms that matter here. With --config it tells which token
and key the configuration names. With neither it looks where HSM makers put their
libraries. It changes nothing.`,
		Example: `roamsignd token list --config /etc/roamsign/roamsign.yaml
roamsignd token list --module /usr/lib/softhsm/libsofthsm2.so --json
roamsignd token list`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			var modules command.Strings
			flags.StringVar(&c.config, "config", "", "the configuration `FILE`; its section token or tokens counts here")
			flags.Var(&modules, "module", "the `PATH` of a PKCS#11 library; may be repeated")
			c.outputFlags(flags)
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := none(args); err != nil {
					return err
				}
				return c.tokenList(ctx, streams, modules)
			}
		},
	}
}

func (c *ceremony) tokenList(ctx context.Context, streams command.Streams, modules []string) error {
	var configs []hsm.Config
	switch {
	case c.config != "" && len(modules) > 0:
		return command.Usagef("--config and --module: give one of them")
	case c.config != "":
		s, err := c.parse()
		if err != nil {
			return err
		}
		configs = s.all()
	default:
		if len(modules) == 0 {
			modules = installed()
		}
		for _, path := range modules {
			configs = append(configs, hsm.Config{Module: path})
		}
	}
	if len(configs) == 0 {
		return errors.New("no PKCS#11 library where HSM makers put theirs: name yours with --module PATH")
	}
	all, named := []moduleReport{}, slices.Clone(configs)
	var faults []error
	for len(configs) > 0 {
		module := configs[0].Module
		library, err := hsm.Inventory(ctx, configs[0])
		if err != nil {
			faults = append(faults, err)
		} else {
			all = append(all, reportModule(library, configs))
		}
		configs = slices.DeleteFunc(configs, func(one hsm.Config) bool { return one.Module == module })
	}
	err := c.tell(streams.Out, all, func(out io.Writer) {
		for _, m := range all {
			m.print(out)
		}
		for _, missing := range absent(all, named) {
			fmt.Fprintf(out, "The configuration names token %s, which is not there (roamsignd token init makes one).\n", missing)
		}
	})
	return errors.Join(append(faults, err)...)
}

// absent names those configured tokens that no slot of their modules has.
func absent(modules []moduleReport, configs []hsm.Config) (missing []string) {
	for _, m := range modules {
		for _, config := range configs {
			name := cmp.Or(config.TokenLabel, config.TokenSerial)
			found := slices.ContainsFunc(m.Slots, func(s slotReport) bool {
				return s.Used && (config.TokenLabel == "" || s.Label == config.TokenLabel) && (config.TokenSerial == "" || s.Serial == config.TokenSerial)
			})
			if m.Module == config.Module && name != "" && !found {
				missing = append(missing, fmt.Sprintf("%q", name))
			}
		}
	}
	return missing
}

// installed finds the libraries of this machine.
func installed() (found []string) {
	for _, pattern := range slices.Concat(softHSMLibraries, vendorLibraries) {
		paths, _ := filepath.Glob(pattern) // no pattern of ours is malformed
		for _, path := range paths {
			if resolved, err := filepath.EvalSymlinks(path); err == nil && !slices.Contains(found, resolved) {
				found = append(found, resolved)
			}
		}
	}
	return found
}

// moduleReport is a module as it is told.
type moduleReport struct {
	Module       string       `json:"module"`
	Manufacturer string       `json:"manufacturer"`
	Description  string       `json:"description"`
	Version      string       `json:"version"`
	Cryptoki     string       `json:"cryptoki"`
	Slots        []slotReport `json:"slots"`
}

type slotReport struct {
	Slot           uint            `json:"slot"`
	Error          string          `json:"error,omitempty"`
	Label          string          `json:"label"`
	Serial         string          `json:"serial"`
	Model          string          `json:"model"`
	Initialised    bool            `json:"initialised"`
	UserPIN        hsm.PINState    `json:"user_pin"`
	OfficerPIN     hsm.PINState    `json:"so_pin"`
	WriteProtected bool            `json:"write_protected"`
	Sessions       uint            `json:"max_sessions,omitempty"`
	Sign           mechanismReport `json:"sign"`
	Generate       mechanismReport `json:"generate"`
	Unwrap         string          `json:"unwrap,omitempty"`
	Used           bool            `json:"used_by_configuration"`

	key string // that the configuration names in it, "" without one
}

type mechanismReport struct {
	Mechanism string `json:"mechanism"`
	Offered   bool   `json:"offered"`
	MinBits   uint   `json:"min_bits,omitempty"`
	MaxBits   uint   `json:"max_bits,omitempty"`
}

// reportModule tells what is in a module, and which of the configured tokens.
func reportModule(l *hsm.Library, configs []hsm.Config) moduleReport {
	m := moduleReport{
		Module: l.Path, Manufacturer: l.Manufacturer, Description: l.Description, Version: l.Version, Cryptoki: l.Cryptoki,
		Slots: []slotReport{},
	}
	for _, s := range l.Slots {
		r := slotReport{
			Slot: s.Number, Label: s.Label, Serial: s.Serial, Model: s.Model, Initialised: s.Initialised,
			UserPIN: s.UserPIN, OfficerPIN: s.OfficerPIN, WriteProtected: s.WriteProtected, Sessions: s.Sessions,
			Sign:     mechanismReport{"CKM_RSA_PKCS", s.Sign.Offered, s.Sign.MinBits, s.Sign.MaxBits},
			Generate: mechanismReport{"CKM_RSA_PKCS_KEY_PAIR_GEN", s.Generate.Offered, s.Generate.MinBits, s.Generate.MaxBits},
			Unwrap:   s.Unwrap,
		}
		for _, config := range configs {
			if config.Module == l.Path && names(config, s) {
				r.Used, r.key = true, fmt.Sprintf("key label %q, ID %q", config.KeyLabel, config.KeyID)
			}
		}
		if s.Err != nil {
			r.Error = s.Err.Error()
		}
		m.Slots = append(m.Slots, r)
	}
	return m
}

func (m moduleReport) print(out io.Writer) {
	fmt.Fprintf(out, "Module %s\n  %s %s (%s), PKCS#11 %s\n", m.Module, m.Manufacturer, m.Version, m.Description, m.Cryptoki)
	if len(m.Slots) == 0 {
		fmt.Fprintln(out, "  no slot has a token in it")
	}
	for _, s := range m.Slots {
		s.print(out)
		if s.Used {
			fmt.Fprintf(out, "    => the configuration names this token, and in it %s\n", s.key)
		}
	}
}

func (s slotReport) print(out io.Writer) {
	switch {
	case s.Error != "":
		fmt.Fprintf(out, "  Slot %d: %s\n", s.Slot, s.Error)
		return
	case !s.Initialised:
		fmt.Fprintf(out, "  Slot %d: a token that is not initialised yet (roamsignd token init)\n", s.Slot)
	default:
		fmt.Fprintf(out, "  Slot %d: token %q, serial %s, model %s\n    user PIN: %s; security officer's PIN: %s\n",
			s.Slot, s.Label, s.Serial, s.Model, s.UserPIN, s.OfficerPIN)
	}
	if s.WriteProtected {
		fmt.Fprintln(out, "    write-protected: it takes no keys")
	}
	fmt.Fprintf(out, "    signs:      %s\n    makes keys: %s\n", s.Sign, s.Generate)
	if s.Unwrap == "" {
		s.Unwrap = "in the clear only"
	}
	fmt.Fprintf(out, "    takes keys: %s\n", s.Unwrap)
}

func (m mechanismReport) String() string {
	if !m.Offered {
		return m.Mechanism + " is not offered"
	}
	return fmt.Sprintf("%s, %d to %d bits", m.Mechanism, m.MinBits, m.MaxBits)
}

func tokenInitCommand() command.Command {
	return command.Command{
		Name: "token init", Args: "(--config FILE | --module PATH --label LABEL) [FLAGS]", Purpose: "Make a token of the first free slot, and set its PINs.",
		About: `Initialises the first slot whose token is not initialised yet, and sets the security
officer's PIN and the user PIN, from files or asked for twice. A label that is taken is
refused: nothing is ever wiped. Many makers' HSMs have tools of their own for this step,
which replace it. The security officer's PIN unlocks and resets the user PIN; keep it
apart.`,
		Example: `roamsignd token init --module /usr/lib/softhsm/libsofthsm2.so --label roamsign
roamsignd token init --config roamsignd.yaml --so-pin-file so-pin --pin-file pin`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{chooser: "--label"}
			var officerFile string
			flags.StringVar(&c.config, "config", "", "the configuration `FILE`; its section token or tokens counts here")
			flags.StringVar(&c.module, "module", "", "the `PATH` of the PKCS#11 library (default: the configuration's)")
			flags.StringVar(&c.token, "label", "", "the new token's `LABEL` (default: the configuration's)")
			flags.StringVar(&officerFile, "so-pin-file", "", "the `FILE` with the security officer's PIN (default: it is asked for)")
			flags.StringVar(&c.pinFile, "pin-file", "", "the `FILE` with the user PIN (default: the configuration's pin_file, else it is asked for)")
			flags.BoolVar(&c.askPIN, "ask-pin", false, "ask for the PIN, whatever file the configuration names")
			c.outputFlags(flags)
			c.logFlags(flags)
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := none(args); err != nil {
					return err
				}
				return c.tokenInit(ctx, streams, officerFile)
			}
		},
	}
}

func (c *ceremony) tokenInit(ctx context.Context, streams command.Streams, officerFile string) error {
	s, err := c.read()
	if err != nil {
		return err
	}
	if s.Token.TokenLabel == "" {
		return command.Usagef("name the new token with --label LABEL")
	}
	officer, err := secrets{streams}.choose(ctx, officerFile, "the security officer's PIN for token "+s.Token.TokenLabel, "--so-pin-file")
	if err != nil {
		return err
	}
	defer officer.Wipe()
	pin, err := secrets{streams}.choose(ctx, s.Token.PINFile, "the user PIN for token "+s.Token.TokenLabel, "--pin-file")
	if err != nil {
		return err
	}
	defer pin.Wipe()
	s.Token.TokenSerial, s.Token.KeyLabel, s.Token.KeyID = "", "", ""
	var outcome struct {
		Token  string `json:"token"`
		Serial string `json:"serial"`
	}
	err = c.perform(ctx, s, "token init", func(e *entry) error {
		serial, err := hsm.InitToken(ctx, s.Token, officer, pin)
		e.TokenSerial, outcome.Token, outcome.Serial = serial, s.Token.TokenLabel, serial
		return err
	})
	if err != nil {
		return err
	}
	return c.tell(streams.Out, outcome, func(out io.Writer) {
		fmt.Fprintf(out, "Made token %q, serial %s, and set both PINs.\nNext: roamsignd key generate\n", outcome.Token, outcome.Serial)
	})
}
