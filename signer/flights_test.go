package signer

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// openStream begins a SignDocument whose request never comes.
func openStream(ctx context.Context, t *testing.T, conn *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{}, roamsignv1.SignerService_SignDocument_FullMethodName)
	must(t, err)
	return stream
}

// awaitFlights waits until as many requests of callers are in flight.
func (r *rig) awaitFlights(n int) {
	r.t.Helper()
	r.awaitIn(r.server.flights, n)
}

// awaitIn waits until as many are in flight there.
func (r *rig) awaitIn(share *flights, n int) {
	r.t.Helper()
	ticks, late := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer ticks.Stop()
	for {
		all := share.inFlight()
		if all == n {
			return
		}
		select {
		case <-ticks.C:
		case <-late:
			r.t.Fatalf("%d requests are in flight, want %d", all, n)
		}
	}
}

func TestRequestsAreRefusedByTheirHeadersWhenTooManyAreInFlight(t *testing.T) {
	const till = "till.example.com"
	r := start(t, setting{limits: Limits{Requests: 4}, policy: rules + "  - {name: " + till + ", taxpayers: [], methods: []}\n"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	greedy := r.connect(r.client(erp))
	openStream(ctx, t, greedy)
	openStream(ctx, t, r.connect(r.client(erp))) // over whichever connection
	r.awaitFlights(2)
	_, err := roamsignv1.NewSignerServiceClient(greedy).SignDigest(t.Context(), r.request())
	checkRefused(t, "a third one of that caller", err, codes.ResourceExhausted, "OVERLOADED")
	if !r.journal.tells("2 of them of caller") {
		t.Errorf("the log does not tell of whom they are:\n%s", r.journal.all())
	}
	if _, err := healthv1.NewHealthClient(greedy).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v, want that it answers all the same", err)
	}
	_, err = r.as(portal).SignDigest(t.Context(), r.request())
	checkRefused(t, "another caller, who is only not allowed", err, codes.PermissionDenied, "NOT_ALLOWED")

	openStream(ctx, t, r.connect(r.client(portal)))
	openStream(ctx, t, r.connect(r.client(portal)))
	r.awaitFlights(4)
	_, err = r.as(till).SignDigest(t.Context(), r.request())
	checkRefused(t, "a third caller", err, codes.ResourceExhausted, "OVERLOADED")
	cancel()
	r.awaitFlights(0)
	if _, err := r.as(erp).SignDigest(t.Context(), r.request()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	r.awaitFlights(0)
}

func TestWhoIsNotInThePolicyKeepsNobodyOut(t *testing.T) {
	r := start(t, setting{limits: Limits{Requests: 4 * strangersShare}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := r.connect(r.client(stranger))
	openStream(ctx, t, conn)
	openStream(ctx, t, conn)
	r.awaitIn(r.server.strangers, 2)
	if n := r.server.flights.inFlight(); n != 0 {
		t.Errorf("%d requests count among those of callers, want none", n)
	}
	_, err := roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request())
	checkRefused(t, "a third one", err, codes.ResourceExhausted, "OVERLOADED")
	_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	checkRefused(t, "health", err, codes.ResourceExhausted, "OVERLOADED")
	another := r.connect(r.client("spiffe://example.com/another"))
	_, err = roamsignv1.NewSignerServiceClient(another).SignDigest(t.Context(), r.request())
	checkRefused(t, "another stranger", err, codes.PermissionDenied, "NOT_ALLOWED")
	r.awaitIn(r.server.strangers, 2)
	openStream(ctx, t, another)
	openStream(ctx, t, another)
	r.awaitIn(r.server.strangers, 4)
	if _, err := r.as(erp).SignDigest(t.Context(), r.request()); err != nil {
		t.Errorf("a caller of the policy: %v", err)
	}
	cancel()
	r.awaitIn(r.server.strangers, 0)
}

func TestHealthWatchesAreBoundedAndKeepNoSignatureOut(t *testing.T) {
	r := start(t, setting{limits: Limits{Connections: 4}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := r.connect(r.client(erp))
	health := healthv1.NewHealthClient(conn)
	for range 2 {
		watch, err := health.Watch(ctx, &healthv1.HealthCheckRequest{})
		must(t, err)
		_, err = watch.Recv()
		must(t, err)
	}
	r.awaitIn(r.server.asides, 2)
	watch, err := health.Watch(ctx, &healthv1.HealthCheckRequest{})
	must(t, err)
	_, err = watch.Recv()
	checkRefused(t, "a third watch", err, codes.ResourceExhausted, "OVERLOADED")
	reflect, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	must(t, err)
	_, err = reflect.Recv()
	checkRefused(t, "reflection", err, codes.ResourceExhausted, "OVERLOADED")
	for _, method := range []string{"Watch", "ServerReflectionInfo"} {
		r.journal.await(t, func(line map[string]any) bool { return line["method"] == method && line["outcome"] == "OVERLOADED" })
	}
	if _, err := roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request()); err != nil {
		t.Errorf("a signature: %v", err)
	}
	if _, err := healthv1.NewHealthClient(r.connect(r.client(portal))).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("another caller's check: %v", err)
	}
	cancel()
	r.awaitIn(r.server.asides, 0)
	if _, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestConnectionsAreBoundedInAllAndOfStrangers(t *testing.T) {
	r := start(t, setting{limits: Limits{Connections: 4}})
	refused := func(what, why string, conn *grpc.ClientConn) {
		t.Helper()
		if _, err := roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request()); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v, want none (UNAVAILABLE)", what, err)
		}
		r.journal.await(t, func(line map[string]any) bool {
			text, _ := line["error"].(string)
			return line["msg"] == "connection refused" && strings.Contains(text, why)
		})
	}
	open := func(name string) *grpc.ClientConn {
		conn := r.connect(r.client(name))
		_, err := roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request())
		if code := status.Code(err); code != codes.OK && code != codes.PermissionDenied {
			t.Fatalf("%s: %v", name, err)
		}
		return conn
	}
	first := open(stranger)
	second := r.connect(r.client("spiffe://example.com/another"))
	refused("a second stranger's", "1 connections of callers that are not in the policy are open", second)
	must(t, second.Close()) // else it tries again, and may be the first
	open(erp)
	open(erp)
	open(portal)
	late := r.connect(r.client(portal))
	refused("one beyond all", "4 connections are open already", late)
	must(t, first.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := roamsignv1.NewSignerServiceClient(late).SignDigest(ctx, r.request(), grpc.WaitForReady(true))
	checkRefused(t, "once one is closed, who is only not allowed", err, codes.PermissionDenied, "NOT_ALLOWED")
}

func TestOneCallerHasHalfOfTheConnectionsAtMost(t *testing.T) {
	r := start(t, setting{limits: Limits{Connections: 4}})
	own := r.client(erp)
	first, second := r.connect(own), r.connect(r.client(erp))
	for _, conn := range []*grpc.ClientConn{first, second} {
		_, err := roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request())
		must(t, err)
	}
	third := roamsignv1.NewSignerServiceClient(r.connect(own))
	if _, err := third.SignDigest(t.Context(), r.request()); status.Code(err) != codes.Unavailable {
		t.Errorf("a third connection of one caller: got %v, want none (UNAVAILABLE)", err)
	}
	r.journal.await(t, func(line map[string]any) bool {
		text, _ := line["error"].(string)
		return line["msg"] == "connection refused" && strings.Contains(text, "2 connections of caller")
	})
	_, err := r.as(portal).SignDigest(t.Context(), r.request())
	checkRefused(t, "another caller, who is only not allowed", err, codes.PermissionDenied, "NOT_ALLOWED")
	must(t, first.Close())
	if _, err := third.SignDigest(t.Context(), r.request(), grpc.WaitForReady(true)); err != nil {
		t.Errorf("when one of them is closed: %v", err)
	}
}

func TestARequestThatNeverComesIsGivenUp(t *testing.T) {
	r := start(t, setting{limits: Limits{Request: 50 * time.Millisecond}})
	stream := openStream(t.Context(), t, r.connect(r.client(erp)))
	if err := stream.RecvMsg(&roamsignv1.SignDocumentResponse{}); status.Code(err) == codes.OK {
		t.Errorf("got %v, want an error", err)
	}
	r.awaitFlights(0)
}

func TestARevokedCallerIsRefusedByItsHeaders(t *testing.T) {
	r := start(t, setting{})
	own := r.client(erp)
	conn := r.connect(own)
	_, err := roamsignv1.NewSignerServiceClient(conn).SignDigest(t.Context(), r.request())
	must(t, err)
	next := *r.server.credentials.Load()
	next.Revoked = serials(t, own)
	r.server.credentials.Store(&next)
	err = openStream(t.Context(), t, conn).RecvMsg(&roamsignv1.SignDocumentResponse{})
	checkRefused(t, "a request without its content", err, codes.PermissionDenied, "NOT_ALLOWED")
}

func TestFlightsAreCountedWithoutLoss(t *testing.T) {
	f := newFlights(10)
	var busy sync.WaitGroup
	for _, caller := range []policy.Caller{"a", "b", "c", "d"} {
		for range 8 {
			busy.Go(func() {
				for range 200 {
					if err := f.enter(caller); err == nil {
						f.leave(caller)
					} else if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Overloaded || e.RetryAfter <= 0 {
						t.Errorf("got %v, want OVERLOADED and when to try again", err)
					}
				}
			})
		}
	}
	busy.Wait()
	if f.all != 0 || len(f.by) != 0 {
		t.Errorf("in the end %d are in flight, of %v", f.all, f.by)
	}
	for range 5 { // half
		must(t, f.enter("a"))
	}
	if err := f.enter("a"); err == nil {
		t.Error("a caller has more than half")
	}
	must(t, f.enter("b"))
}
