package myinvois

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/internal/strict"
)

// credentialsFolder begins the path of a systemd credential
// (LoadCredentialEncrypted= in the unit).
const (
	credentialsVariable = "CREDENTIALS_DIRECTORY"
	credentialsFolder   = "$" + credentialsVariable + "/"
)

// minSecret is the length of the shortest secret, in bytes: one of a few letters
// could not be kept out of what is told, where other words hold them. The platform's
// are longer.
const minSecret = 8

// warnBefore is how long before its end a secret is warned of.
const warnBefore = 30 * 24 * time.Hour

// Role is as what one logs in.
type Role string

// The roles, as a credentials file calls them.
const (
	// Intermediary acts on behalf of taxpayers that appointed it, and names the
	// one in each login.
	Intermediary Role = "intermediary"
	// Taxpayer acts for itself.
	Taxpayer Role = "taxpayer"
)

// Credentials are the client IDs of an ERP system, with their secrets. They cannot
// be printed. The zero Credentials log in nobody.
type Credentials struct{ clients []*credential }

// credential is one client ID.
type credential struct {
	id       string
	taxpayer string // for whom alone; empty for all who have none of their own
	role     Role
	secrets  []dated
}

// dated is a secret until its day, in the order of the file.
type dated struct {
	secret Secret
	ends   time.Time // the first instant at which it is no longer valid
}

// Secret is a text that no verb, no JSON and no slog prints.
type Secret struct {
	// A function, since fmt prints what it finds in unexported fields: of a
	// function, the address.
	reveal func() string
}

// NewSecret makes a Secret.
func NewSecret(text string) Secret { return Secret{func() string { return text }} }

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides it.
func (Secret) GoString() string { return "(secret)" }

// MarshalText hides it.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// credentialsFile is the file's form.
type credentialsFile struct {
	Clients []clientEntry `yaml:"clients"`
}

type clientEntry struct {
	ID      string        `yaml:"client_id"`
	TIN     string        `yaml:"tin"`
	As      string        `yaml:"as"`
	Secrets []secretEntry `yaml:"secrets"`
}

type secretEntry struct {
	Secret  string `yaml:"secret"`
	Expires string `yaml:"expires"`
}

// LoadCredentials reads a credentials file, which must be a regular one that
// neither group nor others can read, or a systemd credential, whose path begins
// with $CREDENTIALS_DIRECTORY/:
//
//	clients:
//	  - client_id: 7f1e...
//	    as: intermediary      # the default; or taxpayer, with its tin
//	    tin: C20880050010     # for this taxpayer alone; left out: for all others
//	    secrets:              # one, or two while one is being replaced
//	      - secret: ...
//	        expires: 2027-06-30
//
// An unknown key is an error. The error tells all faults at once, a line each, and
// quotes nothing of the file.
func LoadCredentials(path string) (*Credentials, error) {
	text, err := readGuarded(path)
	if err != nil {
		return nil, fmt.Errorf("reading the credentials: %w", err)
	}
	defer clear(text)
	var read credentialsFile
	file := strict.DecodeSecret(text, &read)
	credentials, err := read.parse()
	file.Locate("", err)
	if err := inFile(path, file.Err()); err != nil {
		return nil, err
	}
	return credentials, nil
}

// readGuarded reads a file whose mode keeps it secret.
func readGuarded(path string) ([]byte, error) {
	forbidden := os.FileMode(0o077)
	if name, credential := strings.CutPrefix(path, credentialsFolder); credential {
		folder := os.Getenv(credentialsVariable) //nolint:forbidigo // systemd speaks to its services through their environment
		switch {
		case folder == "":
			return nil, fmt.Errorf("%s: systemd gave this process no credentials: give the unit LoadCredentialEncrypted=%s", path, name)
		case !filepath.IsLocal(name) || strings.Contains(name, "/"):
			return nil, fmt.Errorf("%s: want the name of a credential after %s", path, credentialsFolder)
		}
		path, forbidden = filepath.Join(folder, name), 0o037 // systemd's access list shows as the group's permission
	}
	file, err := strict.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if info.Mode().Perm()&forbidden != 0 {
		return nil, fmt.Errorf("%s: its mode is %#o, so others than its owner have access: run chmod 600 on it", path, info.Mode().Perm())
	}
	return strict.ReadFile(path, 1<<20)
}

// parse checks the file, and names every fault by its place.
func (f credentialsFile) parse() (*Credentials, error) {
	c := &Credentials{}
	var faults []error
	if len(f.Clients) == 0 {
		faults = append(faults, errors.New("clients: missing: list at least one client_id with its secrets"))
	}
	for i, entry := range f.Clients {
		one, wrong := entry.parse(fmt.Sprintf("clients[%d]", i))
		faults = append(faults, wrong...)
		for _, other := range c.clients {
			if other.taxpayer == one.taxpayer {
				whom := "all taxpayers without one of their own"
				if one.taxpayer != "" {
					whom = "the same taxpayer"
				}
				faults = append(faults, fmt.Errorf("clients[%d].tin: another client ID is for %s already", i, whom))
				break
			}
		}
		c.clients = append(c.clients, one)
	}
	return c, errors.Join(faults...)
}

// taxpayerForm is the form of whom a login may name. What TINs there are is for
// others to say.
var taxpayerForm = regexp.MustCompile(`^[A-Z]{1,3}[0-9]{5,14}(:[A-Z0-9-]{1,20})?$`)

func (e clientEntry) parse(at string) (*credential, []error) {
	one := &credential{id: e.ID, taxpayer: e.TIN, role: Role(cmp.Or(e.As, string(Intermediary)))}
	var faults []error
	report := func(format string, args ...any) { faults = append(faults, fmt.Errorf(at+format, args...)) }
	if !visible(e.ID) {
		report(".client_id: missing, or not of printable characters without blanks")
	}
	switch {
	case one.role != Intermediary && one.role != Taxpayer:
		report(".as: it is neither intermediary nor taxpayer")
	case one.role == Taxpayer && e.TIN == "":
		report(".tin: missing: as a taxpayer, a client ID is for one alone")
	case e.TIN != "" && !taxpayerForm.MatchString(e.TIN):
		report(".tin: it is not a TIN, nor TIN:ROB")
	}
	if n := len(e.Secrets); n < 1 || n > 2 {
		report(".secrets: there are %d; it takes one, or two while one is being replaced", n)
	}
	for i, s := range e.Secrets {
		switch {
		case !visible(s.Secret):
			report(".secrets[%d].secret: missing, or not of printable characters without blanks", i)
		case len(s.Secret) < minSecret:
			report(".secrets[%d].secret: it has fewer than %d characters: is it the whole one?", i, minSecret)
		}
		day, err := time.ParseInLocation(time.DateOnly, s.Expires, malaysia())
		if err != nil {
			report(".secrets[%d].expires: want the day that the portal shows, such as 2027-06-30", i)
		}
		one.secrets = append(one.secrets, dated{NewSecret(s.Secret), day.AddDate(0, 0, 1)})
	}
	return one, faults
}

// visible tells whether a text can be sent as it is.
func visible(text string) bool {
	return text != "" && len(text) <= 512 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// malaysia is the zone of the platform's days.
func malaysia() *time.Location { return time.FixedZone("MYT", 8*3600) }

// of returns the client ID for a taxpayer: its own, else the one for all.
func (c *Credentials) of(taxpayer string) *credential {
	var found *credential
	for _, one := range c.clients {
		if one.taxpayer == taxpayer {
			return one
		}
		if one.taxpayer == "" {
			found = one
		}
	}
	return found
}

// Role returns as what one logs in for a taxpayer (TIN or TIN:ROB), or "" if there
// is no client ID for it.
func (c *Credentials) Role(taxpayer string) Role {
	if one := c.of(taxpayer); one != nil {
		return one.role
	}
	return ""
}

// Warnings tells, a sentence each, which secrets have ended or end within 30 days.
// When a client ID's last one has, nobody can log in with it.
func (c *Credentials) Warnings(now time.Time) []string {
	var said []string
	for _, one := range c.clients {
		for i, s := range one.secrets {
			left := s.ends.Sub(now)
			last := s.ends.Add(-time.Second).In(malaysia()).Format(time.DateOnly)
			switch which := fmt.Sprintf("secret %d of client ID %s", i+1, one.id); {
			case left <= 0:
				said = append(said, fmt.Sprintf("%s has ended (its last day was %s): make a new one in the portal and take this one out", which, last))
			case left <= warnBefore:
				said = append(said, fmt.Sprintf("%s ends with %s, in %d days: make a new one in the portal and put it beside this one", which, last, int(left.Hours()/24)))
			}
		}
	}
	return said
}

// usable are the secrets that have not ended, those that end last first: while
// two stand side by side, the new one.
func (c *credential) usable(now time.Time) []dated {
	secrets := slices.Clone(c.secrets)
	secrets = slices.DeleteFunc(secrets, func(s dated) bool { return !s.ends.After(now) })
	slices.SortStableFunc(secrets, func(a, b dated) int { return b.ends.Compare(a.ends) })
	return secrets
}
