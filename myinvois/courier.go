package myinvois

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// protection is how long after a payload was sent it is safe to send it again
// because the platform would recognize it: its ten minutes, less what clocks and
// slow lines may differ by.
const protection = 9 * time.Minute

// Bounds of looking for a submission whose answer was lost.
const (
	skew      = 5 * time.Minute             // that the platform's clock may differ
	setBack   = 24 * time.Hour              // that this machine's clock may have been set back
	lookPause = 5 * time.Second             // between two looks; there may be 12 a minute
	listing   = 31*24*time.Hour - time.Hour // how far back the platform lists
	looks     = 6                           // until a document that was taken, and is not listed, is left for a later run
	listedBy  = 15 * time.Minute            // until what was taken, and is not listed, was not accepted
)

// errUnprotected is the error of a submission that would be sent again when the
// platform may not recognize it any more.
var errUnprotected = errors.New("it has to be looked for first")

// atOnce is how many submissions are under way at once.
const atOnce = 8

// Courier brings documents from the journal to the platform, and the outcome back.
// It may be interrupted at any point, by the end of the process too: another run
// goes on where it was. It is safe for one caller at a time.
type Courier struct {
	Client  *Client
	Journal *Journal
	// Seen is told each document whose outcome is known, with a nil error, and
	// each that got none, with the reason why; one call at a time. Its error
	// is Deliver's.
	Seen func(Entry, error) error
	// Note is told, in a sentence, why something takes long; never while Seen
	// is. It may be nil.
	Note func(string)
	// Same tells whether a document that the platform shows is one that was sent,
	// although their bytes differ: it may have written it anew. Nil: it is not.
	Same func(sent, shown []byte) bool

	mu sync.Mutex // held while Seen or Note is called
}

// Deliver submits the documents that are not sent yet, finds out what became of
// those whose answer was lost, and waits until all are validated. The entries are
// told to Seen, together with others that are part of the same submissions. The
// error is the context's, the journal's or that of Seen.
func (c *Courier) Deliver(ctx context.Context, ids []uint64) error {
	batches, unfit, err := c.batches(ids)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &round{Courier: c, cancel: cancel, places: make(chan struct{}, atOnce), runs: map[uint64]*run{}}
	for _, e := range unfit {
		d.tell([]Entry{e}, damaged(e))
	}
	runs := make([]*run, len(batches))
	for i, b := range batches {
		runs[i] = d.add(b, &splits{left: maxSplits})
	}
	for _, r := range runs {
		if d.enter(ctx) != nil {
			break
		}
		d.running.Go(func() { r.work(ctx) })
	}
	d.running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// round is one Deliver.
type round struct {
	*Courier
	cancel  context.CancelCauseFunc
	running sync.WaitGroup
	places  chan struct{} // one for each submission under way

	within sync.Mutex // held for runs
	runs   map[uint64]*run
}

// add makes the run of a batch, which is not started yet.
func (d *round) add(b *batch, s *splits) *run {
	r := &run{round: d, batch: b, splits: s, told: map[uint64]bool{}, answered: make(chan struct{})}
	d.within.Lock()
	defer d.within.Unlock()
	d.runs[b.ID] = r
	return r
}

// of returns the run of a batch, or nil.
func (d *round) of(id uint64) *run {
	d.within.Lock()
	defer d.within.Unlock()
	return d.runs[id]
}

// enter takes a place.
func (d *round) enter(ctx context.Context) error {
	select {
	case d.places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		<-d.places
		return err
	}
	return nil
}

func (d *round) tell(entries []Entry, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		if err := d.Seen(e, why); err != nil {
			d.cancel(err)
		}
	}
}

// batches returns the submissions that documents are part of, new ones for those
// that are not sent yet, and those that cannot be sent since they are damaged.
func (c *Courier) batches(ids []uint64) (batches []*batch, unfit []Entry, err error) {
	var unsent []Entry
	var open []uint64
	for _, id := range ids {
		e, err := c.Journal.Entry(id)
		switch {
		case err != nil:
			return nil, nil, err
		case e.State == Signed:
			unsent = append(unsent, e)
		case !e.State.Final() && !slices.Contains(open, e.Batch):
			open = append(open, e.Batch)
		}
	}
	for _, id := range open { // first: what protects them passes
		b, err := c.Journal.batch(id)
		if err != nil {
			return nil, nil, err
		}
		batches = append(batches, b)
	}
	fresh, unfit, err := c.Journal.gather(unsent)
	return append(batches, fresh...), unfit, err
}

func (c *Courier) note(format string, args ...any) {
	if c.Note != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.Note(fmt.Sprintf(format, args...))
	}
}

// run is one submission on its way.
type run struct {
	*round
	batch    *batch
	splits   *splits
	told     map[uint64]bool // the entries that were
	answered chan struct{}   // closed when the sending has come to an end
}

// work brings a submission as far as it gets, in its place, and leaves that.
func (r *run) work(ctx context.Context) {
	defer func() { <-r.places }()
	err := r.deliver(ctx)
	if err == nil {
		return
	}
	_, ours := errors.AsType[*Error](err)
	_, damaged := errors.AsType[*damage](err)
	if !ours && !damaged {
		r.cancel(err) // the journal's: nothing can be kept safe without it
	}
	r.leave(err)
}

// deliver brings a submission as far as it gets.
func (r *run) deliver(ctx context.Context) error {
	if r.batch.UID == "" {
		entries, err := r.send(ctx)
		if halves, refused := errors.AsType[*parted](err); refused {
			r.start(ctx, halves.batches)
			entries, err = nil, nil
		}
		close(r.answered)
		if err != nil {
			return err
		}
		r.outcome(entries)
	}
	if r.batch.UID != "" {
		return r.await(ctx)
	}
	entries, err := r.Journal.members(r.batch) // all were rejected, or are part of others
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Batch == r.batch.ID && !e.State.Final() {
			return &Error{Doing: "submitting" + behalf(r.batch.Taxpayer), Message: fmt.Sprintf("document %s has no outcome: run this again later", e.Number)}
		}
	}
	return nil
}

// outcome tells the entries that have come to their end.
func (r *run) outcome(entries []Entry) {
	for _, e := range entries {
		if e.State.Final() && e.Batch == r.batch.ID && !r.told[e.ID] {
			r.told[e.ID] = true
			r.tell([]Entry{e}, nil)
		}
	}
}

// leave tells the entries that got no outcome, and why.
func (r *run) leave(why error) {
	for _, id := range r.batch.Documents {
		e, err := r.Journal.Entry(id)
		if r.told[id] || err == nil && e.Batch != r.batch.ID && e.Batch != 0 {
			continue
		}
		r.told[id] = true
		if err != nil {
			e = Entry{ID: id, Taxpayer: r.batch.Taxpayer}
		}
		r.tell([]Entry{e}, why)
	}
}

// send sends a submission until there is an answer: the same bytes each time.
// While the platform would recognize them, it is simply sent again; otherwise it
// is looked for first. One that was taken is not sent again.
func (r *run) send(ctx context.Context) ([]Entry, error) {
	for n := 1; ; n++ {
		if err := r.claim(ctx); err != nil {
			return nil, err
		}
		since := r.batch.FirstSent // that it may have been taken
		if r.batch.Taken || r.batch.unprotected(r.Client.clock.now()) {
			found, err := r.away(func() ([]Entry, error) { return r.find(ctx) })
			if err != nil || found != nil {
				return found, err
			}
			since = r.batch.mayArrive(r.Client.clock.now())
		}
		entries, err := r.transmit(ctx, since)
		if err == nil {
			return entries, nil
		}
		if _, waits := errors.AsType[*held](err); waits || errors.Is(err, errUnprotected) {
			n--
			continue
		}
		failed, ours := errors.AsType[*Error](err)
		switch {
		case !ours:
			return nil, err
		case failed.Status >= 200 && failed.Status < 300:
			if err := r.Journal.taken(r.batch); err != nil {
				return nil, err
			}
			r.note("the answer to a submission of %d documents was lost: looking for it", len(r.batch.Documents))
			continue
		case failed.Status == http.StatusUnprocessableEntity && (failed.Code == "" || errors.Is(failed, DuplicateSubmission)):
			entries, err := r.away(func() ([]Entry, error) { return r.recognized(ctx, failed) })
			switch {
			case err != nil || entries != nil:
				return entries, err
			case n >= attempts:
				return nil, failed
			}
			continue
		case failed.Refused():
			return nil, r.refused(failed, since)
		case n >= attempts || ctx.Err() != nil:
			return nil, err
		}
		r.note("%v; sending the same bytes again", err)
		if _, err := r.away(func() ([]Entry, error) {
			return nil, wait(ctx, max(min(failed.RetryAfter, maxPatience), pause(n)))
		}); err != nil {
			return nil, &Error{Doing: "submitting" + behalf(r.batch.Taxpayer), Message: "given up", cause: err}
		}
	}
}

// transmit sends a submission that may have been taken since a time, and writes down
// the answer.
func (r *run) transmit(ctx context.Context, since time.Time) ([]Entry, error) {
	payload, entries, err := r.Journal.payload(r.batch)
	if err != nil {
		return nil, err
	}
	// Logins and turns take their time: it is now that counts.
	said, err := r.Client.submit(ctx, r.batch.Taxpayer, payload, func() error {
		if !since.IsZero() && r.batch.unprotected(r.Client.clock.now()) {
			return errUnprotected
		}
		return r.Journal.sent(r.batch, since, r.Client.clock.now())
	})
	if err != nil {
		return nil, err
	}
	if !said.settles(entries) {
		return nil, &Error{
			Doing: "submitting" + behalf(r.batch.Taxpayer), Status: http.StatusAccepted,
			Message: "the answer does not tell of all documents", cause: errUnreadable,
		}
	}
	return r.Journal.answered(r.batch, said)
}

// claim waits until no other submission whose answer is not known has a number in
// common with this one.
func (r *run) claim(ctx context.Context) error {
	waited := map[uint64]bool{}
	for {
		err := r.Journal.claim(r.batch)
		h, waits := errors.AsType[*held](err)
		if !waits {
			return err
		}
		doing := "submitting" + behalf(r.batch.Taxpayer)
		other := r.of(h.by)
		if other == nil || waited[h.by] {
			return &Error{Doing: doing, Message: h.Error(), unsent: true}
		}
		waited[h.by] = true
		if _, err := r.away(func() ([]Entry, error) {
			select {
			case <-other.answered:
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}); err != nil {
			return &Error{Doing: doing, Message: "given up", cause: err, unsent: true}
		}
	}
}

// away leaves the place to others for something that takes long. Those who have one
// end with the same context, so that it is had again soon after.
func (r *run) away(long func() ([]Entry, error)) ([]Entry, error) {
	<-r.places
	entries, err := long()
	r.places <- struct{}{}
	return entries, err
}

// refused takes the submission apart that the platform did not take as a whole,
// unless it was sent before and may have been taken then.
func (r *run) refused(why *Error, since time.Time) error {
	if !since.IsZero() {
		return why
	}
	if len(r.batch.Documents) > 1 && blamesContent(why) && r.splits.take() {
		return r.halve(why)
	}
	if _, err := r.Journal.dissolve(r.batch); err != nil {
		return fmt.Errorf("%w; after %s", err, why.Error()) // the journal's counts
	}
	return why
}
