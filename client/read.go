package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Record is an entry of a signer's audit log: that a signature was authorised and
// about to be made. It is what the signer says; a receipt proves it.
type Record struct {
	// Log is the name of the log, Index the entry's place in it, Server the address
	// at which it was read.
	Log    string
	Index  uint64
	Server string
	// Time is when the signature was authorised.
	Time time.Time
	// Signer is the instance of the service, as its operator named it.
	Signer string
	// Caller is who asked for the signature.
	Caller string
	// TIN is the taxpayer on whose behalf; TINChecked tells that the signer read it
	// in the document, rather than being told.
	TIN        string
	TINChecked bool
	// Method is the API's ("SignDigest").
	Method string
	// Certificate is the SHA-256 of the signing certificate in DER.
	Certificate [sha256.Size]byte
	// DocDigest is the document's.
	DocDigest [sha256.Size]byte
	// PropsDigest is that of the signed properties; zero if it is not on record.
	PropsDigest [sha256.Size]byte
	// Number is the document's own, RequestID the caller's name of the request;
	// either may be empty.
	Number, RequestID string
}

// Request is what the retries of one request have in common: records with the same
// one are of one request, put on record again.
type Request struct {
	Log, Caller, Method, TIN, ID string
	DocDigest                    [sha256.Size]byte
}

// Request returns whose request for what the record is of.
func (r *Record) Request() Request {
	return Request{Log: r.Log, Caller: r.Caller, Method: r.Method, TIN: r.TIN, ID: r.RequestID, DocDigest: r.DocDigest}
}

// Query says which signatures are listed.
type Query struct {
	// TIN is the taxpayer on whose behalf. Empty: all of this client's own.
	TIN string
	// Since is the first time that fits, Until the first after it that does not.
	// Zero: no bound.
	Since, Until time.Time
}

// pendingFor is the longest that Receipt waits for a checkpoint.
const pendingFor = 15 * time.Second

// pageOf is how many records are fetched at a time.
const pageOf = 500

// Receipt fetches the proof that a signature is on record, from the signer whose
// log has it ([Signed.Server]); where only one is configured, server may be empty.
// It waits, for some seconds at most, until a checkpoint holds the entry, which
// follows the signature within a tenth of a second or so. The proof is text in the
// form of https://c2sp.org/tlog-proof; "roamsign receipt verify" verifies it, and
// so does package audit. The error is an [*Error].
func (c *Client) Receipt(ctx context.Context, server string, index uint64) ([]byte, error) {
	one, err := c.only(server)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pendingFor)
	defer cancel()
	for {
		var answer *roamsignv1.GetReceiptResponse
		err := one.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
			answer, err = one.signer.GetReceipt(ctx, &roamsignv1.GetReceiptRequest{LogIndex: index}, opts...)
			return err
		})
		if err == nil {
			return answer.GetReceipt(), nil
		}
		failed := answered(err)
		if !failed.pending() {
			return nil, failed.hinted("there is no such entry in the log, or the signer's policy does not let this client read it")
		}
		timer := time.NewTimer(max(failed.RetryAfter, 50*time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, over(ctx, failed)
		}
	}
}

// Signatures lists what is on record, in the order of the log: this client's own
// signatures, and of a taxpayer whose signatures the policy lets it read
// everybody's. The retries of a request are records of their own ([Record.Request]).
// Where signers have logs of their own, one follows the other; one that cannot be
// read yields its error in its records' place, an [*Error] or one that wraps it.
func (c *Client) Signatures(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return c.records(ctx, func(ctx context.Context, one *Client, token string) (page, error) {
		answer := &roamsignv1.ListSignaturesResponse{}
		err := one.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
			answer, err = one.signer.ListSignatures(ctx, &roamsignv1.ListSignaturesRequest{
				Tin: q.TIN, Since: stamp(q.Since), Until: stamp(q.Until), PageSize: pageOf, PageToken: token,
			}, opts...)
			return err
		})
		return page{answer.GetLog(), answer.GetSignatures(), answer.GetNextPageToken()}, err
	})
}

// Find tells what is on record of a document, by its DocDigest: each entry that
// this client may read, as [Client.Signatures] does.
func (c *Client) Find(ctx context.Context, digest [sha256.Size]byte) iter.Seq2[Record, error] {
	return c.records(ctx, func(ctx context.Context, one *Client, token string) (page, error) {
		answer := &roamsignv1.FindSignatureResponse{}
		err := one.call(ctx, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
			answer, err = one.signer.FindSignature(ctx, &roamsignv1.FindSignatureRequest{
				DocumentDigest: digest[:], PageSize: pageOf, PageToken: token,
			}, opts...)
			return err
		})
		return page{answer.GetLog(), answer.GetSignatures(), answer.GetNextPageToken()}, err
	})
}

// page is one page of records as a signer answers.
type page struct {
	log     string
	records []*roamsignv1.RecordedSignature
	next    string
}

// records reads all pages of each log once, whichever signers share it.
func (c *Client) records(ctx context.Context, fetch func(ctx context.Context, one *Client, token string) (page, error)) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var known []string // logs
		for _, server := range c.servers.all {
			for r, err := range c.recordsAt(ctx, server, &known, fetch) {
				if err != nil && len(c.servers.all) > 1 {
					err = fmt.Errorf("reading the record at %s: %w", server, err)
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

// recordsAt reads all pages at one server, unless its log is known.
func (c *Client) recordsAt(ctx context.Context, server string, known *[]string,
	fetch func(ctx context.Context, one *Client, token string) (page, error),
) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		one, err := c.only(server)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for token, first := "", true; first || token != ""; first = false {
			p, err := fetch(ctx, one, token)
			switch {
			case err != nil:
				yield(Record{}, answered(err).hinted("the signer's policy does not let this client read the record"))
				return
			case first && slices.Contains(*known, p.log):
				return
			case p.next != "" && p.next == token:
				yield(Record{}, wrong("the signer's pages lead nowhere"))
				return
			}
			if first {
				*known = append(*known, p.log)
			}
			for _, in := range p.records {
				r, err := recordOf(in)
				r.Log, r.Server = p.log, server
				if !yield(r, err) || err != nil {
					return
				}
			}
			token = p.next
		}
	}
}

// recordOf reads a record as the signer tells it.
func recordOf(in *roamsignv1.RecordedSignature) (Record, error) {
	r := Record{
		Index: in.GetLogIndex(), Time: in.GetTime().AsTime(), Signer: in.GetSigner(), Caller: in.GetCaller(),
		TIN: in.GetTin(), TINChecked: in.GetTinChecked(), Method: in.GetMethod(),
		Number: in.GetDocumentNumber(), RequestID: in.GetRequestId(),
	}
	if copy(r.Certificate[:], in.GetCertificateSha256()) != sha256.Size || copy(r.DocDigest[:], in.GetDocumentDigest()) != sha256.Size {
		return Record{}, wrong("the signer's answer has an entry without its digests")
	}
	copy(r.PropsDigest[:], in.GetSignedPropertiesDigest())
	return r, nil
}

// stamp leaves out what is no bound.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// only returns a client for one of the configured servers, which this one closes:
// itself where there is but one.
func (c *Client) only(server string) (*Client, error) {
	if all := c.servers.all; len(all) == 1 && (server == "" || server == all[0]) {
		return c, nil
	}
	if !slices.Contains(c.servers.all, server) {
		if server == "" {
			return nil, unclear("there are %d signers, each with a log of its own perhaps: name the one that signed", len(c.servers.all))
		}
		return nil, unclear("%s is none of the configured servers", server)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.each[server]; one != nil {
		return one, nil
	}
	cfg := c.config
	cfg.Servers = []string{server}
	one, err := Dial(cfg)
	if err != nil {
		return nil, err
	}
	if c.each == nil {
		c.each = map[string]*Client{}
	}
	c.each[server] = one
	return one, nil
}

// closeEach closes the clients for single servers.
func (c *Client) closeEach() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var failed []error
	for _, one := range c.each {
		failed = append(failed, one.Close())
	}
	c.each = nil
	return errors.Join(failed...)
}

// pending tells whether a receipt is only to be waited for.
func (e *Error) pending() bool { return e.Reason == fault.ReceiptPending.Reason() }

// hinted returns the error with what a denial means here.
func (e *Error) hinted(denied string) *Error {
	if e.Reason != fault.NotAllowed.Reason() {
		return e
	}
	copied := *e
	copied.hint = denied
	return &copied
}
