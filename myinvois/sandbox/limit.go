package sandbox

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/roamsign/roamsign/myinvois"
)

// windows count requests by client ID and endpoint. LHDN publishes how many it
// takes a minute, not how it counts: here the minute begins with the first request
// after the last one ended.
type windows struct {
	mu   sync.Mutex
	open map[limited]*window // no more than the configured clients and nobody, by endpoint
}

type limited struct {
	client   string // "" is whoever is no client
	endpoint Endpoint
	behalf   bool // of logins: LHDN counts those of intermediaries apart
}

type window struct {
	ends time.Time
	used int
}

// take counts a request. It tells how many are left in the window after it, -1 if
// it is one too many, and when the window ends.
func (w *windows) take(who limited, most int, now time.Time) (left int, ends time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[limited]*window{}
	}
	current := w.open[who]
	if current == nil || !now.Before(current.ends) {
		current = &window{ends: now.Add(time.Minute)}
		w.open[who] = current
	}
	if current.used >= most {
		return -1, current.ends
	}
	current.used++
	return most - current.used, current.ends
}

// limit holds a caller to the endpoint's rate, and tells it of it in the headers
// that LHDN's page "Standard Header Parameters" names.
func (p *Platform) limit(header http.Header, client string, c *call) *reply {
	most, configured := p.config.Limits[c.endpoint]
	if !configured {
		most = published(c.endpoint)
	}
	if most == 0 {
		return nil
	}
	left, ends := p.limits.take(limited{client, c.endpoint, c.endpoint == Login && c.Header.Get(myinvois.OnBehalfOf) != ""}, most, c.now)
	header.Set("X-Rate-Limit-Limit", strconv.Itoa(most))
	header.Set("X-Rate-Limit-Remaining", strconv.Itoa(max(left, 0)))
	if left >= 0 {
		return nil
	}
	header.Set("X-Rate-Limit-Reset", ends.Format(time.RFC3339))
	return new(tooMany(ends.Sub(c.now)))
}

func tooMany(wait time.Duration) reply {
	return refuse(http.StatusTooManyRequests, "TooManyRequests", "too many requests of this client ID; see Retry-After").after(wait)
}
