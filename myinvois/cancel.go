package myinvois

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Cancel cancels a document that the taxpayer issued, within 72 hours of its
// validation. The reason has at most 300 characters. That it is cancelled already
// is no error.
func (c *Client) Cancel(ctx context.Context, taxpayer, uuid, reason string) (*StateAnswer, error) {
	return c.change(ctx, taxpayer, uuid, reason, stateChange{
		at: cancelling, status: "cancelled",
		granted: func(status string) bool { return strings.EqualFold(status, StatusCancelled) },
		done:    func(d *DocumentDetails) bool { return strings.EqualFold(d.Status, StatusCancelled) },
	})
}

// Reject asks the issuer to cancel a document that the taxpayer received, within
// 72 hours of its validation. That it was asked already is no error.
func (c *Client) Reject(ctx context.Context, taxpayer, uuid, reason string) (*StateAnswer, error) {
	return c.change(ctx, taxpayer, uuid, reason, stateChange{
		at: rejecting, status: "rejected",
		granted: func(status string) bool { return status != "" },
		done:    func(d *DocumentDetails) bool { return !d.RejectRequested.IsZero() },
	})
}

// stateChange is what a document's state is changed to.
type stateChange struct {
	at     endpoint
	status string
	// granted tells whether an answer's status says that it was done, done whether
	// the document does.
	granted func(status string) bool
	done    func(*DocumentDetails) bool
}

// change changes a document's state. If no answer comes, or one that it is in
// another state, it looks whether that was done.
func (c *Client) change(ctx context.Context, taxpayer, uuid, reason string, to stateChange) (*StateAnswer, error) {
	doing := "having document " + uuid + " " + to.status + behalf(taxpayer)
	if n := utf8.RuneCountInString(strings.TrimSpace(reason)); n < 1 || n > MaxReason {
		return nil, &Error{Doing: doing, Message: fmt.Sprintf("the reason has %d characters; it takes 1 to %d", n, MaxReason), unsent: true}
	}
	body, err := json.Marshal(StateRequest{to.status, reason})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	r := request{doing: doing, at: to.at, method: http.MethodPut, url: c.at(PathState, "uuid", uuid, nil), body: body}
	for n := 1; ; n++ {
		got, err := c.authorized(ctx, taxpayer, r, c.once)
		if err == nil {
			var said *StateAnswer
			if said, err = to.read(doing, got); err == nil {
				return said, nil
			}
		}
		failed, ours := errors.AsType[*Error](err)
		again := ours && !failed.unsent && n < attempts && (failed.passing() || errors.Is(err, errUnreadable))
		if !again && !errors.Is(err, IncorrectState) || ctx.Err() != nil {
			return nil, err
		}
		if again && failed.Status == http.StatusTooManyRequests {
			continue
		}
		if (again || n > 1) && wait(ctx, pause(n)) != nil { // what was just done may not show at once
			return nil, err
		}
		if now, asked := c.Details(ctx, taxpayer, uuid); asked == nil && to.done(now) {
			return &StateAnswer{UUID: uuid, Status: now.Status}, nil
		}
		if !again {
			return nil, err
		}
	}
}

// read reads an answer of a status below 300, which may hold an error all the same.
func (to stateChange) read(doing string, got *answer) (*StateAnswer, error) {
	var said StateAnswer
	if err := decode(doing, got, &said); err != nil {
		return nil, err
	}
	failed := &Error{Doing: doing, Status: got.status, CorrelationID: correlation(got.header)}
	switch {
	case said.Error != nil:
		failed.Code, failed.Message, failed.Details = clipped(said.Error.Code, 100), clipped(said.Error.Message, 1000), said.Error.Details
	case !to.granted(said.Status):
		failed.Message, failed.cause = fmt.Sprintf("the answer says that the document is %q", clipped(said.Status, 100)), errUnreadable
	default:
		return &said, nil
	}
	return nil, failed
}
