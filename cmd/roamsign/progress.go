package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/roamsign/roamsign/internal/command"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// many is how many documents make it worth to show how far the run has come.
const many = 10

// reporter writes the lines of a run, and on a terminal the progress of a long
// one below them. Lines may come from any goroutine; the rest is one caller's.
type reporter struct {
	streams       command.Streams
	total, signed int
	done          string         // what becomes of the documents, in one word
	others        map[string]int // what became of those of which that did not, in words

	mu  sync.Mutex               // held while something is written
	bar *progressbar.ProgressBar // nil if there is none
}

// newReporter reports on a number of documents, what is being done to them
// ("signing"), and what they are then ("signed").
func newReporter(streams command.Streams, total int, doing, done string) *reporter {
	r := &reporter{streams: streams, total: total, done: done, others: map[string]int{}}
	if total >= many && terminal(streams.Err) {
		r.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(streams.Err),
			progressbar.OptionSetDescription(doing),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(false), // much of it is waiting, for all at once
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionClearOnFinish(),
		)
		r.show()
	}
	return r
}

// amiss counts documents that something else became of.
func (r *reporter) amiss(what string, n int) { r.others[what] += n }

func terminal(to io.Writer) bool {
	file, ok := to.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// line writes a line of results.
func (r *reporter) line(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	defer r.show()
	fmt.Fprintf(r.streams.Out, format+"\n", args...)
}

// complain reports what is wrong with one document, or with the whole run if it
// names none.
func (r *reporter) complain(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	defer r.show()
	if name == "" {
		fmt.Fprintf(r.streams.Err, "roamsign: %s\n", oneLine(err.Error()))
		return
	}
	complain(r.streams, name, err)
}

// step counts one more document as done.
func (r *reporter) step() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bar != nil {
		_ = r.bar.Add(1) // the bar is an ornament
	}
}

// clear takes the bar away, with mu held.
func (r *reporter) clear() {
	if r.bar != nil {
		_ = r.bar.Clear()
	}
}

// show draws the bar below the last line, with mu held.
func (r *reporter) show() {
	if r.bar != nil {
		_ = r.bar.RenderBlank()
	}
}

// hide takes the bar away for good.
func (r *reporter) hide() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	r.bar = nil
}

// finish sums up a run that did not do everything.
func (r *reporter) finish() {
	r.hide()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total <= 1 || r.signed >= r.total {
		return
	}
	parts := []string{}
	for _, what := range slices.Sorted(maps.Keys(r.others)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.others[what], what))
	}
	summary := strings.Join(parts, ", ")
	if summary != "" {
		summary = "; " + summary
	}
	fmt.Fprintf(r.streams.Err, "roamsign: %d of %d documents %s%s\n", r.signed, r.total, r.done, summary)
}
