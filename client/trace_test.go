package client

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func TestASignerIsToldOfTheCallersTrace(t *testing.T) {
	for name, withSpans := range map[string]bool{"passed on only": false, "with spans of the client's own": true} {
		t.Run(name, func(t *testing.T) {
			provider := sdktrace.NewTracerProvider()
			told := make(chan []string, 1)
			s := startStation(t, &station{before: func(ctx context.Context, _ int) error {
				headers, _ := metadata.FromIncomingContext(ctx)
				told <- headers.Get("traceparent")
				return nil
			}})
			cfg := configFor(t, s.address)
			if withSpans {
				cfg.Tracing = provider
			}
			c := dialled(t, cfg)
			ctx, span := provider.Tracer("test").Start(t.Context(), "submit")
			defer span.End()
			if _, err := c.SignXML(ctx, "", document(t, "invoice-1.1.xml"), Options{}); err != nil {
				t.Fatal(err)
			}
			own := span.SpanContext()
			got := <-told
			if len(got) != 1 || len(got[0]) != 55 || got[0][3:35] != own.TraceID().String() {
				t.Fatalf("got trace %v, want one within %v", got, own.TraceID())
			}
			if parent := got[0][36:52]; (parent == own.SpanID().String()) == withSpans {
				t.Errorf("the signer's parent is %s, the caller's span %s", parent, own.SpanID())
			}
		})
	}
}

func TestWithoutATraceNothingIsAdded(t *testing.T) {
	ctx := t.Context()
	invoke := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		if _, any := metadata.FromOutgoingContext(ctx); any {
			t.Error("headers were added")
		}
		return nil
	}
	if got := testing.AllocsPerRun(1000, func() { _ = propagate(ctx, "", nil, nil, nil, invoke) }); got != 0 {
		t.Errorf("got %v allocations a call, want none", got)
	}
}
