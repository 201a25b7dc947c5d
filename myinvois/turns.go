package myinvois

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolt "go.etcd.io/bbolt/errors"
)

// turns counts logins where processes meet: in a file beside the journal, which is
// locked for a moment at each. A turn is on the disk before it is used, so that a
// process that is killed has it counted; and it is taken when its time has come and
// never before, so that one that is killed while it waits leaves nothing behind.
type turns struct {
	path string
	note func(string) // told why something waits
}

// turnsSuffix makes the file's name of the journal's.
const turnsSuffix = ".logins"

// window is for how long a turn counts: the platform's minute, and a second for
// lines of unequal speed.
const window = time.Minute + time.Second

// errUncounted marks a login that was not sent, since other processes could not be
// told of it.
var errUncounted = errors.New("the logins of all runs cannot be counted")

// past is what is known of a client ID's logins.
type past struct {
	Turns  []time.Time `json:"turns"`           // of the last window, the earliest first
	Closed time.Time   `json:"closed,omitzero"` // nobody passes before
}

// since drops what does not count any more. A time to come was written before the
// clock was set back: it counts as now.
func (p *past) since(now time.Time) {
	for i, at := range p.Turns {
		if at.After(now) {
			p.Turns[i] = now
		}
	}
	p.Turns = slices.DeleteFunc(p.Turns, func(at time.Time) bool { return now.Sub(at) >= window })
	if latest := now.Add(maxPatience); p.Closed.After(latest) {
		p.Closed = latest
	}
}

// left is how long it takes until there may be another turn, of so many in a window.
func (p *past) left(now time.Time, most int) time.Duration {
	left := p.Closed.Sub(now)
	if n := len(p.Turns); n >= most {
		left = max(left, p.Turns[n-most].Add(window).Sub(now))
	}
	return max(0, left)
}

// take takes a turn, or tells how long it takes until there may be one.
func (t *turns) take(key gateKey, most int) (left time.Duration, err error) {
	err = t.change(key, func(p *past, now time.Time) {
		if left = p.left(now, most); left == 0 {
			p.Turns = append(p.Turns, now)
		}
	})
	return left, err
}

// close lets nobody pass for a while.
func (t *turns) close(key gateKey, after time.Duration) error {
	return t.change(key, func(p *past, now time.Time) {
		if until := now.Add(after); until.After(p.Closed) {
			p.Closed = until
		}
	})
}

func (t *turns) change(key gateKey, change func(*past, time.Time)) error {
	db, err := bbolt.Open(t.path, 0o600, &bbolt.Options{Timeout: patience})
	if errors.Is(err, bolt.ErrTimeout) {
		err = ErrInUse
	}
	if err != nil {
		return fmt.Errorf("%w: opening %s: %w", errUncounted, t.path, unpathed(err))
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte(key.at))
		if err != nil {
			return err
		}
		var p past
		if text := bucket.Get([]byte(key.client)); text != nil {
			if err := json.Unmarshal(text, &p); err != nil {
				return err
			}
		}
		now := time.Now().UTC() // once the lock is had
		p.since(now)
		change(&p, now)
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		return bucket.Put([]byte(key.client), text)
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("%w: writing %s: %w", errUncounted, t.path, err)
	}
	return nil
}
