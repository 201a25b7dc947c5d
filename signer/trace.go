package signer

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// tracer begins the spans of requests. The zero tracer begins none, and costs no
// allocation. Spans tell how long what took, for which request, and how it ended;
// never what was signed.
type tracer struct {
	provider trace.TracerProvider
	trace.Tracer
}

// The attributes of spans.
const (
	traceRequestID = attribute.Key("roamsign.request_id")
	traceCaller    = attribute.Key("roamsign.caller")
	traceOutcome   = attribute.Key("roamsign.outcome")
)

func newTracer(provider trace.TracerProvider) tracer {
	if provider == nil {
		return tracer{}
	}
	return tracer{provider, provider.Tracer("github.com/roamsign/roamsign/signer")}
}

// options have gRPC begin a span for each call of the API, within the caller's
// trace, if it has one.
func (t tracer) options() []grpc.ServerOption {
	if t.Tracer == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return ours(info.FullMethodName) }),
	))}
}

type tracedKey struct{}

// of returns a context whose spans are of that request.
func (t tracer) of(ctx context.Context, id requestID) context.Context {
	if t.Tracer == nil {
		return ctx
	}
	return context.WithValue(ctx, tracedKey{}, id)
}

// begin begins a span within the call's, if that is recorded.
func (t tracer) begin(ctx context.Context, name string) (context.Context, span) {
	if t.Tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, span{}
	}
	id, _ := ctx.Value(tracedKey{}).(requestID)
	ctx, begun := t.Start(ctx, name, trace.WithAttributes(traceRequestID.String(string(id))))
	return ctx, span{begun}
}

// ended puts into a call's span whose it was and how it ended.
func (t tracer) ended(ctx context.Context, c *call, outcome string) {
	if t.Tracer == nil {
		return
	}
	of := trace.SpanFromContext(ctx)
	of.SetAttributes(traceCaller.String(string(c.caller)), traceOutcome.String(outcome))
	if c.id != "" {
		of.SetAttributes(traceRequestID.String(string(c.id)))
	}
}

// span is a part of a request; the zero span is none.
type span struct{ trace.Span }

// end ends the span, with the reason of an error and nothing else of it.
func (s span) end(err error) {
	if s.Span == nil {
		return
	}
	if err != nil {
		s.SetStatus(codes.Error, kindOf(err).Reason())
	}
	s.End()
}
