package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
	"google.golang.org/grpc/codes"
)

// spot is which of many documents are verified, since that takes its time: the
// client verifies the signature of each anyway.
const spot = 10

// numbered yields n invoices, each with its own number, XML and JSON in turn.
func numbered(t *testing.T, n int) iter.Seq2[Document, error] {
	t.Helper()
	samples := [][]byte{document(t, "invoice-1.1.xml"), document(t, "invoice-1.1.json")}
	return func(yield func(Document, error) bool) {
		for i := range n {
			content := bytes.Replace(samples[i%2], []byte("PBP-2026-000117"), []byte(number(i)), 1)
			if !yield(Document{Content: content}, nil) {
				return
			}
		}
	}
}

// patient gives a busy machine the time that many signatures take.
func patient(cfg Config) Config {
	cfg.AttemptTimeout = time.Minute
	return cfg
}

func number(i int) string { return fmt.Sprintf("PBP-%06d", i) }

func TestManyDocumentsAreSignedInOrder(t *testing.T) {
	const many = 300
	c := dialled(t, patient(configFor(t, startSigner(t))))
	next := 0
	for signed, err := range c.SignAll(t.Context(), numbered(t, many)) {
		if err != nil {
			t.Fatalf("document %d: %v", next, err)
		}
		if signed.Facts.Number != number(next) {
			t.Fatalf("got number %q at %d, want %q", signed.Facts.Number, next, number(next))
		}
		if next%spot == 0 {
			mustVerify(t, signed)
		}
		next++
	}
	if next != many {
		t.Errorf("got %d documents, want %d", next, many)
	}
}

func TestOneBadDocumentFailsNoOther(t *testing.T) {
	unreadable := errors.New("unreadable")
	good := document(t, "invoice-1.1.xml")
	rows := []struct {
		doc  Document
		read error
		want error  // nil, or
		code string // this reason
	}{
		{doc: Document{Content: good}},
		{read: unreadable, want: unreadable},
		{doc: Document{Content: good[:500]}, want: xades.ErrMalformed},
		{doc: Document{Content: good, TIN: "C31450097020"}, code: "TAXPAYER_MISMATCH"},
		{doc: Document{Content: good, TIN: "C77777777777", Options: Options{AllowMismatch: true}}, code: "NOT_ALLOWED"},
		{doc: Document{Content: document(t, "invoice-1.0.xml")}, want: xades.ErrVersion},
		{doc: Document{Content: good, Options: Options{RequestID: "in two\nlines"}}, code: "INVALID_REQUEST"},
		{doc: Document{Content: document(t, "self-billed-1.1.json")}},
	}
	documents := func(yield func(Document, error) bool) {
		for _, row := range rows {
			if !yield(row.doc, row.read) {
				return
			}
		}
	}
	next := 0
	c := dialled(t, configFor(t, startSigner(t)))
	for signed, err := range c.SignAll(t.Context(), documents) {
		row := rows[next]
		e, _ := errors.AsType[*Error](err)
		switch {
		case row.want != nil:
			if !errors.Is(err, row.want) {
				t.Errorf("document %d: got error %v, want %v", next, err, row.want)
			}
		case row.code != "":
			if e == nil || e.Reason != row.code {
				t.Errorf("document %d: got error %v, want reason %s", next, err, row.code)
			}
		case err != nil:
			t.Errorf("document %d: %v", next, err)
		default:
			mustVerify(t, signed)
		}
		next++
	}
	if next != len(rows) {
		t.Errorf("got %d results, want %d", next, len(rows))
	}
}

func TestACertificateThatRotatesUnderARunCostsNoDocument(t *testing.T) {
	const many = 200
	s := &station{}
	s.item = func(*roamsignv1.SignDigestRequest, int) *roamsignv1.ItemError {
		if s.signed == many/3 {
			s.generation = 1
		}
		return nil
	}
	c := dialled(t, patient(configFor(t, startStation(t, s).address)))
	next := 0
	used := map[string]int{}
	for signed, err := range c.SignAll(t.Context(), numbered(t, many)) {
		if err != nil {
			t.Fatalf("document %d: %v", next, err)
		}
		if next%spot == 0 {
			mustVerify(t, signed)
			used[xades.Verify(signed.Document, xades.VerifyOptions{}).Certificate.SerialNumber.String()]++
		}
		next++
	}
	if next != many || len(used) != 2 {
		t.Errorf("got %d documents under %d certificates, want %d under 2", next, len(used), many)
	}
}

func TestServersThatRotateOneAfterTheOtherCostNoDocument(t *testing.T) {
	const many = 130
	ahead, behind := startStation(t, &station{}), startStation(t, &station{})
	c := dialled(t, patient(configFor(t, ahead.address, behind.address)))
	signOne := func() {
		t.Helper()
		if _, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); err != nil {
			t.Fatalf("signing one: %v", err)
		}
	}
	signOne()
	ahead.rotate()
	for range 10 {
		signOne()
	}
	for _, err := range c.SignAll(t.Context(), numbered(t, many)) {
		if err != nil {
			t.Fatalf("signing many: %v", err)
		}
	}
	behind.rotate()
	for range 10 {
		signOne()
	}
}

func TestARunGoesOnAtAnotherServer(t *testing.T) {
	t.Parallel()
	const many = 200
	failing := &station{before: func(ctx context.Context, signed int) error {
		if signed > 0 {
			return hang(ctx, signed)
		}
		return nil
	}}
	cfg := configFor(t, startStation(t, failing).address, startStation(t, &station{}).address)
	cfg.AttemptTimeout = 2 * slow // for a whole batch
	next := 0
	for signed, err := range dialled(t, cfg).SignAll(t.Context(), numbered(t, many)) {
		if err != nil {
			t.Fatalf("document %d: %v", next, err)
		}
		if next%spot == 0 {
			mustVerify(t, signed)
		}
		next++
	}
	if next != many {
		t.Errorf("got %d documents, want %d", next, many)
	}
}

func TestDocumentsThatAServerCouldNotTakeJustThenAreSentAgain(t *testing.T) {
	const many = 130
	s := &station{}
	s.item = func(request *roamsignv1.SignDigestRequest, calls int) *roamsignv1.ItemError {
		if digest := request.GetDocumentDigest(); int(digest[0])%4 >= calls { // a quarter more with each call
			return itemRefusal(codes.ResourceExhausted, "OVERLOADED", time.Millisecond)
		}
		return nil
	}
	c := dialled(t, patient(configFor(t, startStation(t, s).address)))
	next := 0
	for signed, err := range c.SignAll(t.Context(), numbered(t, many)) {
		if err != nil {
			t.Fatalf("document %d: %v", next, err)
		}
		if next%spot == 0 {
			mustVerify(t, signed)
		}
		next++
	}
	if _, signed := s.counts(); next != many || signed != many {
		t.Errorf("got %d documents for %d signatures, want %d for as many", next, signed, many)
	}
}

func TestWhoLeavesTheLoopStopsTheRun(t *testing.T) {
	c := dialled(t, patient(configFor(t, startStation(t, &station{}).address)))
	read := 0
	documents := func(yield func(Document, error) bool) {
		for doc, err := range numbered(t, 100_000) {
			read++
			if !yield(doc, err) {
				return
			}
		}
	}
	for _, err := range c.SignAll(t.Context(), documents) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if most := (batchesAtOnce + 2) * batchDocuments; read > most {
		t.Errorf("got %d documents read, want at most %d", read, most)
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	const many = 130
	ctx, cancel := context.WithCancel(t.Context())
	s := startStation(t, &station{before: func(_ context.Context, signed int) error {
		if signed > 0 {
			cancel()
		}
		return nil
	}})
	next, failed := 0, 0
	for _, err := range dialled(t, patient(configFor(t, s.address))).SignAll(ctx, numbered(t, many)) {
		if err != nil {
			failed++
			if !errors.Is(err, context.Canceled) {
				t.Errorf("document %d: got error %v, want %v", next, err, context.Canceled)
			}
		}
		next++
	}
	if next != many || failed == 0 {
		t.Errorf("got %d results, %d of them errors, want %d and some", next, failed, many)
	}
}

func TestNoDocumentsAreNoResults(t *testing.T) {
	c := dialled(t, configFor(t, deadAddress(t)))
	for _, err := range c.SignAll(t.Context(), numbered(t, 0)) {
		t.Errorf("got a result, with error %v", err)
	}
}
