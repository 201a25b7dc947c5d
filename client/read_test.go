package client

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestWhatWasSignedIsOnRecord(t *testing.T) {
	c := dialled(t, configFor(t, startSigner(t)))
	opts := Options{RequestID: "invoice 1"}
	for range 2 { // the second one is a retry
		if _, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), opts); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{RequestID: "invoice 2"})
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := c.Receipt(t.Context(), signed.Server, signed.LogIndex)
	if err != nil || !strings.HasPrefix(string(receipt), "c2sp.org/tlog-proof@v1\n") {
		t.Errorf("the receipt of entry %d: got %q, %v", signed.LogIndex, receipt, err)
	}
	requests := map[Request]int{}
	last := Record{}
	for r, err := range c.Signatures(t.Context(), Query{TIN: seller}) {
		if err != nil {
			t.Fatal(err)
		}
		requests[r.Request()]++
		last = r
	}
	if len(requests) != 2 || requests[last.Request()] != 1 || last.Index != signed.LogIndex || last.DocDigest != signed.DocDigest || last.RequestID != "invoice 2" {
		t.Errorf("the list: got %v, the last %+v", requests, last)
	}
	found := 0
	for r, err := range c.Find(t.Context(), signed.DocDigest) {
		if err != nil || r.DocDigest != signed.DocDigest {
			t.Errorf("finding: got %+v, %v", r, err)
		}
		found++
	}
	if found != 3 {
		t.Errorf("the document: found %d times, want 3", found)
	}
}

// Two signers have a log each: every index is of one of them.
func TestEachSignersLogIsReadByItself(t *testing.T) {
	first, second := startSigner(t), startSigner(t)
	for _, server := range []string{first, second} {
		if _, err := dialled(t, configFor(t, server)).SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	c := dialled(t, configFor(t, first, second))
	servers, logs := map[string]bool{}, map[string]bool{}
	for r, err := range c.Signatures(t.Context(), Query{}) {
		if err != nil || r.Index != 0 {
			t.Errorf("got %+v, %v, want the first entry of each", r, err)
		}
		servers[r.Server], logs[r.Log] = true, true
	}
	if len(servers) != 2 || len(logs) != 2 {
		t.Errorf("got the servers %v and logs %v, want two of each", servers, logs)
	}
	if _, err := c.Receipt(t.Context(), second, 0); err != nil {
		t.Errorf("the receipt of the second's: %v", err)
	}
	for _, server := range []string{"", "127.0.0.1:1"} {
		_, err := c.Receipt(t.Context(), server, 0)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != codes.InvalidArgument {
			t.Errorf("a receipt of %q's: got %v, want to be told to name one of them", server, err)
		}
	}
	// One that is down is told, and the other's list is there.
	c = dialled(t, configFor(t, deadAddress(t), first))
	failed, listed := 0, 0
	for _, err := range c.Signatures(t.Context(), Query{}) {
		if err != nil {
			failed++
		} else {
			listed++
		}
	}
	if failed != 1 || listed != 1 {
		t.Errorf("beside a dead one: %d errors and %d records, want one of each", failed, listed)
	}
	_, err := c.Receipt(t.Context(), first, 7)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != "NOT_ALLOWED" || !strings.Contains(err.Error(), "no such entry") {
		t.Errorf("a receipt of no entry: got %v", err)
	}
}
