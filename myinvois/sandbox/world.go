package sandbox

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"
)

// Config is the world that the platform knows, and how it behaves. The keys are
// those of the file that roamsign sandbox reads.
type Config struct {
	// Clients are the ERP systems that may log in; at least one.
	Clients []Client `yaml:"clients"`
	// Taxpayers are the taxpayers that exist. Any other may be a document's
	// counterparty, unless Strict.
	Taxpayers []Taxpayer `yaml:"taxpayers"`
	// Validation is how long a document stays Submitted ("2s"). Default 2s.
	Validation time.Duration `yaml:"validation"`
	// TokenLife is how long a token is valid ("1h"). Default 1h, at least 1s: it
	// is told in whole seconds.
	TokenLife time.Duration `yaml:"token_life"`
	// IssueWindow is how old a document's issue date-time may be. Default 72h.
	IssueWindow time.Duration `yaml:"issue_window"`
	// Limits are requests a minute for each client ID, by endpoint ("submit"), in
	// the place of those that LHDN publishes; 0 is no limit.
	Limits map[Endpoint]int `yaml:"limits"`
	// Errors is the shape of errors of whole requests. Default "wire".
	Errors Shape `yaml:"errors"`
	// Strict refuses counterparties and references to documents that the sandbox
	// does not know, as LHDN does. Without it they pass.
	Strict bool `yaml:"strict"`
	// MaxDocuments and MaxBytes bound what is kept; the oldest submission goes
	// first. Defaults 20,000 documents and 256 MiB.
	MaxDocuments int   `yaml:"max_documents"`
	MaxBytes     int64 `yaml:"max_bytes"`
	// Faults are there from the start; see [Platform.Inject].
	Faults []Fault `yaml:"faults"`
	// Roots are the authorities whose signing certificates are accepted. Required:
	// without trust anchors a signature proves nothing.
	Roots *x509.CertPool `yaml:"-"`
	// Now tells the time. Default [time.Now].
	Now func() time.Time `yaml:"-"`
	// Log gets a line for each request. Default: nothing is logged.
	Log *slog.Logger `yaml:"-"`
}

// Client is an ERP system with credentials of its own.
type Client struct {
	// ID is its client ID.
	ID string `yaml:"id"`
	// Secrets are valid side by side, one or two, as the portal gives them.
	Secrets []string `yaml:"secrets"`
	// TIN and BRN are those of the organisation that registered it: a taxpayer,
	// who may be intermediary of others. The taxpayer must be among Taxpayers.
	TIN string `yaml:"tin"`
	// Expires is when the credentials end. Never, if it is left out.
	Expires time.Time `yaml:"expires"`
	// Blocked refuses its logins.
	Blocked bool `yaml:"blocked"`
}

// Taxpayer is an organisation or a person with a TIN.
type Taxpayer struct {
	// TIN is its tax identification number ("C25845632020").
	TIN string `yaml:"tin"`
	// BRN is its business registration number; a sole proprietor's is what stands
	// behind the colon in onbehalfof.
	BRN string `yaml:"brn"`
	// Name is its registered name.
	Name string `yaml:"name"`
	// Represented is by whom, from when to when, and with what rights.
	Represented []Representation `yaml:"represented"`
}

// Representation is what a taxpayer set for an intermediary on the portal.
type Representation struct {
	// By is the intermediary's TIN.
	By string `yaml:"by"`
	// From and To are its first and its last moment: a time, or a date, which is
	// its first moment in UTC. Both are required: the portal asks for both.
	From time.Time `yaml:"from"`
	To   time.Time `yaml:"to"`
	// Rights are what was switched on. None is none.
	Rights []Right `yaml:"rights"`
}

// Right is one of the portal's switches for an intermediary.
type Right string

// The rights.
const (
	MaySubmit Right = "submit"
	MayCancel Right = "cancel"
	MayReject Right = "reject" // request rejection of a document received
)

// Rights are all of them.
func Rights() []Right { return []Right{MaySubmit, MayCancel, MayReject} }

// Shape is the shape of an error of a whole request.
type Shape string

// The shapes: what is seen on the wire, and what LHDN's page "Standard Error
// Response" documents. Validation steps always have the latter.
const (
	Wire       Shape = "wire"
	Documented Shape = "documented"
)

// active tells whether the representation stands at a moment.
func (r Representation) active(at time.Time) bool {
	return !at.Before(r.From) && !at.After(r.To)
}

// represented returns what an intermediary may do for the taxpayer at a moment,
// and whether it represents it then at all.
func (t *Taxpayer) represented(by string, at time.Time) (rights []Right, represented bool) {
	for _, r := range t.Represented {
		if r.By == by && r.active(at) {
			rights, represented = append(rights, r.Rights...), true
		}
	}
	return rights, represented
}

// tinForm is what LHDN's argument check can know of a TIN: letters, then digits.
var tinForm = regexp.MustCompile(`^[A-Z]{1,2}[0-9]{7,12}$`)

// Validate tells all faults of the configuration at once, each beginning with its
// key, or nil.
func (c *Config) Validate() error {
	var faults []error
	report := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Clients) == 0 {
		report("clients: missing: nobody could log in")
	}
	tins := map[string]bool{}
	for i := range c.Taxpayers {
		t := &c.Taxpayers[i]
		if tins[t.TIN] {
			report("taxpayers[%d].tin: %s is listed twice", i, t.TIN)
		}
		tins[t.TIN] = true
		faults = append(faults, t.faults(fmt.Sprintf("taxpayers[%d]", i))...)
	}
	ids := map[string]bool{}
	for i, client := range c.Clients {
		where := fmt.Sprintf("clients[%d]", i)
		switch {
		case client.ID == "":
			report("%s.id: missing", where)
		case ids[client.ID]:
			report("%s.id: %q is listed twice", where, client.ID)
		}
		ids[client.ID] = true
		if len(client.Secrets) == 0 || len(client.Secrets) > 2 || slices.Contains(client.Secrets, "") {
			report("%s.secrets: must be one or two, and not empty", where)
		}
		if !tins[client.TIN] {
			report("%s.tin: %q is none of the taxpayers", where, client.TIN)
		}
	}
	return errors.Join(append(faults, c.bounds()...)...)
}

// bounds judges the numbers.
func (c *Config) bounds() []error {
	var faults []error
	report := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"validation", c.Validation}, {"token_life", c.TokenLife}, {"issue_window", c.IssueWindow}} {
		if d.value < 0 {
			report("%s: must not be negative", d.key)
		}
	}
	if c.TokenLife > 0 && c.TokenLife < time.Second {
		report("token_life: must be at least 1s, since expires_in is in seconds")
	}
	if c.MaxDocuments < 0 || c.MaxBytes < 0 {
		report("max_documents: it and max_bytes must not be negative")
	}
	if c.Errors != "" && c.Errors != Wire && c.Errors != Documented {
		report("errors: %q is neither %s nor %s", c.Errors, Wire, Documented)
	}
	for e, n := range c.Limits {
		if !known(e) {
			report("limits: %q is no endpoint; they are %s", e, names())
		} else if n < 0 {
			report("limits: %s must not be negative", e)
		}
	}
	for i, fault := range c.Faults {
		if err := fault.Validate(); err != nil {
			report("faults[%d]: %w", i, err)
		}
	}
	return faults
}

func (t *Taxpayer) faults(where string) []error {
	var faults []error
	if !tinForm.MatchString(t.TIN) {
		faults = append(faults, fmt.Errorf("%s.tin: %q is no TIN, such as C25845632020", where, t.TIN))
	}
	for i, r := range t.Represented {
		at := fmt.Sprintf("%s.represented[%d]", where, i)
		if r.From.IsZero() || r.To.Before(r.From) {
			faults = append(faults, fmt.Errorf("%s.from: from and to are both needed, to after from", at))
		}
		for _, right := range r.Rights {
			if !slices.Contains(Rights(), right) {
				faults = append(faults, fmt.Errorf("%s.rights: %q is none of %v", at, right, Rights()))
			}
		}
	}
	return faults
}
