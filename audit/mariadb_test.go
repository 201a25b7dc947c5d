package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/audit/mysql"
)

// What Debian's mariadb-server-core brings: the server, and the tables that it
// cannot do without.
const (
	mariadbd    = "/usr/sbin/mariadbd"
	mariadbData = "/usr/share/mysql"
)

// server is a MariaDB of the tests' own: its files in a directory of its own, on a
// socket in there, and on no port.
type server struct {
	dir, user string
	more      []string // arguments
	command   *exec.Cmd
	ended     chan error
	log       *os.File
}

// mariadb is started for the first test that needs it, and ended after the last.
var mariadb = sync.OnceValues(func() (*server, error) { return startServer() })

// databases counts those that were made.
var databases atomic.Int64

func startServer(more ...string) (*server, error) {
	account, err := user.Current()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mariadb-") // t.TempDir is too long for a socket
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, user: account.Username, more: more}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return s, err
	}
	if err := s.bootstrap(); err != nil {
		return s, err
	}
	return s, s.start()
}

// bootstrap makes the system's tables, and an account for whoever runs the tests,
// known by the socket.
func (s *server) bootstrap() error {
	if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o700); err != nil {
		return err
	}
	script := fmt.Appendf(nil, "create database mysql;\nuse mysql;\nset @auth_root_socket='%s';\n", s.user)
	for _, name := range []string{"mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"} {
		text, err := os.ReadFile(filepath.Join(mariadbData, name))
		if err != nil {
			return fmt.Errorf("the package mariadb-server-core is missing: %w", err)
		}
		script = append(script, text...)
	}
	command := exec.CommandContext(context.Background(), mariadbd, s.arguments("--bootstrap")...)
	command.Stdin, command.Stderr = bytes.NewReader(script), s.log
	if err := command.Run(); err != nil {
		return fmt.Errorf("making the server's tables: %w: %s", err, s.said())
	}
	return nil
}

func (s *server) arguments(more ...string) []string {
	return append([]string{
		"--no-defaults", "--user=" + s.user, "--datadir=" + filepath.Join(s.dir, "data"), "--innodb-log-file-size=16M",
	}, more...)
}

func (s *server) socket() string { return filepath.Join(s.dir, "socket") }

func (s *server) start() error {
	s.command = exec.CommandContext(context.Background(), mariadbd, s.arguments("--socket="+s.socket(), "--skip-networking", "--skip-name-resolve")...)
	s.command.Args = append(s.command.Args, s.more...)
	s.command.Stderr = s.log
	s.ended = make(chan error, 1)
	if err := s.command.Start(); err != nil {
		return err
	}
	go func() { s.ended <- s.command.Wait() }()
	db, err := mysql.Database{}.Open(audit.MySQL{DSN: s.dsn("mysql")})
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for db.PingContext(ctx) != nil {
		select {
		case err := <-s.ended:
			return fmt.Errorf("the server ended: %w: %s", err, s.said())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %s", s.said())
		case <-tick.C:
		}
	}
	return nil
}

func (s *server) said() []byte {
	text, _ := os.ReadFile(s.log.Name())
	return text
}

// kill ends the server at once, as a loss of power would the process.
func (s *server) kill() error {
	if err := s.command.Process.Kill(); err != nil {
		return err
	}
	if err := <-s.ended; err == nil {
		return errors.New("the server ended in order, rather than killed")
	}
	return nil
}

// remove ends the server after the last test, if it was started.
func (s *server) remove() {
	if s == nil {
		return
	}
	if s.ended != nil {
		_ = s.kill()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *server) dsn(name string) string { return s.user + "@unix(" + s.socket() + ")/" + name }

// do runs a statement as the server's administrator.
func (s *server) do(t testing.TB, name, statement string) {
	t.Helper()
	db, err := sql.Open("mysql", s.dsn(name))
	check(t, err)
	defer db.Close()
	_, err = db.ExecContext(context.Background(), statement)
	check(t, err)
}

func running(t testing.TB) *server {
	t.Helper()
	s, err := mariadb()
	check(t, err)
	return s
}

// newShared is the configuration of a log in a database, not made yet.
func newShared(t testing.TB) audit.Config {
	t.Helper()
	return sharedOn(t, running(t))
}

func sharedOn(t testing.TB, s *server) audit.Config {
	t.Helper()
	name := fmt.Sprint("audit", databases.Add(1))
	s.do(t, "mysql", "CREATE DATABASE "+name)
	config := newConfig(t)
	config.Dir, config.MySQL, config.Database = "", audit.MySQL{DSN: s.dsn(name)}, mysql.Database{}
	return config
}

// another is a log with the same keys and the same entries as one that is closed.
func another(t testing.TB, config audit.Config) audit.Config {
	t.Helper()
	copied := newShared(t)
	copied.KeyFiles = config.KeyFiles
	for _, table := range []string{"Tessera", "TreeState", "Checkpoint", "Subtree", "TiledLeaves"} {
		running(t).do(t, nameOf(copied), fmt.Sprintf("CREATE TABLE %s LIKE %s.%[1]s", table, nameOf(config)))
		running(t).do(t, nameOf(copied), fmt.Sprintf("INSERT INTO %s SELECT * FROM %s.%[1]s", table, nameOf(config)))
	}
	return copied
}

// nameOf is the database's name.
func nameOf(config audit.Config) string {
	return config.MySQL.DSN[strings.LastIndex(config.MySQL.DSN, "/")+1:]
}

// everywhere runs a test over a log in a directory and over one in a database.
func everywhere(t *testing.T, test func(t *testing.T, config audit.Config)) {
	t.Parallel()
	t.Run("directory", func(t *testing.T) { t.Parallel(); test(t, newConfig(t)) })
	t.Run("database", func(t *testing.T) { t.Parallel(); test(t, newShared(t)) })
}
