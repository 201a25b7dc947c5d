package audit_test

import (
	"context"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/audit/mysql"
)

// TestAStoppedSignerHoldsUpTheOthersForSecondsOnly: a process that is stopped within
// an append holds the row that every append needs, and its connection stays open.
func TestAStoppedSignerHoldsUpTheOthersForSecondsOnly(t *testing.T) {
	t.Parallel()
	config := newShared(t)
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	stopped, err := mysql.Database{}.Open(config.MySQL)
	check(t, err)
	defer stopped.Close()
	within, err := stopped.BeginTx(context.Background(), nil)
	check(t, err)
	defer func() { _ = within.Rollback() }() // the server has done it
	var size int
	check(t, within.QueryRowContext(t.Context(), "SELECT `size` FROM `TreeState` WHERE `id` = 0 FOR UPDATE").Scan(&size))
	began := time.Now()
	_, err = log.Append(t.Context(), entry(0), 0)
	check(t, err)
	t.Logf("held up for %v", time.Since(began))
}
