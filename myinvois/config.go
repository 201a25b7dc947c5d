package myinvois

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/roamsign/roamsign/internal/strict"
)

// Bounds and defaults of a [Config].
const (
	defaultTimeout = time.Minute
	minTimeout     = time.Second
	maxTimeout     = 10 * time.Minute
	defaultPoll    = 4 * time.Second
	minPoll        = 3 * time.Second // the platform's own pace is 3 to 5 seconds
	maxPoll        = 10 * time.Minute
	maxShare       = 1000 // of a stand-in's limits
)

// environments are LHDN's, by what a configuration calls them.
var environments = map[string]struct{ api, portal string }{
	"production": {"https://api.myinvois.hasil.gov.my", "https://myinvois.hasil.gov.my"},
	"preprod":    {"https://preprod-api.myinvois.hasil.gov.my", "https://preprod.myinvois.hasil.gov.my"},
}

// Config says where the platform is and who logs in. [Load] reads it from a YAML
// file, in which an unknown key is an error and relative paths start from the
// file's own folder.
type Config struct {
	// Environment is one of LHDN's, "production" or "preprod" (its sandbox), and
	// stands for the addresses below. Either it or API is required.
	Environment string `yaml:"environment"`
	// API is the address of a stand-in ("https://127.0.0.1:8443"), Identity that
	// of its logins, if it is another, and Portal the one that links to shared
	// documents begin with. Only https.
	API      string `yaml:"api"`
	Identity string `yaml:"identity"`
	Portal   string `yaml:"portal"`
	// CA is a PEM file with the certificates that the servers' are issued by.
	// Left out: the system's own.
	CA string `yaml:"ca"`
	// Credentials is the file with the client IDs and their secrets
	// ([LoadCredentials]). Required. A path that begins with
	// $CREDENTIALS_DIRECTORY/ names a systemd credential.
	Credentials string `yaml:"credentials"`
	// Journal is the file that remembers what was submitted. Left out:
	// "myinvois.journal" in the configuration's folder. The times of the last logins
	// stand in a file beside it, ".logins" after its name.
	Journal string `yaml:"journal"`
	// Roots is a PEM file with the authorities, issuing ones included, that
	// signing certificates have to come from. Left out: the chain is not checked
	// before a document is sent.
	Roots string `yaml:"roots"`
	// Timeout is how long one request may take. Default 1m, 1s to 10m.
	Timeout time.Duration `yaml:"timeout"`
	// PollInterval is the pause between two questions about one submission.
	// Default 4s; at least 3s at LHDN, which asks for 3 to 5.
	PollInterval time.Duration `yaml:"poll_interval"`
	// Share is the part of the published limits that this process may use: 0.5
	// where two share a client ID. Default 1, at most 1 at LHDN.
	Share float64 `yaml:"share"`

	// Transport takes the place of the connections, for tests. CA is not read
	// then.
	Transport http.RoundTripper `yaml:"-"`
	// Note is told, in a sentence, why a login waits for its turn behind those of
	// other processes, from any goroutine until the client is closed. It may be nil.
	Note func(string) `yaml:"-"`
}

// Load reads a configuration file and checks it. The error tells all faults of
// the file at once, a line each.
func Load(path string) (Config, error) {
	text, err := strict.ReadFile(path, strict.MaxFile)
	if err != nil {
		return Config{}, fmt.Errorf("reading the platform's configuration: %w", err)
	}
	var cfg Config
	file := strict.Decode(text, &cfg)
	file.Locate("", cfg.Validate())
	if err := inFile(path, file.Err()); err != nil {
		return Config{}, err
	}
	cfg.Journal = cmp.Or(cfg.Journal, "myinvois.journal")
	for _, name := range []*string{&cfg.CA, &cfg.Credentials, &cfg.Journal, &cfg.Roots} {
		if *name != "" && !filepath.IsAbs(*name) && !strings.HasPrefix(*name, credentialsFolder) {
			*name = filepath.Join(filepath.Dir(path), *name)
		}
	}
	return cfg, nil
}

// inFile puts a file's name before each of its faults.
func inFile(path string, err error) error {
	faults, wrong := errors.AsType[strict.Faults](err)
	if !wrong {
		return err
	}
	each := make([]error, len(faults))
	for i, fault := range faults {
		each[i] = fmt.Errorf("%s: %w", path, fault)
	}
	return errors.Join(each...)
}

// Validate tells all faults of the configuration at once, each beginning with its
// key, or nil. It opens no file and no connection.
func (c Config) Validate() error {
	faults := c.checkPlace()
	report := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Credentials == "" {
		report("credentials: missing: name the file of the client IDs and their secrets")
	}
	if t := c.Timeout; t != 0 && (t < minTimeout || t > maxTimeout) {
		report("timeout: must be %s to %s (0 or left out: %s), not %s", minTimeout, maxTimeout, defaultTimeout, t)
	}
	leastPoll, mostShare := minPoll, 1.0
	if c.Environment == "" {
		leastPoll, mostShare = time.Millisecond, maxShare
	}
	if p := c.PollInterval; p != 0 && (p < leastPoll || p > maxPoll) {
		report("poll_interval: must be %s to %s (0 or left out: %s), not %s", leastPoll, maxPoll, defaultPoll, p)
	}
	if s := c.Share; s != 0 && !(s >= 0.25 && s <= mostShare) {
		report("share: must be 0.25 to %v (0 or left out: 1), not %v", mostShare, s)
	}
	return errors.Join(faults...)
}

// checkPlace tells what is wrong with where the platform is.
func (c Config) checkPlace() []error {
	var faults []error
	_, known := environments[c.Environment]
	switch {
	case c.Environment == "" && c.API == "":
		faults = append(faults, errors.New("environment: missing: it is production or preprod, or else api is the address of a stand-in"))
	case c.Environment != "" && !known:
		faults = append(faults, fmt.Errorf("environment: it is production or preprod, not %q", c.Environment))
	}
	for _, place := range []struct{ key, address string }{{"api", c.API}, {"identity", c.Identity}, {"portal", c.Portal}} {
		if place.address == "" {
			continue
		}
		if c.Environment != "" {
			faults = append(faults, fmt.Errorf("%s: goes without environment, which says where that is", place.key))
		} else if err := checkAddress(place.address); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", place.key, err))
		}
	}
	return faults
}

// checkAddress refuses what is not https://HOST[:PORT]. The address is not
// repeated: people put passwords into addresses.
func checkAddress(address string) error {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "https" || at.Host == "" || at.User != nil || strings.TrimSuffix(at.Path, "/") != "" || at.RawQuery != "" || at.Fragment != "" {
		return errors.New("it must be https://HOST or https://HOST:PORT, and no more")
	}
	return nil
}

// Places returns the addresses of the API, of the logins and of the portal,
// without a slash at the end. The last may be empty.
func (c Config) Places() (api, identity, portal string) {
	if e, known := environments[c.Environment]; known {
		return e.api, e.api, e.portal
	}
	api = strings.TrimSuffix(c.API, "/")
	return api, cmp.Or(strings.TrimSuffix(c.Identity, "/"), api), strings.TrimSuffix(c.Portal, "/")
}

// Link returns where a valid document can be looked at, by its UUID and long ID
// (the address in its QR code), or "" if there is no portal or no long ID.
func (c Config) Link(uuid, longID string) string {
	_, _, portal := c.Places()
	if portal == "" || longID == "" {
		return ""
	}
	return portal + "/" + url.PathEscape(uuid) + "/share/" + url.PathEscape(longID)
}
