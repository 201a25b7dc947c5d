package audit_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/roamsign/roamsign/audit"
)

// served serves a log; requests with the header Auditor are an auditor's.
func served(t testing.TB, source audit.Source) (*httptest.Server, *url.URL) {
	t.Helper()
	handler := audit.Handler(source, func(r *http.Request) bool { return r.Header.Get("Auditor") != "" })
	server := httptest.NewServer(http.StripPrefix("/log", handler))
	t.Cleanup(server.Close)
	prefix, err := url.Parse(server.URL + "/log")
	check(t, err)
	return server, prefix
}

// asAuditor adds the header.
type asAuditor struct{ to http.RoundTripper }

func (a asAuditor) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Auditor", "yes")
	return a.to.RoundTrip(r)
}

func TestEntriesAreServedToAuditorsOnly(t *testing.T) {
	config := whole(t, 300)
	swept := map[string][]byte{}
	// What stands for a partial file that was swept is as long as that one was.
	for _, name := range []string{"tile/0/000", "tile/entries/000"} {
		content := mustRead(t, filepath.Join(config.Dir, name))
		length := 200 * 32
		if lines := entries(t, config.Dir, 300); name != "tile/0/000" {
			length = 200*2 + len(bytes.Join(lines[:200], nil))
		}
		swept[name+".p/200"] = content[:length]
		check(t, os.RemoveAll(filepath.Join(config.Dir, name+".p")))
	}
	server, prefix := served(t, audit.Dir(config.Dir))
	for _, row := range []struct {
		path                string
		anybody, auditor    int
		content, cachedWith string
	}{
		{"/log/checkpoint", 200, 200, "checkpoint", "no-cache"},
		{"/log/tile/0/000", 200, 200, "tile/0/000", "public, max-age=31536000, immutable"},
		{"/log/tile/0/001.p/44", 200, 200, "tile/0/001.p/44", "public, max-age=31536000, immutable"},
		{"/log/tile/1/000.p/1", 200, 200, "tile/1/000.p/1", "public, max-age=31536000, immutable"},
		{"/log/tile/0/000.p/200", 200, 200, "tile/0/000.p/200", ""},
		{"/log/tile/entries/000.p/200", 403, 200, "tile/entries/000.p/200", ""},
		{"/log/tile/entries/000", 403, 200, "tile/entries/000", "private, max-age=31536000, immutable"},
		{"/log/tile/entries/001.p/44", 403, 200, "tile/entries/001.p/44", ""},
		{"/log/tile/entries/002", 403, 404, "", "no-cache"},
		{"/log/tile/entries/0", 403, 404, "", ""},
		{"/log/tile/0/002", 404, 404, "", ""},
		{"/log/tile/0/0", 404, 404, "", ""},
		{"/log/tile/0/000.p/0", 404, 404, "", ""},
		{"/log/tile/0/000.p/256", 404, 404, "", ""},
		{"/log/tile/00/000", 404, 404, "", ""},
		{"/log/tile/64/000", 404, 404, "", ""},
		{"/log/tile/-1/000", 404, 404, "", ""},
		{"/log/.lock", 404, 404, "", ""},
		{"/log/.state/treeState", 404, 404, "", ""},
		{"/log/tile/../.state/treeState", 404, 404, "", ""},
		{"/log/tile/0/%2e%2e/%2e%2e/.state/treeState", 404, 404, "", ""},
		{"/log/tile/0/..%2f..%2f.state%2ftreeState", 404, 404, "", ""},
		{"/log/tile/0/x000/000", 404, 404, "", ""},
		{"/log/", 404, 404, "", ""},
		{"/checkpoint", 404, 404, "", ""},
	} {
		for who, client := range map[string]*http.Client{"anybody": server.Client(), "an auditor": {Transport: asAuditor{server.Client().Transport}}} {
			want := row.anybody
			if who == "an auditor" {
				want = row.auditor
			}
			answer, err := client.Get(server.URL + row.path)
			check(t, err)
			got, err := io.ReadAll(answer.Body)
			check(t, err)
			answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("%s: %s gets %d, want %d", row.path, who, answer.StatusCode, want)
			}
			if want != 200 {
				continue
			}
			content := swept[row.content]
			if content == nil {
				content = mustRead(t, filepath.Join(config.Dir, row.content))
			}
			if !bytes.Equal(got, content) {
				t.Errorf("%s: %s gets %d bytes, want the %d of %s", row.path, who, len(got), len(content), row.content)
			}
			if cached := answer.Header.Get("Cache-Control"); row.cachedWith != "" && cached != row.cachedWith {
				t.Errorf("%s: Cache-Control: got %q, want %q", row.path, cached, row.cachedWith)
			}
		}
	}
	answer, err := server.Client().Post(prefix.JoinPath("checkpoint").String(), "text/plain", strings.NewReader("x"))
	check(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("posting: got %d, want %d", answer.StatusCode, http.StatusMethodNotAllowed)
	}
	unguarded := httptest.NewRecorder()
	audit.Handler(audit.Dir(config.Dir), nil).ServeHTTP(unguarded, httptest.NewRequest(http.MethodGet, "/tile/entries/000", nil))
	if unguarded.Code != http.StatusForbidden {
		t.Errorf("nobody says who is an auditor: got %d, want %d", unguarded.Code, http.StatusForbidden)
	}
}

// slowSource answers once it is free to.
type slowSource struct {
	audit.Source
	reading *atomic.Int64
	free    chan struct{}
}

func (s slowSource) Tile(context.Context, uint64, uint64, uint8) ([]byte, error) {
	s.reading.Add(1)
	<-s.free
	return []byte("tile"), nil
}

func TestAFewReadTheLogAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, all = 4, 30
		source := slowSource{reading: &atomic.Int64{}, free: make(chan struct{})}
		handler := audit.Handler(source, nil)
		ask := func(ctx context.Context) int {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/tile/0/000", nil))
			return answer.Code
		}
		var asking sync.WaitGroup
		for range all {
			asking.Go(func() {
				if code := ask(t.Context()); code != http.StatusOK {
					t.Errorf("got %d, want %d", code, http.StatusOK)
				}
			})
		}
		synctest.Wait()
		if reading := source.reading.Load(); reading != most {
			t.Errorf("%d read at a time, want %d", reading, most)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if code := ask(gone); code != http.StatusServiceUnavailable {
			t.Errorf("who has gone: got %d, want %d", code, http.StatusServiceUnavailable)
		}
		close(source.free)
		asking.Wait()
		if reading := source.reading.Load(); reading != all {
			t.Errorf("%d were answered, want %d", reading, all)
		}
	})
}

func TestALogIsCheckedFromAfar(t *testing.T) {
	config := whole(t, 600)
	server, prefix := served(t, audit.Dir(config.Dir))
	v := verifiers(t, config)
	near := audit.URL(prefix, server.Client())
	auditor := audit.URL(prefix, &http.Client{Transport: asAuditor{server.Client().Transport}})

	report, err := audit.Check(t.Context(), near, v, audit.CheckOptions{HashesOnly: true})
	if err != nil || len(report.Findings) > 0 || report.Checkpoint.Size != 600 {
		t.Errorf("hashes only: got %+v and %v", report, err)
	}
	if _, err := audit.Check(t.Context(), near, v, audit.CheckOptions{}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("entries to anybody: got %v, want a refusal", err)
	}
	report, err = audit.Check(t.Context(), auditor, v, audit.CheckOptions{Since: report.Text})
	if err != nil || len(report.Findings) > 0 || report.Entries != 600 {
		t.Errorf("an auditor: got %+v and %v", report, err)
	}
	flip(t, filepath.Join(config.Dir, "tile/entries/001"), 1000)
	if report, err = audit.Check(t.Context(), auditor, v, audit.CheckOptions{}); err != nil || len(report.Findings) == 0 {
		t.Errorf("a changed entry: got %+v and %v", report, err)
	}
	check(t, os.RemoveAll(filepath.Join(config.Dir, "tile/0")))
	if report, err = audit.Check(t.Context(), near, v, audit.CheckOptions{HashesOnly: true}); err != nil || len(report.Findings) == 0 {
		t.Errorf("no tiles: got %+v and %v", report, err)
	}
	server.Close()
	if _, err := audit.Check(t.Context(), near, v, audit.CheckOptions{}); err == nil {
		t.Error("a server that is gone: got no error")
	}
}

func TestAServerCannotFloodItsReader(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, &zeros{})
	}))
	defer endless.Close()
	prefix, err := url.Parse(endless.URL)
	check(t, err)
	if _, err := audit.URL(prefix, endless.Client()).Checkpoint(t.Context()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v, want an end", err)
	}
}
