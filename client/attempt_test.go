package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// slow is how long an attempt may take where a test waits for one that hangs: far
// more than a good server needs on a busy machine.
const slow = 4 * time.Second

func TestOneGoodServerIsEnough(t *testing.T) {
	t.Parallel()
	refusing := func(code codes.Code, reason string) func(context.Context, int) error {
		return func(context.Context, int) error { return refusal(code, reason, 0) }
	}
	hangs := map[string]bool{"beside one that accepts and no more": true, "beside one that hangs": true, "beside all of these": true}
	for name, bad := range map[string]func(t *testing.T) []string{
		"beside a dead one":                   func(t *testing.T) []string { return []string{deadAddress(t)} },
		"beside one that accepts and no more": func(t *testing.T) []string { return []string{silentAddress(t)} },
		"beside one that hangs":               func(t *testing.T) []string { return []string{startStation(t, &station{before: hang}).address} },
		"beside one without its token": func(t *testing.T) []string {
			return []string{startStation(t, &station{before: refusing(codes.Unavailable, "TOKEN_UNAVAILABLE")}).address}
		},
		"beside one whose token signs wrongly": func(t *testing.T) []string {
			return []string{startStation(t, &station{before: refusing(codes.Unavailable, "SIGNATURE_WRONG")}).address}
		},
		"beside one with another's name": func(t *testing.T) []string {
			address := startStation(t, &station{}, "127.0.0.1").address
			return []string{"localhost" + address[len("127.0.0.1"):]}
		},
		"beside all of these": func(t *testing.T) []string {
			return []string{
				deadAddress(t), silentAddress(t), startStation(t, &station{before: hang}).address,
				startStation(t, &station{before: refusing(codes.Unavailable, "TOKEN_UNAVAILABLE")}).address,
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configFor(t, append(bad(t), startStation(t, &station{}).address)...)
			cfg.AttemptTimeout = time.Minute // only a hanging one is to be found by time
			if hangs[name] {
				cfg.AttemptTimeout = slow
			}
			c := dialled(t, cfg)
			var calls sync.WaitGroup
			for range 8 {
				calls.Go(func() {
					signed, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{})
					if err != nil {
						t.Errorf("signing: %v", err)
						return
					}
					mustVerify(t, signed)
				})
			}
			calls.Wait()
		})
	}
}

// TestAServerThatIsStillConnectingIsWaitedFor: one beside it that refuses at once
// must not use up all attempts meanwhile.
func TestAServerThatIsStillConnectingIsWaitedFor(t *testing.T) {
	enough := make(chan struct{}) // of attempts, for two servers
	var asked atomic.Int64
	refusing := startStation(t, &station{before: func(context.Context, int) error {
		if asked.Add(1) == 2*rounds+1 {
			close(enough)
		}
		return refusal(codes.Unavailable, "TOKEN_UNAVAILABLE", 0)
	}})
	cfg := configFor(t, refusing.address, gated(t, startStation(t, &station{}).address, enough))
	cfg.AttemptTimeout = time.Minute
	signed, err := dialled(t, cfg).SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{})
	if err != nil {
		t.Fatalf("signing: %v", err)
	}
	mustVerify(t, signed)
}

func TestServersThatCannotSignAreNotAsked(t *testing.T) {
	broken, good := startStation(t, &station{}), startStation(t, &station{})
	broken.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	c := dialled(t, configFor(t, broken.address, good.address))
	for range 10 {
		if _, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); err != nil {
			t.Fatalf("signing: %v", err)
		}
	}
	if calls, _ := broken.counts(); calls != 0 {
		t.Errorf("got %d calls at the server that says that it cannot sign, want 0", calls)
	}
}

func TestAllServersTakeTheirTurn(t *testing.T) {
	one, two := startStation(t, &station{}, "127.0.0.1"), startStation(t, &station{}, "localhost")
	c := dialled(t, configFor(t, one.address, two.address))
	asked := func() bool {
		ones, _ := one.counts()
		twos, _ := two.counts()
		return ones > 0 && twos > 0
	}
	for !asked() {
		if _, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); err != nil {
			t.Fatalf("signing: %v", err)
		}
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	for name, servers := range map[string][]string{
		"where a server hangs":       {startStation(t, &station{before: hang}).address},
		"where servers hang":         {startStation(t, &station{before: hang}).address, startStation(t, &station{before: hang}).address},
		"where nobody answers":       {silentAddress(t)},
		"where waiting is asked for": {startStation(t, &station{before: func(context.Context, int) error { return refusal(codes.ResourceExhausted, "OVERLOADED", patience) }}).address},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialled(t, configFor(t, servers...))
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := c.SignXML(ctx, "", document(t, "invoice-1.1.xml"), Options{})
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v, with a deadline of 300ms", took)
			}
			wantError(t, err, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v is no context.DeadlineExceeded", err)
			}
		})
	}
}

func TestACallEndsWhenItIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := startStation(t, &station{before: func(ctx context.Context, signed int) error {
		cancel()
		return hang(ctx, signed)
	}})
	_, err := dialled(t, configFor(t, s.address)).SignXML(ctx, "", document(t, "invoice-1.1.xml"), Options{})
	wantError(t, err, codes.Canceled, "CANCELED", "given up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is no context.Canceled", err)
	}
}

func TestWithoutADeadlineACallStillEnds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		server   string
		code     codes.Code
		reason   string
		sentence string
	}{
		"nobody listens":    {deadAddress(t), codes.Unavailable, "", "see that the signer runs"},
		"the token is gone": {startStation(t, &station{before: func(context.Context, int) error { return refusal(codes.Unavailable, "TOKEN_UNAVAILABLE", 0) }}).address, codes.Unavailable, "TOKEN_UNAVAILABLE", "HSM"},
		"it hangs":          {startStation(t, &station{before: hang}).address, codes.DeadlineExceeded, "", "no answer from 127.0.0.1"},
		"it is too busy":    {startStation(t, &station{before: func(context.Context, int) error { return refusal(codes.ResourceExhausted, "OVERLOADED", time.Hour) }}).address, codes.ResourceExhausted, "OVERLOADED", "try again in 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configFor(t, row.server)
			cfg.AttemptTimeout = slow
			_, err := dialled(t, cfg).SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{})
			wantError(t, err, row.code, row.reason, row.sentence)
			if e := errorOf(t, err); e.Unreached() != (row.reason == "") {
				t.Errorf("got Unreached %v", e.Unreached())
			}
		})
	}
}

func TestAServerThatAsksForAMomentGetsIt(t *testing.T) {
	s := &station{}
	s.before = func(context.Context, int) error {
		if calls, _ := s.counts(); calls < 3 {
			return refusal(codes.ResourceExhausted, "OVERLOADED", time.Millisecond)
		}
		return nil
	}
	c := dialled(t, configFor(t, startStation(t, s).address))
	if _, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); err != nil {
		t.Errorf("signing: %v", err)
	}
}
