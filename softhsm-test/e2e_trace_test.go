package softhsmtest_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// traced is one system call of a process under strace: where in the trace it
// began and returned. Calls of several threads overlap.
type traced struct {
	name, text  string // the text is all of its line
	began, over int    // lines; over is 0 for one that never returned
	failed      bool
}

// Lines of strace -f: whole calls, their beginnings and their ends.
var (
	wholeCall = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)`)
	callBegun = regexp.MustCompile(`^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$`)
	callEnded = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|\?)`)
)

// readTrace reads what strace wrote.
func readTrace(text []byte) (calls []*traced) {
	under := map[string]*traced{} // by thread
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line := strings.TrimSpace(string(line))
		if m := callBegun.FindStringSubmatch(line); m != nil {
			under[m[1]] = &traced{name: m[2], text: m[3], began: number}
			calls = append(calls, under[m[1]])
		} else if m := callEnded.FindStringSubmatch(line); m != nil && under[m[1]] != nil {
			call := under[m[1]]
			delete(under, m[1])
			call.text += m[3]
			call.over, call.failed = number, strings.HasPrefix(m[4], "-") || m[4] == "?"
		} else if m := wholeCall.FindStringSubmatch(line); m != nil {
			calls = append(calls, &traced{m[2], m[3], number, number, strings.HasPrefix(m[4], "-") || m[4] == "?"})
		}
	}
	return calls
}

// first is the first call after a line that did what was asked for, and returned.
func first(t *testing.T, calls []*traced, after int, name string, parts ...string) *traced {
	t.Helper()
	for _, call := range calls {
		fits := call.name == name && call.began > after && call.over > 0 && !call.failed
		for _, part := range parts {
			fits = fits && strings.Contains(call.text, part)
		}
		if fits {
			return call
		}
	}
	t.Fatalf("the trace has no %s with %q after line %d", name, parts, after)
	return nil
}

// TestAnEntryIsOnTheDiskBeforeItsReplyIsWritten looks at the system calls: a page
// cache survives whatever kills the process, so no kill shows it. On the disk is the
// journal, first; the tiles have the entry before the process ends.
func TestAnEntryIsOnTheDiskBeforeItsReplyIsWritten(t *testing.T) {
	t.Parallel()
	trace := filepath.Join(t.TempDir(), "trace")
	tracer := []string{
		"strace", "-D", "-f", "-q", "-yy", "-e", "signal=none", "-s", "1000000",
		"-e", "trace=openat,write,pwrite64,fsync,fdatasync,renameat,renameat2,rename", "-o", trace,
	}
	if out, err := exec.CommandContext(t.Context(), "strace", "-f", "-o", trace, "true").CombinedOutput(); err != nil {
		t.Fatalf("strace is missing, or may trace nothing here (in a container: --cap-add=SYS_PTRACE): %v\n%s", err, out)
	}
	dir := copied(t)
	config := filepath.Join(dir, "roamsignd.yaml")
	write(t, config, regexp.MustCompile(`(?m)^listen: .*$`).ReplaceAll(read(t, config), []byte("listen: 127.0.0.1:0")))
	d := beginUnder(t, dir, tracer, nil, "serve", "--config", config)
	d.await(t, "serve", func() bool {
		_, rest, _ := strings.Cut(d.errs.from(0), "msg=serving address=")
		d.address, _, _ = strings.Cut(rest, " ")
		return d.address != ""
	})
	api := roamsignv1.NewSignerServiceClient(dial(t, d, d.tls(t)))
	answer, err := api.GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
	check(t, err)
	fingerprint := sha256.Sum256(answer.GetCertificate())
	const signatures = 5
	for n := range signatures {
		digest := sha256.Sum256([]byte{byte(n)})
		_, err := api.SignDigest(t.Context(), &roamsignv1.SignDigestRequest{
			Tin: own, RequestId: fmt.Sprintf("traced-%d.", n), DocumentDigest: digest[:], CertificateSha256: fingerprint[:],
		})
		check(t, err)
	}
	d.stop(t)

	var calls []*traced
	d.awaitEnd(t, "the end of the trace", func() bool { // strace outlives it for a moment
		text := read(t, trace)
		calls = readTrace(text)
		return bytes.Contains(text, []byte("+++ exited with 0 +++"))
	})
	for _, call := range calls {
		if call.name == "openat" && strings.Contains(call.text, journal+`"`) && strings.Contains(call.text, "O_TRUNC") {
			t.Errorf("the journal was emptied: %s", call.text)
		}
	}
	for n := range signatures {
		entry := recorded(t, calls, n)
		durable := first(t, calls, entry.over, "fdatasync", journal+">").over
		// The next entry is asked for only once the reply is there: what is between
		// this entry and the next on the connection holds the reply.
		end := 1 << 62
		if n+1 < signatures {
			end = recorded(t, calls, n+1).began
		}
		reply := firstReply(calls, entry.began, end)
		switch {
		case reply == nil:
			t.Errorf("signature %d: the trace has no reply", n)
		case reply.began <= durable:
			t.Errorf("signature %d: the reply began at line %d of the trace, before the entry was durable at line %d", n, reply.began, durable)
		}
		bundle := first(t, calls, durable, "write", "/audit/tile/entries/", fmt.Sprintf("traced-%d.", n))
		isDurable(t, calls, bundle, "/audit/tile/entries/")
		hashes := first(t, calls, bundle.over, "write", "/audit/tile/0/")
		isDurable(t, calls, hashes, "/audit/tile/0/")
		state := first(t, calls, hashes.over, "write", "/audit/.state/treeState")
		isDurable(t, calls, state, "/audit/.state")
	}
}

// journal is how the path of the log's journal ends.
const journal = "/audit/.journal"

// recorded is the write of an entry to the journal, which is opened for it as it is.
func recorded(t *testing.T, calls []*traced, n int) *traced {
	t.Helper()
	entry := first(t, calls, 0, "pwrite64", journal+">", fmt.Sprintf("traced-%d.", n))
	var opened *traced
	for _, call := range calls {
		if call.name == "openat" && strings.Contains(call.text, journal+`"`) && call.over > 0 && call.over < entry.began {
			opened = call
		}
	}
	if opened == nil || opened.failed || !strings.Contains(opened.text, "O_WRONLY") {
		t.Fatalf("signature %d: the journal was not opened for writing before it was written to: %+v", n, opened)
	}
	return entry
}

// isDurable is the line by which what was written so is on the disk: written
// through, renamed, and its directory fsynced.
func isDurable(t *testing.T, calls []*traced, written *traced, in string) int {
	t.Helper()
	path, _, found := strings.Cut(written.text[strings.Index(written.text, "<")+1:], ">")
	if !found {
		t.Fatalf("strace shows no path: %.200s", written.text)
	}
	first(t, calls, 0, "openat", `"`+path+`"`, "O_SYNC")
	var renamed *traced
	for _, call := range calls {
		if strings.HasPrefix(call.name, "rename") && strings.Contains(call.text, `"`+path+`"`) && call.over > written.over {
			renamed = call
		}
	}
	if renamed == nil || renamed.failed || renamed.began < written.over {
		t.Fatalf("%s was not renamed after it was written", path)
	}
	return first(t, calls, renamed.over, "fsync", in).over
}

// replySize is less than a reply with a signature of 256 bytes takes, and more than
// what else HTTP/2 sends while nothing else is asked for.
const replySize = 256

// firstReply is the first write to a client between two lines that may hold a
// signature.
func firstReply(calls []*traced, from, to int) *traced {
	for _, call := range calls {
		var size int
		_, count, _ := strings.Cut(call.text, `", `)
		_, _ = fmt.Sscan(count, &size)
		if call.name == "write" && strings.Contains(call.text, "<TCP:[") && size >= replySize && call.began > from && call.began < to {
			return call
		}
	}
	return nil
}

// awaitEnd is await for what comes after the daemon's end.
func (d *daemon) awaitEnd(t *testing.T, what string, done func() bool) {
	t.Helper()
	again := &daemon{errs: d.errs, ended: make(chan struct{})}
	again.await(t, what, done)
}
