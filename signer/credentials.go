package signer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/roamsign/roamsign/ca"
)

// Credentials are what the server shows, and whom it lets connect. They are not
// changed once a [Server] has them.
type Credentials struct {
	// Certificate is the server's, with its key.
	Certificate tls.Certificate
	// ClientCAs issue the certificates of those who may connect.
	ClientCAs *x509.CertPool
	// Revoked and CRLs are the certificates that may not; nil is none.
	Revoked *ca.Serials
	CRLs    *ca.CRLs

	authorities []*x509.Certificate // ClientCAs, where they were loaded
}

// complete refuses credentials that nobody could connect under.
func (c *Credentials) complete() error {
	if len(c.Certificate.Certificate) == 0 || c.ClientCAs == nil {
		return errors.New("there is no server certificate, or no client authority")
	}
	return nil
}

// Authorities returns the certificates that ClientCAs holds, if these credentials
// were loaded from files.
func (c *Credentials) Authorities() []*x509.Certificate { return c.authorities }

// revokes reports whether a verified certificate, or one of its issuers, is
// revoked.
func (c *Credentials) revokes(chains [][]*x509.Certificate) *x509.Certificate {
	for _, chain := range chains {
		for _, link := range chain {
			if c.Revoked.Revokes(link) || c.CRLs.Revokes(link) {
				return link
			}
		}
	}
	return nil
}

// Overdue tells whether a revocation list should have been replaced by a newer
// one by now. It stays in force.
func (c *Credentials) Overdue(now time.Time) error {
	if due := c.CRLs.RenewalDue(); !due.IsZero() && now.After(due) {
		return fmt.Errorf("tls.crl: a revocation list was to be renewed by %s", due.UTC().Format(time.RFC3339))
	}
	return nil
}

// Load reads the files that are named; [Config.Validate] refuses a TLS that
// names not all that are needed. It reports what is wrong with each as
// [ConfigFault]s.
func (t TLS) Load() (Credentials, error) { return t.Reload(Credentials{}) }

// Reload reads the files again. Of those that are faulty it keeps what was
// before, and reports them as [ConfigFault]s: a certificate that cannot be read
// does not keep a revocation from taking effect.
func (t TLS) Reload(before Credentials) (Credentials, error) {
	loaded := before
	var faults []error
	take := func(key, path string, load func() error) {
		if path == "" {
			return
		}
		if err := load(); err != nil {
			faults = append(faults, ConfigFault{Key: key, Message: err.Error()})
		}
	}
	if t.Certificate != "" {
		take("tls.key", t.Key, func() error { return ca.Guarded(t.Key) })
	}
	if t.Key != "" && len(faults) == 0 {
		take("tls.certificate", t.Certificate, func() error {
			return keep(&loaded.Certificate)(ca.LoadPair(t.Certificate, t.Key))
		})
	}
	take("tls.client_ca", t.ClientCA, func() error { return keep(&loaded.authorities)(ca.LoadAuthorities(t.ClientCA)) })
	if loaded.authorities != nil {
		loaded.ClientCAs = ca.PoolOf(loaded.authorities)
		take("tls.crl", t.CRL, func() error { return keep(&loaded.CRLs)(ca.LoadCRLs(t.CRL, loaded.authorities)) })
	}
	take("tls.revoked", t.Revoked, func() error { return keep(&loaded.Revoked)(ca.LoadSerials(t.Revoked)) })
	return loaded, errors.Join(faults...)
}

// keep takes over what was loaded, unless there was an error.
func keep[T any](into *T) func(loaded T, err error) error {
	return func(loaded T, err error) error {
		if err == nil {
			*into = loaded
		}
		return err
	}
}

// SetCredentials puts other credentials in force for connections that begin from
// now on. Those that are open stay, but for those whose client may not connect any
// more: they are cut, whatever is in flight on them.
func (s *Server) SetCredentials(c Credentials) error {
	if err := c.complete(); err != nil {
		return fmt.Errorf("changing the credentials: %w", err)
	}
	s.credentials.Store(&c)
	s.open.judge(s.stillWelcome)
	return nil
}
