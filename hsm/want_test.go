package hsm_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

// wantError fails the test unless err wraps the sentinel, has the kind, and says
// all the words.
func wantError(t testing.TB, err, sentinel error, kind fault.Kind, words ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("got error %v, want one that is %q", err, sentinel)
		return
	}
	if got := fault.Of(err); got != kind {
		t.Errorf("got kind %v of %q, want %v", got, err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got error %q, want one that says %q", err, word)
		}
	}
}

// retryAfter returns how long the caller is told to wait.
func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
