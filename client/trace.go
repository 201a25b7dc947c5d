package client

import (
	"cmp"
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// The attributes of spans.
const (
	traceRequestID  = attribute.Key("roamsign.request_id")
	traceRequestIDs = attribute.Key("roamsign.request_ids") // of a batch
)

// tracing is how calls become part of a trace. The zero tracing begins no spans.
type tracing struct {
	provider trace.TracerProvider
	tracer   trace.Tracer
}

func newTracing(provider trace.TracerProvider) tracing {
	if provider == nil {
		return tracing{}
	}
	return tracing{provider, provider.Tracer("github.com/roamsign/roamsign/client")}
}

// option has the signers told of the trace in a call's context, if there is one;
// with a provider each attempt is a span of its own.
func (t tracing) option() grpc.DialOption {
	if t.tracer == nil {
		return grpc.WithChainUnaryInterceptor(propagate)
	}
	return grpc.WithStatsHandler(otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
	))
}

// propagate passes the trace in the context on, and costs nothing without one.
func propagate(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if trace.SpanContextFromContext(ctx).IsValid() {
		said := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, said)
		var headers []string
		for key, value := range said {
			headers = append(headers, key, value)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, headers...)
	}
	return invoke(ctx, method, in, out, conn, opts...)
}

// begin begins the span of what is asked for those items, all attempts of it.
func (t tracing) begin(ctx context.Context, name string, items ...*item) (context.Context, trace.Span) {
	if t.tracer == nil {
		return ctx, nil
	}
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.id
	}
	of := traceRequestIDs.StringSlice(ids)
	if len(ids) == 1 {
		of = traceRequestID.String(ids[0])
	}
	return t.tracer.Start(ctx, name, trace.WithAttributes(of), trace.WithSpanKind(trace.SpanKindInternal))
}

// ended ends a span, with the reason of an error and nothing else of it.
func ended(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		e := answered(err)
		span.SetStatus(codes.Error, cmp.Or(e.Reason, e.Code.String()))
	}
	span.End()
}
