package client

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/roamsign/roamsign/internal/strict"
	"github.com/roamsign/roamsign/policy"
	"go.opentelemetry.io/otel/trace"
)

// Bounds and default of [Config.AttemptTimeout].
const (
	DefaultAttemptTimeout = 5 * time.Second
	minAttemptTimeout     = 50 * time.Millisecond
	maxAttemptTimeout     = 5 * time.Minute
)

// Config says where the signers are and who calls. [Load] reads it from a YAML
// file, in which an unknown key is an error and relative paths start from the
// file's own folder; a Config made in Go is checked by [Dial].
type Config struct {
	// Servers are the addresses of the signers, each "host:port", at least one.
	// All must hold the same key; calls go to the healthy ones in turn. The
	// certificate of each must name its host.
	Servers []string `yaml:"servers"`
	// CA is a PEM file with the certificates that the servers' are issued by.
	// Required; the system's own are never used.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files with the caller's certificate (leaf
	// first) and its private key. Required: the certificate is who calls.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// TIN is the taxpayer on whose behalf documents are signed that name no
	// valid TIN themselves. Optional; without it such documents are refused
	// unless the call names a taxpayer.
	TIN string `yaml:"tin"`
	// AttemptTimeout is how long one server may take to answer ("5s") before the
	// next one is tried. Default 5s, at least 50ms, at most 5m. Too short, and
	// batches that would have been signed are sent again.
	AttemptTimeout time.Duration `yaml:"attempt_timeout"`
	// Tracing makes spans of what this client does, beside telling the signers of the
	// trace in a call's context, which it does anyhow. Default none.
	Tracing trace.TracerProvider `yaml:"-"`
	// Now tells the time that goes into signatures as SigningTime. Default
	// [time.Now]; it must be true UTC, however it is displayed.
	Now func() time.Time `yaml:"-"`
}

// Load reads a configuration file and checks it. The error tells all faults of
// the file at once, a line each.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	var cfg Config
	file := strict.Decode(text, &cfg)
	file.Locate("", cfg.Validate())
	if faults, wrong := errors.AsType[strict.Faults](file.Err()); wrong {
		each := make([]error, len(faults))
		for i, fault := range faults {
			each[i] = fmt.Errorf("%s: %w", path, fault)
		}
		return Config{}, errors.Join(each...)
	}
	return cfg.under(filepath.Dir(path)), nil
}

// under returns the configuration with relative paths taken from a folder.
func (c Config) under(folder string) Config {
	for _, file := range []*string{&c.CA, &c.Certificate, &c.Key} {
		if !filepath.IsAbs(*file) {
			*file = filepath.Join(folder, *file)
		}
	}
	return c
}

// Validate tells all faults of the configuration at once, each beginning with
// its key, or nil. It opens no file and no connection.
func (c Config) Validate() error {
	faults := c.checkServers()
	report := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, file := range []struct{ key, value, what string }{
		{"ca", c.CA, "the authorities that issued the servers' certificates"},
		{"certificate", c.Certificate, "this caller's certificate"},
		{"key", c.Key, "this caller's private key"},
	} {
		if file.value == "" {
			report("%s: missing: name the PEM file of %s", file.key, file.what)
		}
	}
	if c.TIN != "" {
		if _, err := policy.ParseTIN(c.TIN); err != nil {
			report("tin: %w", err)
		}
	}
	if t := c.AttemptTimeout; t != 0 && (t < minAttemptTimeout || t > maxAttemptTimeout) {
		report("attempt_timeout: must be %s to %s (0 or left out: %s), not %s", minAttemptTimeout, maxAttemptTimeout, DefaultAttemptTimeout, t)
	}
	return errors.Join(faults...)
}

func (c Config) checkServers() []error {
	if len(c.Servers) == 0 {
		return []error{errors.New("servers: missing: list at least one address, such as 127.0.0.1:7443")}
	}
	var faults []error
	for i, server := range c.Servers {
		if err := checkServer(server); err != nil {
			faults = append(faults, fmt.Errorf("servers: %q is not an address: %w", server, err))
		} else if slices.Contains(c.Servers[:i], server) {
			faults = append(faults, fmt.Errorf("servers: %q is listed twice", server))
		}
	}
	return faults
}

func checkServer(server string) error {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return errors.New("it must be host:port")
	}
	if host == "" {
		return errors.New("it names no host")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}
