package softhsmtest_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/roamsign/roamsign/audit"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// held are the signatures that clients have got, by the index of their entries.
type held struct {
	mu  sync.Mutex
	got map[uint64]audit.Digest
}

func (h *held) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.got)
}

// load signs digests until ctx ends, holds what it gets, and tells of errors.
func (h *held) load(ctx context.Context, client roamsignv1.SignerServiceClient, name string, certificate []byte, refused func(error)) {
	for n := 0; ctx.Err() == nil; n++ {
		digest := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, n))
		out, err := client.SignDigest(ctx, &roamsignv1.SignDigestRequest{
			Tin: "C20880050010", RequestId: fmt.Sprint(name, " ", n), DocumentDigest: digest[:], CertificateSha256: certificate,
		})
		if err != nil {
			if ctx.Err() == nil {
				refused(err)
			}
			continue
		}
		h.mu.Lock()
		if h.got == nil {
			h.got = map[uint64]audit.Digest{}
		}
		h.got[out.GetLogIndex()] = digest
		h.mu.Unlock()
	}
}

// resumes is how long a process may take from its start until its health service
// says SERVING. Where it is not measured for its own sake, nothing but a hang fails.
func resumes() time.Duration { return atFull(patience, 2*time.Second) }

// TestEverySignatureThatAClientHoldsIsOnRecord: however often roamsignd is killed
// under load. The test is its supervisor.
func TestEverySignatureThatAClientHoldsIsOnRecord(t *testing.T) {
	kills := atFull(10, 200)
	dir := copied(t)
	all := &held{}
	var took []time.Duration
	for kill := range kills {
		began := time.Now()
		d := serve(t, dir, "--listen", "127.0.0.1:0")
		conn := dial(t, d, d.tls(t))
		health, client := healthv1.NewHealthClient(conn), roamsignv1.NewSignerServiceClient(conn)
		d.await(t, "say that it serves", func() bool {
			answer, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{})
			return err == nil && answer.GetStatus() == healthv1.HealthCheckResponse_SERVING
		})
		took = append(took, time.Since(began))
		certificate, err := client.GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
		check(t, err)
		fingerprint := sha256.Sum256(certificate.GetCertificate())
		before := all.count()
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for i := range 4 {
			clients.Go(func() { all.load(ctx, client, fmt.Sprint("run ", kill, " client ", i), fingerprint[:], func(error) {}) })
		}
		enough := before + 5 + rand.IntN(60)
		d.await(t, "sign", func() bool { return all.count() > enough })
		d.signal(t, syscall.SIGKILL)
		d.wait(t)
		cancel()
		clients.Wait()
		holdsAll(t, dir, all)
		if (kill+1)%50 == 0 {
			t.Logf("%d kills, %d signatures held, all on record; the slowest start took %v", kill+1, all.count(), slices.Max(took))
		}
	}
	slices.Sort(took)
	t.Logf("%d kills, %d signatures held, all on record; served %v after the start, %v at the 95th percentile, %v at most",
		kills, all.count(), took[kills/2], took[kills*95/100], took[kills-1])
	if most := took[kills-1]; most > resumes() {
		t.Errorf("serving took %v to resume, want %v at most", most, resumes())
	}
}

// holdsAll fails the test where the log of a process that was killed is not whole, or
// lacks a signature.
func holdsAll(t *testing.T, dir string, all *held) {
	t.Helper()
	config := audit.Config{Dir: filepath.Join(dir, "audit"), KeyFiles: []string{filepath.Join(dir, "audit.key")}}
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	check(t, err)
	size, err := log.Size(t.Context())
	check(t, err)
	entries := entriesOf(t, log.Source(), size)
	for index, digest := range all.got {
		if index >= size || entries[index].Document != digest {
			t.Errorf("index %d of %d: want the entry of %x", index, size, digest)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(t, log.Close(ctx))
	key, err := os.ReadFile(filepath.Join(dir, "audit.pub"))
	check(t, err)
	verifiers, err := audit.ParseVerifiers(key)
	check(t, err)
	report, err := audit.Check(t.Context(), audit.Dir(config.Dir), verifiers, audit.CheckOptions{})
	check(t, err)
	for _, finding := range report.Findings {
		t.Errorf("the log: %v", finding)
	}
	if report.Entries != size || size < uint64(len(all.got)) {
		t.Errorf("the checkpoint has %d entries, the log %d, and clients hold %d signatures", report.Entries, size, len(all.got))
	}
}

// entriesOf reads all entries of a log of this size.
func entriesOf(t *testing.T, source audit.Source, size uint64) (entries []audit.Entry) {
	t.Helper()
	const width = 256
	for uint64(len(entries)) < size {
		first := uint64(len(entries))
		bundle, err := source.Entries(t.Context(), first/width, uint8(min(size-first, width)%width))
		check(t, err)
		for len(bundle) > 0 && uint64(len(entries)) < size {
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			entry, err := audit.ParseEntry(bundle[2:end])
			check(t, err)
			entries, bundle = append(entries, entry), bundle[end:]
		}
		if uint64(len(entries)) != min(size, first+width) {
			t.Fatalf("bundle %d has %d entries", first/width, uint64(len(entries))-first)
		}
	}
	return entries
}
