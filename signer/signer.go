// Package signer is the gRPC service: it identifies who calls, allows or
// refuses, has the key sign, verifies the signature, and only then releases it.
//
// It never sees a private key (it knows keys by the [Key] interface it declares)
// and takes nothing that a request says for who is asking: that is the client
// certificate's to tell. What a denial was about stands in the log; callers get
// fixed answers.
//
// The one idea: a signature is released by one path, (*Server).sign, and what it
// needs can only be had in order: a [policy.Grant] comes only from a decision, a
// signature value only from verification under the certificate, and what is
// released only from a [Record] that has its entry.
package signer

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/pkcs1"
	"github.com/roamsign/roamsign/policy"
)

// Key signs with the private key of the signing certificate. Safe for
// concurrent use.
type Key interface {
	// SignDigest returns the RSASSA-PKCS1-v1_5 signature over a SHA-256 digest
	// (RFC 8017, section 8.2). It blocks no longer than ctx allows. Errors carry
	// a kind of package fault: TokenUnavailable (with RetryAfter, unless only
	// people can help), SignatureWrong, Overloaded, or a context's. The result is
	// not trusted: the caller verifies it.
	SignDigest(ctx context.Context, digest [32]byte) ([]byte, error)

	// Suspect reports that what SignDigest gave for the digest just now does not
	// verify. The key no longer uses whatever gave it, until that is proven. It
	// does not block.
	Suspect(digest [32]byte)

	// Ready returns nil when SignDigest can be expected to work, else why not.
	// It does not block: it is asked several times a second.
	Ready() error
}

// Parts is what a server is made of. Observer, Tracing and Clock may be left out;
// all else is needed.
type Parts struct {
	// Config must be valid; see [Config.Validate].
	Config Config
	// Credentials are what the server shows and whom it lets connect.
	Credentials Credentials
	// Policy decides. A nil one denies everything.
	Policy *policy.Policy
	// Key signs, under Certificate.
	Key Key
	// Sessions is how many signatures the key makes at a time, 1 or more.
	Sessions int
	// Record is where signatures are put down before they are released.
	Record Record
	// Certificate is the signing certificate, with an RSA key of 2048 bits or
	// more. Its validity is checked at each signature, not here.
	Certificate *x509.Certificate
	// Chain holds its issuers, its own first. It may be empty.
	Chain []*x509.Certificate
	// Next takes the certificate's place at its time. It may be left out.
	Next *Next
	// Receipts and Index read what is on record. They may be left out: then nobody
	// can read it.
	Receipts Receipts
	Index    Index
	// Log gets one line a request.
	Log *slog.Logger
	// Observer is told what the service does. It may be left out.
	Observer Observer
	// Tracing makes the spans of requests. It may be left out: then there are none.
	Tracing trace.TracerProvider
	// Clock tells the time by which windows and certificates are judged;
	// without it, the machine's.
	Clock func() time.Time
}

// Server is the service. [New] makes it, [Server.Serve] runs it. Safe for
// concurrent use.
type Server struct {
	config      Config
	credentials atomic.Pointer[Credentials]
	policy      atomic.Pointer[policy.Policy]
	stale       atomic.Bool // see ReportFiles
	serving     atomic.Bool // what health says
	newcomers   *newcomers
	open        connections
	flights     *flights // of the API, by callers that the policy knows
	asides      *flights // of health and reflection, by those
	strangers   *flights // of all others
	sessions    int
	current     atomic.Pointer[certificate] // in force
	turning     sync.Mutex                  // held by who stores current or next
	next        atomic.Pointer[certificate] // that follows, or followed; nil: none
	stopped     atomic.Pointer[map[[32]byte]bool]
	revoked     atomic.Pointer[ca.CRLs]
	lacking     atomic.Bool // the next one could not take over; see overlook
	admission   *admission
	queue       *queue
	reads       *queue // of those who read the record
	receipts    Receipts
	index       Index
	recorder    *recorder
	log         *slog.Logger
	observer    Observer
	tracer      tracer
	clock       func() time.Time
}

// New puts a server together. It opens nothing.
func New(p Parts) (*Server, error) {
	if err := p.Config.Validate(); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("putting the signer together: %w", err)
	}
	if p.Observer == nil {
		p.Observer = unobserved{}
	}
	if p.Clock == nil {
		p.Clock = time.Now
	}
	config := p.Config.withDefaults()
	if config.Instance == "" {
		return nil, errors.New("putting the signer together: this machine does not tell its name: set instance in the configuration")
	}
	s := &Server{
		config:   config,
		sessions: p.Sessions,
		log:      p.Log,
		observer: p.Observer,
		tracer:   newTracer(p.Tracing),
		clock:    p.Clock,
	}
	s.current.Store(newCertificate(p.Key, p.Certificate, p.Chain, time.Time{}))
	if n := p.Next; n != nil {
		s.next.Store(n.certificate())
	}
	s.admission = newAdmission(p.Log)
	s.queue = newQueue(p.Sessions, s.config.Limits.Queue, s.config.Limits.QueuePerCaller)
	s.queue.observer = p.Observer
	s.readFrom(p.Receipts, p.Index)
	s.recorder = newRecorder(p.Record, config.Instance)
	s.recorder.tracer = s.tracer
	s.newcomers = newNewcomers(mostNewcomers, mostFromAnywhere)
	s.flights = newFlights(s.config.Limits.Requests)
	s.asides = newFlights(s.config.Limits.Connections)
	s.strangers = newFlights(s.config.Limits.Requests / strangersShare)
	s.policy.Store(p.Policy)
	s.credentials.Store(&p.Credentials)
	return s, nil
}

func (p *Parts) check() error {
	var faults []error
	if p.Key == nil {
		faults = append(faults, errors.New("there is no key"))
	}
	if p.Sessions < 1 {
		faults = append(faults, errors.New("the key has no sessions"))
	}
	if p.Record == nil {
		faults = append(faults, errors.New("there is no record"))
	}
	if p.Log == nil {
		faults = append(faults, errors.New("there is no logger"))
	}
	if err := p.Credentials.complete(); err != nil {
		faults = append(faults, err)
	}
	if p.Certificate == nil {
		return errors.Join(append(faults, errors.New("there is no signing certificate"))...)
	}
	if _, err := verifierOf(p.Certificate); err != nil {
		faults = append(faults, fmt.Errorf("the signing certificate: %w", err))
	}
	return errors.Join(append(faults, p.Next.check())...)
}

// verifierOf returns what verifies signatures under a certificate, if its key is one
// that documents are signed with: RSA, of 2048 bits or more.
func verifierOf(c *x509.Certificate) (*pkcs1.Verifier, error) {
	public, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("its key is %T, not RSA", c.PublicKey)
	}
	return pkcs1.New(public)
}

// SetPolicy puts another policy in force for requests that begin from now on.
// Those in flight finish under the one they began with.
func (s *Server) SetPolicy(p *policy.Policy) { s.policy.Store(p) }

// ReportFiles has the health service say, of the service [FilesService], whether
// what stands in the files that the service goes by is in force: err tells why it
// is not, nil that it is.
func (s *Server) ReportFiles(err error) { s.stale.Store(err != nil) }
