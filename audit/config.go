package audit

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/transparency-dev/tessera"
)

// Config says where the log is and who signs it.
type Config struct {
	// Dir is the log's directory, on a local disk. No default: either it or MySQL is
	// given. The log is made in it by [Create], once. It grows by some 500 bytes a
	// signature.
	Dir string `yaml:"dir"`

	// MySQL is a database instead of a directory, for several signers that share one
	// log. The zero MySQL is none.
	MySQL MySQL `yaml:"mysql"`

	// Database speaks to that database, where MySQL is given: a mysql.Database. A
	// program that never appends need not contain it.
	Database Database `yaml:"-"`

	// KeyFiles are the files of the keys that sign checkpoints, each made by
	// [NewKey], readable by nobody else. At least one; no default. To change a key,
	// name the new one beside the old, give the new verifier key to everybody who
	// verifies, then take the old one away. All have the same name.
	KeyFiles []string `yaml:"key_files"`

	// WitnessFile is the file of a witness policy (https://c2sp.org/tlog-policy).
	// Default "": no witnesses. With one, no checkpoint is published, and so no
	// receipt made, that the policy's quorum has not cosigned; signing goes on. Not
	// with MySQL, where Tessera holds up every append while it waits for witnesses.
	WitnessFile string `yaml:"witness_file"`
}

// MySQL says where a MySQL or MariaDB database is.
type MySQL struct {
	// DSN names user, server and database: roamsign@unix(/run/mysqld/mysqld.sock)/audit
	// for one on the same machine, where the server tells by the user of the process
	// who it is; roamsign@tcp(db.example:3306)/audit?tls=true otherwise. It holds no
	// password. No default.
	DSN string `yaml:"dsn"`

	// PasswordFile is a file of one line with the user's password, readable by nobody
	// else, read for each connection. Default "": no password.
	PasswordFile string `yaml:"password_file"`
}

// Database speaks to a database that a log can be in.
type Database interface {
	// Open returns connections to the database, without making one yet. An error is
	// of the configuration.
	Open(config MySQL) (*sql.DB, error)
	// Driver returns Tessera's driver over them, once the server answers.
	Driver(ctx context.Context, db *sql.DB) (tessera.Driver, error)
}

// Validate reports all that is wrong with the values, joined, each beginning with
// the yaml key that it is about. It touches nothing.
func (c Config) Validate() error {
	var faults []error
	switch shared := c.MySQL != (MySQL{}); {
	case c.Dir == "" && !shared:
		faults = append(faults, errors.New("dir: missing: the directory of the audit log (or give mysql)"))
	case c.Dir != "" && shared:
		faults = append(faults, errors.New("mysql: given beside dir: the audit log is in one of them"))
	case shared && c.MySQL.DSN == "":
		faults = append(faults, errors.New("mysql.dsn: missing: the database of the audit log"))
	}
	if at := strings.LastIndex(c.MySQL.DSN, "@"); at >= 0 && strings.Contains(c.MySQL.DSN[:at], ":") {
		faults = append(faults, errors.New("mysql.dsn: has a password in it: put that in a file, and its path in mysql.password_file"))
	}
	if c.MySQL != (MySQL{}) && c.WitnessFile != "" {
		faults = append(faults, errors.New("witness_file: not with mysql: a witness that does not answer would hold up signing"))
	}
	if len(c.KeyFiles) == 0 {
		faults = append(faults, errors.New("key_files: missing: the file of the key that signs the audit log"))
	}
	for i, path := range c.KeyFiles {
		if path == "" {
			faults = append(faults, fmt.Errorf("key_files: number %d is empty", i+1))
		}
	}
	return errors.Join(faults...)
}

// keys reads the key files.
func (c Config) keys() ([]Key, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	keys := make([]Key, len(c.KeyFiles))
	for i, path := range c.KeyFiles {
		k, err := ReadKey(path)
		if err != nil {
			return nil, err
		}
		if keys[i] = k; k.Name() != keys[0].Name() {
			return nil, fmt.Errorf("log key %s: of log %q, the first one is of log %q", path, k.Name(), keys[0].Name())
		}
	}
	return keys, nil
}

// where is the log's place, for messages.
func (c Config) where() string { return cmp.Or(c.Dir, c.MySQL.DSN) }

// database opens the database; nil where the log is in a directory.
func (c Config) database() (*database, error) {
	if c.Dir != "" {
		return nil, nil //nolint:nilnil // there is none
	}
	if c.Database == nil {
		return nil, errors.New("mysql: this program cannot speak to databases")
	}
	db, err := c.Database.Open(c.MySQL)
	if err != nil {
		return nil, err
	}
	return &database{db: db, open: c.Database.Driver}, nil
}

// checkpointInterval is how often checkpoints are published: the least that
// Tessera's drivers do.
func (c Config) checkpointInterval() time.Duration {
	if c.Dir != "" {
		return 100 * time.Millisecond
	}
	return time.Second
}

// maxWitnessFile bounds the witness policy.
const maxWitnessFile = 64 << 10

// witnesses reads the witness policy; none asks nobody.
func (c Config) witnesses() (tessera.WitnessGroup, error) {
	if c.WitnessFile == "" {
		return tessera.WitnessGroup{}, nil
	}
	text, err := os.ReadFile(c.WitnessFile)
	if err != nil {
		return tessera.WitnessGroup{}, fmt.Errorf("reading the witness policy: %w", err)
	}
	if len(text) > maxWitnessFile {
		return tessera.WitnessGroup{}, fmt.Errorf("witness policy %s: more than %d bytes", c.WitnessFile, maxWitnessFile)
	}
	group, err := tessera.NewWitnessGroupFromPolicy(text)
	if err != nil {
		return tessera.WitnessGroup{}, fmt.Errorf("witness policy %s: %w", c.WitnessFile, err)
	}
	return group, nil
}
