package softhsmtest_test

import (
	"context"
	"crypto/rsa"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
	"github.com/roamsign/roamsign/xades"
)

// signers are several roamsignd, each with a token of its own that holds the same
// key, and with one log in a database.
type signers struct {
	t     *testing.T
	token *softhsmtest.Token
	all   []*station
}

// station is one of them.
type station struct {
	*daemon
	name    string
	remote  *softhsmtest.Remote
	metrics string // where they are read
	plain   int    // its goroutines before anybody asked it anything
}

// manySigners starts them.
func manySigners(t *testing.T, n int) *signers {
	t.Helper()
	token := softhsmtest.New(t)
	token.Config.Sessions = oneCall
	remotes, reached := far(t, token, n)
	dsn := database(t)
	s := &signers{t: t, token: token}
	for i := range n {
		one := &station{name: fmt.Sprint("signer-", i), remote: remotes[i]}
		one.daemon = &daemon{dir: copied(t), address: freeAddress(t)}
		one.configure(t, token, reached[i], dsn)
		if i == 0 {
			init := begin(t, one.dir, nil, "audit", "init", "--config", one.file("roamsignd.yaml"))
			if init.wait(t); init.code != 0 {
				t.Fatalf("making the log: %s", init.errs)
			}
		}
		one.start(t)
		s.all = append(s.all, one)
	}
	return s
}

// freeAddress is a loopback address that nobody else takes while its process is
// away: the kernel gives connections no ports below its own range.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.N(12000)))
		if listener, err := net.Listen("tcp", address); err == nil {
			check(t, listener.Close())
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (s *station) configure(t *testing.T, token *softhsmtest.Token, reached hsm.Config, dsn string) {
	t.Helper()
	check(t, ca.WriteCertificates(s.file("signing.pem"), token.Certificate))
	text, err := yaml.Marshal(map[string]any{
		"instance": s.name, "listen": s.address, "metrics": "127.0.0.1:0", "policy": "policy.yaml", "token": reached,
		"tls":     map[string]string{"certificate": "server.pem", "key": "server.key", "client_ca": "tls-ca.pem"},
		"signing": map[string]string{"certificate": "signing.pem"},
		"audit":   map[string]any{"mysql": map[string]string{"dsn": dsn}, "key_files": []string{"audit.key"}, "index": "index"},
	})
	check(t, err)
	write(t, s.file("roamsignd.yaml"), text)
}

// start starts the process, at the same address as before, and returns once it serves.
func (s *station) start(t *testing.T) {
	t.Helper()
	address := s.address
	s.daemon = begin(t, s.dir, nil, "serve", "--config", s.file("roamsignd.yaml"))
	s.address = address
	s.await(t, "serve", func() bool { return strings.Contains(s.errs.from(0), "msg=serving ") })
	s.await(t, "tell where its metrics are", func() bool {
		_, rest, _ := strings.Cut(s.errs.from(0), "msg=metrics address=")
		s.metrics, _, _ = strings.Cut(rest, "\n")
		return s.metrics != ""
	})
	s.plain = int(s.metric(t, "go_goroutines"))
}

// metric is the sum of a metric's values now.
func (s *station) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.metrics+"/metrics", nil)
	check(t, err)
	answer, err := http.DefaultClient.Do(request)
	check(t, err)
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	check(t, answer.Body.Close())
	found := false
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasSuffix(line, "}") && strings.HasPrefix(line, name+" ") {
			series, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		check(t, err)
		sum, found = sum+number, true
	}
	if !found {
		t.Fatalf("there is no metric %s:\n%s", name, text)
	}
	return sum
}

// signedOne is the service's line for a signature.
var signedOne = regexp.MustCompile(`(?m)^.* msg=request method=SignDigest .* outcome=OK$`)

// signed is how many signatures it has given since its start.
func (s *station) signed() int { return len(signedOne.FindAllString(s.errs.from(0), -1)) }

// library returns a request of a client of all of them, as hosted's does.
func (s *signers) library(timeout time.Duration) (ask func(context.Context) error, end func() error) {
	s.t.Helper()
	one := s.all[0]
	config := client.Config{
		CA: one.file("tls-ca.pem"), Certificate: one.file("client.pem"), Key: one.file("client.key"), TIN: own, AttemptTimeout: timeout,
	}
	for _, each := range s.all {
		config.Servers = append(config.Servers, each.address)
	}
	signer, err := client.Dial(config)
	check(s.t, err)
	document := invoice(s.t, "xml", "E2E-SIGNERS")
	return func(ctx context.Context) error {
		signed, err := signer.Sign(ctx, client.Document{Content: document})
		if err != nil {
			return heard(err)
		}
		report := xades.Verify(signed.Document, xades.VerifyOptions{})
		if public, ok := report.Certificate.PublicKey.(*rsa.PublicKey); !ok || !public.Equal(s.token.Public) {
			return errWrong
		}
		return nil
	}, signer.Close
}

// mishaps are what befalls one of several signers; each returns its end.
var mishaps = map[string]func(t *testing.T, s *station) (over func()){
	"killed": func(t *testing.T, s *station) func() {
		s.signal(t, syscall.SIGKILL)
		s.wait(t)
		return func() { s.start(t) }
	},
	"stopped": func(t *testing.T, s *station) func() {
		s.signal(t, syscall.SIGSTOP)
		return func() { s.signal(t, syscall.SIGCONT) }
	},
	"without its token": func(_ *testing.T, s *station) func() {
		s.remote.Kill()
		return s.remote.Restart
	},
}

// blow is a mishap of one signer.
type blow struct {
	what string
	whom int
}

// TestDrillSeveralSigners: of three signers one, or two, are killed, stopped or
// without their tokens, under load, and no caller sees any of it.
func TestDrillSeveralSigners(t *testing.T) {
	t.Parallel()
	s := manySigners(t, 3)
	// An attempt is longer than one that is stopped within an append holds up the others.
	ask, end := s.library(4 * time.Second)
	l := askFor(t, time.Minute, ask)
	s.allSign()
	blows := [][]blow{
		{{"killed", 0}}, {{"stopped", 1}}, {{"without its token", 2}},
		{{"killed", 1}, {"stopped", 2}},
	}
	if full() {
		blows = everyBlow(len(s.all))
	}
	for _, each := range blows {
		s.survive(l, each)
	}
	l.end()
	if failed := l.failed(time.Time{}); len(failed) > 0 {
		t.Errorf("%d of %d requests failed, the first after %v: %v", len(failed), len(l.all(time.Time{})), failed[0].took(), failed[0].err)
	}
	t.Logf("%d requests, the longest %v, the machine's stalls up to %v", len(l.all(time.Time{})), l.worst(time.Time{}).took(), l.stalled())
	check(t, end())
	for _, one := range s.all {
		one.isWhole(t)
		one.stop(t)
	}
}

// everyBlow is each mishap of each of n signers, alone and beside each of another's.
func everyBlow(n int) (blows [][]blow) {
	for first := range mishaps {
		for i := range n {
			blows = append(blows, []blow{{first, i}})
			for second := range mishaps {
				blows = append(blows, []blow{{first, i}, {second, (i + 1) % n}})
			}
		}
	}
	return blows
}

// survive deals the blows, goes on under them, and ends them.
func (s *signers) survive(l *load, blows []blow) {
	s.t.Helper()
	began := time.Now()
	var overs []func()
	for _, each := range blows {
		overs = append(overs, mishaps[each.what](s.t, s.all[each.whom]))
	}
	l.goesOn(atFull(10, 20))
	down := time.Since(began)
	for _, over := range overs {
		over()
	}
	back := time.Now()
	s.allSign()
	s.t.Logf("%v for %v, all sign %v after it; %d requests, %d errors, the longest %v",
		blows, down, time.Since(back), len(l.all(began)), len(l.failed(began)), l.worst(began).took())
}

// allSign waits until each signs again.
func (s *signers) allSign() {
	s.t.Helper()
	before := make([]int, len(s.all))
	for i, one := range s.all {
		before[i] = one.signed()
	}
	for i, one := range s.all {
		one.await(s.t, "sign", func() bool { return one.signed() > before[i] })
	}
}

// isWhole waits until nothing is left of the load.
func (s *station) isWhole(t *testing.T) {
	t.Helper()
	until(t, s.name+" has no request in flight", patience, func() bool { return s.metric(t, "roamsign_requests_in_flight") == 0 })
	for name, want := range map[string]float64{"roamsign_sessions_in_use": 0, "roamsign_token_calls_hung": 0, "roamsign_token_sessions": oneCall, "roamsign_connections_open": 0} {
		until(t, fmt.Sprintf("%s has %s %v", s.name, name, want), patience, func() bool { return s.metric(t, name) == want })
	}
	// What it has more than before: connections with the database, and its probes.
	until(t, fmt.Sprintf("%s has no more than %d goroutines", s.name, s.plain+20), patience, func() bool { return s.metric(t, "go_goroutines") <= float64(s.plain+20) })
	if t.Failed() {
		t.Logf("%s has %v goroutines, and had %d", s.name, s.metric(t, "go_goroutines"), s.plain)
	}
}
