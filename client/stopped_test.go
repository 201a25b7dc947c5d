package client

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// relay stands between the client and a server, and can be stopped as a process
// can: connections come about and take what is sent, and nothing is answered.
type relay struct {
	address string

	mu      sync.Mutex
	running chan struct{} // closed while it runs
}

// relayTo runs a relay to a server on 127.0.0.1, until the test ends.
func relayTo(t *testing.T, server string) *relay {
	t.Helper()
	listener := listen(t)
	r := &relay{address: listener.Addr().String(), running: make(chan struct{})}
	close(r.running)
	ctx, cancel := context.WithCancel(context.Background())
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { r.pass(ctx, conn, server) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		passing.Wait()
	})
	return r
}

// pass carries one connection.
func (r *relay) pass(ctx context.Context, near net.Conn, server string) {
	far, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		_ = near.Close()
		return
	}
	var both sync.WaitGroup
	end := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer end()
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], held{way[1], r, ctx})
			_, _ = near.Close(), far.Close()
		})
	}
	both.Wait()
}

// held reads what came, once the relay runs.
type held struct {
	net.Conn
	relay *relay
	ctx   context.Context
}

func (h held) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.relay.mu.Lock()
	running := h.relay.running
	h.relay.mu.Unlock()
	select {
	case <-running:
		return n, err
	case <-h.ctx.Done():
		return 0, h.ctx.Err()
	}
}

func (r *relay) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = make(chan struct{})
}

func (r *relay) goOn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.running)
}

// asked is how many calls for signatures came to a station.
func (s *station) asked() int {
	calls, _ := s.counts()
	return calls
}

// signs signs one document and complains if that fails.
func signs(t *testing.T, c *Client) {
	t.Helper()
	if _, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); err != nil {
		t.Fatalf("signing: %v", err)
	}
}

// signsUntil signs until something is so.
func signsUntil(t *testing.T, c *Client, what string, so func() bool) {
	t.Helper()
	for late := time.Now().Add(time.Minute); !so(); {
		if time.Now().After(late) {
			t.Fatalf("after a minute it is not so that %s", what)
		}
		signs(t, c)
	}
}

func TestAStoppedServerIsLeftOutUntilItsHealthAnswers(t *testing.T) {
	t.Parallel()
	one, two := startStation(t, &station{}), startStation(t, &station{})
	way := relayTo(t, one.address)
	cfg := configFor(t, way.address, two.address)
	cfg.AttemptTimeout = slow
	c := dialled(t, cfg)
	signsUntil(t, c, "both are asked", func() bool { return one.asked() > 0 && two.asked() > 0 })

	way.stop()
	signsUntil(t, c, "the stopped one has timed out", func() bool { return c.servers.strikes(way.address) == 1 })
	for waited := time.Now(); time.Since(waited) < 2*leastOut; { // it is back on the list by then
		signs(t, c)
	}
	if got := c.servers.strikes(way.address); got != 1 {
		t.Errorf("the stopped server was left out %d times, want once: it was asked again before its health answered", got)
	}

	way.goOn()
	signsUntil(t, c, "the one that goes on is asked again", func() bool { return c.servers.strikes(way.address) == 0 })
}

// strikes is how often a server was left out since it answered.
func (s *servers) strikes(server string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standing[server].strikes
}

func TestAllServersStoppedAndBackAreAskedAgain(t *testing.T) {
	t.Parallel()
	ways := []*relay{relayTo(t, startStation(t, &station{}).address), relayTo(t, startStation(t, &station{}).address)}
	cfg := configFor(t, ways[0].address, ways[1].address)
	cfg.AttemptTimeout = 500 * time.Millisecond
	c := dialled(t, cfg)
	atLast := func() (err error) {
		for late := time.Now().Add(time.Minute); time.Now().Before(late); {
			if _, err = c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); err == nil {
				return nil
			}
		}
		return err
	}
	if err := atLast(); err != nil {
		t.Fatalf("signing with all servers running: %v", err)
	}
	for _, way := range ways {
		way.stop()
	}
	_, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{})
	if e := errorOf(t, err); !e.Unreached() {
		t.Errorf("signing with all servers stopped: got %v, want one that says that none was reached", err)
	}
	for _, way := range ways {
		way.goOn()
	}
	if err := atLast(); err != nil {
		t.Errorf("a minute after all servers went on: %v", err)
	}
}

func TestAServerThatKeepsFailingIsLeftOutForLonger(t *testing.T) {
	now := time.Now()
	s := newServers([]string{"a:1", "b:1"})
	s.answered("b:1")
	listed := func(at time.Time) int {
		s.readmit(at)
		return len(s.state().Endpoints)
	}
	const second = time.Second
	for i, hold := range []time.Duration{second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second} {
		s.failed("a:1", now, now)
		s.failed("a:1", now, now.Add(hold/2)) // another call's, of the same connection
		if got := listed(now.Add(hold - 1)); got != 1 {
			t.Errorf("failure %d: got %d servers on the list before %v are over, want 1", i+1, got, hold)
		}
		began := now
		now = now.Add(hold)
		if got := listed(now); got != 2 {
			t.Errorf("failure %d: got %d servers on the list after %v, want 2", i+1, got, hold)
		}
		s.failed("a:1", began, now)
		if got := listed(now); got != 2 {
			t.Errorf("failure %d: an attempt from before it came back left the server out", i+1)
		}
	}
	s.answered("a:1")
	s.failed("a:1", now, now)
	if got := listed(now.Add(leastOut)); got != 2 {
		t.Error("one that answered in between is left out for longer than a second")
	}
	s.failed("a:1", now.Add(leastOut), now.Add(leastOut))
	s.failed("b:1", now, now.Add(leastOut))
	if got := len(s.state().Endpoints); got != 2 {
		t.Errorf("got %d servers on the list when all have failed, want 2", got)
	}
	began := now.Add(2 * leastOut)
	s.failed("b:1", began, began)
	if got := len(s.state().Endpoints); got != 2 {
		t.Errorf("got %d servers on the list when one has failed and the other has not answered yet, want 2", got)
	}
	s.answered("a:1")
	s.shun("b:1", now)
	if got := listed(now.Add(mostOut - 1)); got != 1 {
		t.Error("one that is shunned is on the list before the longest time is over")
	}
}

func TestAnUnhealthyServerIsDroppedAndAskedAgainOnceItIsWell(t *testing.T) {
	one, two := startStation(t, &station{}), startStation(t, &station{})
	c := dialled(t, configFor(t, one.address, two.address))
	signsUntil(t, c, "both are asked", func() bool { return one.asked() > 0 && two.asked() > 0 })
	one.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	// Once the client has been told, none comes any more: ten in a row go elsewhere.
	row, last := 0, one.asked()
	signsUntil(t, c, "the unhealthy one is asked no more", func() bool {
		now := one.asked()
		if row++; now != last {
			row, last = 0, now
		}
		return row > 10
	})
	one.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	signsUntil(t, c, "the one that is well again is asked", func() bool { return one.asked() > last })
}

func TestClosingLeavesNothing(t *testing.T) {
	stopped := relayTo(t, startStation(t, &station{}).address)
	cfg := configFor(t, stopped.address, startStation(t, &station{}).address, deadAddress(t))
	cfg.AttemptTimeout = slow
	c, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	signs(t, c)
	stopped.stop()
	for range 10 {
		signs(t, c)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stacks := make([]byte, 1<<20)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		text := string(stacks[:runtime.Stack(stacks, true)])
		left := strings.Contains(text, "http2Client") || strings.Contains(text, "grpc.(*addrConn)") || strings.Contains(text, "grpc.(*ClientConn)")
		if !left {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("goroutines are left:\n%s", text)
		}
	}
}
