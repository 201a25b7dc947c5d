package myinvois

import (
	"net/http"
	"sync"
	"time"
)

// clock is the platform's, as its answers tell the time. When something was sent is
// written down by that one, since this machine's may be wrong now and right when it
// is read. It is safe for concurrent use.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration // of this machine's
}

// tolerance is by how much the clocks may differ and count as one. All that is
// measured by them has more to spare.
const tolerance = 10 * time.Second

// heed takes up the time that an answer tells, in seconds, which was asked for at a
// time and came at another.
func (c *clock) heed(header http.Header, asked, came time.Time) {
	told, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return
	}
	asked, came = asked.Round(0), came.Round(0) // as the wall has it
	var ahead time.Duration
	switch {
	case told.Before(asked.Add(-tolerance)):
		ahead = told.Sub(asked)
	case told.After(came.Add(tolerance)):
		ahead = told.Sub(came)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = ahead
}

// now is what the platform's clock shows; this machine's where no answer has told.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.ahead).UTC()
}
