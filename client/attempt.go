package client

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

// rounds is how often a call goes through the list of servers before it gives
// up, where its context lets it. Where it was at some servers and not at others,
// which may still be connecting, it goes on for as long as an attempt may take.
const rounds = 2

// pause is the longest wait before the second round, doubled; it doubles again
// with each more.
const pause = 100 * time.Millisecond

// call makes one RPC until a server answers for good: each attempt has its own
// deadline, and one that times out or finds its server unavailable is followed
// by another elsewhere. Every method of the service is safe to repeat. It
// returns within ctx, whatever the servers do; the error is nil or an [*Error].
func (c *Client) call(ctx context.Context, rpc func(context.Context, ...grpc.CallOption) error) error {
	var last *Error
	var been []string // servers
	began, enough := time.Now(), max(rounds*len(c.servers.all), rounds+1)
	for n := 0; n < enough || 0 < len(been) && len(been) < len(c.servers.all) && time.Since(began) < c.timeout; n++ {
		if n > 0 {
			if err := c.wait(ctx, n, last); err != nil {
				return err
			}
		}
		failed := c.attempt(ctx, n, rpc)
		switch {
		case failed == nil:
			return nil
		case ctx.Err() != nil:
			return over(ctx, cmp.Or(last, failed))
		case !failed.postponed() && !failed.transient():
			return failed
		}
		if failed.server != "" && !slices.Contains(been, failed.server) {
			been = append(been, failed.server)
		}
		if last == nil || !failed.Unreached() || last.Unreached() { // what a server said tells more than that one is silent
			last = failed
		}
	}
	return last
}

// attempt makes attempt n, at one server. It leaves those that were not tried yet
// their share of the time that is left, and another try in the end half of it. A
// server that times out, or cannot do it just then, is left out for a while.
func (c *Client) attempt(ctx context.Context, n int, rpc func(context.Context, ...grpc.CallOption) error) *Error {
	began := time.Now()
	c.servers.readmit(began)
	limit := c.timeout
	if deadline, ok := ctx.Deadline(); ok && len(c.servers.all) > 1 {
		limit = min(limit, deadline.Sub(began)/time.Duration(max(2, len(c.servers.all)-n)))
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var at peer.Peer
	err := rpc(limited, grpc.Peer(&at))
	if err == nil {
		c.servers.answered(serverOf(at))
		return nil
	}
	failed := answered(err)
	failed.server = serverOf(at)
	if failed.transient() && ctx.Err() == nil {
		c.servers.failed(failed.server, began, time.Now())
	}
	if failed.Code == codes.DeadlineExceeded && failed.Reason == "" {
		failed.Message = fmt.Sprintf("no answer from %s within %s", cmp.Or(failed.server, "any server"), limit.Round(time.Millisecond))
	}
	return failed
}

// serverOf returns the server that an RPC was at, as configured; empty if it
// came to none.
func serverOf(at peer.Peer) string {
	if at.Addr == nil {
		return ""
	}
	return at.Addr.String()
}

// wait holds back attempt n: not at all while there are servers left to try
// that may be better off, then a random while, but as long as the signer asks.
func (c *Client) wait(ctx context.Context, n int, last *Error) error {
	round := n / len(c.servers.all)
	if round == 0 && !last.postponed() {
		return nil
	}
	hold := rand.N(pause << min(round, 4))
	if last.RetryAfter <= patience {
		hold = max(hold, last.RetryAfter)
	}
	timer := time.NewTimer(hold)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return over(ctx, last)
	}
}
