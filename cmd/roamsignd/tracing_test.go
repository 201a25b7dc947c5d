package main

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/roamsign/roamsign/client"
)

// collector takes traces as an OpenTelemetry collector does: OTLP over HTTP.
type collector struct {
	address string

	mu    sync.Mutex
	spans []*tracev1.Span
}

// collects runs a collector until the test ends.
func collects(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body = unpacked
		}
		text, err := io.ReadAll(body)
		got := &collectorv1.ExportTraceServiceRequest{}
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(text, got) != nil {
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range got.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	c.address = strings.TrimPrefix(server.URL, "http://")
	return c
}

func (c *collector) all() []*tracev1.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// attributeOf is that of a span, or "".
func attributeOf(s *tracev1.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// traces has a configuration trace, and listen where its certificate is for.
func traces(t *testing.T, config, endpoint string) {
	t.Helper()
	text := regexp.MustCompile(`(?m)^listen: .*$`).ReplaceAllString(read(t, config), "listen: 127.0.0.1:0")
	write(t, config, text+"\ntracing:\n  endpoint: "+endpoint+"\n")
}

func TestOneTraceLeadsFromTheClientToTheLog(t *testing.T) {
	dir := folder(t)
	taken := collects(t)
	config := filepath.Join(dir, devConfig)
	traces(t, config, taken.address)
	d := start(t, "serve", "--config", config)

	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpoint(taken.address), otlptracehttp.WithInsecure())
	check(t, err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	settings, err := client.Load(filepath.Join(dir, "client.yaml"))
	check(t, err)
	settings.Servers, settings.Tracing = []string{d.address(t)}, provider
	caller, err := client.Dial(settings)
	check(t, err)
	content, err := os.ReadFile("../../testdata/invoice.xml")
	check(t, err)
	_, err = caller.Certificate(t.Context()) // a trace of its own, and no part of what follows
	check(t, err)
	ctx, root := provider.Tracer("test").Start(t.Context(), "submit an invoice")
	_, err = caller.Sign(ctx, client.Document{Content: content, Options: client.Options{RequestID: "traced-1"}})
	check(t, err)
	root.End()
	check(t, caller.Close())
	check(t, provider.Shutdown(context.Background()))
	if code := d.stop(t); code != 0 {
		t.Fatalf("stopping: got code %d, want 0:\n%s", code, d.errs)
	}

	trace := root.SpanContext().TraceID()
	byID, byName := map[string]*tracev1.Span{}, map[string][]*tracev1.Span{}
	for _, s := range taken.all() {
		if hex.EncodeToString(s.GetTraceId()) == trace.String() {
			byID[string(s.GetSpanId())] = s
			name := s.GetName() + " " + strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")
			byName[name] = append(byName[name], s)
		}
	}
	const method = "roamsign.v1.SignerService/SignDigest"
	want := map[string]string{ // each span, and the one that it is within
		"submit an invoice INTERNAL": "", "roamsign.SignDigest INTERNAL": "submit an invoice INTERNAL",
		method + " CLIENT": "roamsign.SignDigest INTERNAL", method + " SERVER": method + " CLIENT",
		"queue INTERNAL": method + " SERVER", "hsm INTERNAL": method + " SERVER",
		"verify INTERNAL": method + " SERVER", "record INTERNAL": method + " SERVER",
	}
	for name, within := range want {
		if len(byName[name]) != 1 {
			t.Errorf("got %d spans %q, want 1", len(byName[name]), name)
			continue
		}
		s := byName[name][0]
		if within != "" && (len(byName[within]) != 1 || string(byName[within][0].GetSpanId()) != string(s.GetParentSpanId())) {
			t.Errorf("%q is not within %q", name, within)
		}
		if id := attributeOf(s, "roamsign.request_id"); id != "traced-1" && within != "" && !strings.HasSuffix(name, "CLIENT") {
			t.Errorf("%q has request ID %q, want that of the request", name, id)
		}
	}
	if len(byID) != len(want) {
		t.Errorf("got %d spans, want %d: %v", len(byID), len(want), byName)
	}
	for name, spans := range byName {
		if text := spans[0].String(); strings.Contains(text, "C20880050010") {
			t.Errorf("%q names a taxpayer: %s", name, text)
		}
	}
	if of := byName[method+" SERVER"]; len(of) > 0 && attributeOf(of[0], "roamsign.outcome") != "OK" {
		t.Errorf("the call's outcome is %q, want OK", attributeOf(of[0], "roamsign.outcome"))
	}
}

func TestACollectorThatIsAwayCostsNobodyAnything(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	traces(t, config, goneAddress(t))
	d := start(t, "serve", "--config", config)
	settings, err := client.Load(filepath.Join(dir, "client.yaml"))
	check(t, err)
	settings.Servers = []string{d.address(t)}
	caller, err := client.Dial(settings)
	check(t, err)
	content, err := os.ReadFile("../../testdata/invoice.xml")
	check(t, err)
	_, err = caller.Sign(t.Context(), client.Document{Content: content})
	check(t, err)
	check(t, caller.Close())
	began := time.Now()
	if code := d.stop(t); code != 0 {
		t.Errorf("stopping: got code %d, want 0:\n%s", code, d.errs)
	}
	if took := time.Since(began); took > 10*traceTimeout {
		t.Errorf("stopping took %v, of which traces may have %v", took, traceTimeout)
	}
}

func TestWhereTracesGoIsJudged(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	text := read(t, config)
	for tracing, want := range map[string]string{
		"{endpoint: 127.0.0.1}":                      "tracing.endpoint: must be HOST:PORT",
		"{endpoint: \"collector.example.com:4318\"}": "is not a loopback address",
		"{share: 0.5}":                               "tracing.endpoint: missing",
		"{endpoint: \"127.0.0.1:4318\", share: 1.5}": "tracing.share: must be 0 to 1",
		"{endpoint: \"127.0.0.1:4318\", ca: nobody}": "tracing.ca: ",
		"{endpoints: 127.0.0.1}":                     "tracing.endpoints is not a key here",
	} {
		write(t, config, text+"\ntracing: "+tracing+"\n")
		code, _, errs := ends(t, "check", "--config", config)
		if code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("tracing: %s: got code %d and %q, want 1 and a line with %q", tracing, code, errs, want)
		}
	}
	write(t, config, text+"\ntracing: {endpoint: \"collector.example.com:4318\", ca: tls-ca.pem, share: 0.01}\n")
	if code, _, errs := ends(t, "check", "--config", config); code != 0 {
		t.Errorf("a collector with TLS: got code %d and %q, want 0", code, errs)
	}
}
