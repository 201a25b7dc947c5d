package audit_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/roamsign/roamsign/audit"
)

// whole makes a log of so many entries and closes it.
func whole(t testing.TB, size int) audit.Config {
	t.Helper()
	log, config := newLog(t)
	for n := 0; n < size; n += 200 {
		fill(t, log, n, min(n+200, size))
	}
	shut(t, log)
	return config
}

func inspect(t testing.TB, config audit.Config, options audit.CheckOptions) audit.Report {
	t.Helper()
	report, err := audit.Check(t.Context(), audit.Dir(config.Dir), verifiers(t, config), options)
	check(t, err)
	return report
}

func TestAWholeLogIsFoundWhole(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 256, 600} {
		config := whole(t, size)
		var done, total uint64
		report := inspect(t, config, audit.CheckOptions{Progress: func(d, all uint64) { done, total = d, all }})
		if len(report.Findings)+len(report.Remnants) > 0 || report.Entries != uint64(size) || report.Checkpoint.Size != uint64(size) {
			t.Errorf("%d entries: got %+v", size, report)
		}
		if done != uint64(size) || total != uint64(size) {
			t.Errorf("%d entries: progress ended at %d of %d", size, done, total)
		}
		hashes := inspect(t, config, audit.CheckOptions{HashesOnly: true, Since: report.Text})
		if len(hashes.Findings) > 0 || hashes.Entries != 0 {
			t.Errorf("%d entries, hashes only: got %+v", size, hashes)
		}
	}
}

func TestALogThatGrewIsFoundWhole(t *testing.T) {
	log, config := newLog(t)
	since := inspect(t, config, audit.CheckOptions{}).Text
	for _, size := range []int{1, 2, 255, 257, 400} {
		before := quiet(t, log).Size
		fill(t, log, int(before), size)
		quiet(t, log)
		report := inspect(t, config, audit.CheckOptions{Since: since})
		if len(report.Findings) > 0 || report.Checkpoint.Size != uint64(size) {
			t.Errorf("from %d to %d entries: got %+v", before, size, report)
		}
		since = report.Text
	}
}

func TestALogIsCheckedWhileItGrows(t *testing.T) {
	log, config := newLog(t)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := log.Append(t.Context(), entry(n), 0); err != nil {
				t.Errorf("appending: %v", err)
				return
			}
		}
	}()
	var since []byte
	for range 20 {
		report := inspect(t, config, audit.CheckOptions{Since: since})
		if len(report.Findings) > 0 {
			t.Errorf("got %v, want no findings", report.Findings)
		}
		since = report.Text
	}
	close(stop)
	<-stopped
}

// Each file of the log is changed at its begin, its end and between.
func TestAChangedByteIsFound(t *testing.T) {
	config := whole(t, 300)
	since := inspect(t, config, audit.CheckOptions{}).Text
	tried := 0
	err := filepath.WalkDir(config.Dir, func(path string, entry fs.DirEntry, err error) error {
		check(t, err)
		name, err := filepath.Rel(config.Dir, path)
		check(t, err)
		// The locks are empty, gcState tells what was swept, and what is in the journal
		// of a log that is closed is in the tiles: no part of the log.
		if entry.IsDir() || strings.HasSuffix(name, ".lock") || name == ".state/gcState" || name == ".journal" {
			return nil
		}
		content, err := os.ReadFile(path)
		check(t, err)
		for _, at := range []int{0, len(content) / 2, len(content) - 1} {
			at = min(at, len(content)-1)
			flip(t, path, at)
			report := inspect(t, config, audit.CheckOptions{Since: since})
			tried++
			if !names(report, name, at) {
				t.Errorf("%s, byte %d of %d: got %v and %v", name, at, len(content), report.Findings, report.Remnants)
			}
			flip(t, path, at)
		}
		return nil
	})
	check(t, err)
	if report := inspect(t, config, audit.CheckOptions{Since: since}); tried < 20 || len(report.Findings)+len(report.Remnants) > 0 {
		t.Errorf("after %d changes made and undone: got %+v", tried, report)
	}
}

// names reports whether a report says that a file was changed at this byte.
func names(report audit.Report, name string, at int) bool {
	for _, remnant := range report.Remnants {
		if strings.HasPrefix(remnant, name+": ") {
			return true
		}
	}
	for _, f := range report.Findings {
		tile, isBundle := strings.CutPrefix(name, "tile/entries/")
		switch {
		case isBundle && (f.Resource == name || f.Resource == "tile/0/"+tile):
			return true
		case strings.HasPrefix(name, "tile/0/") && f.Resource == name:
			first := int64(0)
			_, _ = fmt.Sscanf(name, "tile/0/%d", &first)
			return f.Index == first*256+int64(at/32)
		case !isBundle && f.Resource == name:
			return true
		}
	}
	return false
}

func TestAHashTileThatWasChangedIsFoundWithoutTheEntries(t *testing.T) {
	config := whole(t, 600)
	for _, name := range []string{"tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"} {
		path := filepath.Join(config.Dir, name)
		flip(t, path, 33)
		if report := inspect(t, config, audit.CheckOptions{HashesOnly: true}); len(report.Findings) == 0 {
			t.Errorf("%s: got no finding", name)
		}
		flip(t, path, 33)
	}
}

// A log is changed in its substance: what was seen before shows it, or what is
// missing.
func TestALogThatLostOrChangedItsHistoryIsFound(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(t *testing.T, config audit.Config, older string)
		want   string
	}{
		{"the last bundle dropped", func(t *testing.T, c audit.Config, _ string) {
			check(t, os.RemoveAll(filepath.Join(c.Dir, "tile/entries/001.p")))
		}, "tile/entries/001.p/44: entry 256: missing"},
		{"the last entries cut off", func(t *testing.T, c audit.Config, _ string) {
			path := filepath.Join(c.Dir, "tile/entries/001.p/44")
			lines := entries(t, c.Dir, 300)
			check(t, os.Truncate(path, int64(2*40+len(bytes.Join(lines[256:296], nil)))))
		}, "tile/entries/001.p/44: entry 296: missing"},
		{"something after the last entry", func(t *testing.T, c audit.Config, _ string) {
			content, err := os.ReadFile(filepath.Join(c.Dir, "tile/entries/001.p/44"))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(c.Dir, "tile/entries/001.p/44"), append(content, 0), 0o600))
		}, "more follows"},
		{"an entry after the last one", func(t *testing.T, c audit.Config, _ string) {
			content, err := os.ReadFile(filepath.Join(c.Dir, "tile/entries/001.p/44"))
			check(t, err)
			line := made(t, 1)[0]
			content = append(binary.BigEndian.AppendUint16(content, uint16(len(line))), line...)
			check(t, os.WriteFile(filepath.Join(c.Dir, "tile/entries/001.p/44"), content, 0o600))
		}, "more follows"},
		{"a tile dropped", func(t *testing.T, c audit.Config, _ string) {
			check(t, os.Remove(filepath.Join(c.Dir, "tile/0/000")))
		}, "tile/0/000: entry 0: missing"},
		{"a tile cut off", func(t *testing.T, c audit.Config, _ string) {
			check(t, os.Truncate(filepath.Join(c.Dir, "tile/0/000"), 1000))
		}, "tile/0/000: entry 0: 1000 bytes instead of 8192"},
		{"the checkpoint dropped", func(t *testing.T, c audit.Config, _ string) {
			check(t, os.Remove(filepath.Join(c.Dir, "checkpoint")))
		}, "checkpoint: missing"},
		{"the checkpoint rolled back", func(t *testing.T, c audit.Config, older string) {
			content, err := os.ReadFile(filepath.Join(older, "checkpoint"))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(c.Dir, "checkpoint"), content, 0o600))
		}, "rolled back"},
		{"an older copy put back", func(t *testing.T, c audit.Config, older string) {
			check(t, os.RemoveAll(c.Dir))
			check(t, os.CopyFS(c.Dir, os.DirFS(older)))
		}, "rolled back"},
		{"another history", func(t *testing.T, c audit.Config, _ string) {
			check(t, os.RemoveAll(c.Dir))
			check(t, audit.Create(t.Context(), c))
			log, err := audit.Open(t.Context(), c, slog.New(slog.DiscardHandler))
			check(t, err)
			fill(t, log, 1000, 1400)
			shut(t, log)
		}, "forked"},
		{"another log's checkpoint", func(t *testing.T, c audit.Config, _ string) {
			content, err := os.ReadFile(filepath.Join(whole(t, 300).Dir, "checkpoint"))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(c.Dir, "checkpoint"), content, 0o600))
		}, "none of the keys"},
		{"an entry of no form", func(t *testing.T, c audit.Config, _ string) {
			lines := append(entries(t, c.Dir, 300), []byte("not an entry"))
			check(t, os.RemoveAll(c.Dir))
			foreignLog(t, c, lines)
		}, "tile/entries/001.p/45: entry 300: " + audit.ErrNotCanonical.Error()},
	} {
		t.Run(row.name, func(t *testing.T) {
			log, config := newLog(t)
			fill(t, log, 0, 100)
			quiet(t, log)
			older := filepath.Join(t.TempDir(), "older")
			copied(t, older, config.Dir)
			fill(t, log, 100, 300)
			shut(t, log)
			since := inspect(t, config, audit.CheckOptions{}).Text
			row.change(t, config, older)
			report := inspect(t, config, audit.CheckOptions{Since: since})
			if !slices.ContainsFunc(report.Findings, func(f audit.Finding) bool { return strings.Contains(f.String(), row.want) }) {
				t.Errorf("got %v, want a finding %q", report.Findings, row.want)
			}
		})
	}
}

// foreignLog writes a log's files as https://c2sp.org/tlog-tiles has them, with
// none of the code that it is to judge.
func foreignLog(t testing.TB, config audit.Config, lines [][]byte) {
	t.Helper()
	write := func(name string, content []byte) {
		path := filepath.Join(config.Dir, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		check(t, os.WriteFile(path, content, 0o600))
	}
	number := func(n, width int) string {
		path := fmt.Sprintf("%03d", n%1000)
		for n /= 1000; n > 0; n /= 1000 {
			path = fmt.Sprintf("x%03d/%s", n%1000, path)
		}
		if width < 256 {
			path += fmt.Sprintf(".p/%d", width)
		}
		return path
	}
	for n := 0; n*256 < len(lines); n++ {
		var bundle []byte
		some := lines[n*256 : min(n*256+256, len(lines))]
		for _, line := range some {
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(line))), line...)
		}
		write("tile/entries/"+number(n, len(some)), bundle)
	}
	span := 1
	for level := 0; span <= len(lines); level++ {
		hashes := len(lines) / span
		for n := 0; n*256 < hashes; n++ {
			var tile []byte
			width := min(256, hashes-n*256)
			for i := range width {
				at := (n*256 + i) * span
				hash := merkleTreeHash(lines[at : at+span])
				tile = append(tile, hash[:]...)
			}
			write(fmt.Sprintf("tile/%d/%s", level, number(n, width)), tile)
		}
		span *= 256
	}
	root := merkleTreeHash(lines)
	private, err := os.ReadFile(config.KeyFiles[0])
	check(t, err)
	signer, err := note.NewSigner(strings.TrimSpace(string(private)))
	check(t, err)
	encoded := base64.StdEncoding.EncodeToString(root[:])
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), len(lines), encoded)}, signer)
	check(t, err)
	write("checkpoint", signed)
	write(".journal", nil)
	write(".state/version", []byte("1"))
	write(".state/treeState", fmt.Appendf(nil, `{"size":%d,"root":%q}`, len(lines), encoded))
}

// made are the lines of so many made-up entries.
func made(t testing.TB, count int) [][]byte {
	t.Helper()
	lines := make([][]byte, count)
	for n := range lines {
		e := entry(n)
		line, err := e.Encode()
		check(t, err)
		lines[n] = line
	}
	return lines
}

func TestALogOfThreeLevelsMadeByHandIsFoundWholeAndContinued(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	const size = 65536 + 300
	foreignLog(t, config, made(t, size))
	report := inspect(t, config, audit.CheckOptions{HashesOnly: true})
	if len(report.Findings)+len(report.Remnants) > 0 || report.Checkpoint.Size != size {
		t.Fatalf("got %+v", report)
	}
	for name, want := range map[string]string{
		"tile/1/000":     "tile/1/000: entry 256: hash 1 is not",
		"tile/2/000.p/1": "tile/2/000.p/1: entry 0: hash 0 is not",
	} {
		at := 40 % len(mustRead(t, filepath.Join(config.Dir, name)))
		flip(t, filepath.Join(config.Dir, name), at)
		changed := inspect(t, config, audit.CheckOptions{HashesOnly: true})
		if len(changed.Findings) == 0 || !strings.HasPrefix(changed.Findings[0].String(), want) {
			t.Errorf("%s changed: got %v, want %q", name, changed.Findings, want)
		}
		flip(t, filepath.Join(config.Dir, name), at)
	}
	log := open(t, config)
	fill(t, log, size, size+10)
	quiet(t, log)
	if grown := inspect(t, config, audit.CheckOptions{Since: report.Text, HashesOnly: true}); len(grown.Findings) > 0 || grown.Checkpoint.Size != size+10 {
		t.Errorf("continued: got %+v", grown)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	return content
}

// Whoever has the key may sign for what is not there, that nobody comes to an end.
func TestACheckOfAHugeLogEnds(t *testing.T) {
	config := whole(t, 600)
	private, err := os.ReadFile(config.KeyFiles[0])
	check(t, err)
	signer, err := note.NewSigner(strings.TrimSpace(string(private)))
	check(t, err)
	huge := fmt.Sprintf("%s\n%d\n%s\n", origin, uint64(1)<<48, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	signed, err := note.Sign(&note.Note{Text: huge}, signer)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(config.Dir, "checkpoint"), signed, 0o600))
	for _, hashesOnly := range []bool{false, true} {
		if report := inspect(t, config, audit.CheckOptions{HashesOnly: hashesOnly}); len(report.Findings) != 100 {
			t.Errorf("hashes only %v: got %d findings, want as many as there is room for", hashesOnly, len(report.Findings))
		}
	}
}

func TestACheckThatCannotBeMadeErrs(t *testing.T) {
	config := whole(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Check(ctx, audit.Dir(config.Dir), verifiers(t, config), audit.CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
	if _, err := audit.Check(t.Context(), audit.Dir(config.Dir), verifiers(t, config), audit.CheckOptions{Since: []byte("x")}); err == nil {
		t.Error("a checkpoint of nobody's seen before: got no error")
	}
	report, err := audit.Check(t.Context(), audit.Dir(config.Dir), audit.Verifiers{}, audit.CheckOptions{})
	if err != nil || len(report.Findings) != 1 {
		t.Errorf("no keys: got %+v and %v, want one finding", report, err)
	}
}
