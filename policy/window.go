package policy

import "time"

// Window is a representation's time: From its first instant, To the first one
// after its end. The zero time means unbounded on that side.
type Window struct{ From, To time.Time }

// Contains tells whether the representation is in force at that time.
func (w Window) Contains(at time.Time) bool {
	return !at.Before(w.From) && (w.To.IsZero() || at.Before(w.To))
}
