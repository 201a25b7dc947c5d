package audit_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
)

func TestReceiptsAreBelievedByAForeignJudge(t *testing.T) { everywhere(t, receiptsAreBelieved) }

func receiptsAreBelieved(t *testing.T, config audit.Config) {
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	v := verifiers(t, config)
	key, err := audit.ReadKey(config.KeyFiles[0])
	check(t, err)
	total := 0
	// Sizes around those of a tile, and what is between.
	for _, size := range []int{1, 2, 7, 255, 256, 257, 513, 600} {
		indices := fill(t, log, total, size)
		total = size
		checkpoint := quiet(t, log)
		if checkpoint.Size != uint64(size) {
			t.Fatalf("the checkpoint: got size %d, want %d", checkpoint.Size, size)
		}
		asked := []uint64{0, uint64(size) - 1, rand.Uint64N(uint64(size))}
		for n, index := range indices {
			asked = append(asked, index)
			if receipt, err := log.Receipt(t.Context(), index); err == nil {
				if proven, err := audit.VerifyReceipt(receipt, v); err != nil || proven.Entry.RequestID != entry(n).RequestID {
					t.Errorf("entry %d: got %+v and %v", n, proven, err)
				}
			}
			if len(asked) > 20 {
				break
			}
		}
		for _, index := range asked {
			receipt, err := log.Receipt(t.Context(), index)
			check(t, err)
			proven, err := audit.VerifyReceipt(receipt, v)
			if err != nil || proven.Index != index || proven.Checkpoint != checkpoint {
				t.Errorf("index %d of %d: got %+v and %v", index, size, proven, err)
			}
			line, at, err := foreignVerify(receipt, key.Verifier())
			if err != nil || at != index {
				t.Errorf("index %d of %d: the foreign judge says %d and %v", index, size, at, err)
			}
			if want, err := proven.Entry.Encode(); err != nil || !bytes.Equal(line, want) {
				t.Errorf("index %d of %d: the foreign judge reads %q, want %q (%v)", index, size, line, want, err)
			}
		}
	}
	lines := entriesOf(t, log.Source(), uint64(total))
	if root := quiet(t, log).Root; merkleTreeHash(lines) != root {
		t.Errorf("the root over all entries: got %x, want the foreign judge's", root)
	}
}

// entries reads the lines of a log of so many entries.
func entries(t testing.TB, dir string, size uint64) [][]byte {
	t.Helper()
	return entriesOf(t, audit.Dir(dir), size)
}

func entriesOf(t testing.TB, source audit.Source, size uint64) [][]byte {
	t.Helper()
	var lines [][]byte
	for number := uint64(0); number*256 < size; number++ {
		bundle, err := source.Entries(t.Context(), number, uint8(min(size-number*256, 256)%256))
		check(t, err)
		for len(bundle) > 0 && uint64(len(lines)) < size {
			n := int(bundle[0])<<8 | int(bundle[1])
			lines = append(lines, bundle[2:2+n])
			bundle = bundle[2+n:]
		}
	}
	return lines
}

func TestAReceiptOfWhatIsNotThereIsRefused(t *testing.T) {
	log, _ := newLog(t)
	fill(t, log, 0, 3)
	if _, err := log.Receipt(t.Context(), 3); !errors.Is(err, audit.ErrNoEntry) || fault.Of(err) != fault.NotAllowed {
		t.Errorf("got %v, want %v", err, audit.ErrNoEntry)
	}
	if _, err := log.Entry(t.Context(), 1<<63); !errors.Is(err, audit.ErrNoEntry) {
		t.Errorf("got %v, want %v", err, audit.ErrNoEntry)
	}
}

func TestAReceiptFollowsItsEntrySoon(t *testing.T) { everywhere(t, aReceiptFollows) }

func aReceiptFollows(t *testing.T, config audit.Config) {
	check(t, audit.Create(t.Context(), config))
	log := open(t, config)
	until(t, "a receipt", func() error {
		index, err := log.Append(t.Context(), entry(1), 0)
		check(t, err)
		_, err = log.Receipt(t.Context(), index)
		if err == nil {
			return errors.New("there was one at once")
		}
		known, _ := errors.AsType[*fault.Error](err)
		if fault.Of(err) != fault.ReceiptPending || known.RetryAfter <= 0 {
			t.Errorf("got %v, want kind %v and when to ask again", err, fault.ReceiptPending)
		}
		until(t, "the receipt", func() error { _, err := log.Receipt(t.Context(), index); return err })
		return nil
	})
}

func TestAChangedReceiptIsNotBelieved(t *testing.T) {
	log, config := newLog(t)
	fill(t, log, 0, 300)
	quiet(t, log)
	v := verifiers(t, config)
	receipt, err := log.Receipt(t.Context(), 270)
	check(t, err)
	if _, err := audit.VerifyReceipt(receipt, v); err != nil {
		t.Fatal(err)
	}
	for i := range receipt {
		for _, bit := range []byte{1, 32} {
			changed := bytes.Clone(receipt)
			changed[i] ^= bit
			if _, err := audit.VerifyReceipt(changed, v); err == nil {
				t.Errorf("byte %d changed from %q to %q: believed", i, receipt[i], changed[i])
			}
		}
		if _, err := audit.VerifyReceipt(receipt[:i], v); err == nil {
			t.Errorf("the first %d bytes: believed", i)
		}
	}
	text := string(receipt)
	other, err := log.Receipt(t.Context(), 271)
	check(t, err)
	for name, changed := range map[string]string{
		"nothing":                 "",
		"another entry's index":   strings.Replace(text, "\nindex 270\n", "\nindex 271\n", 1),
		"an index with a zero":    strings.Replace(text, "\nindex 270\n", "\nindex 0270\n", 1),
		"an index beyond":         strings.Replace(text, "\nindex 270\n", "\nindex 300\n", 1),
		"the entry of another":    strings.Replace(text, line(text, 1), line(string(other), 1), 1),
		"no entry":                strings.Replace(text, line(text, 1)+"\n", "", 1),
		"an entry of nothing":     strings.Replace(text, line(text, 1), "extra ", 1),
		"a hash too many":         strings.Replace(text, "\n\n", "\n"+line(text, 3)+"\n\n", 1),
		"a hash too few":          strings.Replace(text, line(text, 3)+"\n", "", 1),
		"hashes without end":      strings.Replace(text, "\n\n", strings.Repeat("\n"+line(text, 3), 5000)+"\n\n", 1),
		"an entry without end":    strings.Replace(text, line(text, 1), "extra "+strings.Repeat("A", 1<<20), 1),
		"carriage returns":        strings.Replace(text, line(text, 1), line(text, 1)+"\r", 1),
		"no checkpoint":           text[:strings.Index(text, "\n\n")+2],
		"a checkpoint twice":      text + text[strings.Index(text, "\n\n")+2:],
		"another proof's version": strings.Replace(text, "@v1", "@v2", 1),
	} {
		if changed == text {
			t.Errorf("%s: the row changes nothing", name)
		}
		if r, err := audit.VerifyReceipt([]byte(changed), v); err == nil {
			t.Errorf("%s: believed: %+v", name, r)
		}
	}
	if _, err := audit.VerifyReceipt(receipt, verifiers(t, newConfig(t))); err == nil {
		t.Error("believed under another log's key")
	}
	if _, err := audit.VerifyReceipt(receipt, audit.Verifiers{}); err == nil {
		t.Error("believed under no key")
	}
}

// line is one line of a text, counted from 0.
func line(text string, n int) string { return strings.Split(text, "\n")[n] }

func FuzzReceipt(f *testing.F) {
	log, config := newLog(f)
	fill(f, log, 0, 5)
	quiet(f, log)
	key, err := audit.ReadKey(config.KeyFiles[0])
	check(f, err)
	v := verifiers(f, config)
	for index := range uint64(5) {
		receipt, err := log.Receipt(f.Context(), index)
		check(f, err)
		f.Add(receipt)
	}
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra " + base64.StdEncoding.EncodeToString([]byte("{}")) + "\nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := audit.VerifyReceipt(text, v)
		if err != nil {
			return
		}
		if _, index, err := foreignVerify(text, key.Verifier()); err != nil || index != r.Index {
			t.Errorf("believed %q, of which the foreign judge says %v", text, err)
		}
	})
}
