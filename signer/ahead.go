package signer

import "sync"

// maxAhead bounds the entries whose signatures are not being made yet, and those
// whose signatures were never tried.
const maxAhead = 256

// ahead counts the entries that are begun before their signatures' turns. Where the
// turn never comes, an entry stands there for which the token was not even asked. Of
// those there are no more than maxAhead and one for each signature that was made:
// whoever asks and leaves, again and again, does not fill the log faster than the
// token signs. Safe for concurrent use. The zero ahead has none.
type ahead struct {
	mu    sync.Mutex
	begun int // whose turn has not come
	lost  int // of these, those whose turn never will
}

// begin reports whether one more may be begun. Whoever begins it ends it.
func (a *ahead) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.begun >= maxAhead {
		return false
	}
	a.begun++
	return true
}

// end ends one that was begun: its turn came, or never will.
func (a *ahead) end(came bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if came {
		a.begun--
	} else {
		a.lost++
	}
}

// signed makes up for one that was lost, since a signature was made.
func (a *ahead) signed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lost > 0 {
		a.lost--
		a.begun--
	}
}
