package myinvois

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The answer to a submission is lost when the line breaks, or this process ends,
// between the platform's taking it and our writing that down. The platform lists
// what it took among the recent documents, by number: that is where it is found
// again. Documents that it rejected at the door are not listed.

// find looks for a submission whose answer was lost. It returns nothing, and no
// error, if it was surely not taken, or so long ago that it would be listed. One
// that was taken for sure, and is not listed when it must be, was rejected.
func (r *run) find(ctx context.Context) ([]Entry, error) {
	for n := 1; ; n++ {
		uid, err := r.look(ctx, r.batch.FirstSent)
		if err != nil {
			return nil, err
		}
		if uid != "" {
			return r.Journal.found(r.batch, uid)
		}
		switch {
		case !r.batch.Taken:
			return nil, nil
		case n == looks && r.Client.clock.now().Sub(r.batch.LastSent) > listedBy:
			return r.Journal.lost(r.batch)
		case n == looks:
			return nil, &Error{
				Doing:   "looking for a submission" + behalf(r.batch.Taxpayer),
				Message: fmt.Sprintf("the platform took it at %s, its answer was lost, and it does not list it: run this again later", r.batch.LastSent.Format(time.RFC3339)),
			}
		}
		if err := r.pause(ctx, lookPause); err != nil {
			return nil, err
		}
	}
}

// recognized looks for a submission that the platform says it took within the last
// ten minutes. It returns nothing, and no error, if it is still not listed when
// they are over: then all of its documents were rejected.
func (r *run) recognized(ctx context.Context, said *Error) ([]Entry, error) {
	r.note("the platform has taken a submission of %d documents before: looking for it", len(r.batch.Documents))
	from := r.Client.clock.now().Add(-protection)
	if r.batch.FirstSent.Before(from) {
		from = r.batch.FirstSent
	}
	over := time.Now().Add(min(cmp.Or(said.RetryAfter, maxPatience), maxPatience))
	for next := lookPause; ; next = min(2*next, time.Minute) {
		uid, err := r.look(ctx, from)
		if err != nil {
			return nil, err
		}
		if uid != "" {
			return r.Journal.found(r.batch, uid)
		}
		if !time.Now().Before(over) {
			return nil, nil
		}
		if err := r.pause(ctx, min(next, max(time.Until(over), time.Millisecond))); err != nil {
			return nil, err
		}
	}
}

// pause lets time pass between two looks.
func (r *run) pause(ctx context.Context, d time.Duration) error {
	if err := wait(ctx, d); err != nil {
		return &Error{Doing: "looking for a submission" + behalf(r.batch.Taxpayer), Message: "given up", cause: err}
	}
	return nil
}

// sought is a submission that the platform lists.
type sought struct {
	uid       string
	documents int
	foreign   bool
	received  time.Time
}

// look looks once, among the documents submitted since a time, for the submission
// that holds the batch's ([run.ours]) and that the journal knows of no other batch. Of
// several the one with the most documents, of these the first, is it.
func (r *run) look(ctx context.Context, since time.Time) (uid string, err error) {
	_, entries, err := r.Journal.payload(r.batch)
	if err != nil {
		return "", err
	}
	if _, err := r.Client.Login(ctx, r.batch.Taxpayer); err != nil { // so that the platform's time is known
		return "", err
	}
	now := r.Client.clock.now()
	to := r.batch.LastSent.Add(r.Client.timeout + skew)
	if since.After(now) { // the clock was set back, nobody knows by how much
		since, to = now.Add(-setBack), now.Add(skew)
	}
	if latest := now.Add(skew); to.After(latest) {
		to = latest
	}
	from := since.Add(-skew)
	if oldest := now.Add(-listing); from.Before(oldest) {
		from = oldest
	}
	listed, err := r.Client.Recent(ctx, r.batch.Taxpayer, from, to)
	if err != nil {
		return "", err
	}
	for _, s := range candidates(entries, listed, from) {
		known, err := r.Journal.known(s.uid, r.batch)
		if err != nil {
			return "", err
		}
		if known {
			continue
		}
		ours, err := r.ours(ctx, s.uid, entries)
		if err != nil {
			return "", err
		}
		if ours {
			return s.uid, nil
		}
	}
	return "", nil
}

// candidates are the submissions among listed documents that hold nothing but
// documents of entries, the likeliest first. Those of others to the taxpayer are
// listed, too.
func candidates(entries []Entry, listed []DocumentSummary, from time.Time) []*sought {
	ours := byNumber(entries)
	all := map[string]*sought{}
	for _, d := range listed {
		s := all[d.SubmissionUID]
		if s == nil {
			s = &sought{uid: d.SubmissionUID, received: d.Received.Time}
			all[d.SubmissionUID] = s
		}
		s.documents++
		e, known := ours[d.Number]
		s.foreign = s.foreign || !known || !d.Received.IsZero() && d.Received.Before(from) || d.SubmissionUID == "" || another(e, d)
	}
	found := slices.DeleteFunc(slices.Collect(maps.Values(all)), func(s *sought) bool { return s.foreign })
	slices.SortFunc(found, func(a, b *sought) int {
		return cmp.Or(cmp.Compare(b.documents, a.documents), a.received.Compare(b.received), cmp.Compare(a.uid, b.uid))
	})
	return found
}
