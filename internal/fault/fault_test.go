package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestEveryKindHasAReasonOfItsOwn(t *testing.T) {
	seen := map[string]Kind{}
	for _, kind := range Kinds() {
		reason := kind.Reason()
		if reason == "" {
			t.Errorf("kind %d has no reason", kind)
		}
		if other, taken := seen[reason]; taken {
			t.Errorf("kinds %d and %d have the reason %s", other, kind, reason)
		}
		seen[reason] = kind
	}
	if len(seen) == 0 {
		t.Error("there are no kinds")
	}
}

func TestWhatNobodyClassifiedIsTheServicesFault(t *testing.T) {
	for name, err := range map[string]error{"a plain error": io.EOF, "none": nil, "the zero Error": &Error{}} {
		if got := Of(err); got != Internal {
			t.Errorf("%s: got %v, want %v", name, got, Internal)
		}
	}
	if got := Kind(250).Reason(); got != "INTERNAL" {
		t.Errorf("an unknown kind: got %s", got)
	}
}

func TestTheOutermostKindCounts(t *testing.T) {
	inner := New(TokenUnavailable, "reading: %w", io.EOF)
	if got := Of(fmt.Errorf("signing: %w", inner)); got != TokenUnavailable {
		t.Errorf("wrapped: got %v", got)
	}
	outer := Wrap(Overloaded, inner)
	if got := Of(outer); got != Overloaded {
		t.Errorf("wrapped again: got %v", got)
	}
	if !errors.Is(outer, io.EOF) || outer.Error() != "reading: EOF" {
		t.Errorf("got %q, want the text and the cause of what it wraps", outer)
	}
}

func TestWrappingNothingGivesNothing(t *testing.T) {
	if err := Wrap(NotAllowed, nil); err != nil {
		t.Errorf("got %v", err)
	}
}
