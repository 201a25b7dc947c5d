package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
)

// addition is one run of client add.
type addition struct {
	name, out string
	days      int
}

// The files that a client gets.
const (
	clientKeyFile         = "client.key"
	clientCertificateFile = "client.pem"
	clientServerCA        = "server-ca.pem"
	clientConfigFile      = "client.yaml"
)

var clientFiles = []string{clientKeyFile, clientCertificateFile, clientServerCA, clientConfigFile}

func (a *addition) check() error {
	caller, err := policy.ParseCaller(a.name)
	if err != nil {
		return command.Usagef("%v", err)
	}
	a.name = string(caller)
	if a.out == "" {
		return command.Usagef("name a folder for the client's files with --out DIR")
	}
	if a.days < 0 || a.days > authorityDays {
		return command.Usagef("--days must be 1 to %d, not %d", authorityDays, a.days)
	}
	for _, name := range clientFiles {
		if _, err := os.Lstat(filepath.Join(a.out, name)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is there already, and nothing is overwritten: name another folder", filepath.Join(a.out, name))
		}
	}
	return nil
}

func (d *clientDesk) add(streams command.Streams, a addition) error {
	if err := d.locate(); err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	register, made, err := d.openOrMake(now)
	if err != nil {
		return err
	}
	validity := register.Within(ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, clientDays)}) // clocks differ
	if a.days > 0 {
		validity.NotAfter = now.AddDate(0, 0, a.days)
	}
	pair, err := d.issue(register, a, validity)
	if err != nil {
		return err
	}
	for _, warning := range d.warnings(register) {
		fmt.Fprintf(streams.Err, "roamsignd: warning: %s\n", warning)
	}
	report := reportOn(pair.Certificate, nil, now)
	return (&ceremony{json: d.json}).tell(streams.Out, report, func(out io.Writer) {
		if made {
			fmt.Fprintf(out, "Made an authority for clients in %s, valid until %s.\n", d.folder, register.Certificate().NotAfter.Format(time.RFC3339))
		}
		fmt.Fprintf(out, "Issued a certificate for %s, serial %s, valid until %s.\n", a.name, report.Serial, report.NotAfter.Format(time.RFC3339))
		fmt.Fprintf(out, "Wrote it into %s, with its key and a %s: hand them to the client and remove them here.\n", a.out, clientConfigFile)
		fmt.Fprintf(out, "It may connect, and nothing else until the policy names it among its callers.\n")
	})
}

// issue has a certificate issued, and writes the client's files into their folder.
// What it made there goes again where it fails.
func (d *clientDesk) issue(register *ca.Register, a addition, validity ca.Validity) (pair *ca.Pair, err error) {
	made := missing(a.out)
	defer func() {
		if err == nil {
			return
		}
		for _, name := range clientFiles {
			_ = os.Remove(filepath.Join(a.out, name)) // none was there before
		}
		for _, folder := range made {
			_ = os.Remove(folder) // if it is empty
		}
	}()
	if err := os.MkdirAll(a.out, 0o700); err != nil {
		return nil, fmt.Errorf("making the client's folder: %w", err)
	}
	if pair, err = register.Client(a.name, validity); err != nil {
		return nil, err
	}
	if err := d.write(a.out, pair, register); err != nil {
		return nil, fmt.Errorf("writing the client's files: %w", err)
	}
	return pair, nil
}

// missing returns a folder, and those around it, that are not there, itself first.
func missing(folder string) (all []string) {
	for {
		if _, err := os.Lstat(folder); !errors.Is(err, os.ErrNotExist) {
			return all
		}
		all = append(all, folder)
		folder = filepath.Dir(folder)
	}
}

// openOrMake opens the authority, or makes it, and the list of revocations.
func (d *clientDesk) openOrMake(now time.Time) (register *ca.Register, made bool, err error) {
	register, err = ca.OpenRegister(d.folder)
	if errors.Is(err, os.ErrNotExist) {
		made = true
		register, err = ca.NewRegister(d.folder, authorityName, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, authorityDays)})
	}
	if err != nil {
		return nil, false, err
	}
	return register, made, makeSerials(d.revoked)
}

// write writes a client's files, its key first, readable by their owner alone.
func (d *clientDesk) write(folder string, pair *ca.Pair, register *ca.Register) error {
	in := func(name string) string { return filepath.Join(folder, name) }
	if err := ca.WriteKey(in(clientKeyFile), pair.Key); err != nil {
		return err
	}
	if err := writeFile(in(clientCertificateFile), pemText(pair.Certificate), 0o600); err != nil {
		return err
	}
	server := d.server(register)
	if server.root != nil {
		if err := writeFile(in(clientServerCA), pemText(server.root), 0o600); err != nil {
			return err
		}
	}
	return writeFile(in(clientConfigFile), server.clientText(), 0o600)
}

func pemText(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}

// serverSide is what a client must know of the server, as far as it is known.
type serverSide struct {
	address string
	root    *x509.Certificate
}

// server learns from the configuration what a client must know.
func (d *clientDesk) server(register *ca.Register) (s serverSide) {
	files := d.setup.Signer.TLS
	if files.Certificate == "" {
		return s
	}
	chain, err := ca.LoadCertificates(files.Certificate)
	if err != nil {
		return s // it may be still to come
	}
	s.address = addressFor(d.setup.Signer.Listen, chain[0])
	trusted := []*x509.Certificate{register.Certificate()}
	if more, err := ca.LoadAuthorities(files.ClientCA); err == nil {
		trusted = append(trusted, more...)
	}
	last := chain[len(chain)-1]
	switch at := slices.IndexFunc(trusted, func(root *x509.Certificate) bool { return last.CheckSignatureFrom(root) == nil }); {
	case last.IsCA:
		s.root = last
	case at >= 0:
		s.root = trusted[at]
	}
	return s
}

// addressFor is where clients find a server that listens there: the certificate
// must name the host.
func addressFor(listen string, leaf *x509.Certificate) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return ""
	}
	if host != "" && leaf.VerifyHostname(host) == nil {
		return listen
	}
	for _, name := range leaf.DNSNames {
		if !strings.Contains(name, "*") {
			return net.JoinHostPort(name, port)
		}
	}
	for _, ip := range leaf.IPAddresses {
		return net.JoinHostPort(ip.String(), port)
	}
	return ""
}

// clientText is client.yaml. What is not known is left to its reader.
func (s serverSide) clientText() string {
	servers, roots := `# servers: ["signer.example.com:7443"]  # name the signers, and remove the # before`, "# ca: FILE  # name the PEM file of the authority of the servers' certificates, and remove the # before"
	if s.address != "" {
		servers = fmt.Sprintf("servers: [%q]", s.address)
	}
	if s.root != nil {
		roots = "ca: " + clientServerCA
	}
	return fmt.Sprintf(`# Written by "roamsignd client add". Paths are relative to this file.
%s
%s
certificate: %s
key: %s
`, servers, roots, clientCertificateFile, clientKeyFile)
}

// warnings tell why a service of this configuration would not let the
// authority's clients in.
func (d *clientDesk) warnings(register *ca.Register) []string {
	path := d.setup.Signer.TLS.ClientCA
	if path == "" {
		return []string{fmt.Sprintf("name %s in tls.client_ca, and %s in tls.revoked, of the service's configuration", register.CertificateFile(), d.revoked)}
	}
	trusted, err := ca.LoadAuthorities(path)
	if err != nil || !slices.ContainsFunc(trusted, register.Certificate().Equal) {
		return []string{fmt.Sprintf("the service does not let this client in: add what is in %s to %s (tls.client_ca)", register.CertificateFile(), path)}
	}
	return nil
}

// serialsHeading begins a list of revocations.
const serialsHeading = "# Revoked client certificates: a serial number a line, in hexadecimal.\n"

// makeSerials makes an empty list of revocations, unless there is one.
func makeSerials(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return writeFile(path, serialsHeading, 0o644)
}

// appendSerials adds to a list of revocations those that are not in it, in one
// step: a reader sees the list before or after. Others that do the same wait.
func appendSerials(path string, reports []clientReport, now time.Time) error {
	if err := makeSerials(path); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	listed, err := ca.ParseSerials(text)
	if err != nil {
		return errors.Join(faultsOf(path, err)...) // the service would not read it either
	}
	if text = bytes.TrimRight(text, "\n"); len(text) > 0 {
		text = append(text, '\n')
	}
	before := len(text)
	for _, r := range reports {
		if !listed.Revokes(r.certificate) {
			text = fmt.Appendf(text, "%s  # %s, %s\n", r.Serial, r.Name, now.UTC().Format(time.RFC3339))
		}
	}
	if len(text) == before {
		return nil
	}
	return replaceFile(path, string(text))
}

// replaceFile writes a file anew with the mode and, where the system lets us,
// the owner that it had.
func replaceFile(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := writeFile(path, text, info.Mode().Perm()); err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(path, int(owner.Uid), int(owner.Gid))
	}
	return nil
}

// lockFolder keeps other processes that lock it, too, out of a folder.
func lockFolder(path string) (unlock func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		_ = folder.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { _ = folder.Close() }, nil
}
