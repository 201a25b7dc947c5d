package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/audit/mysql"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// mariadb is a server of the test's own: its files in a directory of its own, on a
// socket in there, and on no port.
type mariadb struct {
	t         *testing.T
	dir, user string
	command   *exec.Cmd
}

// newMariadb makes a server's files, with an account for whoever runs the tests, and
// an empty database, and starts it.
func newMariadb(t *testing.T) *mariadb {
	t.Helper()
	account, err := user.Current()
	check(t, err)
	dir, err := os.MkdirTemp("", "mariadb-") //nolint:usetesting // its folder is too long for a socket
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &mariadb{t: t, dir: dir, user: account.Username}
	check(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	script := fmt.Appendf(nil, "create database mysql;\nuse mysql;\nset @auth_root_socket='%s';\n", m.user)
	for _, name := range []string{"mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"} {
		script = append(script, read(t, filepath.Join("/usr/share/mysql", name))...) // of mariadb-server-core
	}
	script = append(script, "create database audit;\n"...)
	bootstrap := m.server("--bootstrap")
	bootstrap.Stdin = bytes.NewReader(script)
	if out, err := bootstrap.CombinedOutput(); err != nil {
		t.Fatalf("making the database: %v\n%s", err, out)
	}
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *mariadb) server(more ...string) *exec.Cmd {
	return exec.CommandContext(context.Background(), "/usr/sbin/mariadbd", append([]string{
		"--no-defaults", "--user=" + m.user, "--datadir=" + filepath.Join(m.dir, "data"), "--innodb-log-file-size=16M",
	}, more...)...)
}

func (m *mariadb) dsn() string { return m.user + "@unix(" + filepath.Join(m.dir, "socket") + ")/audit" }

// start starts the server, and returns once it answers.
func (m *mariadb) start() {
	m.t.Helper()
	m.command = m.server("--socket="+filepath.Join(m.dir, "socket"), "--skip-networking", "--skip-name-resolve")
	check(m.t, m.command.Start())
	db, err := mysql.Database{}.Open(audit.MySQL{DSN: m.dsn()})
	check(m.t, err)
	defer db.Close()
	for late := time.Now().Add(patience); db.PingContext(m.t.Context()) != nil; <-time.After(20 * time.Millisecond) {
		if time.Now().After(late) {
			m.t.Fatalf("the database does not answer after %v", patience)
		}
	}
}

// kill ends the server at once.
func (m *mariadb) kill() {
	_ = m.command.Process.Kill()
	_ = m.command.Wait() // it was killed
}

func TestTheLogIsInADatabaseWhereToldTo(t *testing.T) {
	database := newMariadb(t)
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	replace(t, config, "  dir: "+devAudit+"\n", "  mysql: {dsn: "+fmt.Sprintf("%q", database.dsn())+"}\n  index: found\n")
	if code, _, errs := ends(t, "audit", "init", "--config", config); code != 0 {
		t.Fatalf("audit init: got code %d and %q, want 0", code, errs)
	}
	d := start(t, "serve", "--config", config)
	api := caller(t, d, filepath.Join(dir, "tls-ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	certificate := certificateSum(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sign := func(n byte) (uint64, error) {
		digest := sha256.Sum256([]byte{n})
		answer, err := api.SignDigest(ctx, &roamsignv1.SignDigestRequest{
			Tin: devTaxpayers[0].tin, DocumentDigest: digest[:], CertificateSha256: certificate[:], RequestId: fmt.Sprint("r", n),
		})
		return answer.GetLogIndex(), err
	}
	for n := range byte(3) {
		if index, err := sign(n); err != nil || index != uint64(n) {
			t.Errorf("signature %d: got index %d and %v", n, index, err)
		}
	}
	database.kill()
	if _, err := sign(3); status.Code(err) != codes.Unavailable {
		t.Errorf("without the database: got %v, want %v", err, codes.Unavailable)
	}
	database.start()
	index, err := sign(4)
	for ; status.Code(err) == codes.Unavailable && ctx.Err() == nil; index, err = sign(4) {
		<-time.After(20 * time.Millisecond)
	}
	if err != nil || index < 3 {
		t.Errorf("with the database again: got index %d and %v, want 3 or more", index, err)
	}
	verifiers, err := audit.ParseVerifiers([]byte(read(t, filepath.Join(dir, devLogPub))))
	check(t, err)
	answer, err := api.GetReceipt(ctx, &roamsignv1.GetReceiptRequest{LogIndex: index})
	for ; status.Code(err) == codes.Unavailable && ctx.Err() == nil; answer, err = api.GetReceipt(ctx, &roamsignv1.GetReceiptRequest{LogIndex: index}) {
		<-time.After(20 * time.Millisecond) // for its checkpoint
	}
	check(t, err)
	receipt, err := audit.VerifyReceipt(answer.GetReceipt(), verifiers)
	check(t, err)
	if digest := sha256.Sum256([]byte{4}); receipt.Entry.Document != digest || receipt.Index != index {
		t.Errorf("the receipt: got %+v, want that of entry %d", receipt, index)
	}
	if code := d.stop(t); code != 0 {
		t.Errorf("interrupted: got exit code %d, want 0:\n%s", code, d.errs)
	}
}
