package myinvois

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// What a document takes in a payload beside its base64 and its number, and what a
// payload takes beside its documents, in bytes; each with room to spare.
const (
	aroundDocument = 256
	aroundPayload  = 64
)

// Split puts entries into submissions: each for one taxpayer, of one format, at
// most 100 documents and 5 MB, and no two documents of one number, since the
// answer names them by that. sizes are the documents' bytes. The order is kept
// within each taxpayer and format.
func Split(entries []Entry, sizes []int) [][]Entry {
	type key struct {
		taxpayer string
		format   Format
	}
	type filling struct {
		at      int // in all
		bytes   int
		numbers map[string]bool
	}
	var all [][]Entry
	open := map[key]*filling{}
	for i, e := range entries {
		k := key{e.Taxpayer, e.Format}
		size := aroundDocument + (sizes[i]+2)/3*4 + 6*len(e.Number) // each byte escaped, at worst
		f := open[k]
		if f == nil || len(all[f.at]) == MaxDocuments || f.bytes+size > MaxSubmissionBytes || f.numbers[e.Number] {
			f = &filling{at: len(all), bytes: aroundPayload, numbers: map[string]bool{}}
			open[k] = f
			all = append(all, nil)
		}
		all[f.at] = append(all[f.at], e)
		f.bytes += size
		f.numbers[e.Number] = true
	}
	return all
}

// gather makes submissions of signed documents, and writes down which. Those that
// are not what was signed are left out, and returned.
func (j *Journal) gather(entries []Entry) (batches []*batch, unfit []Entry, err error) {
	err = j.update(func(tx *bbolt.Tx) error {
		var whole []Entry
		var sizes []int
		for _, e := range entries {
			content := tx.Bucket(contentBucket).Get(number(e.ID))
			if sha256.Sum256(content) != e.Hash {
				unfit = append(unfit, e)
				continue
			}
			whole, sizes = append(whole, e), append(sizes, len(content))
		}
		for _, group := range Split(whole, sizes) {
			b, err := newBatch(tx, group)
			if err != nil {
				return err
			}
			batches = append(batches, b)
		}
		return nil
	})
	return batches, unfit, err
}

func newBatch(tx *bbolt.Tx, group []Entry) (*batch, error) {
	id, err := tx.Bucket(batchBucket).NextSequence()
	if err != nil {
		return nil, err
	}
	b := &batch{ID: id, Taxpayer: group[0].Taxpayer, Open: true}
	for _, e := range group {
		b.Documents = append(b.Documents, e.ID)
		e.State, e.Batch, e.Changed = Sending, id, time.Now().UTC()
		e.SubmissionUID, e.UUID, e.Findings = "", "", nil
		if err := putEntry(tx, e); err != nil {
			return nil, err
		}
	}
	payload, _, err := payloadOf(tx, b)
	if err != nil {
		return nil, err
	}
	b.Payload = sha256.Sum256(payload)
	return b, putBatch(tx, b)
}

// damage is the error of documents that are not sent because they are not what they
// were. It tells nothing of others.
type damage struct{ what string }

func (d *damage) Error() string { return d.what }

// damaged is the error of a document that is not what was signed.
func damaged(e Entry) *damage {
	return &damage{fmt.Sprintf("document %s (entry %d) is not what was signed: the journal is damaged", e.Number, e.ID)}
}

// payloadOf builds a batch's payload, and returns its entries with it.
func payloadOf(tx *bbolt.Tx, b *batch) ([]byte, []Entry, error) {
	documents := make([]Document, len(b.Documents))
	entries := make([]Entry, len(b.Documents))
	for i, id := range b.Documents {
		e, err := entryAt(tx, number(id))
		if err != nil {
			return nil, nil, err
		}
		entries[i] = e
		documents[i] = Document{e.Format, e.Number, tx.Bucket(contentBucket).Get(number(id))}
		if sha256.Sum256(documents[i].Content) != e.Hash {
			return nil, nil, damaged(e)
		}
	}
	payload, err := Payload(documents)
	return payload, entries, err
}

// payload returns the bytes of a batch, the same each time, and its entries.
func (j *Journal) payload(b *batch) (payload []byte, entries []Entry, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		payload, entries, err = payloadOf(tx, b)
		return err
	})
	if err == nil && sha256.Sum256(payload) != b.Payload {
		err = &damage{fmt.Sprintf("submission %d is not what was sent before: the journal is damaged, or of another version of this program", b.ID)}
	}
	return payload, entries, err
}

// Sent tells when an entry was last sent, by the platform's clock; zero if it never
// was.
func (j *Journal) Sent(e Entry) (at time.Time, err error) {
	if e.Batch == 0 {
		return at, nil
	}
	b, err := j.batch(e.Batch)
	if err != nil {
		return at, err
	}
	return b.LastSent, nil
}

// members reads the entries of a batch.
func (j *Journal) members(b *batch) (entries []Entry, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		for _, id := range b.Documents {
			e, err := entryAt(tx, number(id))
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// batch reads a batch.
func (j *Journal) batch(id uint64) (b *batch, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		b, err = batchAt(tx, number(id))
		return err
	})
	return b, err
}

func batchAt(tx *bbolt.Tx, id []byte) (*batch, error) {
	text := tx.Bucket(batchBucket).Get(id)
	if text == nil {
		return nil, fmt.Errorf("there is no submission %d", binary.BigEndian.Uint64(id))
	}
	b := &batch{}
	return b, json.Unmarshal(text, b)
}

func putBatch(tx *bbolt.Tx, b *batch) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if b.UID != "" {
		err = tx.Bucket(uidBucket).Put([]byte(b.UID), number(b.ID))
	}
	return errors.Join(err, tx.Bucket(batchBucket).Put(number(b.ID), text))
}

// change writes a batch down with what change does to it and to each of its
// entries.
func (j *Journal) change(b *batch, change func(*batch, *Entry)) ([]Entry, error) {
	return j.changeIf(b, nil, change)
}

// changeIf does so unless may, in the same transaction, finds that it must not.
func (j *Journal) changeIf(b *batch, may func(*bbolt.Tx) error, change func(*batch, *Entry)) ([]Entry, error) {
	next := *b
	entries := make([]Entry, len(b.Documents))
	err := j.update(func(tx *bbolt.Tx) error {
		if may != nil {
			if err := may(tx); err != nil {
				return err
			}
		}
		for i, id := range b.Documents {
			e, err := entryAt(tx, number(id))
			if err != nil {
				return err
			}
			if entries[i] = e; e.Batch != b.ID {
				continue // part of another one since
			}
			before := e.State
			if change(&next, &e); e.State != before {
				e.Changed = time.Now().UTC()
			}
			entries[i] = e
			if err := putEntry(tx, e); err != nil {
				return err
			}
		}
		next.Open = slices.ContainsFunc(entries, func(e Entry) bool { return e.Batch == b.ID && !e.State.Final() })
		return putBatch(tx, &next)
	})
	if err == nil {
		*b = next
	}
	return entries, err
}

// unprotected tells whether the platform may have taken a batch and would not
// recognize it. A clock that was set back since proves nothing.
func (b *batch) unprotected(now time.Time) bool {
	age := now.Sub(b.FirstSent)
	return !b.FirstSent.IsZero() && (age < 0 || age > protection)
}

// mayArrive is since when a batch that is not listed may have been taken all the
// same: it was sent a moment ago. It is zero if it was surely not taken.
func (b *batch) mayArrive(now time.Time) time.Time {
	switch age := now.Sub(b.LastSent); {
	case age < 0:
		return now.UTC()
	case age > protection:
		return time.Time{}
	}
	return b.LastSent
}

// sent writes down, before the fact, that a batch is sent, which may have been
// taken since a time; zero is now. The error is a [*held] if it must not be yet.
func (j *Journal) sent(b *batch, since, now time.Time) error {
	if since.IsZero() {
		since = now
	}
	_, err := j.changeIf(b, func(tx *bbolt.Tx) error { return claim(tx, b) }, func(b *batch, _ *Entry) {
		b.FirstSent, b.LastSent = since, now
	})
	return err
}

// held is the error of a batch that has a number in common with another one of its
// taxpayer's that is sent and has no answer. A lost answer is found again by the
// numbers: of two such batches nobody could tell which is which.
type held struct {
	by     uint64
	number string
}

func (h *held) Error() string {
	return fmt.Sprintf("an earlier submission with a document %s is sent, and its answer is not known: that one has to be finished first", h.number)
}

// claim takes the numbers of a batch for it, all or none, from those that have an
// answer.
func (j *Journal) claim(b *batch) error {
	return j.update(func(tx *bbolt.Tx) error { return claim(tx, b) })
}

func claim(tx *bbolt.Tx, b *batch) error {
	keys := make([][]byte, len(b.Documents))
	claims := tx.Bucket(claimBucket)
	for i, id := range b.Documents {
		e, err := entryAt(tx, number(id))
		if err != nil {
			return err
		}
		keys[i] = []byte(tinOf(e.Taxpayer) + "\x00" + e.Number)
		holder := claims.Get(keys[i])
		if holder == nil || slices.Equal(holder, number(b.ID)) {
			continue
		}
		other, err := batchAt(tx, holder)
		if err != nil {
			return err
		}
		if other.Open && other.UID == "" && !other.FirstSent.IsZero() {
			return &held{other.ID, e.Number}
		}
	}
	for _, key := range keys {
		if err := claims.Put(key, number(b.ID)); err != nil {
			return err
		}
	}
	return nil
}

// taken writes down that the platform took a batch, in an answer that cannot be
// read.
func (j *Journal) taken(b *batch) error {
	_, err := j.change(b, func(b *batch, _ *Entry) { b.Taken = true })
	return err
}

// dissolve takes a batch apart that the platform refused as a whole: its documents
// are unsent.
func (j *Journal) dissolve(b *batch) ([]Entry, error) {
	return j.change(b, func(_ *batch, e *Entry) {
		if e.State == Sending {
			e.State, e.Batch = Signed, 0
		}
	})
}

// settles tells whether an answer says of each document, by itself or by its
// submission, what became of it.
func (a *SubmissionAnswer) settles(entries []Entry) bool {
	if a.uid() != "" {
		return true
	}
	return !slices.ContainsFunc(entries, func(e Entry) bool {
		return !slices.ContainsFunc(a.Rejected, func(d RejectedDocument) bool { return d.Number == e.Number })
	})
}

func (a *SubmissionAnswer) uid() string {
	if a.SubmissionUID == nil {
		return ""
	}
	return *a.SubmissionUID
}

// answered writes down the answer to a batch.
func (j *Journal) answered(b *batch, said *SubmissionAnswer) ([]Entry, error) {
	accepted, rejected := map[string]AcceptedDocument{}, map[string]RejectedDocument{}
	for _, d := range said.Accepted {
		accepted[d.Number] = d
	}
	for _, d := range said.Rejected {
		rejected[d.Number] = d
	}
	return j.change(b, func(b *batch, e *Entry) {
		b.UID = said.uid()
		if d, no := rejected[e.Number]; no {
			e.State, e.Findings = Rejected, []string{inStep("", d.Error)}
			return
		}
		// One that the answer does not name is looked for in the submission.
		e.State, e.SubmissionUID, e.UUID = Submitted, b.UID, accepted[e.Number].UUID
	})
}

// found writes down which submission a batch is whose answer was lost. One that is
// another batch's by now is an error.
func (j *Journal) found(b *batch, uid string) ([]Entry, error) {
	return j.changeIf(b, func(tx *bbolt.Tx) error {
		if id := tx.Bucket(uidBucket).Get([]byte(uid)); id != nil && !slices.Equal(id, number(b.ID)) {
			return fmt.Errorf("submission %s is that of other documents", uid)
		}
		return nil
	}, func(b *batch, e *Entry) {
		b.UID, b.Found = uid, true
		e.State, e.SubmissionUID = Submitted, uid
	})
}

// lost writes down that all documents of a batch were rejected, and the answer that
// told why was lost.
func (j *Journal) lost(b *batch) ([]Entry, error) {
	return j.change(b, func(_ *batch, e *Entry) { e.State, e.Findings = Rejected, []string{lostReasons} })
}

// known tells whether a submission is one of the journal's other batches.
func (j *Journal) known(uid string, but *batch) (known bool, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		id := tx.Bucket(uidBucket).Get([]byte(uid))
		known = id != nil && !slices.Equal(id, number(but.ID))
		return nil
	})
	return known, err
}

// put writes an entry down.
func (j *Journal) put(e Entry) error {
	e.Changed = time.Now().UTC()
	return j.update(func(tx *bbolt.Tx) error { return putEntry(tx, e) })
}

// Cancelled writes down that a document was cancelled.
func (j *Journal) Cancelled(id uint64, reason string) error {
	return j.update(func(tx *bbolt.Tx) error {
		e, err := entryAt(tx, number(id))
		if err != nil {
			return err
		}
		e.State, e.Changed, e.Findings = Cancelled, time.Now().UTC(), []string{"cancelled: " + reason}
		return putEntry(tx, e)
	})
}
