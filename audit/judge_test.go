package audit_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/audit"
)

// The checkpoint of one history and all else of another, of the same keys and as long:
// who went on with it would sign a second history.
func TestAnotherHistoryOfTheSameLengthIsNotContinued(t *testing.T) {
	signed := whole(t, 300)
	config := signed
	config.Dir = filepath.Join(t.TempDir(), "log")
	check(t, audit.Create(t.Context(), config))
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	check(t, err)
	fill(t, log, 1000, 1300)
	shut(t, log)
	check(t, os.WriteFile(filepath.Join(config.Dir, "checkpoint"), mustRead(t, filepath.Join(signed.Dir, "checkpoint")), 0o600))
	log, err = audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if err == nil {
		shut(t, log)
	}
	if err == nil || !strings.Contains(err.Error(), "than was signed") {
		t.Errorf("got %v, want a refusal", err)
	}
}
