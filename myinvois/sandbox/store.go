package sandbox

import (
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/roamsign/roamsign/xades"
)

// document is one that was accepted. All of it is decided then and never changes,
// but what its issuer or its receiver does to it later.
type document struct {
	uuid, longID string
	submission   string
	facts        xades.Facts
	format       xades.Format
	raw          []byte
	hash         [32]byte
	content      content
	who          identity
	issued       time.Time
	received     time.Time
	ready        time.Time // when its validation ends
	twin         string    // the UUID of the document that it repeats
	stale        []string  // of its references, those that were not valid
	verdict      func() verdict

	// Guarded by the store's mutex.
	cancelled, rejected time.Time
	reason              string
}

// status of a document at a time, given whether it is cancelled.
func (d *document) status(now, cancelled time.Time) string {
	switch {
	case now.Before(d.ready):
		return submitted
	case !cancelled.IsZero():
		return stateCancelled
	}
	return d.verdict().status
}

// The states of a document and of a step.
const (
	submitted      = "Submitted"
	valid          = "Valid"
	invalid        = "Invalid"
	stateCancelled = "Cancelled"
)

// submission is a batch of documents.
type submission struct {
	uid       string
	received  time.Time
	who       identity
	documents []*document
}

// twinKey are the properties that two documents must share to be duplicates (SDK,
// FAQ, "How does the system validate if a document is a duplicate?").
type twinKey struct{ typeCode, version, date, clock, number, tin string }

// twinWindow is how long a document keeps others like it out.
const twinWindow = 2 * time.Hour

// payloadWindow is how long a submission keeps others of the same bytes out.
const payloadWindow = 10 * time.Minute

type payloadKey struct {
	tin  string
	hash [32]byte
}

// store is what the platform remembers, the oldest first, within bounds.
type store struct {
	mu                 sync.Mutex
	maxDocuments, held int
	maxBytes, bytes    int64
	submissions        map[string]*submission
	order              []*submission
	documents          map[string]*document
	twins              map[twinKey]*document // the latest of each
	payloads           map[payloadKey]time.Time
	oldPayloads        []payload // in the order of their times
	referring          map[string][]*document
}

type payload struct {
	payloadKey
	until time.Time
}

func (s *store) open(documents int, bytes int64) {
	s.maxDocuments, s.maxBytes = documents, bytes
	s.submissions, s.documents = map[string]*submission{}, map[string]*document{}
	s.twins, s.payloads = map[twinKey]*document{}, map[payloadKey]time.Time{}
	s.referring = map[string][]*document{}
}

// seen tells until when the same payload is kept out, or remembers it.
func (s *store) seen(key payloadKey, now time.Time) (until time.Time, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.oldPayloads) > 0 && !now.Before(s.oldPayloads[0].until) {
		delete(s.payloads, s.oldPayloads[0].payloadKey)
		s.oldPayloads = s.oldPayloads[1:]
	}
	if until, again := s.payloads[key]; again {
		return until, true
	}
	until = now.Add(payloadWindow)
	s.payloads[key] = until
	s.oldPayloads = append(s.oldPayloads, payload{key, until})
	return until, false
}

// forget lets a payload in again, of which nothing was accepted.
func (s *store) forget(key payloadKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.payloads, key)
	s.oldPayloads = slices.DeleteFunc(s.oldPayloads, func(p payload) bool { return p.payloadKey == key })
}

// add remembers a submission, and finds of each document which one it repeats.
func (s *store) add(sub *submission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.submissions[sub.uid] = sub
	s.order = append(s.order, sub)
	for _, d := range sub.documents {
		key := twinKey{d.facts.Type, d.facts.Version, d.facts.IssueDate, d.facts.IssueTime, d.facts.Number, d.facts.TIN}
		if other := s.twins[key]; other != nil && d.received.Sub(other.received) < twinWindow {
			d.twin = other.uuid
		} else {
			s.twins[key] = d
		}
		s.documents[d.uuid] = d
		for _, uuid := range d.content.references {
			s.referring[uuid] = append(s.referring[uuid], d)
		}
		s.held++
		s.bytes += int64(len(d.raw))
	}
	for len(s.order) > 1 && (s.held > s.maxDocuments || s.bytes > s.maxBytes) {
		s.drop(s.order[0])
		s.order = s.order[1:]
	}
}

// drop forgets a submission.
func (s *store) drop(old *submission) {
	delete(s.submissions, old.uid)
	for _, d := range old.documents {
		delete(s.documents, d.uuid)
		key := twinKey{d.facts.Type, d.facts.Version, d.facts.IssueDate, d.facts.IssueTime, d.facts.Number, d.facts.TIN}
		if s.twins[key] == d {
			delete(s.twins, key)
		}
		for _, uuid := range d.content.references {
			s.referring[uuid] = slices.DeleteFunc(s.referring[uuid], func(r *document) bool { return r == d })
			if len(s.referring[uuid]) == 0 {
				delete(s.referring, uuid)
			}
		}
		s.held--
		s.bytes -= int64(len(d.raw))
	}
}

// document finds one by its UUID, or nil.
func (s *store) document(uuid string) *document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.documents[uuid]
}

// submission finds one by its UID, or nil.
func (s *store) submission(uid string) *submission {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.submissions[uid]
}

// changes are what was done to a document after it was validated.
type changes struct {
	cancelled, rejected time.Time
	reason              string
}

func (s *store) changes(d *document) changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return changes{d.cancelled, d.rejected, d.reason}
}

// cancel marks a document, unless it is marked.
func (s *store) cancel(d *document, at time.Time, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.cancelled.IsZero() {
		return false
	}
	d.cancelled, d.reason = at, reason
	return true
}

// reject marks a document, unless it is marked. It stays valid until its issuer
// cancels it.
func (s *store) reject(d *document, at time.Time, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.cancelled.IsZero() || !d.rejected.IsZero() {
		return false
	}
	d.rejected, d.reason = at, reason
	return true
}

// referrers are the documents that refer to one.
func (s *store) referrers(uuid string) []*document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.referring[uuid])
}

// everything are all documents, in the order in which they came.
func (s *store) everything() []*document {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*document
	for _, sub := range s.order {
		all = append(all, sub.documents...)
	}
	return all
}

// Documents returns all that was accepted and is still remembered, in the order in
// which it came.
func (p *Platform) Documents() []Accepted {
	now := p.now()
	all := []Accepted{}
	for _, d := range p.store.everything() {
		all = append(all, Accepted{
			UUID: d.uuid, Submission: d.submission, Number: d.facts.Number, TIN: d.facts.TIN, Client: d.who.client.ID,
			SHA256: hex.EncodeToString(d.hash[:]), Status: d.status(now, p.store.changes(d).cancelled),
		})
	}
	return all
}
