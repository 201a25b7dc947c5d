package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/audit/mysql"
	"github.com/roamsign/roamsign/internal/command"
)

// auditing is the part of the configuration that is about the record of what was
// signed.
type auditing struct {
	audit.Config `yaml:",inline"`
	// Index is the folder of the index that finds what is on record. It is made, and
	// made anew where it is missing. Default: the log's directory, with ".index"
	// after it.
	Index string `yaml:"index"`
	// Listen is the address, HOST:PORT, where the log is served over HTTPS, to whom
	// the service lets connect: entries to auditors only. Left out: nowhere.
	Listen string `yaml:"listen"`
}

// index is where the index is, "" for nowhere.
func (a *auditing) index() string {
	if a.Index == "" && a.Dir != "" {
		return a.Dir + ".index"
	}
	return a.Index
}

// log says where the log is, with what speaks to its database, if it is in one.
func (a *auditing) log() audit.Config {
	config := a.Config
	config.Database = mysql.Database{}
	return config
}

// paths are those that may be relative.
func (a *auditing) paths() []*string {
	paths := []*string{&a.Dir, &a.Index, &a.WitnessFile, &a.MySQL.PasswordFile}
	for i := range a.KeyFiles {
		paths = append(paths, &a.KeyFiles[i])
	}
	return paths
}

// keys reads the keys of the log.
func (a *auditing) keys() ([]audit.Key, error) {
	var keys []audit.Key
	var faults []error
	for _, path := range a.KeyFiles {
		key, err := audit.ReadKey(path)
		if err != nil {
			faults = append(faults, prefixed("audit.key_files", err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, errors.Join(faults...)
}

// verifiersText is the file that whoever verifies needs.
func verifiersText(keys []audit.Key) string {
	var b strings.Builder
	for _, key := range keys {
		fmt.Fprintln(&b, key.Verifier())
	}
	return b.String()
}

// check tells whether there is a log, and whether it is that of the keys. A
// database is asked when the service starts, and not here.
func (a *auditing) check(ctx context.Context) error {
	if a.Dir == "" {
		return nil
	}
	keys, err := a.keys()
	if err != nil || len(keys) == 0 {
		return nil //nolint:nilerr // loading has told it
	}
	verifiers, err := audit.ParseVerifiers([]byte(verifiersText(keys)))
	if err != nil {
		return prefixed("audit.key_files", err)
	}
	text, err := audit.Dir(a.Dir).Checkpoint(ctx)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = audit.ErrNoLog
		}
		return prefixed("audit.dir", fmt.Errorf("%s: %w", a.Dir, err))
	}
	_, err = verifiers.Checkpoint(text)
	return prefixed("audit.dir", err)
}

// auditTimeout is the log's share of stopping.
const auditTimeout = 5 * time.Second

// closeRecord closes the log, once nothing is released any more.
func closeRecord(record *audit.Log) error {
	ctx, cancel := context.WithTimeout(context.Background(), auditTimeout)
	defer cancel()
	return record.Close(ctx)
}

func auditInitCommand() command.Command {
	return command.Command{
		Name: "audit init", Args: "--config FILE [--name NAME]", Purpose: "Make the audit log and its key.",
		About: `Makes what the configuration's audit names: the key that signs the log, in a file
of its own that only its owner may read, and the empty log. It is done once, and
overwrites nothing: a key that is there is used, and a directory with a log, or with
anything else, is refused.

NAME tells this log from all others, in every proof of it: the address that it is to be
served at without the scheme is a good one. It cannot be changed later.

It prints the verifier key. Give it to everybody who verifies: roamsign receipt verify
and roamsign audit check take it with --log-key FILE.

With --add-key it makes only the key files that are missing, for a log that is there:
name the new one beside the old in audit.key_files, run this, restart the service, and
give both verifier keys to everybody who verifies. Once they have them, take the old
one out of the configuration.`,
		Example: `roamsignd audit init --config /etc/roamsign/roamsign.yaml --name sign.example.com/log
roamsignd audit init --config /etc/roamsign/roamsign.yaml --add-key`,
		Define: func(flags *flag.FlagSet) command.Runner {
			path := configFlag(flags)
			i := &initiation{}
			flags.StringVar(&i.name, "name", "", "the log's `NAME` (default: this machine's, and /log)")
			flags.BoolVar(&i.addKey, "add-key", false, "make the missing key files only")
			flags.BoolVar(&i.json, "json", false, "tell the outcome in JSON")
			return func(ctx context.Context, streams command.Streams, args []string) error {
				if err := onlyConfig(*path, args); err != nil {
					return err
				}
				s, document, err := readForm(*path)
				if err != nil {
					return err
				}
				document.Locate("audit.", s.Audit.Validate())
				if err := errors.Join(faultsOf(*path, document.Err())...); err != nil {
					return err
				}
				i.auditing = s.Audit
				return i.run(ctx, streams)
			}
		},
	}
}

// initiation is one run of audit init.
type initiation struct {
	auditing
	name         string
	addKey, json bool
}

func (i *initiation) run(ctx context.Context, streams command.Streams) error {
	made, err := i.makeKeys()
	if err != nil {
		return err
	}
	if !i.addKey {
		if err := audit.Create(ctx, i.log()); err != nil {
			return err
		}
	}
	keys, err := i.keys()
	if err != nil {
		return err
	}
	return i.tell(streams, keys, made)
}

// makeKeys makes the key files that are missing, and returns their paths.
func (i *initiation) makeKeys() (made []string, err error) {
	name, err := i.logName()
	if err != nil {
		return nil, err
	}
	for _, path := range i.KeyFiles {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return nil, err
			}
			continue
		}
		key, err := audit.NewKey(name)
		if err != nil {
			return nil, err
		}
		if err := key.Write(path); err != nil {
			return nil, err
		}
		made = append(made, path)
	}
	return made, nil
}

// logName is the name of the keys that are there, else the one asked for, else one
// made of the machine's.
func (i *initiation) logName() (string, error) {
	for _, path := range i.KeyFiles {
		key, err := audit.ReadKey(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case i.name != "" && i.name != key.Name():
			return "", fmt.Errorf("the key in %s is of the log %q, and --name is %q", path, key.Name(), i.name)
		default:
			return key.Name(), nil
		}
	}
	if i.name != "" {
		return i.name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("naming the log after this machine: %w; give it a name with --name", err)
	}
	return host + "/log", nil
}

// initiated is the outcome.
type initiated struct {
	Name      string   `json:"name"`
	Dir       string   `json:"dir"`
	Made      []string `json:"keys_made"`
	Verifiers []string `json:"verifiers"`
}

func (i *initiation) tell(streams command.Streams, keys []audit.Key, made []string) error {
	outcome := initiated{Name: keys[0].Name(), Dir: i.Dir, Made: append([]string{}, made...)}
	for _, key := range keys {
		outcome.Verifiers = append(outcome.Verifiers, key.Verifier())
	}
	return (&ceremony{json: i.json}).tell(streams.Out, outcome, func(out io.Writer) {
		for _, path := range made {
			fmt.Fprintf(streams.Err, "made the key %s: keep a copy of it, away from copies of the log\n", path)
		}
		if !i.addKey {
			fmt.Fprintf(streams.Err, "made the log %s in %s\n", outcome.Name, i.Dir)
		}
		fmt.Fprintln(streams.Err, "its verifier key, for --log-key:")
		fmt.Fprint(out, verifiersText(keys))
	})
}
