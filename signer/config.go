package signer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Config is the part of the configuration file that is the signer's own.
type Config struct {
	// Instance names this signer in the record of what was signed, in up to 255
	// bytes. Left out: the machine's name.
	Instance string `yaml:"instance"`
	// Listen is the address to listen on, HOST:PORT with an IP address or a
	// name. Needed.
	Listen string `yaml:"listen"`
	// TLS names the files of the connection's credentials. Needed.
	TLS TLS `yaml:"tls"`
	// State is the folder that keeps what callers have used up today of their
	// daily quotas; it is made if only it is missing. One process has it at a
	// time. Left out: a restart forgets it.
	State string `yaml:"state"`
	// Limits bound what the service takes on. May be left out.
	Limits Limits `yaml:"limits"`
}

// TLS names files, in PEM where nothing else is said. The first three are needed.
// All are read again when they change; see [TLS.Reload].
type TLS struct {
	// Certificate is the server's: the leaf first, then its issuers.
	Certificate string `yaml:"certificate"`
	// Key is the server certificate's. Only its owner may have access to it.
	Key string `yaml:"key"`
	// ClientCA holds the authorities whose client certificates may connect.
	ClientCA string `yaml:"client_ca"`
	// Revoked is a list of the serial numbers of client certificates that may
	// not connect any more, one a line, in hexadecimal ([ca.ParseSerials]).
	Revoked string `yaml:"revoked"`
	// CRL holds the revocation lists of those authorities, in PEM or DER.
	CRL string `yaml:"crl"`
}

// Files returns the files that are named.
func (t TLS) Files() []string {
	return slices.DeleteFunc([]string{t.Certificate, t.Key, t.ClientCA, t.Revoked, t.CRL}, func(path string) bool { return path == "" })
}

// Limits bound what the service takes on. Zero means the default.
type Limits struct {
	// Queue is how many signatures may wait for a session of the token, all
	// callers together; one more is refused as OVERLOADED. Default 2,000.
	Queue int `yaml:"queue"`
	// QueuePerCaller is how many signatures of one caller may wait for a session;
	// one more is refused as OVERLOADED. Default 1,000.
	QueuePerCaller int `yaml:"queue_per_caller"`
	// Streams is how many requests may be in flight on one connection; a client
	// holds further ones back. Default 256.
	Streams int `yaml:"streams"`
	// Requests is how many requests may be in flight over all connections; further
	// ones are refused as OVERLOADED before their content is read. One caller
	// has half of them at most. Each takes up to 2 MiB for its content alone. Beside
	// them there may be a sixteenth of that many of callers that the policy does
	// not know, and as many requests to the health service as connections.
	// Default 4,096.
	Requests int `yaml:"requests"`
	// Connections is how many may be open; further ones are refused until one
	// closes. One caller has half of them at most, and all whom the policy does not
	// know have an eighth together. Those that have not proven yet who they are
	// have a bound of their own. Default 1,000.
	Connections int `yaml:"connections"`
	// Request is how long one request may take at most, a duration such as
	// "60s"; a shorter deadline of the caller's holds. Default 60 s.
	Request time.Duration `yaml:"request"`
	// Drain is how long requests in flight may go on after the service was told
	// to stop. Default 10 s.
	Drain time.Duration `yaml:"drain"`
}

// The defaults, and the most that is taken for no slip.
var (
	defaults = Limits{Queue: 2000, QueuePerCaller: 1000, Streams: 256, Requests: 4096, Connections: 1000, Request: time.Minute, Drain: 10 * time.Second}
	most     = Limits{Queue: 1_000_000, QueuePerCaller: 1_000_000, Streams: 100_000, Requests: 1_000_000, Connections: 100_000, Request: time.Hour, Drain: time.Hour}
)

// ConfigFault is one thing wrong with a [Config], at the key of that path in
// the file ("tls.client_ca").
type ConfigFault struct {
	Key, Message string
}

// Error writes the key and what is wrong with it.
func (f ConfigFault) Error() string { return f.Key + ": " + f.Message }

// Validate reports everything that is wrong, as a joined error of
// [ConfigFault]s. It opens no file; see [TLS.Load].
func (c Config) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, ConfigFault{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if err := checkListen(c.Listen); err != nil {
		fault("listen", "%v", err)
	}
	if n := len(c.Instance); n > 255 || strings.IndexFunc(c.Instance, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		fault("instance", "must be at most 255 bytes of printable characters")
	}
	for _, file := range []struct{ key, path, what string }{
		{"tls.certificate", c.TLS.Certificate, "the server certificate"},
		{"tls.key", c.TLS.Key, "the server certificate's key"},
		{"tls.client_ca", c.TLS.ClientCA, "the authorities whose clients may connect"},
	} {
		if file.path == "" {
			fault(file.key, "missing: name the PEM file of %s", file.what)
		}
	}
	for _, number := range []struct {
		key         string
		value, most int
	}{
		{"limits.queue", c.Limits.Queue, most.Queue},
		{"limits.queue_per_caller", c.Limits.QueuePerCaller, most.QueuePerCaller},
		{"limits.streams", c.Limits.Streams, most.Streams},
		{"limits.requests", c.Limits.Requests, most.Requests},
		{"limits.connections", c.Limits.Connections, most.Connections},
	} {
		if number.value < 0 || number.value > number.most {
			fault(number.key, "must be 1 to %d (0 or left out: the default), not %d", number.most, number.value)
		}
	}
	for _, span := range []struct {
		key         string
		value, most time.Duration
	}{
		{"limits.request", c.Limits.Request, most.Request},
		{"limits.drain", c.Limits.Drain, most.Drain},
	} {
		if span.value < 0 || span.value > span.most {
			fault(span.key, "must be more than 0 and at most %v (0 or left out: the default), not %v", span.most, span.value)
		}
	}
	return errors.Join(faults...)
}

func checkListen(address string) error {
	if address == "" {
		return errors.New("missing: name the address to listen on, such as 127.0.0.1:7443")
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("must be HOST:PORT, such as 127.0.0.1:7443, not %q", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("the port must be a number up to 65535, not %q", port)
	}
	return nil
}

// Under returns the configuration with relative paths taken from folder.
func (c Config) Under(folder string) Config {
	for _, path := range []*string{&c.TLS.Certificate, &c.TLS.Key, &c.TLS.ClientCA, &c.TLS.Revoked, &c.TLS.CRL, &c.State} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
	return c
}

func (c Config) withDefaults() Config {
	if c.Instance == "" {
		c.Instance, _ = os.Hostname() // New refuses none
	}
	l := &c.Limits
	for _, number := range []struct {
		value    *int
		standard int
	}{
		{&l.Queue, defaults.Queue}, {&l.QueuePerCaller, defaults.QueuePerCaller},
		{&l.Streams, defaults.Streams}, {&l.Requests, defaults.Requests}, {&l.Connections, defaults.Connections},
	} {
		if *number.value == 0 {
			*number.value = number.standard
		}
	}
	if l.Request == 0 {
		l.Request = defaults.Request
	}
	if l.Drain == 0 {
		l.Drain = defaults.Drain
	}
	return c
}
