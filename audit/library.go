package audit

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// LogTo sends to logger what Tessera has to say, which otherwise goes to standard
// error: it logs through a package of its own, for the whole process. Call it once,
// before any log is opened. What repeats itself, as it does ten times a second
// while a directory is gone, is written once in ten seconds.
func LogTo(logger *slog.Logger) {
	klog.SetSlogLogger(slog.New(&sparing{Handler: logger.Handler(), said: &said{at: map[string]time.Time{}}}))
}

// Repetitions are known by their text, and forgotten after a while.
const (
	silence = 10 * time.Second
	maxSaid = 256
)

// sparing is a handler that leaves repetitions out.
type sparing struct {
	slog.Handler
	said *said
}

// said is what was written lately.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
}

// again reports whether the text was written less than a silence ago, and
// otherwise remembers that it is written now.
func (s *said) again(text string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, found := s.at[text]; found && now.Sub(before) < silence {
		return true
	}
	maps.DeleteFunc(s.at, func(_ string, at time.Time) bool { return now.Sub(at) >= silence })
	if len(s.at) < maxSaid {
		s.at[text] = now
	}
	return false
}

// Handle implements [slog.Handler].
func (h *sparing) Handle(ctx context.Context, r slog.Record) error {
	if h.said.again(r.Message, r.Time) {
		return nil
	}
	text := r.Message
	r = r.Clone()
	r.Message = "tessera"
	r.AddAttrs(slog.String("said", text))
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sparing{h.Handler.WithAttrs(attrs), h.said}
}

// WithGroup implements [slog.Handler].
func (h *sparing) WithGroup(name string) slog.Handler {
	return &sparing{h.Handler.WithGroup(name), h.said}
}
