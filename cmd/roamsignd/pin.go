package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
	"golang.org/x/term"
)

// secrets asks for PINs and passwords: from a file, else at the terminal.
type secrets struct {
	streams command.Streams
}

// read returns a secret from a file, or asks for it where none is named. What
// ("the PIN of token x") names it; flag is how a file would be named. The caller
// wipes it.
func (s secrets) read(ctx context.Context, file, what, flag string) (hsm.PIN, error) {
	if file != "" {
		return hsm.ReadPIN(file)
	}
	return s.ask(ctx, what, flag)
}

// choose is read for a secret that is new: at the terminal it is asked for twice.
func (s secrets) choose(ctx context.Context, file, what, flag string) (hsm.PIN, error) {
	if file != "" {
		return hsm.ReadPIN(file)
	}
	first, err := s.typed(ctx, what, flag)
	if err != nil {
		return hsm.PIN{}, err
	}
	second, err := s.typed(ctx, what+" again", flag)
	defer clear(second)
	if err == nil && !bytes.Equal(first, second) {
		err = fmt.Errorf("asking for %s: the two differ: start again", what)
	}
	if err != nil {
		clear(first)
		return hsm.PIN{}, err
	}
	return hsm.NewPIN(first), nil
}

func (s secrets) ask(ctx context.Context, what, flag string) (hsm.PIN, error) {
	typed, err := s.typed(ctx, what, flag)
	if err != nil {
		return hsm.PIN{}, err
	}
	return hsm.NewPIN(typed), nil
}

// typed shows a prompt and reads a line that the terminal does not show.
func (s secrets) typed(ctx context.Context, what, flag string) ([]byte, error) {
	file, ok := s.streams.In.(*os.File)
	fd := -1
	if ok {
		fd = int(file.Fd())
	}
	if !term.IsTerminal(fd) {
		return nil, command.Usagef("no file is named for %s, and there is no terminal to ask at: give %s FILE, a file that only you can read", what, flag)
	}
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", what, err)
	}
	_, _ = io.WriteString(s.streams.Err, "Type "+what+": ")
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		read <- line{text, err}
	}()
	select {
	case got := <-read:
		_, _ = io.WriteString(s.streams.Err, "\n")
		if got.err == nil && len(got.text) == 0 {
			got.err = errors.New("nothing was typed")
		}
		if got.err != nil {
			return nil, fmt.Errorf("asking for %s: %w", what, got.err)
		}
		return got.text, nil
	case <-ctx.Done():
		// The reader is left to the end of the process; the terminal is not.
		_, _ = io.WriteString(s.streams.Err, "\n")
		_ = term.Restore(fd, before)
		return nil, fmt.Errorf("asking for %s: %w", what, ctx.Err())
	}
}
