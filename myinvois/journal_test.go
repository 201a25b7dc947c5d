package myinvois

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

func TestTheJournalRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := opened(t, path)
	ids := numbered(t, j, 3)
	batches, _, err := j.gather([]Entry{mustEntry(t, j, ids[0])})
	if err != nil || len(batches) != 1 {
		t.Fatalf("gather: got %d, %v", len(batches), err)
	}
	if err := j.sent(batches[0], time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = opened(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	first := mustEntry(t, j, ids[0])
	if first.State != Sending || first.Batch != batches[0].ID {
		t.Errorf("got %+v, want it Sending in submission %d", first, batches[0].ID)
	}
	again, err := j.batch(first.Batch)
	if err != nil || !again.FirstSent.Equal(batches[0].FirstSent) || again.FirstSent.IsZero() {
		t.Errorf("got %+v, %v, want what was written", again, err)
	}
	if e, err := j.Find(first.Taxpayer, first.Input); err != nil || e == nil || e.ID != first.ID {
		t.Errorf("by content: got %v, %v", e, err)
	}
	if e, err := j.Numbered(first.Taxpayer, "", "01", "INV-0"); err != nil || e == nil || e.ID != first.ID {
		t.Errorf("by number: got %v, %v", e, err)
	}
	if e, err := j.Find(other, first.Input); err != nil || e != nil {
		t.Errorf("another's: got %v, %v, want none", e, err)
	}
	if open, err := j.Unfinished(); err != nil || len(open) != 3 {
		t.Errorf("got %d open, %v, want 3", len(open), err)
	}
	if err := j.Cancelled(ids[0], "no reason"); err != nil {
		t.Fatal(err)
	}
	if open, err := j.Unfinished(); err != nil || len(open) != 2 {
		t.Errorf("after one is final: got %d open, %v, want 2", len(open), err)
	}
}

func TestADocumentIsKnownHoweverItsTaxpayerIsNamed(t *testing.T) {
	const person, named = "IG20880051110", "IG20880051110:202203054321"
	j := opened(t, filepath.Join(t.TempDir(), "journal"))
	input := Digest{1}
	if _, err := j.Add([]Unsent{{Taxpayer: person, Business: "202203054321", Number: "INV-0", Type: "01", Input: input}}); err != nil {
		t.Fatal(err)
	}
	for _, taxpayer := range []string{person, named} {
		if e, err := j.Find(taxpayer, input); err != nil || e == nil {
			t.Errorf("by content, for %s: got %v, %v", taxpayer, e, err)
		}
		if e, err := j.Numbered(taxpayer, "202203054321", "01", "INV-0"); err != nil || e == nil {
			t.Errorf("by number, for %s: got %v, %v", taxpayer, e, err)
		}
		if e, err := j.Numbered(taxpayer, "202203059999", "01", "INV-0"); err != nil || e != nil {
			t.Errorf("another business's, for %s: got %v, %v, want none", taxpayer, e, err)
		}
	}
}

func mustEntry(t *testing.T, j *Journal, id uint64) Entry {
	t.Helper()
	e, err := j.Entry(id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAJournalBelongsToOnePlatformAndOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := opened(t, path)
	if _, err := OpenJournal(path, place); !errors.Is(err, ErrInUse) {
		t.Errorf("while it is open: got %v, want %v", err, ErrInUse)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path, "https://elsewhere.test"); err == nil || !strings.Contains(err.Error(), place) {
		t.Errorf("for another platform: got %v, want both named", err)
	}
	opened(t, path)
}

func TestAJournalIsOneByWhateverNameItIsCalled(t *testing.T) {
	path, link := filepath.Join(t.TempDir(), "journal"), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	j := opened(t, path)
	if _, err := OpenJournal(link, place); !errors.Is(err, ErrInUse) {
		t.Errorf("while it is open: got %v, want %v", err, ErrInUse)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	opened(t, link)
}

func TestAJournalIsReadWhileAnotherWritesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if _, err := ReadJournal(path, place); !errors.Is(err, ErrNoJournal) {
		t.Errorf("got %v, want %v", err, ErrNoJournal)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want nothing made", err)
	}
	j := opened(t, path)
	numbered(t, j, page+3)
	reading, err := ReadJournal(path, place)
	if err != nil {
		t.Fatal(err)
	}
	states := map[State]int{}
	n := uint64(0)
	for e, err := range reading.Entries() {
		if n++; err != nil || e.ID != n {
			t.Fatalf("got entry %d, %v, want %d", e.ID, err, n)
		}
		states[e.State]++
		if n == 1 { // another process gets its transactions through, whatever a reader takes its time for
			last := mustEntry(t, j, page+3)
			last.State = Valid
			if err := j.put(last); err != nil {
				t.Fatal(err)
			}
		}
	}
	if states[Signed] != page+2 || states[Valid] != 1 {
		t.Errorf("got %v, want all, and what was written meanwhile", states)
	}
	if _, err := reading.Add([]Unsent{{}}); err == nil {
		t.Error("a journal that was opened to be read was written")
	}
	if err := errors.Join(reading.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	for _, closed := range []*Journal{reading, j} {
		if _, err := closed.Entry(1); !errors.Is(err, os.ErrClosed) {
			t.Errorf("once closed: got %v, want %v", err, os.ErrClosed)
		}
	}
	if _, err := ReadJournal(path, "https://elsewhere.test"); err == nil || !strings.Contains(err.Error(), place) {
		t.Errorf("for another platform: got %v, want both named", err)
	}
}

func TestAReaderSeesWholeTransactions(t *testing.T) {
	const many, rounds = 5, 20
	path := filepath.Join(t.TempDir(), "journal")
	j := opened(t, path)
	reading, err := ReadJournal(path, place)
	if err != nil {
		t.Fatal(err)
	}
	documents := slices.Repeat([]Unsent{{Taxpayer: seller, Number: "1", Type: "01", Content: []byte("x")}}, many)
	seen := func() (n int) {
		for _, err := range reading.Entries() {
			if err != nil {
				t.Error(err)
			}
			n++
		}
		return n
	}
	for round := range rounds {
		var writing sync.WaitGroup
		writing.Go(func() {
			if _, err := j.Add(documents); err != nil {
				t.Error(err)
			}
		})
		if n := seen(); n != round*many && n != (round+1)*many {
			t.Errorf("got %d entries, want %d or %d", n, round*many, (round+1)*many)
		}
		writing.Wait()
	}
	if n := seen(); n != rounds*many {
		t.Errorf("got %d entries, want %d", n, rounds*many)
	}
}

func TestAJournalThatIsTakenAwayDoesNotComeBackEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := opened(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Add([]Unsent{{}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestADamagedDocumentIsNotSentAndTheOthersAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		ids := numbered(t, j, 4)
		err := j.update(func(tx *bbolt.Tx) error { return tx.Bucket(contentBucket).Put(number(ids[0]), []byte("else")) })
		if err != nil {
			t.Fatal(err)
		}
		s := &stage{}
		got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
		if got.err != nil || len(got.outcomes) != 3 || len(got.reasons) != 1 || !strings.Contains(got.reasons[0].Error(), "document INV-0 (entry 1) is not what was signed") {
			t.Errorf("got %v, %v, %v; want 3 Valid, and one left", got.outcomes, got.reasons, got.err)
		}
		if n := s.accepted()["INV-0"]; n != 0 || mustEntry(t, j, ids[0]).State != Signed {
			t.Errorf("got it accepted %d times, and it is %s; want it Signed", n, mustEntry(t, j, ids[0]).State)
		}
	})
}

func TestSubmissionsAreSplitWithinTheLimits(t *testing.T) {
	entry := func(i int, taxpayer string, format Format) Entry {
		return Entry{ID: uint64(i + 1), Taxpayer: taxpayer, Number: fmt.Sprintf("INV-%d", i), Format: format}
	}
	for _, row := range []struct {
		name string
		of   func(i int) (Entry, int)
		n    int
		want []int // documents of each
	}{
		{"none", nil, 0, nil},
		{"one", func(i int) (Entry, int) { return entry(i, seller, XML), 10_000 }, 1, []int{1}},
		{"a hundred", func(i int) (Entry, int) { return entry(i, seller, XML), 10_000 }, 100, []int{100}},
		{"one more", func(i int) (Entry, int) { return entry(i, seller, XML), 10_000 }, 101, []int{100, 1}},
		{"large ones", func(i int) (Entry, int) { return entry(i, seller, XML), MaxDocumentBytes }, 25, []int{12, 12, 1}},
		{"of two formats", func(i int) (Entry, int) { return entry(i, seller, []Format{XML, JSON}[i%2]), 10 }, 7, []int{4, 3}},
		{"for two taxpayers", func(i int) (Entry, int) { return entry(i, []string{seller, other}[i%2], XML), 10 }, 7, []int{4, 3}},
		{"of one number", func(i int) (Entry, int) { e := entry(i/2, seller, XML); return e, 10 }, 4, []int{1, 2, 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var entries []Entry
			var sizes []int
			for i := range row.n {
				e, size := row.of(i)
				entries, sizes = append(entries, e), append(sizes, size)
			}
			var got []int
			total := 0
			for _, group := range Split(entries, sizes) {
				got = append(got, len(group))
				total += len(group)
				var documents []Document
				for _, e := range group {
					if e.Taxpayer != group[0].Taxpayer || e.Format != group[0].Format {
						t.Errorf("got %v beside %v", e, group[0])
					}
					documents = append(documents, Document{e.Format, e.Number, make([]byte, sizes[0])})
				}
				if len(got) > 1 {
					continue // the first is a full one, if any is
				}
				if payload, err := Payload(documents); err != nil || len(payload) > MaxSubmissionBytes {
					t.Errorf("got a payload of %d bytes, %v", len(payload), err)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(row.want) || total != row.n {
				t.Errorf("got submissions of %v documents, want %v", got, row.want)
			}
		})
	}
}

func TestAPayloadIsWhatThePlatformsPagesShow(t *testing.T) {
	got, err := Payload([]Document{{JSON, "INV12345", []byte(`{"a":1}`)}})
	const want = `{"documents":[{"format":"JSON","document":"eyJhIjoxfQ==","documentHash":"015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862","codeNumber":"INV12345"}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

func TestALateOutcomeIsWrittenDown(t *testing.T) {
	j := opened(t, filepath.Join(t.TempDir(), "journal"))
	ids := numbered(t, j, 1)
	e := mustEntry(t, j, ids[0])
	e.State, e.UUID, e.Changed = Valid, "UID1-0", time.Now().Add(-time.Hour)
	if err := j.put(e); err != nil {
		t.Fatal(err)
	}
	s := &stage{}
	c := at(t, s, lasting(t))
	if _, err := c.Submit(t.Context(), seller, []byte(`{"documents":[{"codeNumber":"INV-0"}]}`)); err != nil {
		t.Fatal(err)
	}
	s.taken[0].summary[0].Status = StatusCancelled
	now, err := (&Courier{Client: c, Journal: j}).Refresh(t.Context(), e)
	if err != nil || now.State != Cancelled || mustEntry(t, j, ids[0]).State != Cancelled {
		t.Errorf("got %v, %v, want Cancelled, written down", now.State, err)
	}
}

func TestADocumentThatStandsIsNotForgottenForALaterOneOfItsNumber(t *testing.T) {
	for _, row := range []struct {
		states []State // of the entries, the oldest first
		want   int     // which of them is told
	}{
		{[]State{Valid, Invalid}, 0},
		{[]State{Valid, Rejected, Cancelled}, 0},
		{[]State{Sending, Invalid}, 0},
		{[]State{Invalid, Valid}, 1},
		{[]State{Valid, Signed}, 0},
		{[]State{Invalid, Signed}, 1},
		{[]State{Rejected, Invalid}, 1},
	} {
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		var ids []uint64
		for i, state := range row.states {
			ids = append(ids, written(t, j, seller, "01", "1001", fmt.Sprint("version ", i)))
			e := mustEntry(t, j, ids[i])
			e.State = state
			if err := j.put(e); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := j.Numbered(seller, "", "01", "1001"); err != nil || got == nil || got.ID != ids[row.want] {
			t.Errorf("%v: got %+v, %v, want entry %d", row.states, got, err, ids[row.want])
		}
	}
}
