package signer

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestADeadlineThatPassesFreesTheSession(t *testing.T) {
	r := start(t, setting{sessions: 1})
	client := r.as(erp)
	_, err := client.SignDigest(t.Context(), r.request()) // so that it is connected
	must(t, err)
	r.key.behave(hangs)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	in := r.request()
	in.RequestId = "late"
	if _, err := client.SignDigest(ctx, in); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DEADLINE_EXCEEDED", err)
	}
	// The client hangs up as its deadline passes, which may be seen first.
	line := r.journal.await(t, func(line map[string]any) bool { return line["request_id"] == "late" })
	if line["outcome"] != "DEADLINE_EXCEEDED" && line["outcome"] != "CANCELED" {
		t.Errorf("outcome: got %v, want DEADLINE_EXCEEDED or CANCELED", line["outcome"])
	}
	r.key.behave(honest)
	if _, err := client.SignDigest(t.Context(), r.request()); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func TestACallerThatGoesAwayFreesTheSession(t *testing.T) {
	r := start(t, setting{sessions: 1})
	client := r.as(erp)
	r.key.behave(hangs)
	ctx, cancel := context.WithCancel(t.Context())
	in := r.request()
	in.RequestId = "gone"
	ended := make(chan error, 1)
	go func() {
		_, err := client.SignDigest(ctx, in)
		ended <- err
	}()
	<-r.key.entered
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELLED", err)
	}
	r.journal.await(t, func(line map[string]any) bool { return line["request_id"] == "gone" && line["outcome"] == "CANCELED" })
}

func TestAnOverfullQueueRefusesAtOnce(t *testing.T) {
	r := start(t, setting{sessions: 1, limits: Limits{Queue: 1}})
	client := r.as(erp)
	gate := make(chan struct{})
	r.key.behave(gated(gate))
	outcomes := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := client.SignDigest(t.Context(), r.request())
			outcomes <- err
		}()
	}
	// One is signing, one may wait: whichever came last is told off, although
	// nothing moves.
	err := <-outcomes
	checkRefused(t, "one of three", err, codes.ResourceExhausted, "OVERLOADED")
	if retry := toldBy(t, err).Retry; retry <= 0 {
		t.Errorf("retry: got %v, want a while", retry)
	}
	close(gate)
	for range 2 {
		if err := <-outcomes; err != nil {
			t.Errorf("of the other two: %v", err)
		}
	}
}

func TestAPolicyIsInForceForRequestsThatBeginAfterwards(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	gate := make(chan struct{})
	r.key.behave(gated(gate))
	ended := make(chan error, 1)
	go func() {
		_, err := client.SignDigest(t.Context(), r.request())
		ended <- err
	}()
	<-r.key.entered
	r.server.SetPolicy(nil)
	_, err := client.SignDigest(t.Context(), r.request())
	checkRefused(t, "under no policy", err, codes.PermissionDenied, "NOT_ALLOWED")
	close(gate)
	if err := <-ended; err != nil {
		t.Errorf("in flight: got %v, want that it finishes under the policy it began with", err)
	}
}
