package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/strict"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/signer"
)

// config is roamsignd.yaml. Relative paths in it start from its own folder.
type config struct {
	Signer signer.Config `yaml:",inline"`
	// Policy is the file that says who may sign for whom. Needed.
	Policy string `yaml:"policy"`
	// Signing names the roaming certificate. Needed.
	Signing signing `yaml:"signing"`
	// Token names the token that holds its key, and how to reach it. Needed, or
	// else Tokens: several that hold the same key, to share the work and to go on
	// when one is lost.
	Token  hsm.Config   `yaml:"token"`
	Tokens []hsm.Config `yaml:"tokens"`
	// Metrics is the loopback address, HOST:PORT, on which Prometheus reads how the
	// service does, at /metrics. Left out: nowhere.
	Metrics string `yaml:"metrics"`
	// Tracing has traces of requests delivered. Left out: there are none.
	Tracing tracing `yaml:"tracing"`
	// Audit is the record of what was signed, made once by "roamsignd audit init".
	// Needed.
	Audit auditing `yaml:"audit"`
	// Clients is the folder of the small authority of "roamsignd client". The
	// service does not look at it. May be left out.
	Clients string `yaml:"clients"`
	// Probe is the client.yaml, as "roamsignd client add" makes it, of the client that
	// "check --ready" asks as. The service does not look at it. May be left out.
	Probe string `yaml:"probe"`
}

// all returns the tokens that the file names, however it does.
func (c *config) all() []hsm.Config {
	if len(c.Tokens) > 0 {
		return c.Tokens
	}
	return []hsm.Config{c.Token}
}

// locateTokens puts what is wrong with the tokens on its lines.
func (c *config) locateTokens(document *strict.Document) {
	switch {
	case !document.Given("tokens"):
		document.Locate("token.", c.Token.Check())
		return
	case document.Given("token"):
		document.Locate("", errors.New("tokens: token is given, too: put all of them under tokens"))
	case len(c.Tokens) == 0:
		document.Locate("", errors.New("tokens: the list is empty: name at least one token"))
	}
	for i := range c.Tokens {
		document.Locate(fmt.Sprintf("tokens[%d].", i), c.Tokens[i].Check())
	}
}

// setup is a configuration with what its files hold, read and found sound.
type setup struct {
	config
	path        string // of the configuration
	credentials signer.Credentials
	policy      *policy.Policy
	chain       []*x509.Certificate // the signing certificate first
	next        *successor          // nil: none follows
	crls        *ca.CRLs            // of the signing certificates
	stopped     stopList
	clock       func() time.Time // by which it serves; nil: the machine's
}

// readForm reads a configuration file alone, without judging what it says. What
// is wrong with its form the document tells.
func readForm(path string) (*setup, *strict.Document, error) {
	text, err := strict.ReadFile(path, strict.MaxFile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	s := &setup{path: path}
	document := strict.Decode(text, &s.config)
	s.under(filepath.Dir(path))
	return s, document, nil
}

// decode reads a configuration file and judges it, but not the files it names.
func decode(path string) (*setup, *strict.Document, error) {
	s, document, err := readForm(path)
	if err != nil {
		return nil, nil, err
	}
	document.Locate("", s.Signer.Validate())
	document.Locate("", s.Signing.Validate())
	document.Locate("", prefixed("metrics", checkMetrics(s.Metrics)))
	document.Locate("", s.Tracing.check())
	document.Locate("audit.", errors.Join(s.Audit.Validate(), s.Audit.checkListen()))
	s.locateTokens(document)
	return s, document, nil
}

// load reads a configuration file and the files it names. The error tells all
// faults of all of them at once, a line each.
func load(path string) (*setup, error) {
	s, document, err := decode(path)
	if err != nil {
		return nil, err
	}
	s.credentials, err = s.Signer.TLS.Load()
	document.Locate("", err)
	s.chain, err = s.Signing.load()
	document.Locate("", prefixed("signing.certificate", err))
	s.next, err = s.Signing.loadNext(s.chain)
	document.Locate("", err)
	s.crls, err = s.loadCRLs()
	document.Locate("", prefixed("signing.crl", err))
	_, err = s.Audit.keys()
	document.Locate("", err)
	var faults []error
	if s.Policy == "" {
		document.Locate("", errors.New("policy: missing: name the file that says who may sign for whom"))
	} else if s.policy, err = loadPolicy(s.Policy); err != nil {
		if _, unread := errors.AsType[*fs.PathError](err); unread {
			document.Locate("", prefixed("policy", err))
		} else {
			faults = faultsOf(s.Policy, err)
		}
	}
	s.stopped, err = loadStopped(s.stoppedFile())
	return s, errors.Join(append(append(faultsOf(path, document.Err()), faults...), err)...)
}

// loadPolicy reads the policy file.
func loadPolicy(path string) (*policy.Policy, error) {
	text, err := strict.ReadFile(path, strict.MaxFile)
	if err != nil {
		return nil, err
	}
	return policy.Parse(text)
}

// current tells which of its own certificates, as far as they could be read, are
// not valid at now, and whether a revocation list should have been renewed. The
// service starts all the same: it tells those who call.
func (s *setup) current(now time.Time) error {
	own := map[string]*x509.Certificate{}
	if leaf := s.credentials.Certificate.Leaf; leaf != nil {
		own[s.Signer.TLS.Certificate] = leaf
	}
	if path, leaf := s.due(now); leaf != nil {
		own[path] = leaf
	}
	var faults []error
	for _, path := range slices.Sorted(maps.Keys(own)) {
		if from, to := own[path].NotBefore, own[path].NotAfter; now.Before(from) || now.After(to) {
			faults = append(faults, fmt.Errorf("%s: the certificate is valid from %s to %s, and now it is %s",
				path, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)))
		}
	}
	return errors.Join(append(faults, s.credentials.Overdue(now), s.barred(), overdue(s.crls, now))...)
}

// prefixed begins an error with the key that it is about.
func prefixed(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

// faultsOf gives each fault of a file the file's name.
func faultsOf(path string, err error) (named []error) {
	var faults strict.Faults
	switch {
	case err == nil:
	case errors.As(err, &faults):
		for _, f := range faults {
			named = append(named, fmt.Errorf("%s: %w", path, f))
		}
	default:
		named = append(named, fmt.Errorf("%s: %w", path, err))
	}
	return named
}

// under takes relative paths from the folder of the file.
func (s *setup) under(folder string) {
	s.Signer = s.Signer.Under(folder)
	paths := []*string{&s.Policy, &s.Clients, &s.Probe, &s.Tracing.CA, &s.Signing.Certificate, &s.Signing.CRL, &s.Signing.Next.Certificate, &s.Token.Module, &s.Token.PINFile}
	paths = append(paths, s.Audit.paths()...)
	for i := range s.Tokens {
		paths = append(paths, &s.Tokens[i].Module, &s.Tokens[i].PINFile)
	}
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) && !hsm.IsCredential(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
}
