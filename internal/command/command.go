// Package command is what the two programs' command lines have in common:
// commands with flags that may stand anywhere, help with an example for each,
// errors of one line each, and three exit codes.
//
// Only package main of a program imports it. It knows nothing of what the
// commands do.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// The exit codes. A command may have others of its own, as a [Status].
const (
	OK     = 0
	Failed = 1 // what was asked for was not done, or is not valid
	Usage  = 2 // wrong usage, or something that could not be read or written
)

// Streams are a program's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Runner runs a command on its arguments. It reports by its error, or by itself
// and with a [Status].
type Runner func(ctx context.Context, streams Streams, args []string) error

// Command is one of a program's commands.
type Command struct {
	Name    string // one word or two ("token list")
	Args    string // as the usage line shows them
	Purpose string // in one line
	About   string // what --help tells beside the flags
	Example string // command lines, one each
	// Define defines the flags and returns what runs with them.
	Define func(*flag.FlagSet) Runner
}

// Program is a command line.
type Program struct {
	Name     string
	About    string // what it is, and at the end an example
	Commands []Command
	// Global defines the flags that may stand before the command's name, and
	// that every command takes too. It may be nil.
	Global func(*flag.FlagSet)
	// Code gives the exit code for an error that is no [Status]. It may be nil:
	// [Usage] for wrong usage, [Failed] for all else.
	Code func(error) int
}

// Status is an error that has been reported already, as an exit code.
type Status int

func (s Status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// Usagef is an error of wrong usage: it is followed by a hint at --help.
func Usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// Run runs the program and returns its exit code.
func (p *Program) Run(ctx context.Context, args []string, streams Streams) int {
	rest, err := leading(p.flags(p.Name), args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		p.overview(streams.Out)
		return OK
	case err != nil:
		return p.report(streams.Err, "", err)
	case len(rest) == 0:
		p.overview(streams.Err)
		return Usage
	}
	help := rest[0] == "help"
	if help {
		rest = rest[1:]
	}
	c, rest, err := p.find(rest)
	switch {
	case help && len(rest) == 0 && c == nil:
		p.overview(streams.Out)
		return OK
	case err != nil:
		return p.report(streams.Err, "", err)
	case help:
		p.help(streams.Out, c)
		return OK
	}
	return p.execute(ctx, c, rest, streams)
}

// find takes the command's name off the arguments.
func (p *Program) find(args []string) (*Command, []string, error) {
	if len(args) == 0 {
		return nil, nil, Usagef("name a command")
	}
	for i := range p.Commands {
		words := strings.Fields(p.Commands[i].Name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == p.Commands[i].Name {
			return &p.Commands[i], args[len(words):], nil
		}
	}
	return nil, args, Usagef("unknown command %q", args[0])
}

func (p *Program) execute(ctx context.Context, c *Command, args []string, streams Streams) int {
	flags := p.flags(c.Name)
	runs := c.Define(flags)
	args, err := anywhere(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		p.help(streams.Out, c)
		return OK
	}
	if err == nil {
		err = runs(ctx, streams, args)
	}
	if err == nil {
		return OK
	}
	if status, reported := errors.AsType[Status](err); reported {
		return int(status)
	}
	return p.report(streams.Err, c.Name, err)
}

// report writes an error, each of its lines by itself, and returns its code.
func (p *Program) report(to io.Writer, name string, err error) int {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(to, "%s: %s\n", p.Name, line)
	}
	if _, wrong := errors.AsType[usageError](err); wrong {
		fmt.Fprintf(to, "Try: %s\n", strings.Join(strings.Fields(p.Name+" "+name+" --help"), " "))
		return Usage
	}
	if p.Code != nil {
		return p.Code(err)
	}
	return Failed
}
