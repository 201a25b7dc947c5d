package audit_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
)

// TestAClockThatWasPutBackHoldsNoCheckpointUp: before the log is opened, and while it
// is open.
func TestAClockThatWasPutBackHoldsNoCheckpointUp(t *testing.T) {
	everywhere(t, func(t *testing.T, config audit.Config) {
		check(t, audit.Create(t.Context(), config))
		log := open(t, config)
		fill(t, log, 0, 5)
		shut(t, log)
		publishedInAnHour(t, config)
		log = open(t, config)
		fill(t, log, 5, 10)
		if c := quiet(t, log); c.Size != 10 {
			t.Errorf("published: got %d entries, want 10", c.Size)
		}
		publishedInAnHour(t, config)
		fill(t, log, 10, 15)
		if c := quiet(t, log); c.Size != 15 {
			t.Errorf("published: got %d entries, want 15", c.Size)
		}
	})
}

// publishedInAnHour gives the last checkpoint a time by a clock that is fast.
func publishedInAnHour(t *testing.T, config audit.Config) {
	t.Helper()
	if config.Dir == "" {
		running(t).do(t, nameOf(config), "UPDATE Checkpoint SET published_at = published_at + 3600000 WHERE id = 0")
		return
	}
	soon := time.Now().Add(time.Hour)
	check(t, os.Chtimes(filepath.Join(config.Dir, "checkpoint"), soon, soon))
}

func TestALogIsMadeForNobodyElse(t *testing.T) {
	config := newConfig(t)
	check(t, os.Mkdir(config.Dir, 0o755))
	check(t, audit.Create(t.Context(), config))
	info, err := os.Stat(config.Dir)
	check(t, err)
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("the directory's mode: got %04o, want 0700", mode)
	}
}

func TestAHugeRemnantIsNotReadWhole(t *testing.T) {
	log, config := newLog(t)
	fill(t, log, 0, 300)
	quiet(t, log)
	shut(t, log)
	remnant := filepath.Join(config.Dir, "tile", "0", "000.p", "5")
	check(t, os.MkdirAll(filepath.Dir(remnant), 0o700))
	check(t, os.WriteFile(remnant, nil, 0o600))
	check(t, os.Truncate(remnant, 1<<36)) // 64 GiB, of nothing
	report := inspect(t, config, audit.CheckOptions{})
	if len(report.Findings) != 0 || len(report.Remnants) != 1 {
		t.Errorf("got findings %v and remnants %v, want the one remnant", report.Findings, report.Remnants)
	}
}
