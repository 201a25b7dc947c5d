package client

import (
	"context"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

// request is what leaves the process for one document.
func (it *item) request() *roamsignv1.SignDigestRequest {
	doc, props := it.draft.DocDigest(), it.draft.PropsDigest()
	return &roamsignv1.SignDigestRequest{
		Tin:                    it.tin,
		DocumentDigest:         doc[:],
		CertificateSha256:      it.built.fingerprint[:],
		RequestId:              it.id,
		SignedPropertiesDigest: props[:],
		DocumentNumber:         it.draft.Facts().Number,
	}
}

// signDigest settles each item with a call of its own.
func (c *Client) signDigest(ctx context.Context, items []*item) {
	for _, it := range items {
		var answer *roamsignv1.SignDigestResponse
		var at peer.Peer
		ctx, span := c.traced.begin(ctx, "roamsign.SignDigest", it)
		err := c.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
			answer, err = c.signer.SignDigest(ctx, it.request(), append(opts, grpc.Peer(&at))...)
			return err
		})
		ended(span, err)
		if err != nil {
			it.fail(err)
			continue
		}
		it.complete(answer.GetSignature(), answer.GetLogIndex(), serverOf(at))
	}
}

// signDigests settles the items with as few calls as it takes. Those that a
// server could not sign just then go to the next one with the next attempt, as
// if the call had failed; those that it refused are settled. It goes on for as
// long as that gets it further.
func (c *Client) signDigests(ctx context.Context, items []*item) {
	for open := unsettled(items); len(open) > 0; {
		ctx, span := c.traced.begin(ctx, "roamsign.SignDigests", open...)
		err := c.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) error {
			return c.signBatch(ctx, unsettled(open), opts)
		})
		ended(span, err)
		left := unsettled(open)
		if err != nil && (len(left) == len(open) || ctx.Err() != nil) {
			failAll(left, err)
			return
		}
		open = left
	}
}

// signBatch makes one attempt at one call.
func (c *Client) signBatch(ctx context.Context, items []*item, opts []grpc.CallOption) error {
	request := &roamsignv1.SignDigestsRequest{Items: make([]*roamsignv1.SignDigestRequest, len(items))}
	for i, it := range items {
		request.Items[i] = it.request()
	}
	var at peer.Peer
	answer, err := c.signer.SignDigests(ctx, request, append(opts, grpc.Peer(&at))...)
	if err != nil {
		return err
	}
	return settle(items, answer.GetResults(), serverOf(at))
}

// settle hands out a server's results. Items that are worth another attempt stay open,
// and the first one's error is returned.
func settle(items []*item, results []*roamsignv1.SignDigestsResult, server string) error {
	if len(results) != len(items) {
		return wrong("the signer answered %d documents with %d results", len(items), len(results))
	}
	var again error
	for i, it := range items {
		failed := results[i].GetError()
		if failed == nil {
			it.complete(results[i].GetSignature(), results[i].GetLogIndex(), server)
			continue
		}
		e := itemError(failed, server)
		if e.Code == codes.OK {
			e = wrong("the signer's answer for one document is an error without a code")
		}
		if !e.transient() && !e.postponed() {
			it.fail(e)
		} else if again == nil {
			again = e
		}
	}
	return again
}
