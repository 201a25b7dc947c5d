package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/internal/strict"
)

func stopSigningCommand() command.Command {
	return command.Command{
		Name: "stop-signing", Args: "CERT --config FILE [--resume]", Purpose: "Stop signing under a certificate, at once.",
		About: `Puts the signing certificate on the list of those under which nothing is signed any
more: by its SHA-256, as cert show prints it, or by its PEM file. A service that runs
reads the list within a second: it signs nothing more under the certificate, releases
nothing that is in flight, and says NOT_SERVING. Callers are told CERTIFICATE_STOPPED.
The list is the file "stopped" in the folder that the configuration names with state,
or without one beside the configuration; it outlives a restart. Each signer has its own.

With --resume it takes the certificate off the list, once its SHA-256 is typed.`,
		Example: `roamsignd stop-signing /etc/roamsign/signing.pem --config /etc/roamsign/roamsign.yaml
roamsignd stop-signing /etc/roamsign/signing.pem --config /etc/roamsign/roamsign.yaml --resume`,
		Define: func(flags *flag.FlagSet) command.Runner {
			path := configFlag(flags)
			resume := flags.Bool("resume", false, "sign under it again, after a confirmation")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				which, err := one(args, "certificate, by its SHA-256 or its PEM file")
				if err == nil {
					err = onlyConfig(*path, nil)
				}
				if err != nil {
					return err
				}
				d, err := stopDeskOf(*path, which)
				if err != nil {
					return err
				}
				if *resume {
					return d.resume(ctx, streams)
				}
				return d.stop(streams.Out, time.Now())
			}
		},
	}
}

// stopList holds the SHA-256 of certificates under which nothing is signed.
type stopList map[[32]byte]bool

// stoppedFile is where the list stands.
func (s *setup) stoppedFile() string {
	folder := s.Signer.State
	if folder == "" {
		folder = filepath.Dir(s.path)
	}
	return filepath.Join(folder, "stopped")
}

// loadStopped reads a list. Without the file nothing is stopped.
func loadStopped(path string) (stopList, error) {
	text, err := strict.ReadFile(path, strict.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing is stopped
	}
	if err != nil {
		return nil, err
	}
	list, err := parseStopped(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseStopped reads a list: a SHA-256 in hexadecimal a line, comments after a #.
func parseStopped(text string) (stopList, error) {
	list := stopList{}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		digest, err := parseFingerprint(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		list[digest] = true
	}
	return list, nil
}

// parseFingerprint reads a SHA-256, with or without colons.
func parseFingerprint(text string) ([32]byte, error) {
	bytes, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(bytes) != sha256.Size {
		return [32]byte{}, fmt.Errorf("%q is no SHA-256 of a certificate, which has 64 hexadecimal digits", text)
	}
	return [32]byte(bytes), nil
}

// stopDesk stops and resumes signing under one certificate.
type stopDesk struct {
	list        string // the file
	fingerprint [32]byte
	foreign     bool // the configuration names other certificates
}

func stopDeskOf(path, which string) (*stopDesk, error) {
	s, document, err := readForm(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(faultsOf(path, document.Err())...); err != nil {
		return nil, err
	}
	d := &stopDesk{list: s.stoppedFile()}
	if d.fingerprint, err = parseFingerprint(which); err != nil {
		chain, unread := ca.LoadCertificates(which)
		if unread != nil {
			return nil, fmt.Errorf("%q is neither the SHA-256 of a certificate nor its PEM file: %w", which, unread)
		}
		d.fingerprint = sha256.Sum256(chain[0].Raw)
	}
	d.foreign = true
	for _, file := range []string{s.Signing.Certificate, s.Signing.Next.Certificate} {
		if file == "" {
			continue
		}
		chain, err := ca.LoadCertificates(file)
		d.foreign = d.foreign && err == nil && sha256.Sum256(chain[0].Raw) != d.fingerprint
	}
	return d, nil
}

func (d *stopDesk) name() string { return hex.EncodeToString(d.fingerprint[:]) }

// stop puts the certificate on the list.
func (d *stopDesk) stop(out io.Writer, now time.Time) error {
	said := "Was stopped already: signing"
	err := d.change(func(text string, list stopList) string {
		if list[d.fingerprint] {
			return text
		}
		said = "Stopped signing"
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return fmt.Sprintf("%s%s  # %s\n", text, d.name(), stamp(now))
	})
	if err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	fmt.Fprintf(out, "%s under certificate %s.\nIt is in %s, which a running service reads within a second.\n", said, d.name(), d.list)
	if d.foreign {
		fmt.Fprintln(out, "Mind that the configuration names another signing certificate: see that the SHA-256 is right.")
	}
	return nil
}

// resume takes the certificate off the list, once that is confirmed.
func (d *stopDesk) resume(ctx context.Context, streams command.Streams) error {
	list, err := loadStopped(d.list)
	if err != nil {
		return err
	}
	if !list[d.fingerprint] {
		return fmt.Errorf("signing under certificate %s is not stopped: %s does not name it", d.name(), d.list)
	}
	fmt.Fprintf(streams.Err, "Documents will be signed under certificate %s again. Type its first 8 digits to go on: ", d.name())
	line, err := readLine(ctx, streams.In)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the digits: it stays stopped: %w", err)
	}
	if strings.TrimRight(line, "\r\n") != d.name()[:8] {
		return errors.New("these are not its first 8 digits: it stays stopped")
	}
	err = d.change(func(text string, _ stopList) string {
		kept := slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(line string) bool {
			one, _ := parseStopped(line)
			return one[d.fingerprint]
		})
		return strings.Join(kept, "")
	})
	if err != nil {
		return fmt.Errorf("resuming: %w", err)
	}
	fmt.Fprintf(streams.Out, "Resumed signing under certificate %s.\nIt is not in %s any more, which a running service reads within a second.\n", d.name(), d.list)
	return nil
}

// change writes the list anew, as a whole and durably, readable by the service
// whoever calls. A list that the service would not read is left alone.
func (d *stopDesk) change(with func(text string, list stopList) string) error {
	unlock, err := lockFolder(filepath.Dir(d.list))
	if err != nil {
		return err
	}
	defer unlock()
	text, err := os.ReadFile(d.list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := parseStopped(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", d.list, err)
	}
	next := with(string(text), list)
	if next == string(text) {
		return nil
	}
	if err := writeFile(d.list, next, 0o644); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(d.list))
}

// without returns whom the other list does not name.
func (l stopList) without(other stopList) (names []string) {
	for fingerprint := range l {
		if !other[fingerprint] {
			names = append(names, hex.EncodeToString(fingerprint[:]))
		}
	}
	slices.Sort(names)
	return names
}
