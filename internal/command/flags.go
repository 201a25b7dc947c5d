package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// flags returns a flag set with the program's global flags in it.
func (p *Program) flags(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	if p.Global != nil {
		p.Global(set)
	}
	return set
}

// leading parses the flags before the first argument that is none.
func leading(set *flag.FlagSet, args []string) ([]string, error) {
	if err := set.Parse(args); err != nil {
		return nil, plain(err)
	}
	return set.Args(), nil
}

// anywhere parses flags wherever they stand among the other arguments, which it
// returns. All that follows "--" is no flag.
func anywhere(set *flag.FlagSet, args []string) ([]string, error) {
	var others []string
	for {
		rest, err := leading(set, args)
		if err != nil {
			return nil, err
		}
		if taken := len(args) - len(rest); taken > 0 && args[taken-1] == "--" {
			return append(others, rest...), nil
		}
		if len(rest) == 0 {
			return others, nil
		}
		others, args = append(others, rest[0]), rest[1:]
	}
}

// plain words the errors of package flag as people write flags.
func plain(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	text := err.Error()
	if name, unknown := strings.CutPrefix(text, "flag provided but not defined: -"); unknown {
		return Usagef("unknown flag --%s", strings.TrimPrefix(name, "-"))
	}
	if name, bare := strings.CutPrefix(text, "flag needs an argument: -"); bare {
		return Usagef("--%s needs a value", name)
	}
	return Usagef("%s", strings.Replace(text, " for flag -", " for --", 1))
}

// Strings is a flag that may be given several times.
type Strings []string

// String returns the values, comma-separated.
func (s *Strings) String() string { return strings.Join(*s, ",") }

// Set adds a value.
func (s *Strings) Set(value string) error {
	*s = append(*s, value)
	return nil
}

// overview tells what there is.
func (p *Program) overview(to io.Writer) {
	width := 0
	for _, c := range p.Commands {
		width = max(width, len(c.Name))
	}
	fmt.Fprintf(to, "%s\n\nUsage: %s COMMAND [FLAGS] [ARGUMENTS]\n\nCommands:\n", strings.TrimSpace(p.About), p.Name)
	for _, c := range p.Commands {
		fmt.Fprintf(to, "  %-*s  %s\n", width, c.Name, c.Purpose)
	}
	fmt.Fprintf(to, "\nExample: %s\n\nEach command has its own --help.\n", firstLine(p.Commands[0].Example))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// help tells all of a command.
func (p *Program) help(to io.Writer, c *Command) {
	set := p.flags(c.Name)
	c.Define(set)
	fmt.Fprintf(to, "%s\n\nUsage: %s %s %s\n\n%s\n\nFlags:\n", c.Purpose, p.Name, c.Name, c.Args, strings.TrimSpace(c.About))
	set.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if value == "value" {
			value = "" // a flag that takes none
		}
		fmt.Fprintf(to, "  %-24s %s\n", strings.TrimSpace("--"+f.Name+" "+value), usage)
	})
	fmt.Fprintf(to, "\nExamples:\n")
	for line := range strings.Lines(strings.TrimSpace(c.Example) + "\n") {
		fmt.Fprintf(to, "  %s", line)
	}
}
