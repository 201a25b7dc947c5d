package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

// witness is one of https://c2sp.org/tlog-witness for one log: it signs a
// checkpoint if that is of the log it signed last, grown.
type witness struct {
	name    string
	private ed25519.PrivateKey
	log     audit.Verifiers

	mu   sync.Mutex
	seen audit.Checkpoint
	away chan struct{} // closed, the witness answers; it hangs until then
}

func newWitness(t *testing.T, log audit.Verifiers) *witness {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	w := &witness{name: "witness.example", private: private, log: log, away: make(chan struct{})}
	close(w.away)
	return w
}

// key is the type of a cosigner's key and its public half.
func (w *witness) key() []byte {
	public, _ := w.private.Public().(ed25519.PublicKey)
	return append([]byte{4}, public...)
}

// id names the key (https://c2sp.org/signed-note).
func (w *witness) id() []byte {
	hash := sha256.Sum256(append([]byte(w.name+"\n"), w.key()...))
	return hash[:4]
}

func (w *witness) verifier() string {
	return fmt.Sprintf("%s+%x+%s", w.name, w.id(), base64.StdEncoding.EncodeToString(w.key()))
}

// leave makes the witness hang until it is called back.
func (w *witness) leave() (back func()) {
	away := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = away
	return func() { close(away) }
}

// ServeHTTP implements [http.Handler].
func (w *witness) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	w.mu.Lock()
	away := w.away
	w.mu.Unlock()
	body, err := io.ReadAll(request.Body)
	select {
	case <-away:
	case <-request.Context().Done():
		return
	}
	if err != nil || request.Method != http.MethodPost || request.URL.Path != "/add-checkpoint" {
		http.NotFound(answer, request)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	head, checkpoint, _ := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	var old uint64
	if _, err := fmt.Sscanf(lines[0], "old %d", &old); err != nil {
		http.Error(answer, "no old size", http.StatusBadRequest)
		return
	}
	signed, err := w.log.Checkpoint([]byte(checkpoint))
	switch {
	case err != nil:
		http.Error(answer, err.Error(), http.StatusForbidden)
	case old > signed.Size:
		http.Error(answer, "the old size is too large", http.StatusBadRequest)
	case old != w.seen.Size:
		answer.Header().Set("Content-Type", "text/x.tlog.size")
		answer.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintln(answer, w.seen.Size)
	case !w.grew(signed, lines[1:]):
		http.Error(answer, "not grown from what was signed", http.StatusUnprocessableEntity)
	default:
		w.seen = signed
		text, _, _ := strings.Cut(checkpoint, "\n\n")
		_, _ = io.WriteString(answer, w.cosign(text+"\n", time.Now()))
	}
}

// grew checks the proof that a checkpoint continues the one that was signed last.
func (w *witness) grew(signed audit.Checkpoint, lines []string) bool {
	if w.seen.Size == 0 {
		return len(lines) == 0
	}
	hashes := make([][]byte, len(lines))
	for i, line := range lines {
		var err error
		if hashes[i], err = base64.StdEncoding.DecodeString(line); err != nil {
			return false
		}
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, w.seen.Size, signed.Size, hashes, w.seen.Root[:], signed.Root[:]) == nil
}

// message is what a cosignature signs (https://c2sp.org/tlog-cosignature).
func message(text string, at uint64) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text)
}

func (w *witness) cosign(text string, at time.Time) string {
	stamp := uint64(at.Unix())
	signature := binary.BigEndian.AppendUint64(bytes.Clone(w.id()), stamp)
	signature = append(signature, ed25519.Sign(w.private, message(text, stamp))...)
	return fmt.Sprintf("— %s %s\n", w.name, base64.StdEncoding.EncodeToString(signature))
}

// cosigned reports whether a checkpoint has the witness's signature.
func (w *witness) cosigned(checkpoint string) error {
	text, signatures, _ := strings.Cut(checkpoint, "\n\n")
	for line := range strings.Lines(signatures) {
		encoded, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "— "+w.name+" ")
		if !found {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(signature) != 4+8+ed25519.SignatureSize {
			return fmt.Errorf("the cosignature %q: %w", encoded, err)
		}
		if !ed25519.Verify(w.key()[1:], message(text+"\n", binary.BigEndian.Uint64(signature[4:])), signature[12:]) {
			return errors.New("the cosignature is wrong")
		}
		return nil
	}
	return fmt.Errorf("no signature of %s in %q", w.name, checkpoint)
}

// A witness stands behind every checkpoint, and so behind every receipt. While it
// does not answer, entries are recorded and signatures released, without receipts.
func TestAWitnessStandsBehindEveryReceipt(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	v := verifiers(t, config)
	w := newWitness(t, v)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	config.WitnessFile = filepath.Join(t.TempDir(), "policy")
	policy := fmt.Sprintf("witness one %s %s\nquorum one\n", w.verifier(), server.URL)
	check(t, os.WriteFile(config.WitnessFile, []byte(policy), 0o600))
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)

	witnessed := func(n int, index uint64) {
		t.Helper()
		var receipt []byte
		until(t, "a receipt", func() (err error) { receipt, err = log.Receipt(t.Context(), index); return err })
		proven, err := audit.VerifyReceipt(receipt, v)
		if err != nil || proven.Entry.RequestID != entry(n).RequestID {
			t.Errorf("entry %d: got %+v and %v", n, proven, err)
		}
		_, checkpoint, _ := strings.Cut(string(receipt), "\n\n")
		if err := w.cosigned(checkpoint); err != nil {
			t.Errorf("entry %d: %v", n, err)
		}
	}
	for n := range 3 {
		index, err := log.Append(t.Context(), entry(n), 0)
		check(t, err)
		witnessed(n, index)
	}

	back := w.leave()
	for n := 3; n < 300; n += 99 {
		for n, index := range fill(t, log, n, n+99) {
			if _, err := log.Receipt(t.Context(), index); fault.Of(err) != fault.ReceiptPending {
				t.Errorf("entry %d, nobody witnessed it: got %v, want kind %v", n, err, fault.ReceiptPending)
			}
		}
	}
	check(t, log.Ready())
	witnessed(0, 0) // as before
	back()
	index, err := log.Append(t.Context(), entry(300), 0)
	check(t, err)
	witnessed(300, index)
	examine(t, log, config, nil)
}

func TestAWitnessPolicyIsReadStrictly(t *testing.T) {
	config := newConfig(t)
	config.WitnessFile = filepath.Join(t.TempDir(), "policy")
	for name, text := range map[string]string{
		"no key":          "witness one nothing http://localhost/\nquorum one\n",
		"no quorum":       "witness one\n",
		"unknown witness": "quorum two\n",
		"too long":        strings.Repeat("# nothing\n", 10_000),
	} {
		check(t, os.WriteFile(config.WitnessFile, []byte(text), 0o600))
		if err := audit.Create(t.Context(), config); err == nil || !strings.Contains(err.Error(), "witness policy") {
			t.Errorf("%s: got %v, want an error about the witness policy", name, err)
		}
	}
}
