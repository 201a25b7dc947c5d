package signer

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/roamsign/roamsign/internal/fault"
)

// TestTheRecordIsWrittenWhileOthersSign: who waits for a session does not wait for the
// record afterwards. Where many entries are ahead of their turns, the next ones wait
// for theirs.
func TestTheRecordIsWrittenWhileOthersSign(t *testing.T) {
	for name, row := range map[string]struct {
		ahead  int // so many entries are
		before int // so many come on record before the second's turn
	}{
		"few are ahead":  {0, 2},
		"many are ahead": {maxAhead, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setting{sessions: 1})
			gate := make(chan struct{})
			r.key.behave(gated(gate))
			client, done := r.as(erp), make(chan error, 2)
			sign := func(id string) {
				in := r.request()
				in.RequestId = id
				_, err := client.SignDigest(context.Background(), in)
				done <- err
			}
			go sign("first")
			<-r.key.entered
			<-r.record.entered
			r.server.recorder.ahead.begun += row.ahead
			go sign("second")
			r.awaitRequests(2)
			for range row.before - 1 {
				<-r.record.entered
			}
			if more := len(r.record.entered); more != 0 {
				t.Errorf("got %d more entries before the second's turn", more)
			}
			close(gate)
			must(t, errors.Join(<-done, <-done))
			if got := len(r.record.all()); got != 2 {
				t.Errorf("got %d entries on record in the end, want 2", got)
			}
			if got := r.server.recorder.ahead.begun; got != row.ahead {
				t.Errorf("got %d entries ahead in the end, want %d", got, row.ahead)
			}
		})
	}
}

// TestWhoLeavesTheLineDoesNotFillTheRecord: entries for which the token was not asked
// are bounded.
func TestWhoLeavesTheLineDoesNotFillTheRecord(t *testing.T) {
	const room, more = 3, 10
	r := start(t, setting{sessions: 1})
	gate := make(chan struct{})
	r.key.behave(gated(gate))
	client, first := r.as(erp), make(chan error, 1)
	go func() {
		_, err := client.SignDigest(context.Background(), r.request())
		first <- err
	}()
	<-r.key.entered
	r.server.recorder.ahead.begun = maxAhead - room
	for n := range room + more {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		in := r.request()
		in.RequestId = "leaves-" + strconv.Itoa(n)
		_, err := client.SignDigest(ctx, in)
		cancel()
		if err == nil {
			t.Error("got a signature while another held the session")
		}
	}
	r.awaitFlights(1) // who left is gone: else a late one gets a turn
	close(gate)
	must(t, <-first)
	must(t, r.server.recorder.finish(20*time.Second))
	if calls := r.record.asked(); calls > 1+room {
		t.Errorf("got %d entries begun for one signature and %d who left, want %d at most", calls, room+more, 1+room)
	}
}

func TestEachSignatureMakesUpForOneLostEntry(t *testing.T) {
	r := start(t, setting{})
	ahead, client := &r.server.recorder.ahead, r.as(erp)
	ahead.begun, ahead.lost = 3, 3
	for n := range 2 {
		in := r.request()
		in.RequestId = "made-" + strconv.Itoa(n)
		_, err := client.SignDigest(t.Context(), in)
		must(t, err)
	}
	ahead.mu.Lock()
	defer ahead.mu.Unlock()
	if ahead.begun != 1 || ahead.lost != 1 {
		t.Errorf("after two signatures: got %d begun and %d lost of three each, want 1 and 1", ahead.begun, ahead.lost)
	}
}

func TestSignaturesMakeUpForEntriesThatWereLost(t *testing.T) {
	var a ahead
	for n := range maxAhead {
		if !a.begin() {
			t.Fatalf("refused after %d", n)
		}
		a.end(false)
	}
	if a.begin() {
		t.Error("one more than there may be was begun")
	}
	a.signed()
	if !a.begin() {
		t.Error("none was begun after a signature had made up for one")
	}
	if a.begin() {
		t.Error("a signature made up for two")
	}
	a.end(true)
	for range 2 * maxAhead {
		a.signed()
	}
	if a.begun != 0 || a.lost != 0 {
		t.Errorf("in the end: got %d begun and %d lost, want none", a.begun, a.lost)
	}
}

// TestNothingComesOnRecordWhileTheKeyIsAway: but where it is back sooner than it is
// known to be, what it makes is on record all the same.
func TestNothingComesOnRecordWhileTheKeyIsAway(t *testing.T) {
	r := start(t, setting{})
	r.key.goDown(fault.New(fault.TokenUnavailable, "away"))
	r.key.behave(isAway)
	client := r.as(erp)
	for range 20 {
		_, err := client.SignDigest(t.Context(), r.request())
		checkRefused(t, "the key is away", err, codes.Unavailable, "TOKEN_UNAVAILABLE")
	}
	if got := r.record.asked(); got != 0 {
		t.Errorf("got %d entries begun, want none", got)
	}
	r.key.behave(honest)
	out, err := client.SignDigest(t.Context(), r.request())
	must(t, err)
	if got := r.record.all(); len(got) != 1 || out.GetLogIndex() != 0 {
		t.Errorf("got %d entries and index %d, want 1 and 0", len(got), out.GetLogIndex())
	}
}
