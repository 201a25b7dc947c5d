package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsign/roamsign/ca"
)

// tracing is the part of the configuration that is about traces of requests. Without
// an endpoint there are none.
type tracing struct {
	// Endpoint is the address, HOST:PORT, of an OpenTelemetry collector that takes
	// OTLP over HTTP.
	Endpoint string `yaml:"endpoint"`
	// CA is a PEM file of the authorities that issued the collector's certificate.
	// Left out: there is no TLS, and the address must be a loopback one.
	CA string `yaml:"ca"`
	// Share is the part of the traces begun here that is kept, 0 to 1; where a caller
	// has a trace of its own, that tells. Default 1.
	Share *float64 `yaml:"share"`
}

// check tells what is wrong with the configuration.
func (c *tracing) check() error {
	var faults []error
	if c.Endpoint == "" {
		if c.CA != "" || c.Share != nil {
			faults = append(faults, errors.New("tracing.endpoint: missing: name the collector's HOST:PORT, or leave out tracing"))
		}
		return errors.Join(faults...)
	}
	host, _, err := net.SplitHostPort(c.Endpoint)
	if err != nil {
		faults = append(faults, fmt.Errorf("tracing.endpoint: must be HOST:PORT, such as 127.0.0.1:4318, not %q", c.Endpoint))
	} else if ip := net.ParseIP(host); c.CA == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		faults = append(faults, fmt.Errorf("tracing.endpoint: %q is not a loopback address, and traces tell who had what signed when: name the authority of the collector's certificate with tracing.ca", c.Endpoint))
	}
	if c.CA != "" {
		if _, err := ca.LoadPool(c.CA); err != nil {
			faults = append(faults, fmt.Errorf("tracing.ca: %w", err))
		}
	}
	if s := c.Share; s != nil && !(*s >= 0 && *s <= 1) {
		faults = append(faults, fmt.Errorf("tracing.share: must be 0 to 1, not %v", *s))
	}
	return errors.Join(faults...)
}

// The exporter's share of starting and stopping, and how long one delivery may take.
const (
	traceTimeout  = 5 * time.Second
	deliverWithin = 10 * time.Second
)

// open begins to deliver traces; stop delivers what is left. Without an endpoint the
// provider is nil. A collector that is away costs the service nothing: what does not
// fit into a buffer is dropped.
func (c *tracing) open(ctx context.Context, instance string, log *slog.Logger) (provider trace.TracerProvider, stop func(), err error) {
	if c.Endpoint == "" {
		return nil, func() {}, nil
	}
	secured := otlptracehttp.WithInsecure()
	if c.CA != "" {
		pool, err := ca.LoadPool(c.CA)
		if err != nil {
			return nil, nil, fmt.Errorf("tracing.ca: %w", err)
		}
		secured = otlptracehttp.WithTLSClientConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool})
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpoint(c.Endpoint), secured, otlptracehttp.WithTimeout(deliverWithin),
		otlptracehttp.WithHeaders(nil), otlptracehttp.WithProxy(direct)) // the file alone says where traces go, not the environment
	if err != nil {
		return nil, nil, fmt.Errorf("tracing: %w", err)
	}
	if instance == "" {
		instance, _ = os.Hostname() // as the service calls itself then
	}
	share := 1.0
	if c.Share != nil {
		share = *c.Share
	}
	made := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "roamsignd"), attribute.String("service.instance.id", instance))),
	)
	otel.SetErrorHandler(&undelivered{log: log})
	log.Info("tracing", "endpoint", c.Endpoint, "share", share)
	return made, func() {
		ctx, cancel := context.WithTimeout(context.Background(), traceTimeout)
		defer cancel()
		if err := made.Shutdown(ctx); err != nil {
			log.Warn("traces were not delivered", "error", err.Error())
		}
	}, nil
}

// direct uses no proxy.
func direct(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // which is how no proxy is told

// undelivered logs what goes wrong with traces: once a minute at most.
type undelivered struct {
	log  *slog.Logger
	last atomic.Int64 // Unix seconds
}

// Handle is what OpenTelemetry calls.
func (u *undelivered) Handle(err error) {
	now, last := time.Now().Unix(), u.last.Load()
	if now-last >= 60 && u.last.CompareAndSwap(last, now) {
		u.log.Warn("traces were not delivered", "error", err.Error())
	}
}
