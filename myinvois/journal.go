package myinvois

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// State is how far a document has come. Those of the platform are spelled as it
// spells them.
type State string

// The states of a document.
const (
	Signed    State = "Signed"    // not sent yet
	Sending   State = "Sending"   // sent, or about to be; no answer yet
	Submitted State = "Submitted" // taken, and being validated
	Rejected  State = "Rejected"  // not taken, for what is wrong with it
	Valid     State = "Valid"
	Invalid   State = "Invalid"
	Cancelled State = "Cancelled"
	Withdrawn State = "Withdrawn" // never sent: another of its number was written down instead
)

// Final tells whether nothing more happens to a document by itself.
func (s State) Final() bool {
	return s == Rejected || s == Valid || s == Invalid || s == Cancelled || s == Withdrawn
}

// Entry is one document in the journal.
type Entry struct {
	ID       uint64 `json:"id"`       // its place
	Name     string `json:"name"`     // where it came from
	Taxpayer string `json:"taxpayer"` // TIN, or TIN:ROB
	Number   string `json:"number"`
	Type     string `json:"type"` // "01"
	Format   Format `json:"format"`
	// Issued is when the document says that it was issued, zero if that is not known.
	Issued time.Time `json:"issued,omitzero"`
	// Input is the SHA-256 of the document as it was given, Hash that of the bytes
	// that are sent: the same unless it was signed on the way.
	Input Digest `json:"input"`
	Hash  Digest `json:"hash"`
	State State  `json:"state"`
	// SubmissionUID, UUID and LongID are the platform's.
	SubmissionUID string `json:"submission,omitempty"`
	UUID          string `json:"uuid,omitempty"`
	LongID        string `json:"longId,omitempty"`
	// Findings are what the platform found wrong, a line each.
	Findings []string `json:"findings,omitempty"`
	// Added is when it was written down, Changed when its state last changed.
	Added   time.Time `json:"added"`
	Changed time.Time `json:"changed"`

	// Batch is the submission that it is, or was, part of.
	Batch uint64 `json:"batch,omitempty"`
	// Before is the entry that had the number before it.
	Before uint64 `json:"before,omitempty"`
}

// Digest is a SHA-256, in hexadecimal where it is written down.
type Digest [sha256.Size]byte

// MarshalText writes it.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads it.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return errors.New("not a SHA-256")
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// batch is a submission: which documents, in which order, and what is known of it.
type batch struct {
	ID        uint64    `json:"id"`
	Taxpayer  string    `json:"taxpayer"`
	Documents []uint64  `json:"documents"`
	Payload   Digest    `json:"payload"`
	FirstSent time.Time `json:"firstSent"` // zero: not sent for sure
	LastSent  time.Time `json:"lastSent"`
	// Taken is true once the platform answered that it took the payload, in an
	// answer that could not be read, which is never sent again.
	Taken bool `json:"taken,omitempty"`
	// Found is true if the answer was lost and the submission found afterwards.
	Found bool   `json:"found,omitempty"`
	UID   string `json:"uid,omitempty"`
	Open  bool   `json:"open"` // some document of it is not final
}

// The buckets. Keys that are numbers are big-endian, so that they stand in order.
var (
	aboutBucket   = []byte("about")
	entryBucket   = []byte("documents") // number of the entry → Entry
	contentBucket = []byte("content")   // number of the entry → the bytes that are sent
	inputBucket   = []byte("inputs")    // TIN, 0, SHA-256 → the latest entry with that
	numberBucket  = []byte("numbers")   // TIN and business, 0, type, 0, number → the latest entry
	batchBucket   = []byte("batches")   // number of the batch → batch
	openBucket    = []byte("open")      // numbers of the entries that are not final
	uidBucket     = []byte("uids")      // submission UID → batch
	claimBucket   = []byte("claims")    // TIN, 0, number → the batch that was sent with it last
)

// Unsent is a document to write down.
type Unsent struct {
	Name, Taxpayer, Number, Type string
	// Business is the issuer's registration number, as the document states it.
	Business string
	Format   Format
	Issued   time.Time         // as the document states it; zero if it does not
	Input    [sha256.Size]byte // of the document as it was given
	Content  []byte            // the bytes to send
}

// Add writes documents down, all or none, and returns their entries. They are on
// the disk when it returns. A document that was not sent gives way to another of its
// number: it is [Withdrawn].
func (j *Journal) Add(documents []Unsent) ([]Entry, error) {
	entries := make([]Entry, len(documents))
	now := time.Now().UTC()
	err := j.update(func(tx *bbolt.Tx) error {
		for i, d := range documents {
			id, err := tx.Bucket(entryBucket).NextSequence()
			if err != nil {
				return err
			}
			e := Entry{
				ID: id, Name: d.Name, Taxpayer: d.Taxpayer, Number: d.Number, Type: d.Type, Format: d.Format, Issued: d.Issued,
				Input: d.Input, Hash: sha256.Sum256(d.Content), State: Signed, Added: now, Changed: now,
			}
			key := numberKey(e.Taxpayer, d.Business, e.Type, e.Number)
			if before := tx.Bucket(numberBucket).Get(key); before != nil {
				e.Before = binary.BigEndian.Uint64(before)
			}
			entries[i] = e
			if err := errors.Join(
				withdraw(tx, e),
				putEntry(tx, e),
				tx.Bucket(contentBucket).Put(number(id), d.Content),
				tx.Bucket(inputBucket).Put(inputKey(e.Taxpayer, e.Input), number(id)),
				tx.Bucket(inputBucket).Put(inputKey(e.Taxpayer, e.Hash), number(id)),
				tx.Bucket(numberBucket).Put(key, number(id)),
			); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// withdraw takes back what has an entry's number and was not sent: that one takes
// its place.
func withdraw(tx *bbolt.Tx, by Entry) error {
	return previous(tx, by.Before, func(e Entry) error {
		if e.State != Signed {
			return nil
		}
		e.State, e.Changed, e.Findings = Withdrawn, by.Added, []string{"not sent: the one from " + by.Name + " took its place"}
		return putEntry(tx, e)
	})
}

// previous tells an entry, and all that had its number before, the latest first.
func previous(tx *bbolt.Tx, id uint64, tell func(Entry) error) error {
	for id != 0 {
		e, err := entryAt(tx, number(id))
		if err == nil {
			err = tell(e)
		}
		if err != nil {
			return err
		}
		id = e.Before
	}
	return nil
}

// Find returns the latest entry of a document, by the SHA-256 of its bytes, as
// given or as signed; nil if there is none. However the taxpayer is named, TIN or
// TIN:ROB, a document is one.
func (j *Journal) Find(taxpayer string, input [sha256.Size]byte) (*Entry, error) {
	return j.by(inputBucket, inputKey(taxpayer, input))
}

// Numbered returns the entry of a taxpayer's document by the business that it
// states, its type and number; nil if there is none. Of several it is the latest
// that stands (is valid, or may become so), sent rather than not, else the latest.
func (j *Journal) Numbered(taxpayer, business, kind, num string) (found *Entry, err error) {
	rank := func(e Entry) int {
		switch {
		case e.State == Signed:
			return 1
		case e.State == Valid || !e.State.Final():
			return 2
		}
		return 0
	}
	err = j.view(func(tx *bbolt.Tx) error {
		id := tx.Bucket(numberBucket).Get(numberKey(taxpayer, business, kind, num))
		if id == nil {
			return nil
		}
		return previous(tx, binary.BigEndian.Uint64(id), func(e Entry) error {
			if found == nil || rank(e) > rank(*found) {
				found = &e
			}
			return nil
		})
	})
	return found, err
}

func (j *Journal) by(bucket, key []byte) (found *Entry, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		id := tx.Bucket(bucket).Get(key)
		if id == nil {
			return nil
		}
		e, err := entryAt(tx, id)
		found = &e
		return err
	})
	return found, err
}

// Entry returns an entry by its place.
func (j *Journal) Entry(id uint64) (e Entry, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		e, err = entryAt(tx, number(id))
		return err
	})
	return e, err
}

// Unfinished returns the entries that are not final, the oldest first.
func (j *Journal) Unfinished() ([]Entry, error) {
	var all []Entry
	err := j.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(openBucket).ForEach(func(id, _ []byte) error {
			e, err := entryAt(tx, id)
			all = append(all, e)
			return err
		})
	})
	return all, err
}

// Content returns the bytes of an entry's document.
func (j *Journal) Content(id uint64) (content []byte, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		content = append(content, tx.Bucket(contentBucket).Get(number(id))...)
		return nil
	})
	return content, err
}

// putEntry writes an entry, and whether it is final.
func putEntry(tx *bbolt.Tx, e Entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	open := tx.Bucket(openBucket)
	if e.State.Final() {
		err = open.Delete(number(e.ID))
	} else {
		err = open.Put(number(e.ID), nil)
	}
	return errors.Join(err, tx.Bucket(entryBucket).Put(number(e.ID), text))
}

func entryAt(tx *bbolt.Tx, id []byte) (e Entry, err error) {
	text := tx.Bucket(entryBucket).Get(id)
	if text == nil {
		return e, fmt.Errorf("there is no entry %d", binary.BigEndian.Uint64(id))
	}
	return e, json.Unmarshal(text, &e)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// tinOf is a taxpayer's TIN, which it has with and without the number of a business.
func tinOf(taxpayer string) string {
	tin, _, _ := strings.Cut(taxpayer, ":")
	return tin
}

func inputKey(taxpayer string, input [sha256.Size]byte) []byte {
	tin, _, _ := strings.Cut(taxpayer, ":")
	return append([]byte(tin+"\x00"), input[:]...)
}

// numberKey is a number of a taxpayer's; of a person's, who may have several
// businesses under one TIN, one business's. Which one the document tells, since a
// login may name it or not.
func numberKey(taxpayer, business, kind, num string) []byte {
	tin, _, _ := strings.Cut(taxpayer, ":")
	if strings.HasPrefix(tin, "IG") {
		tin += ":" + business
	}
	return []byte(tin + "\x00" + kind + "\x00" + num)
}
