package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Register is an authority for TLS that lives in a folder, and knows what it
// issued. The folder holds the authority (ca.pem, and ca.key, which its owner
// alone may read) and a copy of each certificate (issued/SERIAL.pem), without
// keys. It is safe for concurrent use, by several processes too.
type Register struct {
	folder    string
	authority *x509.Certificate
}

const (
	registerCertificate = "ca.pem"
	registerKey         = "ca.key"
	registerIssued      = "issued"
)

// NewRegister makes an authority of that name in a folder, which it makes if
// need be. The error matches [os.ErrExist] if there is one already.
func NewRegister(folder, name string, validity Validity) (*Register, error) {
	authority, err := New(name, ECDSA, validity)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(folder, registerIssued), 0o700); err != nil {
		return nil, fmt.Errorf("making the authority's folder: %w", err)
	}
	r := &Register{folder: folder, authority: authority.certificate}
	if _, err := os.Stat(r.CertificateFile()); err == nil {
		return nil, fmt.Errorf("making an authority: %s: %w", r.CertificateFile(), os.ErrExist)
	}
	// The key first: where the certificate is, the authority is whole.
	key := filepath.Join(folder, registerKey)
	err = authority.Save(r.CertificateFile(), key)
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("making an authority: %s is there, but not %s: put that back, or remove the key to begin anew: %w", key, r.CertificateFile(), err)
	}
	return r, err
}

// OpenRegister opens the authority in a folder, without its key. The error
// matches [os.ErrNotExist] if there is none.
func OpenRegister(folder string) (*Register, error) {
	r := &Register{folder: folder}
	certificates, err := LoadAuthorities(r.CertificateFile())
	if err != nil {
		return nil, fmt.Errorf("opening the authority: %w", err)
	}
	r.authority = certificates[0]
	return r, nil
}

// CertificateFile returns the path of the authority's certificate, for
// tls.client_ca.
func (r *Register) CertificateFile() string { return filepath.Join(r.folder, registerCertificate) }

// Certificate returns the authority's certificate.
func (r *Register) Certificate() *x509.Certificate { return r.authority }

// Client issues a client certificate as [Authority.Client] does, and notes it
// before it returns it: none exists that the register does not know.
func (r *Register) Client(name string, validity Validity) (*Pair, error) {
	return r.issue(func(a *Authority) (*Pair, error) { return a.Client(name, validity) })
}

// Server issues and notes a server certificate as [Authority.Server] makes it.
func (r *Register) Server(hosts []string, validity Validity) (*Pair, error) {
	return r.issue(func(a *Authority) (*Pair, error) { return a.Server(hosts, validity) })
}

func (r *Register) issue(by func(*Authority) (*Pair, error)) (*Pair, error) {
	authority, err := Load(r.CertificateFile(), filepath.Join(r.folder, registerKey))
	if err != nil {
		return nil, fmt.Errorf("opening the authority: %w", err)
	}
	pair, err := by(authority)
	if err != nil {
		return nil, err
	}
	note := filepath.Join(r.folder, registerIssued, FormatSerial(pair.Certificate.SerialNumber)+".pem")
	if err := WriteCertificates(note, pair.Certificate); err != nil {
		return nil, fmt.Errorf("noting what was issued: %w", err)
	}
	return pair, nil
}

// Within returns the part of a validity in which the authority is valid, too.
func (r *Register) Within(v Validity) Validity {
	if own := r.authority.NotBefore; v.NotBefore.Before(own) {
		v.NotBefore = own
	}
	if own := r.authority.NotAfter; v.NotAfter.After(own) {
		v.NotAfter = own
	}
	return v
}

// Clients returns the client certificates that were issued, oldest first.
func (r *Register) Clients() ([]*x509.Certificate, error) {
	entries, err := os.ReadDir(filepath.Join(r.folder, registerIssued))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading what was issued: %w", err)
	}
	var all []*x509.Certificate
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".pem") || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		certificates, err := LoadCertificates(filepath.Join(r.folder, registerIssued, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading what was issued: %w", err)
		}
		if slices.Contains(certificates[0].ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
			all = append(all, certificates[0])
		}
	}
	slices.SortFunc(all, func(a, b *x509.Certificate) int {
		if by := a.NotBefore.Compare(b.NotBefore); by != 0 {
			return by
		}
		return a.SerialNumber.Cmp(b.SerialNumber)
	})
	return all, nil
}
