package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// Receipts proves what is on record. Safe for concurrent use; no method blocks
// longer than its ctx allows. Errors carry a kind of package fault: NotAllowed
// for an index that no entry has, LogUnavailable, or a context's; one without a
// kind counts as LogUnavailable.
type Receipts interface {
	// Entry returns the entry of an index.
	Entry(ctx context.Context, index uint64) (audit.Entry, error)

	// Receipt returns the proof of one entry, in the text form of
	// https://c2sp.org/tlog-proof. The error is of kind ReceiptPending, with
	// RetryAfter, while no checkpoint holds the entry.
	Receipt(ctx context.Context, index uint64) ([]byte, error)

	// Origin returns the log's name. It does not block.
	Origin() string
}

// Index finds what is on record. Safe for concurrent use.
type Index interface {
	// Find returns the entries that fit, those put on record just now among them.
	// It blocks no longer than ctx allows. Errors are as those of Receipts.
	Find(ctx context.Context, query audit.Query) (audit.Page, error)
}

// Bounds of reading, so that it never keeps signing waiting.
const (
	// maxReads and maxReadsEach bound the requests that wait for a reader, in all
	// and of one caller.
	maxReads, maxReadsEach = 512, 64
	// pageSize is how many signatures are listed where the request does not say,
	// maxPage how many at most.
	pageSize, maxPage = 100, 1000
)

// readers is how many requests read the record at a time: a quarter of the
// processors.
func readers() int { return max(1, runtime.GOMAXPROCS(0)/4) }

// unread is the record of a server that was given none to read.
type unread struct{}

var errUnread = errors.New("this server was given no record to read")

func (unread) Entry(context.Context, uint64) (audit.Entry, error) { return audit.Entry{}, errUnread }

func (unread) Receipt(context.Context, uint64) ([]byte, error) { return nil, errUnread }

func (unread) Origin() string { return "" }

func (unread) Find(context.Context, audit.Query) (audit.Page, error) { return audit.Page{}, errUnread }

// readFrom sets what is read; nil: nothing.
func (s *Server) readFrom(receipts Receipts, index Index) {
	s.receipts, s.index = unread{}, unread{}
	if receipts != nil {
		s.receipts = receipts
	}
	if index != nil {
		s.index = index
	}
	s.reads = newQueue(readers(), maxReads, maxReadsEach)
}

// GetReceipt proves one signature to who may read it. The entry is read before it
// is known whether the caller may, and nothing of it is told before.
func (s *service) GetReceipt(ctx context.Context, in *roamsignv1.GetReceiptRequest) (*roamsignv1.GetReceiptResponse, error) {
	call, rules, index := callOf(ctx), s.policy.Load(), in.GetLogIndex()
	call.attrs = append(call.attrs, slog.Uint64("log_index", index))
	if err := rules.PermitRead(call.caller, policy.GetReceipt); err != nil {
		return nil, err
	}
	receipt, err := reading(ctx, s.Server, func() ([]byte, error) {
		entry, err := s.receipts.Entry(ctx, index)
		if err != nil {
			return nil, err
		}
		grant, err := decideRead(rules, call.caller, policy.GetReceipt, &entry)
		if err != nil {
			return nil, err
		}
		call.tin = grant.Taxpayer()
		return s.receipts.Receipt(ctx, index)
	})
	if err != nil {
		return nil, err
	}
	return &roamsignv1.GetReceiptResponse{Receipt: receipt}, nil
}

// ListSignatures lists what is on record of a taxpayer, or of the caller.
func (s *service) ListSignatures(ctx context.Context, in *roamsignv1.ListSignaturesRequest) (*roamsignv1.ListSignaturesResponse, error) {
	call, rules := callOf(ctx), s.policy.Load()
	if err := rules.PermitRead(call.caller, policy.ListSignatures); err != nil {
		return nil, err
	}
	query, err := parseList(in)
	call.tin = policy.TIN(query.TIN)
	if err != nil {
		return nil, err
	}
	if !rules.ReadsAll(call.caller, policy.ListSignatures, call.tin) {
		query.Caller = string(call.caller)
	}
	found, err := s.find(ctx, rules, policy.ListSignatures, query)
	if err != nil {
		return nil, err
	}
	return &roamsignv1.ListSignaturesResponse{Signatures: found.signatures, NextPageToken: found.next, Log: s.receipts.Origin()}, nil
}

// FindSignature finds the entries of a document.
func (s *service) FindSignature(ctx context.Context, in *roamsignv1.FindSignatureRequest) (*roamsignv1.FindSignatureResponse, error) {
	call, rules := callOf(ctx), s.policy.Load()
	if err := rules.PermitRead(call.caller, policy.FindSignature); err != nil {
		return nil, err
	}
	digest, err := parseDigest("document_digest", in.GetDocumentDigest())
	if err != nil {
		return nil, err
	}
	if digest == [32]byte{} {
		return nil, fault.New(fault.InvalidRequest, "document_digest is all zero, which is no document's")
	}
	query := audit.Query{Document: digest}
	if !rules.ReadsOthers(call.caller, policy.FindSignature) {
		query.Caller = string(call.caller)
	}
	if err := parsePage(&query, in.GetPageSize(), in.GetPageToken()); err != nil {
		return nil, err
	}
	found, err := s.find(ctx, rules, policy.FindSignature, query)
	if err != nil {
		return nil, err
	}
	return &roamsignv1.FindSignatureResponse{Signatures: found.signatures, NextPageToken: found.next, Log: s.receipts.Origin()}, nil
}

// found is a page as callers get it.
type found struct {
	signatures []*roamsignv1.RecordedSignature
	next       string
}

// find asks the index, and passes on what the caller may read. Of all else not even
// the pages tell.
func (s *Server) find(ctx context.Context, rules *policy.Policy, method policy.Method, query audit.Query) (found, error) {
	call := callOf(ctx)
	query.May = func(e *audit.Entry) bool {
		_, err := decideRead(rules, call.caller, method, e)
		return err == nil
	}
	page, err := reading(ctx, s, func() (audit.Page, error) { return s.index.Find(ctx, query) })
	if err != nil {
		return found{}, err
	}
	var out found
	for i := range page.Found {
		if grant, err := decideRead(rules, call.caller, method, &page.Found[i].Entry); err == nil {
			out.signatures = append(out.signatures, tell(grant, page.Found[i]))
		}
	}
	if page.More {
		out.next = strconv.FormatUint(page.Next, 10)
	}
	call.attrs = append(call.attrs, slog.Int("signatures", len(out.signatures)))
	return out, nil
}

// decideRead judges the reading of one entry.
func decideRead(rules *policy.Policy, caller policy.Caller, method policy.Method, entry *audit.Entry) (policy.ReadGrant, error) {
	return rules.DecideRead(caller, method, policy.Caller(entry.Caller), policy.TIN(entry.TIN))
}

// reading reads the record in the caller's fair turn.
func reading[T any](ctx context.Context, s *Server, read func() (T, error)) (result T, err error) {
	turn, err := s.reads.enter(ctx, callOf(ctx).caller, 1)
	if err != nil {
		return result, err
	}
	defer func() { turn.end(err) }()
	if result, err = read(); err != nil {
		return result, readFault(err)
	}
	return result, nil
}

// readFault lets those kinds of errors through that are reading's to claim.
func readFault(err error) error {
	err = fmt.Errorf("reading the record: %w", err)
	if _, kind := errors.AsType[*fault.Error](err); !kind && kindOf(err) == fault.Internal {
		return &fault.Error{Kind: fault.LogUnavailable, RetryAfter: time.Second, Err: err}
	}
	switch kindOf(err) {
	case fault.NotAllowed, fault.LogUnavailable, fault.ReceiptPending, fault.Canceled, fault.DeadlineExceeded:
		return err
	default:
		return fault.Wrap(fault.Internal, err)
	}
}

// parseList reads what is to be listed. The query carries what could be read even
// where the error says that something could not.
func parseList(in *roamsignv1.ListSignaturesRequest) (query audit.Query, err error) {
	if in.GetTin() != "" {
		tin, err := parseTIN(in.GetTin())
		if err != nil {
			return query, err
		}
		query.TIN = string(tin)
	}
	for _, bound := range []struct {
		field string
		given *timestamppb.Timestamp
		to    *time.Time
	}{{"since", in.GetSince(), &query.Since}, {"until", in.GetUntil(), &query.Until}} {
		if bound.given == nil {
			continue
		}
		if err := bound.given.CheckValid(); err != nil {
			return query, fault.New(fault.InvalidRequest, "%s is no time: %w", bound.field, err)
		}
		*bound.to = bound.given.AsTime()
	}
	if in.GetUntil() != nil {
		query.Until = query.Until.Add(-1) // the index's bound is the last that fits
	}
	return query, parsePage(&query, in.GetPageSize(), in.GetPageToken())
}

// parsePage reads which page is wanted. A token is the index to go on from: one
// that is made up leads nowhere that the first page does not.
func parsePage(query *audit.Query, size int32, token string) (err error) {
	if size < 0 {
		return fault.New(fault.InvalidRequest, "page_size must not be negative")
	}
	query.Limit = min(int(size), maxPage)
	if size == 0 {
		query.Limit = pageSize
	}
	if token == "" {
		return nil
	}
	if query.From, err = strconv.ParseUint(token, 10, 64); err != nil {
		return fault.New(fault.InvalidRequest, "page_token is none that a page ended with")
	}
	return nil
}

// tell writes an entry for its reader, who has a grant for it.
func tell(grant policy.ReadGrant, one audit.Found) *roamsignv1.RecordedSignature {
	e := one.Entry
	out := &roamsignv1.RecordedSignature{
		LogIndex: one.Index, Time: timestamppb.New(e.Time), Signer: e.Signer,
		Caller: string(grant.Owner()), Tin: string(grant.Taxpayer()), TinChecked: e.TINChecked, Method: e.Method,
		CertificateSha256: e.Certificate[:], DocumentDigest: e.Document[:],
		DocumentNumber: e.Number, RequestId: e.RequestID,
	}
	if e.SignedProperties != (audit.Digest{}) {
		out.SignedPropertiesDigest = e.SignedProperties[:]
	}
	return out
}
