package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/ca"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// browser asks for what a dev folder's log serves, with the client certificate and
// key in a folder; "" is none.
func browser(t *testing.T, dir, own string) *http.Client {
	t.Helper()
	roots, err := ca.LoadPool(filepath.Join(dir, "tls-ca.pem"))
	check(t, err)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, ServerName: "localhost"}
	if own != "" {
		pair, err := ca.LoadPair(filepath.Join(own, "client.pem"), filepath.Join(own, "client.key"))
		check(t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// fetch asks for one file of a log.
func fetch(t *testing.T, as *http.Client, prefix *url.URL, name string) (status int, text string, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, prefix.JoinPath(name).String(), http.NoBody)
	check(t, err)
	reply, err := as.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	check(t, err)
	return reply.StatusCode, string(content), nil
}

// audited is a daemon that serves its log, in which there are some signatures.
func audited(t *testing.T, signatures int) (d *daemon, dir, stranger string, prefix *url.URL) {
	t.Helper()
	dir = folder(t)
	config := filepath.Join(dir, devConfig)
	replace(t, config, "audit:\n", "audit:\n  listen: "+quiet+"\n")
	stranger = filepath.Join(t.TempDir(), "stranger")
	succeeds(t, "client", "add", tillName, "--config", config, "--out", stranger)
	d = start(t, "serve", "--config", config)
	_, rest, found := strings.Cut(d.errs.String(), `msg="audit log" address=`)
	address, _, _ := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("the log does not say where the audit log is:\n%s", d.errs)
	}

	certificate := certificateSum(t, dir)
	signer := caller(t, d, filepath.Join(dir, "tls-ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range signatures {
		digest := sha256.Sum256([]byte{byte(i)})
		_, err := signer.SignDigest(ctx, &roamsignv1.SignDigestRequest{
			Tin: devTaxpayers[0].tin, DocumentDigest: digest[:], CertificateSha256: certificate[:], RequestId: fmt.Sprint("r", i),
		})
		check(t, err)
	}
	return d, dir, stranger, &url.URL{Scheme: "https", Host: address, Path: "/"}
}

func certificateSum(t *testing.T, dir string) [32]byte {
	t.Helper()
	chain, err := ca.LoadCertificates(filepath.Join(dir, devSigning))
	check(t, err)
	return sha256.Sum256(chain[0].Raw)
}

func TestTheLogIsServedToClientsAndItsEntriesToAuditors(t *testing.T) {
	const signatures = 3
	d, dir, own, prefix := audited(t, signatures)
	verifiers, err := audit.ParseVerifiers([]byte(read(t, filepath.Join(dir, devLogPub))))
	check(t, err)

	auditor := audit.URL(prefix, browser(t, dir, dir))
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	over := time.After(patience)
	for read := uint64(0); read < signatures; { // until all are published
		report, err := audit.Check(t.Context(), auditor, verifiers, audit.CheckOptions{})
		check(t, err)
		if len(report.Findings) > 0 {
			t.Fatalf("the log as it is served is not sound: %v", report.Findings)
		}
		read = report.Entries
		select {
		case <-ticks.C:
		case <-over:
			t.Fatalf("the auditor reads %d entries, want %d", read, signatures)
		}
	}

	if status, text, err := fetch(t, browser(t, dir, ""), prefix, "checkpoint"); err == nil {
		t.Errorf("without a certificate: got %d, %q, want no connection", status, text)
	}
	stranger := browser(t, dir, own)
	tile, entries := fmt.Sprintf("tile/0/000.p/%d", signatures), fmt.Sprintf("tile/entries/000.p/%d", signatures)
	for name, want := range map[string]int{
		"checkpoint": http.StatusOK, tile: http.StatusOK, entries: http.StatusForbidden, "../" + devLogKey: http.StatusNotFound,
	} {
		status, text, err := fetch(t, stranger, prefix, name)
		check(t, err)
		if status != want {
			t.Errorf("%s, to a client that is no auditor: got %d, %q, want %d", name, status, text, want)
		}
	}
	if report, err := audit.Check(t.Context(), audit.URL(prefix, stranger), verifiers, audit.CheckOptions{HashesOnly: true}); err != nil || len(report.Findings) > 0 {
		t.Errorf("checking the hashes: got %v, %v, want a sound log", report.Findings, err)
	}

	idle := asked(t, dir, own, prefix.Host)
	succeeds(t, "client", "revoke", tillName, "--config", filepath.Join(dir, devConfig))
	check(t, idle.SetReadDeadline(time.Now().Add(patience)))
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("revoked, on a connection that asks for nothing: got %v, want its end:\n%s", err, d.errs)
	}
	if !strings.Contains(d.errs.String(), `msg="connection cut"`) { // it ends when it is idle for long, too
		t.Errorf("the log does not say that it was cut:\n%s", d.errs)
	}
	for status, err := http.StatusOK, error(nil); err == nil && status != http.StatusUnauthorized; {
		select {
		case <-ticks.C:
		case <-over:
			t.Fatalf("the revoked client still reads the log:\n%s", d.errs)
		}
		status, _, err = fetch(t, stranger, prefix, "checkpoint")
	}
	if status, text, err := fetch(t, stranger, prefix, "checkpoint"); err == nil {
		t.Errorf("revoked, on a new connection: got %d, %q, want none", status, text)
	}
	if code := d.stop(t); code != 0 {
		t.Errorf("interrupted: got exit code %d, want 0:\n%s", code, d.errs)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", prefix.Host); err == nil {
		_ = conn.Close()
		t.Error("stopped, and it still takes connections")
	}
}

// asked is a connection that has got one answer, and waits for nothing.
func asked(t *testing.T, dir, own, address string) net.Conn {
	t.Helper()
	roots, err := ca.LoadPool(filepath.Join(dir, "tls-ca.pem"))
	check(t, err)
	pair, err := ca.LoadPair(filepath.Join(own, "client.pem"), filepath.Join(own, "client.key"))
	check(t, err)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, ServerName: "localhost"}}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "GET /checkpoint HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err == nil {
		var answer *http.Response
		if answer, err = http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	}
	if err != nil {
		_ = conn.Close()
		t.Logf("connecting to %s: %v", address, err)
		return nil
	}
	return conn
}

func TestOneCallerHasHalfOfTheLogsConnections(t *testing.T) {
	_, dir, own, prefix := audited(t, 1)
	var open []net.Conn
	for range verifiersEach {
		conn := asked(t, dir, own, prefix.Host)
		if conn == nil {
			t.Fatalf("%d connections are open, want %d", len(open), verifiersEach)
		}
		open = append(open, conn)
	}
	if asked(t, dir, own, prefix.Host) != nil {
		t.Errorf("one caller has more than %d connections", verifiersEach)
	}
	if asked(t, dir, dir, prefix.Host) == nil {
		t.Error("one caller's connections keep another one out")
	}
	check(t, open[0].Close())
	for over := time.Now().Add(patience); asked(t, dir, own, prefix.Host) == nil; {
		if time.Now().After(over) {
			t.Fatal("a connection that was closed is still counted")
		}
	}
}

// Neither who says nothing, nor who shows a certificate without its key.
func TestWhoProvesNothingKeepsNobodyFromTheLog(t *testing.T) {
	_, dir, own, prefix := audited(t, 1)
	roots, err := ca.LoadPool(filepath.Join(dir, "tls-ca.pem"))
	check(t, err)
	pair, err := ca.LoadPair(filepath.Join(own, "client.pem"), filepath.Join(own, "client.key"))
	check(t, err)
	for range verifiersEach {
		thief := tls.Client(&withholding{Conn: silent(t, prefix.Host)}, &tls.Config{
			RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, ServerName: "localhost",
		})
		check(t, thief.HandshakeContext(t.Context()))
	}
	if asked(t, dir, own, prefix.Host) == nil {
		t.Error("who shows a caller's certificate without its key keeps that one out")
	}
	for range 13 * verifiersMost {
		silent(t, prefix.Host)
	}
	visitor := browser(t, dir, own)
	for over := time.Now().Add(patience); ; { // who comes in a rush comes again
		status, _, err := fetch(t, visitor, prefix, "checkpoint")
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(over) {
			t.Fatalf("who says nothing keeps others out: got %d, %v", status, err)
		}
	}
}

// silent is a connection on which nothing is said.
func silent(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// withholding says all of a client's handshake but what proves its key: it ends with
// the first record that is encrypted, which has the certificate.
type withholding struct {
	net.Conn
	over bool
}

func (w *withholding) Write(b []byte) (int, error) {
	const header, encrypted = 5, 23
	for rest := b; len(rest) >= header && !w.over; {
		record := rest[:header+int(binary.BigEndian.Uint16(rest[3:]))]
		if _, err := w.Conn.Write(record); err != nil {
			return 0, err
		}
		w.over, rest = record[0] == encrypted, rest[len(record):]
	}
	return len(b), nil
}

func TestWhereTheLogCannotBeServedNothingIs(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	text := read(t, config)
	taken, err := net.Listen("tcp", quiet)
	check(t, err)
	defer taken.Close()
	for _, row := range []struct{ command, listen, want string }{
		{"check", "somewhere", `audit.listen: must be HOST:PORT, such as 127.0.0.1:7444, not "somewhere"`},
		{"check", `"127.0.0.1:"`, `audit.listen: must be HOST:PORT, such as 127.0.0.1:7444, not "127.0.0.1:"`},
		{"serve", taken.Addr().String(), "audit.listen: listening: "},
	} {
		check(t, os.WriteFile(config, []byte(strings.Replace(text, "audit:\n", "audit:\n  listen: "+row.listen+"\n", 1)), 0o600))
		if code, _, errs := ends(t, row.command, "--config", config); code != 1 || !strings.Contains(errs, row.want) {
			t.Errorf("%s with %s: got code %d and %q, want 1 and %q", row.command, row.listen, code, errs, row.want)
		}
	}
}
