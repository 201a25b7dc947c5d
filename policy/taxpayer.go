package policy

import (
	"fmt"
	"slices"
	"time"
)

// Taxpayer is one on whose behalf documents are signed, as set on the MyInvois
// portal.
type Taxpayer struct {
	// TIN identifies the taxpayer.
	TIN TIN
	// BRN and Name are for people; they may be empty.
	BRN, Name string
	// Window is the time of the representation.
	Window
	// Rights are what the taxpayer lets the intermediary do, in the order of
	// [Rights].
	Rights []Right
	// Intermediary marks the one that holds the signing certificate and acts for
	// all others. Its TIN and BRN are the certificate's.
	Intermediary bool
	// Methods are those granted to the caller that asks.
	Methods []Method
}

// Window is a representation's time: From its first instant, To the first one
// after its end. The zero time means unbounded on that side.
type Window struct{ From, To time.Time }

// Contains tells whether the representation is in force at that time. The zero
// time is in no window.
func (w Window) Contains(at time.Time) bool {
	return !at.IsZero() && !at.Before(w.From) && (w.To.IsZero() || at.Before(w.To))
}

// Right is one thing that a taxpayer may let its intermediary do on MyInvois.
// Nothing is signed for a taxpayer that has not given Submit: LHDN takes no
// document of such an intermediary.
type Right string

// The rights, by what the platform's API does with them.
const (
	Submit Right = "submit" // send documents in the taxpayer's name
	Cancel Right = "cancel" // cancel those sent
	Reject Right = "reject" // ask for the rejection of those received
	View   Right = "view"   // see documents
)

var rights = []Right{Submit, Cancel, Reject, View}

// Rights returns every right.
func Rights() []Right { return slices.Clone(rights) }

// ParseRight returns the right of that name.
func ParseRight(name string) (Right, error) {
	if r := Right(name); slices.Contains(rights, r) {
		return r, nil
	}
	return "", fmt.Errorf("%s is not a right: the rights are %s", quoted(name), listed(rights))
}
