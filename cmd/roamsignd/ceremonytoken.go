package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
)

// choose puts the one of several configured tokens that the flags mean into the
// section token. A ceremony is one token's: the others follow one by one.
func (c *ceremony) choose(s *setup) error {
	module := c.module
	if absolute, err := filepath.Abs(module); err == nil && module != "" {
		module = absolute
	}
	var fit []hsm.Config
	for _, t := range s.Tokens {
		if absolute, err := filepath.Abs(t.Module); err == nil {
			t.Module = absolute
		}
		if (c.token == "" || c.token == t.TokenLabel) && (module == "" || module == t.Module) &&
			(c.serial == "" || t.TokenSerial == "" || c.serial == t.TokenSerial) {
			fit = append(fit, t)
		}
	}
	flag := cmp.Or(c.chooser, "--token")
	switch {
	case len(fit) == 1:
		s.Token = fit[0]
		s.Token.TokenSerial = cmp.Or(c.serial, s.Token.TokenSerial)
		return nil
	case len(fit) == 0:
		return command.Usagef("the configuration has no such token: choose one of these with %s LABEL: %s", flag, nameAll(s.Tokens))
	case ambiguous(fit):
		return command.Usagef("several tokens of the configuration have that label: choose one with %s LABEL and --module PATH: %s", flag, nameAll(fit))
	}
	return command.Usagef("the configuration names several tokens, and this is done to one at a time: choose it with %s LABEL: %s", flag, nameAll(fit))
}

// ambiguous reports whether a label does not tell the tokens apart.
func ambiguous(tokens []hsm.Config) bool {
	return !slices.ContainsFunc(tokens, func(t hsm.Config) bool { return t.TokenLabel != tokens[0].TokenLabel })
}

func nameAll(tokens []hsm.Config) string {
	names := make([]string, len(tokens))
	for i, t := range tokens {
		names[i] = fmt.Sprintf("%q in %s", cmp.Or(t.TokenLabel, t.TokenSerial), t.Module)
	}
	return strings.Join(names, ", ")
}
