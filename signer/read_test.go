package signer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/roamsign/roamsign/audit"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

const readingRules = `
taxpayers:
  - {tin: C20880050010}
  - {tin: C25814470030}
callers:
  - {name: writer.test, taxpayers: all, methods: [SignDigest, GetReceipt, ListSignatures, FindSignature]}
  - {name: other.test, taxpayers: all, methods: [GetReceipt, ListSignatures, FindSignature]}
  - {name: reader.test, taxpayers: [], methods: [GetReceipt, ListSignatures, FindSignature], reads: [C20880050010]}
  - {name: auditor.test, taxpayers: [], methods: [GetReceipt, ListSignatures, FindSignature], auditor: true}
  - {name: mute.test, taxpayers: all, methods: [SignDigest], reads: [C20880050010]}
`

// archive is a real log that a rig reads from.
type archive struct {
	*rig
	log       *audit.Log
	dir       string
	verifiers audit.Verifiers
	from      time.Time
}

func startArchive(t *testing.T) *archive {
	t.Helper()
	folder := t.TempDir()
	config := audit.Config{Dir: filepath.Join(folder, "log"), KeyFiles: []string{filepath.Join(folder, "key")}}
	key, err := audit.NewKey("archive.test/log")
	must(t, err)
	must(t, key.Write(config.KeyFiles[0]))
	must(t, audit.Create(t.Context(), config))
	log, err := audit.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() {
		if err := log.Close(context.Background()); err != nil {
			t.Errorf("closing the log: %v", err)
		}
	})
	a := &archive{log: log, dir: folder, from: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	a.verifiers, err = audit.ParseVerifiers([]byte(key.Verifier()))
	must(t, err)
	a.rig = start(t, setting{policy: readingRules})
	a.server.readFrom(log, a.index("index"))
	return a
}

// index opens an index of the log, made from nothing.
func (a *archive) index(name string) *audit.Index {
	a.t.Helper()
	index, err := audit.OpenIndex(a.t.Context(), filepath.Join(a.dir, name), a.log.Source(), a.log.Size)
	must(a.t, err)
	return index
}

// put puts an entry on record, a second after the one before.
func (a *archive) put(caller, tin, document string) uint64 {
	a.t.Helper()
	size, err := a.log.Size(a.t.Context())
	must(a.t, err)
	index, err := a.log.Append(a.t.Context(), a.entry(int(size), caller, tin, document), 0)
	must(a.t, err)
	return index
}

func (a *archive) entry(n int, caller, tin, document string) audit.Entry {
	return audit.Entry{
		Time: a.from.Add(time.Duration(n) * time.Second), Signer: "signer-1", Caller: caller, TIN: tin, Method: "SignDigest",
		Certificate: sha256.Sum256([]byte("certificate")), Document: sha256.Sum256([]byte(document)),
		Number: "INV " + document, RequestID: "request " + document,
	}
}

// receipt asks until there is one, or another answer.
func (a *archive) receipt(t *testing.T, who string, index uint64) ([]byte, error) {
	client := a.as(who)
	for {
		out, err := client.GetReceipt(t.Context(), &roamsignv1.GetReceiptRequest{LogIndex: index})
		if err == nil {
			return out.GetReceipt(), nil
		}
		pending := toldBy(t, err)
		if pending.Reason != "RECEIPT_PENDING" {
			return nil, err
		}
		if pending.Code != codes.Unavailable || pending.Retry <= 0 {
			t.Errorf("a receipt that is pending: got %+v, want UNAVAILABLE and when to ask again", pending)
		}
		select {
		case <-time.After(pending.Retry):
		case <-t.Context().Done():
			return nil, t.Context().Err()
		}
	}
}

// The cells of the policy, through each of the three calls.
func TestNobodyReadsWhatItMayNot(t *testing.T) {
	const read, unread = "C20880050010", "C25814470030"
	a := startArchive(t)
	type signature struct{ caller, tin string }
	signatures := []signature{{"writer.test", read}, {"writer.test", unread}, {"other.test", read}, {"gone.test", unread}, {"gone.test", read}}
	for i, s := range signatures {
		if index := a.put(s.caller, s.tin, fmt.Sprint(i)); index != uint64(i) {
			t.Fatalf("entry %d: got index %d", i, index)
		}
	}
	may := map[string]func(signature) bool{
		"writer.test":  func(s signature) bool { return s.caller == "writer.test" },
		"other.test":   func(s signature) bool { return s.caller == "other.test" },
		"reader.test":  func(s signature) bool { return s.tin == read },
		"auditor.test": func(signature) bool { return true },
		"mute.test":    nil, // no method: refused as such
		stranger:       nil,
	}
	foreign := map[string]told{}
	for who, allowed := range may {
		client := a.as(who)
		for i, s := range signatures {
			name := fmt.Sprintf("%s on entry %d", who, i)
			text, err := a.receipt(t, who, uint64(i))
			if allowed == nil || !allowed(s) {
				checkRefused(t, name, err, codes.PermissionDenied, "NOT_ALLOWED")
				foreign[who] = toldBy(t, err)
			} else if proven, bad := audit.VerifyReceipt(text, a.verifiers); err != nil || bad != nil || proven.Index != uint64(i) || proven.Entry.Caller != s.caller {
				t.Errorf("%s: got %+v, %v, %v", name, proven, bad, err)
			}
			digest := sha256.Sum256(fmt.Append(nil, i))
			found, err := client.FindSignature(t.Context(), &roamsignv1.FindSignatureRequest{DocumentDigest: digest[:]})
			switch {
			case allowed == nil:
				checkRefused(t, name, err, codes.PermissionDenied, "NOT_ALLOWED")
			case err != nil || len(found.GetSignatures()) != map[bool]int{true: 1}[allowed(s)] || found.GetNextPageToken() != "":
				t.Errorf("%s: finding it: got %v, %v", name, found, err)
			}
		}
		for _, tin := range []string{read, unread, "", unknownTIN} {
			listed, err := client.ListSignatures(t.Context(), &roamsignv1.ListSignaturesRequest{Tin: tin})
			if allowed == nil {
				checkRefused(t, who+" listing "+tin, err, codes.PermissionDenied, "NOT_ALLOWED")
				continue
			}
			var want, got []uint64
			for i, s := range signatures {
				if allowed(s) && s.tin == tin || tin == "" && s.caller == who {
					want = append(want, uint64(i))
				}
			}
			for _, r := range listed.GetSignatures() {
				got = append(got, r.GetLogIndex())
			}
			if err != nil || !slices.Equal(got, want) || listed.GetLog() != "archive.test/log" {
				t.Errorf("%s listing %q: got %v of %q, %v, want %v", who, tin, got, listed.GetLog(), err, want)
			}
		}
		// An index that nobody has is answered like one that is not the caller's.
		_, err := client.GetReceipt(t.Context(), &roamsignv1.GetReceiptRequest{LogIndex: 1 << 63})
		checkRefused(t, who+" on no entry", err, codes.PermissionDenied, "NOT_ALLOWED")
		if f, ok := foreign[who]; ok && fmt.Sprint(f) != fmt.Sprint(toldBy(t, err)) {
			t.Errorf("%s: a foreign entry is told as %v, none as %v", who, f, toldBy(t, err))
		}
	}
}

// A document that others had signed is to whoever may not read that as one that
// nobody had signed, however small its pages are.
func TestPagesTellNothingOfOthers(t *testing.T) {
	const read, unread = "C20880050010", "C25814470030"
	a := startArchive(t)
	for _, who := range []string{"writer.test", "gone.test", "other.test", "writer.test", "other.test", "gone.test"} {
		a.put(who, unread, "shared")
	}
	a.put("gone.test", read, "shared")
	a.put("writer.test", unread, "shared")
	for who, want := range map[string][]uint64{
		"other.test":   {2, 4},
		"reader.test":  {6},
		"writer.test":  {0, 3, 7},
		"auditor.test": {0, 1, 2, 3, 4, 5, 6, 7},
	} {
		digest := sha256.Sum256([]byte("shared"))
		in := &roamsignv1.FindSignatureRequest{DocumentDigest: digest[:], PageSize: 1}
		for n, index := range want {
			out, err := a.as(who).FindSignature(t.Context(), in)
			must(t, err)
			next := ""
			if n+1 < len(want) {
				next = fmt.Sprint(want[n+1])
			}
			if len(out.GetSignatures()) != 1 || out.GetSignatures()[0].GetLogIndex() != index || out.GetNextPageToken() != next {
				t.Errorf("%s, page %d: got %v, want entry %d and the token %q", who, n, out, index, next)
			}
			in.PageToken = next
		}
	}
}

func TestLongListsComeInPages(t *testing.T) {
	const entries, tin = 10_000, "C20880050010"
	a := startArchive(t)
	fan(entries, 512, func(i int) {
		if _, err := a.log.Append(t.Context(), a.entry(i, "writer.test", tin, fmt.Sprint(i)), 0); err != nil {
			t.Errorf("appending: %v", err)
		}
	})
	client := a.as("reader.test")
	list := func(in *roamsignv1.ListSignaturesRequest) map[string]uint64 {
		t.Helper()
		seen := map[string]uint64{}
		for last := -1; ; {
			page, err := client.ListSignatures(t.Context(), in)
			must(t, err)
			if n := len(page.GetSignatures()); n > 1000 || n == 0 && page.GetNextPageToken() != "" {
				t.Fatalf("a page of %d", n)
			}
			for _, r := range page.GetSignatures() {
				if int(r.GetLogIndex()) <= last {
					t.Fatalf("entry %d after %d", r.GetLogIndex(), last)
				}
				last = int(r.GetLogIndex())
				seen[r.GetDocumentNumber()] = r.GetLogIndex()
			}
			if in.PageToken = page.GetNextPageToken(); in.PageToken == "" {
				return seen
			}
		}
	}
	all := list(&roamsignv1.ListSignaturesRequest{Tin: tin, PageSize: 2_000_000})
	if len(all) != entries {
		t.Errorf("the whole list: got %d entries, want %d", len(all), entries)
	}
	some := &roamsignv1.ListSignaturesRequest{
		Tin: tin, Since: timestamppb.New(a.from.Add(100 * time.Second)), Until: timestamppb.New(a.from.Add(350 * time.Second)),
	}
	if got := list(some); len(got) != 250 || got["INV 100"] != all["INV 100"] || got["INV 349"] != all["INV 349"] {
		t.Errorf("a span of 250 seconds, the first included and the last not: got %d entries", len(got))
	}
	// Another index, from nothing, finds the same.
	a.server.readFrom(a.log, a.index("another"))
	if got := list(&roamsignv1.ListSignaturesRequest{Tin: tin, PageSize: 1000}); fmt.Sprint(got) != fmt.Sprint(all) {
		t.Errorf("an index made anew: got %d entries, and not the same", len(got))
	}
}

func TestWhatWasSignedJustNowIsFound(t *testing.T) {
	a := startArchive(t)
	client := a.as("writer.test")
	for n := range 20 {
		index := a.put("writer.test", ownTIN, fmt.Sprint(n))
		digest := sha256.Sum256(fmt.Append(nil, n))
		out, err := client.FindSignature(t.Context(), &roamsignv1.FindSignatureRequest{DocumentDigest: digest[:]})
		if err != nil || len(out.GetSignatures()) != 1 || out.GetSignatures()[0].GetLogIndex() != index {
			t.Errorf("entry %d: got %v, %v", index, out, err)
		}
	}
}

func TestSenselessQuestionsAreRefused(t *testing.T) {
	a := startArchive(t)
	client := a.as("auditor.test")
	for name, in := range map[string]*roamsignv1.ListSignaturesRequest{
		"no TIN":          {Tin: "Pustaka"},
		"no time":         {Tin: ownTIN, Since: &timestamppb.Timestamp{Nanos: -1}},
		"nor an end":      {Tin: ownTIN, Until: &timestamppb.Timestamp{Seconds: 1 << 60}},
		"a negative page": {Tin: ownTIN, PageSize: -1},
		"no token":        {Tin: ownTIN, PageToken: "next"},
	} {
		_, err := client.ListSignatures(t.Context(), in)
		checkRefused(t, name, err, codes.InvalidArgument, "INVALID_REQUEST")
	}
	for name, digest := range map[string][]byte{"no digest": nil, "a short one": digestOf(1)[:31], "nothing's": make([]byte, 32)} {
		_, err := client.FindSignature(t.Context(), &roamsignv1.FindSignatureRequest{DocumentDigest: digest})
		checkRefused(t, name, err, codes.InvalidArgument, "INVALID_REQUEST")
	}
	page, err := client.ListSignatures(t.Context(), &roamsignv1.ListSignaturesRequest{Tin: ownTIN, PageToken: "18446744073709551615"})
	if err != nil || len(page.GetSignatures()) != 0 || page.GetNextPageToken() != "" {
		t.Errorf("a token beyond all: got %v, %v, want nothing", page, err)
	}
}

func TestARecordThatIsNotThereIsToldAsUnavailable(t *testing.T) {
	a := startArchive(t)
	a.server.readFrom(nil, nil)
	client := a.as("auditor.test")
	_, err := client.GetReceipt(t.Context(), &roamsignv1.GetReceiptRequest{})
	checkRefused(t, "a receipt", err, codes.Unavailable, "LOG_UNAVAILABLE")
	_, err = client.ListSignatures(t.Context(), &roamsignv1.ListSignaturesRequest{Tin: ownTIN})
	checkRefused(t, "a list", err, codes.Unavailable, "LOG_UNAVAILABLE")
}
