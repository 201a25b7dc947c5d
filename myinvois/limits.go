package myinvois

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// endpoint is what the platform counts requests to, by client ID.
type endpoint string

const (
	loginTaxpayer     endpoint = "login as a taxpayer"
	loginIntermediary endpoint = "login as an intermediary"
	submit            endpoint = "submit"
	submission        endpoint = "submission"
	cancelling        endpoint = "cancel"
	rejecting         endpoint = "reject"
	raw               endpoint = "raw document"
	details           endpoint = "details"
	recent            endpoint = "recent documents"
	validateTIN       endpoint = "validate a TIN"
)

// perMinute are the published limits (SDK, integration practices).
var perMinute = map[endpoint]float64{
	loginTaxpayer: 12, loginIntermediary: 12, submit: 100, submission: 300, cancelling: 12, rejecting: 12,
	raw: 60, details: 125, recent: 12, validateTIN: 60,
}

// Bounds of what a 429 may ask for.
const (
	untold      = time.Minute      // where it does not say
	maxPatience = 10 * time.Minute // more is an error at once
)

// gates are the limiters of a client, by client ID and endpoint.
type gates struct {
	share float64
	turns *turns // where logins are counted with those of other processes; may be nil

	mu  sync.Mutex
	all map[gateKey]*gate
}

type gateKey struct {
	client string
	at     endpoint
}

func newGates(share float64) *gates { return &gates{share: share, all: map[gateKey]*gate{}} }

func (g *gates) of(client string, at endpoint) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := gateKey{client, at}
	one, known := g.all[key]
	if !known {
		one = &gate{limiter: rate.NewLimiter(0, 1), first: make(chan struct{}, 1), key: key}
		if at == loginTaxpayer || at == loginIntermediary {
			one.turns = g.turns
		}
		one.allow(perMinute[at] * g.share)
		g.all[key] = one
	}
	return one
}

// gate holds requests of one client ID to one endpoint to their number a minute.
type gate struct {
	limiter *rate.Limiter
	first   chan struct{} // full while somebody waits for a turn
	key     gateKey
	turns   *turns // may be nil

	mu     sync.Mutex
	limit  float64   // a minute
	closed time.Time // nobody passes before
}

// allow sets how many may pass in a minute. A bucket that holds b and gains r a
// minute lets b+r through in the worst minute: the limit, not twice that.
func (g *gate) allow(limit float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := max(1, int(limit/12)+1)
	g.limit = limit
	g.limiter.SetBurst(held)
	g.limiter.SetLimit(rate.Limit(max(limit-float64(held), limit/2) / time.Minute.Seconds()))
}

// pass waits for a turn. The error is the context's, or [errUncounted]. One at a
// time waits for its own, so that what a 429 says holds for all who queue behind it.
func (g *gate) pass(ctx context.Context) error {
	select {
	case g.first <- struct{}{}:
		defer func() { <-g.first }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		if err := wait(ctx, g.left()); err != nil {
			return err
		}
		turn := g.limiter.Reserve()
		if err := wait(ctx, turn.Delay()); err != nil {
			turn.Cancel()
			return err
		}
		if g.left() <= 0 {
			return g.share(ctx)
		}
	}
}

// share waits for a turn among all processes that share the journal.
func (g *gate) share(ctx context.Context) error {
	for told := false; g.turns != nil; {
		left, err := g.turns.take(g.key, g.most())
		if err != nil || left == 0 {
			return err
		}
		if !told && g.turns.note != nil && left > time.Second {
			told = true
			g.turns.note(fmt.Sprintf("waiting %s to log in: there may be %d logins a minute with client ID %s, of all runs together; a run of many files logs in once",
				left.Round(time.Second), g.most(), g.key.client))
		}
		if err := wait(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// most is how many may pass in a minute.
func (g *gate) most() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(1, int(g.limit))
}

// left is how long the gate stays closed.
func (g *gate) left() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Until(g.closed)
}

// heed takes up what a 429 says, for everybody: nobody passes before it allows,
// and no more pass a minute than it tells.
func (g *gate) heed(header http.Header, after time.Duration) {
	g.mu.Lock()
	if until := time.Now().Add(after); until.After(g.closed) {
		g.closed = until
	}
	limit := g.limit
	g.mu.Unlock()
	if g.turns != nil {
		_ = g.turns.close(g.key, after) // what is wrong with the file, the next turn tells
	}
	if told, err := strconv.Atoi(header.Get("X-Rate-Limit-Limit")); err == nil && told >= 1 && float64(told) < limit {
		g.allow(float64(told))
	}
}

// retryAfter reads when to try again from an answer's headers: Retry-After in
// seconds or as a date, else X-Rate-Limit-Reset.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds >= 0 && seconds < 1e6 {
		return time.Duration(seconds * float64(time.Second))
	}
	for _, at := range []string{text, header.Get("X-Rate-Limit-Reset")} {
		if when, err := http.ParseTime(at); err == nil {
			return max(0, when.Sub(now))
		}
		if when, err := time.Parse(time.RFC3339, at); err == nil {
			return max(0, when.Sub(now))
		}
	}
	return 0
}

// wait lets time pass, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
