package softhsmtest_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/roamsign/roamsign/internal/fault"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// volume is a small file system of its own under the audit log of a folder of dev
// mode's, in a mount name space that a process holds open. What runs there sees it.
type volume struct {
	t      *testing.T
	dir    string // dev mode's, the same inside
	holder int    // the process
}

// newVolume needs root, or a kernel that lets users have name spaces.
func newVolume(t *testing.T, size string) *volume {
	t.Helper()
	v := &volume{t: t, dir: copied(t)}
	const script = `set -e
mkdir "$1/volume"
mount -t tmpfs -o size="$2",mode=0700 none "$1/volume"
cp -a "$1/audit/." "$1/volume/"
rm -r "$1/audit"
mkdir "$1/audit"
mount --bind "$1/volume" "$1/audit"
echo mounted
cat`
	args := []string{"--mount", "--propagation", "private"}
	if os.Geteuid() != 0 {
		args = append(args, "--map-root-user")
	}
	holder := exec.Command("unshare", append(args, "sh", "-c", script, "sh", v.dir, size)...)
	in, err := holder.StdinPipe()
	check(t, err)
	said := &output{}
	holder.Stdout, holder.Stderr = said, said
	check(t, holder.Start())
	v.holder = holder.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = holder.Wait() // which ends with its input
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-ended
	})
	for late := time.After(patience); !strings.Contains(said.String(), "mounted"); {
		select {
		case <-ended:
			t.Fatalf("mounting a file system (needs root, or name spaces for users): %s", said)
		case <-late:
			t.Fatalf("mounting a file system takes more than %v: %s", patience, said)
		case <-time.After(5 * time.Millisecond):
		}
	}
	config := filepath.Join(v.dir, "roamsignd.yaml")
	address := regexp.MustCompile(`(?m)^listen: .*$`)
	write(t, config, address.ReplaceAll(read(t, config), []byte("listen: 127.0.0.1:0")))
	return v
}

// inside is a command line that is run there.
func (v *volume) inside(args ...string) []string {
	enter := []string{"nsenter", "--target", fmt.Sprint(v.holder), "--mount"}
	if os.Geteuid() != 0 {
		enter = append(enter, "--user", "--preserve-credentials")
	}
	return append(enter, args...)
}

// path is that of a file there, seen from here.
func (v *volume) path(parts ...string) string {
	return filepath.Join(append([]string{"/proc", fmt.Sprint(v.holder), "root", v.dir}, parts...)...)
}

// try runs a command there until it succeeds, for so long: what is busy now need
// not be so the next moment.
func (v *volume) try(atMost time.Duration, args ...string) error {
	args = v.inside(args...)
	for late := time.Now().Add(atMost); ; {
		out, err := exec.CommandContext(v.t.Context(), args[0], args[1:]...).CombinedOutput()
		if err == nil {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
}

// observed is a roamsignd on a volume, with clients that sign all the time.
type observed struct {
	*daemon
	t      *testing.T
	health healthv1.HealthClient
	stop   func()

	mu      sync.Mutex
	refused map[fault.Kind]int // errors of the service, by their kinds
}

// run starts roamsignd there, and clients of it that hold what they get. It does
// not wait for health.
func (v *volume) run(all *held) *observed {
	t := v.t
	t.Helper()
	o := &observed{t: t, refused: map[fault.Kind]int{}}
	o.daemon = beginUnder(t, v.dir, v.inside(), nil, "serve", "--config", filepath.Join(v.dir, "roamsignd.yaml"))
	o.await(t, "serve", func() bool {
		_, rest, _ := strings.Cut(o.errs.from(0), "msg=serving address=")
		o.address, _, _ = strings.Cut(rest, " ")
		return o.address != ""
	})
	conn := dial(t, o.daemon, o.tls(t))
	o.health = healthv1.NewHealthClient(conn)
	api := roamsignv1.NewSignerServiceClient(conn)
	answer, err := api.GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
	check(t, err)
	fingerprint := sha256.Sum256(answer.GetCertificate())
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			all.load(ctx, api, fmt.Sprint(o.address, " client ", i), fingerprint[:], o.note)
		})
	}
	o.stop = func() {
		cancel()
		clients.Wait()
	}
	t.Cleanup(o.stop)
	return o
}

// note counts an error that the service named.
func (o *observed) note(err error) {
	e, named := errors.AsType[*fault.Error](told(err))
	if !named {
		return // the connection broke
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused[e.Kind]++
}

// refusals are how often the log was what was wrong, so far.
func (o *observed) refusals() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused[fault.LogUnavailable]
}

// says reports whether the health service says so now.
func (o *observed) says(want healthv1.HealthCheckResponse_ServingStatus) bool {
	answer, err := o.health.Check(o.t.Context(), &healthv1.HealthCheckRequest{})
	return err == nil && answer.GetStatus() == want
}

// over reports whether it has ended, as it may where the directory goes while it
// is being written to: by Tessera's panic and nothing else.
func (o *observed) over() bool {
	select {
	case <-o.ended:
		if o.code != 2 || !strings.Contains(o.errs.String(), "tessera/storage/posix") {
			o.t.Fatalf("roamsignd ended with code %d, want none, or Tessera's panic:\n%s", o.code, o.errs)
		}
		return true
	default:
		return false
	}
}

// only checks that callers were told nothing else.
func (o *observed) only(want fault.Kind) {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for kind, count := range o.refused {
		if kind != want {
			o.t.Errorf("callers were told %v %d times, want nothing but %v", kind, count, want)
		}
	}
}

// TestDrillAFullDiskReleasesNothingAndHeals: in the process that met it, and in one
// that starts on it. What was released last before stands in the journal alone.
func TestDrillAFullDiskReleasesNothingAndHeals(t *testing.T) {
	t.Parallel()
	v := newVolume(t, "24m")
	all := &held{}
	o := v.run(all)
	filler := v.path("audit", "filler")
	for round := range atFull(2, 20) {
		enough := all.count() + 20
		o.await(t, "sign", func() bool { return all.count() > enough })
		file, err := os.Create(filler)
		check(t, err)
		written, err := io.Copy(file, zeros{})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("round %d: writing %d bytes: got %v, want %v", round, written, err, syscall.ENOSPC)
		}
		check(t, file.Close())
		before := o.refusals()
		o.await(t, "say that it does not serve", func() bool { return o.says(healthv1.HealthCheckResponse_NOT_SERVING) })
		o.await(t, "refuse", func() bool { return o.refusals() >= before+50 })
		if round%2 == 1 {
			o.stop()
			o.only(fault.LogUnavailable)
			o.signal(t, syscall.SIGKILL)
			o.wait(t)
			held := all.count()
			o = v.run(all)
			o.await(t, "refuse", func() bool { return o.refusals() >= 50 })
			if now := all.count(); now != held {
				t.Errorf("round %d: %d signatures were released on a full disk", round, now-held)
			}
		}
		check(t, os.Remove(filler))
		began := time.Now()
		o.await(t, "say that it serves", func() bool { return o.says(healthv1.HealthCheckResponse_SERVING) })
		t.Logf("round %d: serves %v after there was room again", round, time.Since(began))
	}
	enough := all.count() + 20
	o.await(t, "sign", func() bool { return all.count() > enough })
	o.stop()
	o.only(fault.LogUnavailable)
	o.daemon.stop(t)
	holdsAll(t, v.path(), all)
	t.Logf("%d requests refused, %d signatures held, all on record", o.refusals(), all.count())
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestDrillADirectoryThatGoesIsAwaited: the process may end under it, and starts
// again without it. It serves, and says that it does not, until it is back.
func TestDrillADirectoryThatGoesIsAwaited(t *testing.T) {
	t.Parallel()
	v := newVolume(t, "64m")
	audit, room := filepath.Join(v.dir, "audit"), filepath.Join(v.dir, "volume")
	all := &held{}
	panics := 0
	for round := range atFull(1, 10) {
		for _, fault := range []struct {
			name        string
			spoil, mend []string
		}{
			{"read-only", []string{"mount", "-o", "remount,bind,ro", audit}, []string{"mount", "-o", "remount,bind,rw", audit}},
			{"gone", []string{"umount", "--lazy", audit}, []string{"mount", "--bind", room, audit}},
		} {
			if v.goes(all, fault.spoil, fault.mend) {
				panics++
			}
			t.Logf("round %d, %s: %d signatures held, %d panics so far", round, fault.name, all.count(), panics)
		}
	}
	holdsAll(t, v.path(), all)
}

// goes spoils the directory under load, has a process start without it, and
// mends. It reports whether the first process ended under it.
func (v *volume) goes(all *held, spoil, mend []string) (ended bool) {
	t := v.t
	t.Helper()
	notServing := func(o *observed) bool { return o.says(healthv1.HealthCheckResponse_NOT_SERVING) }
	o := v.run(all)
	enough := all.count() + 20
	o.await(t, "sign", func() bool { return all.count() > enough })
	if v.try(5*time.Second, spoil...) != nil { // some file is always being written
		o.stop()
		check(t, v.try(patience, spoil...))
	}
	for late := time.After(patience); !ended && !notServing(o); {
		select {
		case <-late:
			t.Fatalf("still serves after %v:\n%s", patience, o.errs)
		case <-time.After(5 * time.Millisecond):
		}
		ended = o.over()
	}
	o.stop()
	o.only(fault.LogUnavailable)
	o.signal(t, syscall.SIGKILL) // as what has ended by itself
	o.wait(t)

	held := all.count()
	again := v.run(all)
	again.await(t, "say that it does not serve", func() bool { return notServing(again) })
	again.await(t, "refuse", func() bool { return again.refusals() >= 50 })
	if now := all.count(); now != held {
		t.Errorf("%d signatures were released without a log", now-held)
	}
	check(t, v.try(patience, mend...))
	began := time.Now()
	again.await(t, "say that it serves", func() bool { return again.says(healthv1.HealthCheckResponse_SERVING) })
	t.Logf("serves %v after the directory was back", time.Since(began))
	again.await(t, "sign", func() bool { return all.count() > held+20 })
	again.stop()
	again.only(fault.LogUnavailable)
	again.daemon.stop(t)
	return ended
}
