package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// The token in front of which fairness is judged, and what a flood is.
const (
	fairSessions  = 4
	fairSignature = 5 * time.Millisecond
	fairFlood     = 1000 // in flight
	fairConns     = 8    // that it comes over
)

const fairRules = `
taxpayers: [{tin: C20880050010}]
callers:
  - {name: spiffe://dev.roamsign.test/client, taxpayers: [], methods: [GetCertificate]}
  - {name: till.example.com, taxpayers: all, methods: [SignDigest]}
  - {name: light.example.com, taxpayers: all, methods: [SignDigest, SignDigests], limits: {weight: 1}}
  - {name: heavy.example.com, taxpayers: all, methods: [SignDigest, SignDigests], limits: {weight: 3}}
`

// fairness is what a caller has of a token beside others: judged in front of a
// stand-in, whose time is its own, and shown in front of SoftHSM, which burns the
// processors that it is measured on.
func (s *stage) fairness() []row {
	own := s.employ(orders{Role: "standin", Sessions: fairSessions, Delay: fairSignature, Forget: true, Rules: fairRules}).learn()
	single, flood, batches := own.besideAFlood(""), own.shares("shares", own.flooding), own.shares("batches", own.batching)
	own.end()
	met := single.Value <= 2*single.Baseline+milliseconds(fairSignature)
	single.Goal, single.Met = fmt.Sprintf("≤ 2 × alone + %g ms", milliseconds(fairSignature)), &met

	soft := s.employ(orders{Role: "signer", Sessions: fairSessions, Rules: fairRules}).learn()
	rows := []row{single, flood, batches, soft.besideAFlood("/softhsm"), soft.shares("shares/softhsm", soft.flooding)}
	soft.end()
	for i := range rows[:3] {
		rows[i].Note += fmt.Sprintf("; %d sessions of %v", fairSessions, fairSignature)
	}
	for i := range rows[3:] {
		rows[3+i].Note += "; SoftHSM, not judged"
	}
	return rows
}

// besideAFlood is the p99 of one caller's single signatures while another has a
// thousand in flight, beside its p99 alone: the medians of the rounds.
func (v *server) besideAFlood(suffix string) row {
	till := v.as("till.example.com", 1)[0]
	var alone, beside, ratios []float64
	var all series // beside the flood
	for range v.stage.pace.few {
		_, _, before := series{rounds: []round{v.singly(till)}}.quantiles()
		stop := v.flooding("light.example.com", &atomic.Int64{})
		during := v.singly(till)
		stop()
		_, _, p99 := series{rounds: []round{during}}.quantiles()
		alone, beside, ratios = append(alone, before), append(beside, p99), append(ratios, p99/before)
		all.rounds = append(all.rounds, during)
	}
	r := row{
		Name: "fairness/p99" + suffix, Value: median(beside), Unit: "ms", Baseline: median(alone), Ratio: median(ratios),
		Of: "p99 alone", Better: lower, Note: fmt.Sprintf("single signatures beside %d in flight", fairFlood),
	}
	r.P50, r.P95, r.P99 = all.quantiles()
	return r
}

// singly has single signatures made, one after another.
func (v *server) singly(client roamsignv1.SignerServiceClient) round {
	r := round{signatures: v.stage.pace.singles}
	for range r.signatures {
		began := time.Now()
		_, err := client.SignDigest(v.stage.b.Context(), v.request())
		v.stage.check(err)
		r.waits = append(r.waits, time.Since(began))
	}
	return r
}

// shares is how far two callers of weight 1 and 3, who both flood, are from a
// quarter and three quarters of the signatures, in points.
func (v *server) shares(name string, flood func(caller string, made *atomic.Int64) (stop func())) row {
	var light, heavy atomic.Int64
	stopLight := flood("light.example.com", &light)
	stopHeavy := flood("heavy.example.com", &heavy)
	v.stage.await("both floods", func() bool { return min(light.Load(), heavy.Load()) > fairFlood/10 })
	began, l, h := time.Now(), light.Load(), heavy.Load()
	v.pause(max(5*v.stage.pace.span, 1500*time.Millisecond))
	l, h = light.Load()-l, heavy.Load()-h
	speed := float64(l+h) / time.Since(began).Seconds()
	stopLight()
	stopHeavy()
	share := 100 * float64(l) / float64(l+h)
	return row{
		Name: "fairness/" + name, Value: math.Abs(share - 25), Unit: "points", Baseline: 25, Ratio: share / 25, Of: "% of weight 1 beside 3", Better: lower,
		Note: fmt.Sprintf("got %.1f%% and %.1f%%, %.0f signatures/s", share, 100-share, speed),
	}
}

// flooding keeps a thousand of a caller's signatures in flight, over connections
// of their own, and counts those made. It returns once some are.
func (v *server) flooding(caller string, made *atomic.Int64) (stop func()) {
	var asking []func(context.Context) (int, error)
	for _, client := range v.as(caller, fairConns) {
		for range fairFlood / fairConns {
			asking = append(asking, func(ctx context.Context) (int, error) {
				_, err := client.SignDigest(ctx, v.request())
				return 1, err
			})
		}
	}
	return v.keep(asking, made)
}

// batching keeps three small batches of a caller's in flight: a batch counts as a
// whole, when it is done.
func (v *server) batching(caller string, made *atomic.Int64) (stop func()) {
	client := v.as(caller, 1)[0]
	batch := func(ctx context.Context) (int, error) {
		in := &roamsignv1.SignDigestsRequest{}
		for range 20 {
			in.Items = append(in.Items, v.request())
		}
		_, err := client.SignDigests(ctx, in)
		return len(in.GetItems()), err
	}
	return v.keep(slices.Repeat([]func(context.Context) (int, error){batch}, 3), made)
}

// keep has each ask again and again, until stop. Who is refused, as it may be
// where the token is slow for so many, comes back a little later.
func (v *server) keep(asking []func(context.Context) (int, error), made *atomic.Int64) (stop func()) {
	ctx, cancel := context.WithCancel(v.stage.b.Context())
	var all sync.WaitGroup
	for _, ask := range asking {
		all.Go(func() {
			for ctx.Err() == nil {
				switch n, err := ask(ctx); {
				case err == nil:
					made.Add(int64(n))
				case ctx.Err() != nil:
					return
				case status.Code(err) == codes.ResourceExhausted:
					v.pause(100 * time.Millisecond)
				default:
					v.stage.b.Errorf("in a flood: %v", err)
					return
				}
			}
		})
	}
	v.stage.await("a flood", func() bool { return made.Load() > 0 })
	return func() { cancel(); all.Wait() }
}

func (v *server) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-v.stage.b.Context().Done():
	}
}

// as returns clients of that name, each over a connection of its own.
func (v *server) as(name string, count int) (clients []roamsignv1.SignerServiceClient) {
	s := v.stage
	register, err := ca.OpenRegister(filepath.Join(s.dir, "clients"))
	s.check(err)
	now := time.Now()
	pair, err := register.Client(name, register.Within(ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}))
	s.check(err)
	own := tls.Certificate{Certificate: [][]byte{pair.Certificate.Raw}, PrivateKey: pair.Key, Leaf: pair.Certificate}
	for range count {
		clients = append(clients, v.dial(own))
	}
	return clients
}
