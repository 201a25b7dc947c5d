// Package mysql opens the MySQL or MariaDB database of an audit log that several
// signers share.
//
// It stands beside audit so that whoever only reads and verifies a log is built
// without a database driver. It refuses passwords in the configuration, and to send
// one, or entries, over a network in the clear.
package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/transparency-dev/tessera"
	storage "github.com/transparency-dev/tessera/storage/mysql"

	"github.com/roamsign/roamsign/audit"
)

// Database is an [audit.Database]. The zero Database is ready.
type Database struct{}

var _ audit.Database = Database{}

// How long is waited for the server where the DSN does not tell. A commit that takes
// longer fails the entries of its batch, which may be on record all the same.
const (
	connectWithin = 5 * time.Second
	answerWithin  = 10 * time.Second
	connections   = 16
)

// A signer that is stopped within an append holds the row that all others wait for,
// until the server gives its connection up. That is told to after so many seconds
// without a word from it, unless the DSN has a wait_timeout of its own; a connection
// that only waits to be used is closed before.
const (
	silence = "3"
	idle    = 2 * time.Second
)

// Open implements [audit.Database].
func (Database) Open(config audit.MySQL) (*sql.DB, error) {
	c, err := mysql.ParseDSN(config.DSN)
	if err != nil {
		return nil, fmt.Errorf("mysql.dsn: not of the form USER@NET(ADDRESS)/DATABASE: %w", err)
	}
	if err := judge(c); err != nil {
		return nil, fmt.Errorf("mysql.dsn: %w", err)
	}
	c.Timeout = or(c.Timeout, connectWithin)
	c.ReadTimeout = or(c.ReadTimeout, answerWithin)
	c.WriteTimeout = or(c.WriteTimeout, answerWithin)
	c.InterpolateParams = true    // one round trip a statement, not three
	c.Logger = &mysql.NopLogger{} // what it says comes back as an error, too
	if c.Params["wait_timeout"] == "" {
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		c.Params["wait_timeout"] = silence
	}
	if path := config.PasswordFile; path != "" {
		if _, err := password(path); err != nil {
			return nil, fmt.Errorf("mysql.password_file: %w", err)
		}
		read := mysql.BeforeConnect(func(_ context.Context, c *mysql.Config) (err error) {
			c.Passwd, err = password(path)
			return err
		})
		if err := c.Apply(read); err != nil {
			return nil, fmt.Errorf("mysql: %w", err)
		}
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("mysql.dsn: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(idle)
	return db, nil
}

// Driver implements [audit.Database].
func (Database) Driver(ctx context.Context, db *sql.DB) (tessera.Driver, error) {
	return storage.New(ctx, db)
}

// judge refuses what would be unsafe.
func judge(c *mysql.Config) error {
	switch {
	case c.Passwd != "":
		return errors.New("has a password in it: put that in a file, and its path in mysql.password_file")
	case c.DBName == "":
		return errors.New("names no database")
	case c.AllowCleartextPasswords || c.AllowOldPasswords || c.AllowAllFiles || c.MultiStatements:
		return errors.New("allows what is unsafe (clear or old passwords, all files, several statements)")
	case c.Net == "unix":
		return nil
	}
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("the address %s: %w", c.Addr, err)
	}
	if ip := net.ParseIP(host); (ip == nil || !ip.IsLoopback()) && c.TLSConfig != "true" {
		return fmt.Errorf("%s is on another machine: add ?tls=true", host)
	}
	return nil
}

func or(given, otherwise time.Duration) time.Duration {
	if given > 0 {
		return given
	}
	return otherwise
}

// maxPassword bounds a password's file.
const maxPassword = 4096

// password reads a file of one line that only its owner may read.
func password(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s: not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s: others may use it (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxPassword))
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(string(text), "\r\n")
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s: not one line", path)
	}
	return line, nil
}
