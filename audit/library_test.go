package audit

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRepetitionsAreWrittenNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		logger := slog.New(&sparing{Handler: slog.NewTextHandler(&text, nil), said: &said{at: map[string]time.Time{}}}).With("a", 1)
		for range 200 { // twenty seconds
			logger.Error("gone")
			time.Sleep(100 * time.Millisecond)
		}
		logger.Error("another thing")
		if got := strings.Count(text.String(), "said=gone"); got != 2 {
			t.Errorf("got %d of them, want 2:\n%s", got, text.String())
		}
		if got := strings.Count(text.String(), `msg=tessera a=1 said="another thing"`); got != 1 {
			t.Errorf("got %d of the other, want 1:\n%s", got, text.String())
		}
	})
}
