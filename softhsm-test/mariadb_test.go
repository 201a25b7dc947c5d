package softhsmtest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/audit/mysql"
)

// database starts a MariaDB of the test's own, with its files in a folder of its
// own, on a socket in there and on no port, and makes an empty database in it. It
// returns how that is reached.
func database(t *testing.T) (dsn string) {
	t.Helper()
	account, err := user.Current()
	check(t, err)
	dir, err := os.MkdirTemp("", "mariadb-") //nolint:usetesting // t.TempDir's names are too long for sockets
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	arguments := []string{"--no-defaults", "--user=" + account.Username, "--datadir=" + filepath.Join(dir, "data"), "--innodb-log-file-size=16M"}
	check(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))

	script := fmt.Appendf(nil, "create database mysql;\nuse mysql;\nset @auth_root_socket='%s';\n", account.Username)
	for _, name := range []string{"mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"} {
		text, err := os.ReadFile(filepath.Join("/usr/share/mysql", name))
		if err != nil {
			t.Fatalf("MariaDB is missing: apt-get install mariadb-server-core: %v", err)
		}
		script = append(script, text...)
	}
	const mariadbd = "/usr/sbin/mariadbd"
	bootstrap := exec.CommandContext(t.Context(), mariadbd, append(arguments, "--bootstrap")...)
	bootstrap.Stdin = bytes.NewReader(append(script, "\ncreate database audit;\n"...))
	if said, err := bootstrap.CombinedOutput(); err != nil {
		t.Fatalf("making MariaDB's tables: %v\n%s", err, said)
	}

	socket, said := filepath.Join(dir, "socket"), &output{}
	server := exec.CommandContext(context.Background(), mariadbd, append(arguments, "--socket="+socket, "--skip-networking", "--skip-name-resolve")...)
	server.Stderr = said
	check(t, server.Start())
	t.Cleanup(func() {
		check(t, server.Process.Kill())
		_ = server.Wait() // "killed"
	})
	dsn = account.Username + "@unix(" + socket + ")/audit"
	db, err := mysql.Database{}.Open(audit.MySQL{DSN: dsn})
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	if !within(t.Context(), patience, func() bool { return db.PingContext(t.Context()) == nil }) {
		t.Fatalf("MariaDB does not answer:\n%s", said)
	}
	return dsn
}
