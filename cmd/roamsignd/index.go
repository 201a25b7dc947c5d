package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

// The index's pace: how often it follows the log, so that a question has little
// to catch up on, and how soon what failed is tried again.
const (
	following  = time.Second
	indexAgain = 5 * time.Second
)

// finder is the index of the audit log, which is opened, or made anew, while the
// service serves: that takes minutes for a log of many millions, and questions are
// refused until then. Signing never waits for it. Safe for concurrent use.
type finder struct {
	dir   string
	log   *audit.Log
	lines *slog.Logger
	index atomic.Pointer[audit.Index] // nil until it has all of the log
}

// start opens the index and follows the log, until ctx ends or stop is called, which
// waits for the end.
func (f *finder) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var owned sync.WaitGroup
	owned.Go(func() { f.follow(ctx) })
	return func() {
		cancel()
		owned.Wait()
	}
}

func (f *finder) follow(ctx context.Context) {
	var index *audit.Index
	var told string
	for pause := time.Duration(0); wait(ctx, pause); pause = following {
		err := f.step(ctx, &index)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			f.lines.Warn("the index of the audit log cannot follow it: questions may find nothing", slog.String("error", told))
		}
		if err != nil {
			if wait(ctx, indexAgain) {
				continue
			}
			return
		}
	}
}

// step opens the index, if it is not open yet, and has it follow the log.
func (f *finder) step(ctx context.Context, index **audit.Index) (err error) {
	if f.dir == "" {
		return errors.New("no folder is named for it: set audit.index")
	}
	if *index == nil {
		if *index, err = audit.OpenIndex(ctx, f.dir, f.log.Source(), f.log.Size); err != nil {
			*index = nil
			return err
		}
	}
	if err := (*index).Follow(ctx); err != nil {
		return err
	}
	if f.index.Swap(*index) == nil {
		f.lines.Info("the index of the audit log is ready", slog.String("dir", f.dir))
	}
	return nil
}

// Find implements [signer.Index].
func (f *finder) Find(ctx context.Context, q audit.Query) (audit.Page, error) {
	index := f.index.Load()
	if index == nil {
		return audit.Page{}, &fault.Error{
			Kind: fault.LogUnavailable, RetryAfter: indexAgain,
			Err: fmt.Errorf("the index in %s is not ready yet", f.dir),
		}
	}
	return index.Find(ctx, q)
}

// wait waits so long, and tells whether ctx goes on.
func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
