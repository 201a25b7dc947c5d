package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/signer"
)

// scraped is what /metrics says: series by name and labels as they are written.
type scraped struct {
	values map[string]float64
	kinds  map[string]string // of metrics: counter, gauge, histogram
}

// scrape reads the metrics of a daemon.
func scrape(t *testing.T, d *daemon) scraped {
	t.Helper()
	_, rest, found := strings.Cut(d.errs.String(), "msg=metrics address=")
	address, _, _ := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("the log does not say where the metrics are:\n%s", d.errs)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	check(t, err)
	reply, err := http.DefaultClient.Do(request)
	check(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	check(t, err)
	if reply.StatusCode != http.StatusOK {
		t.Fatalf("got %s:\n%s", reply.Status, text)
	}
	out := scraped{map[string]float64{}, map[string]string{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if kind, is := strings.CutPrefix(line, "# TYPE "); is {
			name, kind, _ := strings.Cut(kind, " ")
			out.kinds[name] = kind
			continue
		}
		if at := strings.LastIndex(line, " "); at > 0 && !strings.HasPrefix(line, "#") {
			value, err := strconv.ParseFloat(line[at+1:], 64)
			check(t, err)
			out.values[line[:at]] = value
		}
	}
	return out
}

// await scrapes until a series has a value.
func await(t *testing.T, d *daemon, series string, want float64) scraped {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	over := time.After(patience)
	for {
		now := scrape(t, d)
		if got, there := now.values[series]; there && got == want {
			return now
		}
		select {
		case <-ticker.C:
		case <-over:
			t.Fatalf("%s: got %v, want %v", series, now.values[series], want)
		}
	}
}

// caller connects to a daemon with a client certificate.
func caller(t *testing.T, d *daemon, roots, certificate, key string) roamsignv1.SignerServiceClient {
	t.Helper()
	pool, err := ca.LoadPool(roots)
	check(t, err)
	own, err := ca.LoadPair(certificate, key)
	check(t, err)
	conn, err := grpc.NewClient(d.address(t), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13, ServerName: "localhost",
	})))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return roamsignv1.NewSignerServiceClient(conn)
}

// metered is a daemon whose metrics are read, after some work.
func metered(t *testing.T) (d *daemon, dir, fingerprint string) {
	t.Helper()
	dir = folder(t)
	config := filepath.Join(dir, devConfig)
	now := time.Now()
	list := newListing(t, dir, now.Add(-time.Hour), now.Add(time.Hour))
	replace(t, config, "tls:\n", "metrics: "+strconv.Quote(quiet)+"\ntls:\n  crl: "+list+"\n")
	strangers := filepath.Join(dir, "stranger")
	if code, _, errs := ends(t, "client", "add", "spiffe://dev.roamsign.test/stranger", "--config", config, "--out", strangers); code != 0 {
		t.Fatalf("client add: %s", errs)
	}
	d = start(t, "serve", "--config", config)
	chain, err := ca.LoadCertificates(filepath.Join(dir, devSigning))
	check(t, err)
	sum := sha256.Sum256(chain[0].Raw)
	roots := filepath.Join(dir, "tls-ca.pem")
	own := caller(t, d, roots, filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	order := func(i int, tin string) *roamsignv1.SignDigestRequest {
		digest := sha256.Sum256([]byte{byte(i)})
		return &roamsignv1.SignDigestRequest{Tin: tin, DocumentDigest: digest[:], CertificateSha256: sum[:], RequestId: fmt.Sprint("r", i)}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const foreign = "C20880059990"
	for i := range 2 {
		_, err := own.SignDigest(ctx, order(i, devTaxpayers[0].tin))
		check(t, err)
	}
	if _, err := own.SignDigest(ctx, order(2, foreign)); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("a foreign taxpayer: got %v", err)
	}
	_, err = own.SignDigests(ctx, &roamsignv1.SignDigestsRequest{Items: []*roamsignv1.SignDigestRequest{
		order(3, devTaxpayers[0].tin), order(4, foreign), order(5, devTaxpayers[1].tin),
	}})
	check(t, err)
	stranger := caller(t, d, roots, filepath.Join(strangers, "client.pem"), filepath.Join(strangers, "client.key"))
	if _, err := stranger.GetCertificate(ctx, &roamsignv1.GetCertificateRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("a stranger: got %v", err)
	}
	return d, dir, short(sum)
}

func TestMetricsTellWhatTheServiceDid(t *testing.T) {
	d, dir, fingerprint := metered(t)
	const own = `caller="` + devCaller + `"`
	signatures := func(method, outcome string) string {
		return fmt.Sprintf(`roamsign_signatures_total{%s,certificate=%q,method=%q,outcome=%q}`, own, fingerprint, method, outcome)
	}
	chain, err := ca.LoadCertificates(filepath.Join(dir, devSigning))
	check(t, err)
	want := map[string]float64{
		signatures("SignDigest", "OK"):                                                                     2,
		signatures("SignDigest", "NOT_ALLOWED"):                                                            1,
		signatures("SignDigests", "OK"):                                                                    2,
		signatures("SignDigests", "NOT_ALLOWED"):                                                           1,
		`roamsign_denials_total{` + own + `,reason="NOT_ALLOWED"}`:                                         2,
		`roamsign_denials_total{caller="other",reason="NOT_ALLOWED"}`:                                      1,
		`roamsign_denials_total{caller="other",reason="QUOTA_EXCEEDED"}`:                                   0,
		`roamsign_queue_wait_seconds_count{` + own + `}`:                                                   4,
		`roamsign_queue_waiting{` + own + `}`:                                                              0,
		`roamsign_key_seconds_count{outcome="ok"}`:                                                         4,
		`roamsign_key_seconds_count{outcome="error"}`:                                                      0,
		`roamsign_record_seconds_count{outcome="ok"}`:                                                      4,
		`roamsign_record_seconds_count{outcome="error"}`:                                                   0,
		`roamsign_request_seconds_count{method="SignDigest"}`:                                              3,
		`roamsign_request_seconds_count{method="SignDigests"}`:                                             1,
		`roamsign_request_seconds_count{method="GetCertificate"}`:                                          1,
		`roamsign_token_up{token="roamsign-dev"}`:                                                          1,
		`roamsign_token_state{state="serving",token="roamsign-dev"}`:                                       1,
		`roamsign_token_state{state="lost",token="roamsign-dev"}`:                                          0,
		`roamsign_token_calls_hung{token="roamsign-dev"}`:                                                  0,
		`roamsign_connections_open`:                                                                        2,
		`roamsign_sessions_in_use`:                                                                         0,
		`roamsign_policy_generation`:                                                                       1,
		`roamsign_serving`:                                                                                 1,
		`roamsign_files_refused{what="policy"}`:                                                            0,
		`roamsign_certificate_expiry_timestamp_seconds{certificate="` + fingerprint + `",which="signing"}`: float64(chain[0].NotAfter.Unix()),
	}
	var now scraped
	var diff string
	for late := time.Now().Add(patience); ; { // some is told after the answer
		now = await(t, d, `roamsign_request_seconds_count{method="GetCertificate"}`, 1)
		got := map[string]float64{}
		for series := range want {
			if value, there := now.values[series]; there {
				got[series] = value
			}
		}
		if diff = cmp.Diff(want, got); diff == "" || time.Now().After(late) {
			break
		}
	}
	if diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	for series := range now.values {
		if strings.Contains(series, "stranger") || strings.Contains(series, devTaxpayers[0].tin) {
			t.Errorf("a caller that the policy does not know, or a taxpayer, has series of its own: %s", series)
		}
	}

	good := read(t, filepath.Join(dir, devPolicy))
	write(t, filepath.Join(dir, devPolicy), good+"nonsense: true\n")
	now = await(t, d, `roamsign_files_refused{what="policy"}`, 1)
	if got := now.values["roamsign_policy_generation"]; got != 1 {
		t.Errorf("a faulty policy made generation %v", got)
	}
	write(t, filepath.Join(dir, devPolicy), strings.ReplaceAll(good, "Kopi", "Teh"))
	await(t, d, "roamsign_policy_generation", 2)
	await(t, d, `roamsign_files_refused{what="policy"}`, 0)
}

func TestEveryMetricIsDocumentedAndNoOther(t *testing.T) {
	d, _, _ := metered(t)
	now := await(t, d, `roamsign_request_seconds_count{method="GetCertificate"}`, 1)
	row := regexp.MustCompile("(?m)^\\| `(roamsign_[a-z_]+)` \\| (counter|gauge|histogram) \\|")
	documented := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(read(t, filepath.Join("..", "..", "docs", "OPERATING.md")), -1) {
		documented[match[1]] = match[2]
	}
	own := map[string]string{}
	for name, kind := range now.kinds {
		if strings.HasPrefix(name, "roamsign_") {
			own[name] = kind
		}
	}
	if diff := cmp.Diff(own, documented); diff != "" || len(own) == 0 {
		t.Errorf("docs/OPERATING.md (-there +documented):\n%s", diff)
	}

	queries := append(alerts(t), panels(t)...)
	if len(queries) < 20 {
		t.Fatalf("got %d queries of alerts and panels, want all of them", len(queries))
	}
	name := regexp.MustCompile(`\b(roamsign|go|process)_[a-z_]+`)
	part := regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, query := range queries {
		names := name.FindAllString(query, -1)
		if len(names) == 0 {
			t.Errorf("%s: names no metric", query)
		}
		for _, each := range names {
			if now.kinds[each] == "" && now.kinds[part.ReplaceAllString(each, "")] != "histogram" {
				t.Errorf("%s: there is no metric %s", query, each)
			}
		}
	}
}

// deployed opens a file of the folder deploy.
func deployed(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	check(t, err)
	return text
}

// alerts are the queries of the alert rules, each of which must say what it is.
func alerts(t *testing.T) (queries []string) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	check(t, yaml.Unmarshal(deployed(t, "alerts.yaml"), &file))
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" || rule.Expr == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" {
				t.Errorf("got %+v, want a name, a query, a severity and a summary", rule)
			}
			queries = append(queries, rule.Expr)
		}
	}
	return queries
}

// panels are the queries of the dashboard.
func panels(t *testing.T) (queries []string) {
	t.Helper()
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	check(t, json.Unmarshal(deployed(t, "grafana.json"), &file))
	for _, panel := range file.Panels {
		if panel.Title == "" || len(panel.Targets) == 0 {
			t.Errorf("got %+v, want a title and a query", panel)
		}
		for _, target := range panel.Targets {
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

// tokensAlone collects what is told of tokens.
type tokensAlone []hsm.Health

func (tokensAlone) Describe(chan<- *prometheus.Desc) {}

func (all tokensAlone) Collect(to chan<- prometheus.Metric) {
	out := sink{to, map[string]bool{}}
	for i, h := range all {
		ofToken(out, i, h)
	}
}

func TestMetricsTellTokensApart(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(tokensAlone{
		{Label: "a", State: hsm.Hanging, Err: os.ErrDeadlineExceeded, Abandoned: 3, Outlived: 5, Losses: 2, Hung: true},
		{Label: "a", State: hsm.Serving, Sessions: 4},
		{Serial: "17", State: hsm.Serving},
	})
	families, err := registry.Gather()
	check(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if name := family.GetName(); name != "roamsign_token_state" {
				got[name+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	for series, want := range map[string]float64{
		"roamsign_token_up a": 0, "roamsign_token_up a#2": 1, "roamsign_token_up 17": 1,
		"roamsign_token_calls_hung a": 3, "roamsign_token_calls_outlived_total a": 5, "roamsign_token_losses_total a": 2,
		"roamsign_token_hung a": 1, "roamsign_token_hung a#2": 0, "roamsign_token_sessions a#2": 4,
	} {
		if value, there := got[series]; !there || value != want {
			t.Errorf("%s: got %v (%t), want %v", series, value, there, want)
		}
	}
}

func TestMetricsAreForThisMachine(t *testing.T) {
	for address, want := range map[string]string{
		"":               "",
		"127.0.0.1:9464": "",
		"[::1]:9464":     "",
		"localhost:9464": "",
		"0.0.0.0:9464":   "not a loopback address",
		":9464":          "not a loopback address",
		"10.0.0.1:9464":  "not a loopback address",
		"example.com:1":  "not a loopback address",
		"9464":           "HOST:PORT",
	} {
		err := checkMetrics(address)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", address, err, want)
		}
	}
}

// BenchmarkObserver measures what metrics cost one signature.
func BenchmarkObserver(b *testing.B) {
	m := newMetrics(&setup{})
	m.callers.Store(&map[string]bool{devCaller: true})
	key := m.timed(nil, false)
	end := signer.Ending{Caller: devCaller, Method: "SignDigest", Outcome: signer.OutcomeOK, Count: 1}
	for b.Loop() {
		m.Waited(devCaller, time.Millisecond)
		key.signed.Observe(.001)
		m.Answered("SignDigest", time.Millisecond)
		m.Ended(end)
	}
}
