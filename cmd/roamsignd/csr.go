package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/internal/strict"
	"github.com/roamsign/roamsign/policy"
	"go.yaml.in/yaml/v3"
)

// subjectFlags are the flags for the elements of a subject.
var subjectFlags = []struct{ flag, element, usage string }{
	{"country", "C", "C, the `COUNTRY` in two capitals: MY"},
	{"organization", "O", "O, the organization's `NAME` as registered"},
	{"tin", "organizationIdentifier", "organizationIdentifier, the organization's `TIN`"},
	{"unit", "OU", "OU, the `UNIT`; may be left out"},
	{"common-name", "CN", "CN, the `NAME`, mostly the organization's again"},
	{"brn", "serialNumber", "serialNumber, the organization's `BRN`"},
	{"email", "E", "E, an e-mail `ADDRESS`; may be left out"},
}

func keyCSRCommand() command.Command {
	return command.Command{
		Name: "key csr", Args: "(--config FILE | --module PATH --token LABEL) (--subject FILE | --country MY ...) [FLAGS]",
		Purpose: "Make a certificate request, signed in the token.",
		About: `Makes a PKCS#10 request for the key, with a subject of LHDN's profile, Key Usage
non-repudiation and Extended Key Usage document signing (1.3.6.1.4.1.311.10.3.12). The
elements stand in the order in which they are given, as flags or as lines of the subject's
file, since authorities differ:

  C: MY
  O: Syarikat Contoh Sdn. Bhd.
  organizationIdentifier: C20880050010
  OU: e-Invoice
  CN: Syarikat Contoh Sdn. Bhd.
  serialNumber: 202001234567
  E: cukai@contoh.example`,
		Example: `roamsignd key csr --config /etc/roamsign/roamsign.yaml --subject subject.yaml --out request.pem
roamsignd key csr --config roamsignd.yaml --country MY --organization "Contoh Sdn. Bhd." \
    --tin C20880050010 --common-name "Contoh Sdn. Bhd." --brn 202001234567`,
		Define: func(flags *flag.FlagSet) command.Runner {
			c := &ceremony{}
			c.loginFlags(flags)
			c.keyFlags(flags)
			c.logFlags(flags)
			var subject []ca.Element
			for _, f := range subjectFlags {
				flags.Func(f.flag, f.usage, func(value string) error {
					subject = append(subject, ca.Element{Name: f.element, Value: value})
					return nil
				})
			}
			file := flags.String("subject", "", "the YAML `FILE` of the subject, instead of flags")
			out := flags.String("out", "", "write the request, in PEM, to `FILE` (default: standard output)")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := none(args); err != nil {
					return err
				}
				if *file != "" && len(subject) > 0 {
					return command.Usagef("--subject and the flags of single elements: give one or the other")
				}
				if *file != "" {
					var err error
					if subject, err = readSubject(*file); err != nil {
						return err
					}
				}
				return c.keyCSR(ctx, streams, subject, *out)
			}
		},
	}
}

// maxSubject bounds a subject's file, in bytes.
const maxSubject = 64 << 10

// readSubject reads the elements of a subject in the order in which they stand.
func readSubject(path string) ([]ca.Element, error) {
	text, err := strict.ReadFile(path, maxSubject)
	if err != nil {
		return nil, fmt.Errorf("reading the subject: %w", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("reading the subject: %s: %w", path, err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("reading the subject: %s: it must have lines such as \"O: Contoh Sdn. Bhd.\"; roamsignd key csr --help shows one", path)
	}
	var subject []ca.Element
	pairs := document.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1].Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("reading the subject: %s: line %d: %s must be a text", path, pairs[i].Line, pairs[i].Value)
		}
		subject = append(subject, ca.Element{Name: pairs[i].Value, Value: pairs[i+1].Value})
	}
	return subject, nil
}

func (c *ceremony) keyCSR(ctx context.Context, streams command.Streams, subject []ca.Element, path string) error {
	if path != "" && isThere(path) {
		return fmt.Errorf("%s is there already: remove it, or name another with --out", path)
	}
	s, wipe, err := c.enter(ctx, streams)
	defer wipe()
	if err != nil {
		return err
	}
	var outcome struct {
		Request string `json:"request"`
		File    string `json:"file,omitempty"`
		SPKI    string `json:"spki_sha256"`
	}
	err = c.perform(ctx, s, "key csr", func(e *entry) error {
		key, err := proven(ctx, s.Token)
		if err != nil {
			return err
		}
		var der []byte
		err = hsm.WithSigner(ctx, s.Token, func(signer crypto.Signer) error {
			var err error
			der, err = ca.Request(subject, signer)
			return err
		})
		if err != nil {
			return err
		}
		digest := sha256.Sum256(der)
		e.SPKI, e.Request = key.Fingerprint(), hex.EncodeToString(digest[:])
		outcome.Request, outcome.File, outcome.SPKI = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), path, e.SPKI
		if path != "" {
			err = writeNew(path, []byte(outcome.Request))
		}
		return err
	})
	if err != nil {
		return err
	}
	warnTIN(streams.Err, subject)
	return c.tell(streams.Out, outcome, func(out io.Writer) {
		if path == "" {
			_, _ = io.WriteString(out, outcome.Request)
			return
		}
		fmt.Fprintf(out, "Wrote %s, for the key with SPKI SHA-256 %s.\nNext: send it to the authority; then roamsignd cert import\n", path, outcome.SPKI)
	})
}

// warnTIN tells where the TIN is not of a form that we know: LHDN may have more.
func warnTIN(to io.Writer, subject []ca.Element) {
	for _, e := range subject {
		if e.Name != "organizationIdentifier" {
			continue
		}
		if _, err := policy.ParseTIN(e.Value); err != nil {
			fmt.Fprintf(to, "roamsignd: warning: organizationIdentifier: %v\n", err)
		}
	}
}

// isThere is for files that are not to be replaced without a word.
func isThere(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
