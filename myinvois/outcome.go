package myinvois

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// lostReasons is what is found wrong with a document that its submission turns out
// not to hold, where the answer that told why was lost, or did not name it.
const lostReasons = "the platform rejected it when it was submitted, and the answer with the reasons was lost; submit it again to see them"

// await waits until a submission's documents are validated, and writes down and
// tells each.
func (r *run) await(ctx context.Context) error {
	return r.Client.Await(ctx, r.batch.Taxpayer, r.batch.UID, func(status *SubmissionStatus) error {
		learned, err := r.learn(ctx, status)
		if err != nil || len(learned) == 0 && status.InProgress() {
			return err
		}
		entries, err := r.Journal.change(r.batch, func(_ *batch, e *Entry) {
			if l, known := learned[e.ID]; known {
				*e = l
			} else if e.State == Submitted && e.UUID == "" && status.whole() {
				e.State, e.SubmissionUID, e.Findings = Rejected, "", []string{lostReasons}
			}
		})
		if err != nil {
			return err
		}
		r.outcome(entries)
		if status.InProgress() {
			return nil
		}
		return r.complete(entries)
	})
}

// whole tells whether a submission is over and all that it counts is listed: what is
// not listed is not part of it.
func (s *SubmissionStatus) whole() bool {
	return !s.InProgress() && len(s.Documents) > 0 && len(s.Documents) >= int(s.Count)
}

// complete is an error if a submission that is over leaves a document without an
// outcome.
func (r *run) complete(entries []Entry) error {
	for _, e := range entries {
		if !e.State.Final() && e.Batch == r.batch.ID {
			return &Error{
				Doing:   "asking for submission " + r.batch.UID + behalf(r.batch.Taxpayer),
				Message: fmt.Sprintf("it is %s, and document %s has no outcome in it: run this again later", "over", e.Number),
			}
		}
	}
	return nil
}

// learn returns the entries that a status tells something new of.
func (r *run) learn(ctx context.Context, status *SubmissionStatus) (map[uint64]Entry, error) {
	uuids, numbers := map[string]DocumentSummary{}, map[string]DocumentSummary{}
	for _, d := range status.Documents {
		uuids[d.UUID], numbers[d.Number] = d, d
	}
	entries, err := r.Journal.members(r.batch)
	if err != nil {
		return nil, err
	}
	learned := map[uint64]Entry{}
	for _, e := range entries {
		if e.Batch != r.batch.ID || e.State.Final() {
			r.outcome([]Entry{e})
			continue
		}
		d, listed := uuids[e.UUID]
		if !listed || e.UUID == "" {
			d, listed = numbers[e.Number]
		}
		if !listed {
			continue
		}
		changed, err := r.Client.judge(ctx, e, d)
		if err != nil {
			return nil, err
		}
		if changed.State != e.State || changed.UUID != e.UUID {
			learned[e.ID] = changed
		}
	}
	return learned, nil
}

// judge returns an entry with what the platform tells of it. What is wrong with an
// invalid document is asked for; where that is not told, the entry says so.
func (c *Client) judge(ctx context.Context, e Entry, d DocumentSummary) (Entry, error) {
	e.UUID, e.LongID, e.SubmissionUID = d.UUID, d.LongID, d.SubmissionUID
	switch {
	case strings.EqualFold(d.Status, StatusValid):
		e.State, e.Findings = Valid, nil
	case strings.EqualFold(d.Status, StatusCancelled):
		e.State = Cancelled
	case strings.EqualFold(d.Status, StatusInvalid):
		e.State = Invalid
		details, err := c.Details(ctx, e.Taxpayer, d.UUID)
		failed, ours := errors.AsType[*Error](err)
		switch {
		case err == nil:
			e.Findings = details.Findings()
		case !ours || ctx.Err() != nil || failed.Status == http.StatusUnauthorized:
			return e, err
		default:
			e.Findings = []string{"what is wrong was not told: " + err.Error()}
		}
		if len(e.Findings) == 0 {
			e.Findings = []string{"the platform does not say what is wrong: look at it in the portal"}
		}
	}
	return e, nil
}

// Refresh asks what became of a document that was validated: it may have been
// cancelled since. It returns the entry as it is now, written down.
func (c *Courier) Refresh(ctx context.Context, e Entry) (Entry, error) {
	if e.UUID == "" {
		return e, nil
	}
	details, err := c.Client.Details(ctx, e.Taxpayer, e.UUID)
	if err != nil {
		return e, err
	}
	changed, err := c.Client.judge(ctx, e, details.DocumentSummary)
	if found := details.Findings(); changed.State == Invalid && len(found) > 0 {
		changed.Findings = found
	}
	if err != nil || changed.State == e.State && slices.Equal(changed.Findings, e.Findings) {
		return e, err
	}
	return changed, c.Journal.put(changed)
}
