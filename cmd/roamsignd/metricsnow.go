package main

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/signer"
)

// moment reads, whenever it is asked, how things are: nothing is kept, so
// nothing can be stale.
type moment struct {
	*metrics
	setup  *setup
	tokens *hsm.Group
	server *signer.Server
	files  []*source
}

// states are those that a token may be in.
var states = []hsm.State{hsm.Opening, hsm.Serving, hsm.Lost, hsm.Hanging, hsm.Refused, hsm.Closed}

// Describe tells nothing ahead: which series there are depends on the tokens.
func (moment) Describe(chan<- *prometheus.Desc) {}

// Collect tells how things are.
func (now moment) Collect(to chan<- prometheus.Metric) {
	out := sink{to, map[string]bool{}}
	now.ofService(out)
	for i, h := range now.tokens.Health() {
		ofToken(out, i, h)
	}
	now.ofFiles(out)
	build := version()
	out.gauge("roamsign_build_info", "Always 1; the labels tell which build it is.", 1,
		"version", build.Main.Version, "goversion", build.GoVersion)
}

// ofService tells of the queue and of what is in flight.
func (now moment) ofService(out sink) {
	stats := now.server.Stats()
	out.gauge("roamsign_serving", "1 if the service can sign, as its health service says.", number(stats.Serving))
	out.gauge("roamsign_sessions", "How many signatures the tokens make at a time.", float64(stats.Sessions))
	out.gauge("roamsign_sessions_in_use", "How many of these sessions are taken.", float64(stats.Busy))
	out.gauge("roamsign_requests_in_flight", "Requests that have no answer yet.", float64(stats.Requests))
	out.gauge("roamsign_connections_open", "Connections of clients.", float64(stats.Connections))
	waiting := map[string]int{others: 0}
	for name := range *now.callers.Load() {
		waiting[name] = 0
	}
	for name, n := range stats.Waiting {
		waiting[now.caller(string(name))] += n
	}
	for name, n := range waiting {
		out.gauge("roamsign_queue_waiting", "Signatures that wait for a session.", float64(n), "caller", name)
	}
}

// ofToken tells of one token.
func ofToken(out sink, place int, h hsm.Health) {
	token := cmp.Or(h.Label, h.Serial)
	if out.told["token "+token] { // in another module
		token = fmt.Sprintf("%s#%d", token, place+1)
	}
	out.told["token "+token] = true
	for _, s := range states {
		out.gauge("roamsign_token_state", "1 for the state that the token is in, 0 for the others.", number(s == h.State), "token", token, "state", string(s))
	}
	out.gauge("roamsign_token_up", "1 if the token signs.", number(h.Err == nil), "token", token)
	out.gauge("roamsign_token_hung", "1 if only another process can bring the token back.", number(h.Hung), "token", token)
	out.gauge("roamsign_token_sessions", "How many signatures the token makes at a time.", float64(h.Sessions), "token", token)
	out.gauge("roamsign_token_sessions_asked", "How many it would, if it gave all sessions that it was asked for.", float64(h.Asked), "token", token)
	out.gauge("roamsign_token_requests_in_flight", "Requests that were given to the token and have no answer yet.", float64(h.InFlight), "token", token)
	out.gauge("roamsign_token_calls_hung", "Calls into the token's library that have not returned and that nobody waits for any more.", float64(h.Abandoned), "token", token)
	out.counter("roamsign_token_calls_outlived_total", "Calls that their callers did not wait to the end of.", float64(h.Outlived), "token", token)
	out.counter("roamsign_token_losses_total", "How often the token went out of service.", float64(h.Losses), "token", token)
	out.counter("roamsign_token_restarts_total", "How often the token's module was initialised again.", float64(h.Restarts), "token", token)
}

// ofFiles tells what is in force, and until when.
func (now moment) ofFiles(out sink) {
	now.mu.Lock()
	generation := now.generation
	now.mu.Unlock()
	out.gauge("roamsign_policy_generation", "How many policies have come into force since the start, the first one included.", float64(generation))
	for _, s := range now.files {
		out.gauge("roamsign_files_refused", "1 while what stands in the files is faulty, and what was before stays in force.", number(s.refused.Load()), "what", s.name)
	}
	expiry := func(which string, c *x509.Certificate) {
		fingerprint := short(sha256.Sum256(c.Raw))
		if id := which + fingerprint; !out.told[id] {
			out.told[id] = true
			out.gauge("roamsign_certificate_expiry_timestamp_seconds", "When the certificate ends.", float64(c.NotAfter.Unix()), "which", which, "certificate", fingerprint)
		}
	}
	for _, s := range now.server.Standings() {
		which := map[bool]string{true: "signing", false: "next"}[s.InForce]
		expiry(which, s.Certificate)
		out.gauge("roamsign_certificate_usable", "1 if documents can be signed under the certificate, or could at its time.", number(s.Err == nil),
			"which", which, "certificate", short(sha256.Sum256(s.Certificate.Raw)))
	}
	credentials := now.credentials.Load()
	expiry("server", credentials.Certificate.Leaf)
	for _, c := range credentials.Authorities() {
		expiry("client_ca", c)
	}
	if due := sooner(credentials.CRLs.RenewalDue(), now.server.RevocationsDue()); !due.IsZero() {
		out.gauge("roamsign_crl_due_timestamp_seconds", "When the first of the revocation lists is to be renewed.", float64(due.Unix()))
	}
}

// sooner is the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// sink takes measurements.
type sink struct {
	to   chan<- prometheus.Metric
	told map[string]bool // what must not be told twice
}

func (s sink) gauge(name, help string, value float64, labels ...string) {
	s.put(prometheus.GaugeValue, name, help, value, labels)
}

func (s sink) counter(name, help string, value float64, labels ...string) {
	s.put(prometheus.CounterValue, name, help, value, labels)
}

// put takes labels as names and values in turn.
func (s sink) put(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	s.to <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// version is what is known of this build.
func version() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{}
}
