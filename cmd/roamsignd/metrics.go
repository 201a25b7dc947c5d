package main

import (
	"context"
	"encoding/hex"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/signer"
)

// others is the label of callers and methods that the policy does not know, so
// that who invents names makes no time series.
const others = "other"

// denials are the outcomes by which a caller was not let have what it asked for.
var denials = []fault.Kind{
	fault.NotAllowed, fault.RepresentationEnded, fault.TaxpayerMismatch, fault.IssueTimeMismatch, fault.QuotaExceeded, fault.RateLimited,
}

// signingMethods are those whose endings are signatures.
var signingMethods = []string{string(policy.SignDigest), string(policy.SignDigests), string(policy.SignDocument)}

// metrics tells Prometheus what the service does. It hears it from the server as
// its [signer.Observer], and looks at the tokens, the queue and the files when it
// is asked. Safe for concurrent use.
type metrics struct {
	registry   *prometheus.Registry
	signatures *prometheus.CounterVec
	denied     *prometheus.CounterVec
	waits      *prometheus.HistogramVec
	requests   *prometheus.HistogramVec
	keyTime    *prometheus.HistogramVec
	recordTime *prometheus.HistogramVec

	callers     atomic.Pointer[map[string]bool] // of the policy in force
	signing     atomic.Pointer[named]           // the certificate last counted under
	credentials atomic.Pointer[signer.Credentials]

	mu         sync.Mutex
	policy     *policy.Policy // in force
	generation int
}

// quick are the bounds of histograms, in seconds: from what a fast token takes
// to the longest that a request may by default.
var quick = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func newMetrics(s *setup) *metrics {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: quick}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		signatures: counter("roamsign_signatures_total", "Signatures asked for, items of batches included, by how each ended.", "caller", "method", "certificate", "outcome"),
		denied:     counter("roamsign_denials_total", "Requests and items of batches that the policy or a limit denied.", "caller", "reason"),
		waits:      histogram("roamsign_queue_wait_seconds", "How long signatures waited for a session.", "caller"),
		requests:   histogram("roamsign_request_seconds", "How long requests took, batches as a whole.", "method"),
		keyTime:    histogram("roamsign_key_seconds", "How long the tokens took for a signature, or to fail.", "outcome"),
		recordTime: histogram("roamsign_record_seconds", "How long an entry took until it was on record, or failed.", "outcome"),
	}
	m.registry.MustRegister(m.signatures, m.denied, m.waits, m.requests, m.keyTime, m.recordTime,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.tookPolicy(s.policy)
	m.credentials.Store(&s.credentials)
	for _, kind := range denials { // so that the first one is a rise
		m.denied.WithLabelValues(others, kind.Reason())
	}
	return m
}

// caller is the label of a caller.
func (m *metrics) caller(name string) string {
	if (*m.callers.Load())[name] {
		return name
	}
	return others
}

// methodLabel is the label of a method.
func methodLabel(name string) string {
	if _, err := policy.ParseMethod(name); err != nil {
		return others
	}
	return name
}

// named is a certificate with its label, which is dear to make for each signature.
type named struct {
	fingerprint [32]byte
	label       string
}

// certificate is the label of a signing certificate.
func (m *metrics) certificate(fingerprint [32]byte) string {
	last := m.signing.Load()
	if last == nil || last.fingerprint != fingerprint {
		last = &named{fingerprint, short(fingerprint)}
		m.signing.Store(last)
	}
	return last.label
}

// short is the label of a certificate: the first half of its SHA-256.
func short(fingerprint [32]byte) string { return hex.EncodeToString(fingerprint[:8]) }

// Ended counts signatures and denials.
func (m *metrics) Ended(e signer.Ending) {
	caller := m.caller(e.Caller)
	if slices.Contains(signingMethods, e.Method) {
		m.signatures.WithLabelValues(caller, e.Method, m.certificate(e.Certificate), e.Outcome).Add(float64(e.Count))
	}
	if slices.ContainsFunc(denials, func(k fault.Kind) bool { return k.Reason() == e.Outcome }) {
		m.denied.WithLabelValues(caller, e.Outcome).Add(float64(e.Count))
	}
}

// Answered notes how long a request took.
func (m *metrics) Answered(method string, took time.Duration) {
	m.requests.WithLabelValues(methodLabel(method)).Observe(took.Seconds())
}

// Waited notes how long a signature waited.
func (m *metrics) Waited(caller string, took time.Duration) {
	m.waits.WithLabelValues(m.caller(caller)).Observe(took.Seconds())
}

// tookPolicy notes which policy is in force. The same one again is no other
// generation.
func (m *metrics) tookPolicy(p *policy.Policy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.generation > 0 && reflect.DeepEqual(p, m.policy) {
		return
	}
	m.policy = p
	m.generation++
	callers := map[string]bool{}
	for _, name := range p.Callers() {
		callers[string(name)] = true
	}
	m.callers.Store(&callers)
}

// timed is tokens whose time is noted.
type timed struct {
	*hsm.Group
	next           bool // with the key of the certificate that follows
	signed, failed prometheus.Observer
}

func (m *metrics) timed(tokens *hsm.Group, next bool) timed {
	return timed{tokens, next, m.keyTime.WithLabelValues("ok"), m.keyTime.WithLabelValues("error")}
}

// SignDigest is that of the tokens.
func (t timed) SignDigest(ctx context.Context, digest [32]byte) ([]byte, error) {
	began := time.Now()
	sign := t.Group.SignDigest
	if t.next {
		sign = t.SignNext
	}
	signature, err := sign(ctx, digest)
	to := t.signed
	if err != nil {
		to = t.failed
	}
	to.Observe(time.Since(began).Seconds())
	return signature, err
}

// timedRecord is a record whose time is noted.
type timedRecord struct {
	signer.Record
	written, failed prometheus.Observer
}

func (m *metrics) timedRecord(record signer.Record) timedRecord {
	return timedRecord{record, m.recordTime.WithLabelValues("ok"), m.recordTime.WithLabelValues("error")}
}

// Begin is that of the record.
func (r timedRecord) Begin(entry audit.Entry, spare time.Duration, done func(index uint64, err error)) {
	began := time.Now()
	r.Record.Begin(entry, spare, func(index uint64, err error) {
		to := r.written
		if err != nil {
			to = r.failed
		}
		to.Observe(time.Since(began).Seconds())
		done(index, err)
	})
}

// Ready is that of the tokens, for the key.
func (t timed) Ready() error {
	if t.next {
		return t.NextReady()
	}
	return t.Group.Ready()
}

// watched is a server of which the metrics learn what files change.
type watched struct {
	*signer.Server
	metrics *metrics
	tokens  *hsm.Group
}

// SetPolicy is that of the server.
func (w watched) SetPolicy(p *policy.Policy) {
	w.Server.SetPolicy(p)
	w.metrics.tookPolicy(p)
}

// SetCredentials is that of the server.
func (w watched) SetCredentials(c signer.Credentials) error {
	if err := w.Server.SetCredentials(c); err != nil {
		return err
	}
	w.metrics.credentials.Store(&c)
	return nil
}
