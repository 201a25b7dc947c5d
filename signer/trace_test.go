package signer

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/roamsign/roamsign/internal/fault"
)

// spanned is what tracing does for one signature.
func spanned(ctx context.Context, t tracer, c *call) {
	inner := t.of(ctx, c.id)
	for _, name := range []string{"queue", "hsm", "verify", "record"} {
		_, s := t.begin(inner, name)
		s.end(nil)
	}
	t.ended(ctx, c, "OK")
}

func TestTracingThatIsOffCostsNoAllocation(t *testing.T) {
	ctx := t.Context()
	if got := testing.AllocsPerRun(1000, func() { spanned(ctx, tracer{}, &call{id: "one"}) }); got != 0 {
		t.Errorf("got %v allocations a signature, want none", got)
	}
	if got := newTracer(nil).options(); got != nil {
		t.Errorf("got %d options for gRPC, want none: each handler of its statistics costs every call", len(got))
	}
}

func TestSpansTellAReasonAndNothingElse(t *testing.T) {
	kept := tracetest.NewSpanRecorder()
	tracing := newTracer(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(kept)))
	ctx, root := tracing.Start(t.Context(), "call")
	_, s := tracing.begin(tracing.of(ctx, "one"), "record")
	s.end(fault.Wrap(fault.LogUnavailable, errors.New("of C20880050010")))
	root.End()
	var got sdktrace.ReadOnlySpan
	for _, each := range kept.Ended() {
		if each.Name() == "record" {
			got = each
		}
	}
	if got == nil {
		t.Fatal("there is no span")
	}
	if want := (sdktrace.Status{Code: codes.Error, Description: "LOG_UNAVAILABLE"}); got.Status() != want {
		t.Errorf("got status %v, want %v", got.Status(), want)
	}
	if len(got.Events()) != 0 || !slices.Contains(got.Attributes(), traceRequestID.String("one")) || len(got.Attributes()) != 1 {
		t.Errorf("got events %v and attributes %v, want none and the request ID", got.Events(), got.Attributes())
	}
	if _, s := tracing.begin(t.Context(), "record"); s.Span != nil {
		t.Error("a span was begun outside any call's")
	}
}

// BenchmarkTracing measures what tracing costs a signature, without gRPC's part.
func BenchmarkTracing(b *testing.B) {
	for name, t := range map[string]tracer{
		"off": {}, "on, not sampled": newTracer(noop.NewTracerProvider()), "on": newTracer(sdktrace.NewTracerProvider()),
	} {
		b.Run(name, func(b *testing.B) {
			ctx := b.Context()
			if t.Tracer != nil {
				ctx, _ = t.Start(ctx, "call")
			}
			b.ReportAllocs()
			for b.Loop() {
				spanned(ctx, t, &call{id: "one"})
			}
		})
	}
}
