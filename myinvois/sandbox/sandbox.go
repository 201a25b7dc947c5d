// Package sandbox is a stand-in for LHDN's MyInvois platform, for automated tests
// and for developers who have no credentials of LHDN's: the same paths, headers,
// bodies, limits and errors, as far as they are published, and faults on request.
//
// It is not LHDN, and says so in every response ([Header]), in its tokens and
// wherever it prints. What it finds valid LHDN may refuse: it verifies signatures
// as package xades does, and of the rest of a document it judges what its steps
// say ([Steps]), no more. Where LHDN's pages leave something open, the comment
// beside the code says how this package reads them.
//
// It takes no real credential, keeps everything in memory, bounded, and never
// speaks to anybody by itself.
//
// The one idea: a request is a value, and so is its reply ([Platform.ServeHTTP]
// puts both together), so a fault can stand before the work, after it, or in the
// place of its reply, and a client can be shown each way that a network has of
// lying to it.
package sandbox

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/roamsign/roamsign/myinvois"
)

// maxLarge is how many submissions are read and worked at a time; others wait.
const maxLarge = 32

// Header stands in every response, with [Notice] as its value.
const (
	Header = "X-Roamsign-Sandbox"
	Notice = "This is not LHDN. Nothing submitted here is an e-invoice."
)

// Defaults of [Config].
const (
	DefaultValidation   = 2 * time.Second
	DefaultTokenLife    = time.Hour
	DefaultIssueWindow  = 72 * time.Hour
	DefaultMaxDocuments = 20_000
	DefaultMaxBytes     = 256 << 20
)

// Platform is the stand-in, an [http.Handler]. It is safe for concurrent use.
type Platform struct {
	config    Config
	mux       *http.ServeMux
	clients   map[string]*Client
	taxpayers map[string]*Taxpayer
	key       []byte // signs tokens; of this process alone
	limits    windows
	faults    faults
	store     store
	large     chan struct{} // a place for each submission in the works

	mu    sync.Mutex
	epoch int // how often all tokens were made void
}

// New makes a platform. The error tells all faults of the configuration.
func New(config Config) (*Platform, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("making the sandbox: %w", err)
	}
	if config.Roots == nil {
		return nil, errors.New("making the sandbox: it needs the roots of the signing certificates that it is to trust")
	}
	config.Validation = cmp.Or(config.Validation, DefaultValidation)
	config.TokenLife = cmp.Or(config.TokenLife, DefaultTokenLife)
	config.IssueWindow = cmp.Or(config.IssueWindow, DefaultIssueWindow)
	config.MaxDocuments = cmp.Or(config.MaxDocuments, DefaultMaxDocuments)
	config.MaxBytes = cmp.Or(config.MaxBytes, DefaultMaxBytes)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	p := &Platform{
		config: config, mux: http.NewServeMux(), key: make([]byte, 32),
		clients: map[string]*Client{}, taxpayers: map[string]*Taxpayer{},
		large: make(chan struct{}, maxLarge),
	}
	_, _ = rand.Read(p.key) // never fails
	for i := range config.Clients {
		p.clients[config.Clients[i].ID] = &config.Clients[i]
	}
	for i := range config.Taxpayers {
		p.taxpayers[config.Taxpayers[i].TIN] = &config.Taxpayers[i]
	}
	p.store.open(config.MaxDocuments, config.MaxBytes)
	for _, fault := range config.Faults {
		if err := p.Inject(fault); err != nil {
			return nil, fmt.Errorf("making the sandbox: %w", err)
		}
	}
	p.route()
	return p, nil
}

// now is the platform's time.
func (p *Platform) now() time.Time { return p.config.Now().UTC() }

// route puts each endpoint under its paths. LHDN's own examples write the
// submission's path with a slash at its end and without.
func (p *Platform) route() {
	for _, e := range endpoints {
		for _, pattern := range e.patterns {
			p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, e) })
		}
	}
	p.admin()
}

// ServeHTTP answers a request as the platform would.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(myinvois.CorrelationID, identifier())
	w.Header().Set(Header, Notice)
	w.Header().Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

// call is one request, read whole, and what the platform knows of who makes it.
type call struct {
	*http.Request
	body     []byte
	endpoint Endpoint
	now      time.Time
	who      identity // the zero identity at the token endpoint
}

// serve is the life of a request: faults that come before the work, who calls, the
// caller's rate, the work, faults that come after it.
func (p *Platform) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	if e.name == Submit {
		select {
		case p.large <- struct{}{}:
			defer func() { <-p.large }()
		case <-r.Context().Done():
			return
		}
	}
	body, refused := read(w, r, e.most)
	c := &call{Request: r, body: body, endpoint: e.which(body), now: p.now()}
	fault := p.faults.next(c.endpoint)
	var answer reply
	defer func() { // of a connection that is cut, too
		p.config.Log.Info("answered", "endpoint", c.endpoint, "status", answer.status, "fault", fault.String(),
			"client", c.who.id(), "on_behalf_of", c.who.tin, "correlation_id", w.Header().Get(myinvois.CorrelationID))
	}()
	if refused != nil {
		answer = *refused
	} else {
		answer = p.answer(w.Header(), c, e, fault)
	}
	answer.write(w, p.config.Errors)
}

// answer works a request, or does not, as the fault has it. A fault that cuts the
// connection does not return.
func (p *Platform) answer(header http.Header, c *call, e endpoint, fault Fault) reply {
	if fault.Kind == Expire {
		p.expire()
	}
	if fault.Kind != "" && fault.Kind != Expire && !fault.Applied {
		if instead, stop := fault.strike(c); stop {
			return instead
		}
	}
	answer := p.work(header, c, e)
	answer.half = fault.Kind == Half
	if fault.Applied {
		if instead, stop := fault.strike(c); stop {
			return instead
		}
	}
	return answer
}

// work does what the endpoint is for, for callers that may and are in their rate.
func (p *Platform) work(header http.Header, c *call, e endpoint) reply {
	var caller string
	if c.endpoint == Login {
		caller = p.loginClient(c)
	} else {
		who, refused := p.identify(c)
		if refused != nil {
			return *refused
		}
		c.who = who
		caller = who.client.ID
	}
	if refused := p.limit(header, caller, c); refused != nil {
		return *refused
	}
	return e.do(p, c)
}

// expire makes all tokens that are out void.
func (p *Platform) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch++
}

// Paths of this package's own, beside LHDN's: they tell what was accepted and
// inject faults, for tests in other processes.
const (
	FaultsPath    = "/sandbox/faults"
	DocumentsPath = "/sandbox/documents"
)
