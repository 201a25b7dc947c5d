package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/xades"
)

// duplicate is the answer to a payload that came before.
func duplicate(wait time.Duration) reply {
	return refuse(http.StatusUnprocessableEntity, "DuplicateSubmission",
		"an identical submission came within the last 10 minutes; the same payload may be submitted again after Retry-After").after(wait)
}

// mismatch is the answer to documents of another taxpayer. LHDN's page has it as
// IncorrectSubmitter; this is what is seen on the wire.
func mismatch(shape Shape) reply {
	const says = "The authenticated TIN and documents TIN is not matching "
	if shape == Documented {
		return refuse(http.StatusForbidden, "IncorrectSubmitter", says)
	}
	return reply{status: http.StatusBadRequest, problem: &problem{code: "ValidationError", details: []detail{{"submission", "submission", says}}}}
}

// submit takes a submission: checks of it as a whole, which refuse it, then of each
// document, which reject that one, and all else later.
func (p *Platform) submit(c *call) reply {
	var request myinvois.SubmissionRequest
	decoder := json.NewDecoder(bytes.NewReader(c.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil || decoder.More() {
		return reply{status: http.StatusBadRequest, problem: &problem{code: "BadStructure", details: []detail{{
			"submission", "submission", "Invalid structured submission: one object with a list of documents, each with format, document, documentHash and codeNumber",
		}}}}
	}
	if refused := p.refuseWhole(c, request.Documents); refused != nil {
		return *refused
	}
	key := payloadKey{c.who.tin, sha256.Sum256(c.body)}
	if until, again := p.store.seen(key, c.now); again {
		return duplicate(until.Sub(c.now))
	}
	sub := &submission{uid: identifier(), received: c.now, who: c.who}
	answer := myinvois.SubmissionAnswer{Accepted: []myinvois.AcceptedDocument{}, Rejected: []myinvois.RejectedDocument{}}
	for i := range request.Documents {
		given := &request.Documents[i]
		d, flaws := p.take(c, sub, given)
		if d != nil && d.facts.TIN != c.who.tin {
			p.store.forget(key)
			return mismatch(p.config.Errors)
		}
		if len(flaws) > 0 {
			answer.Rejected = append(answer.Rejected, rejection(given.CodeNumber, flaws))
			continue
		}
		sub.documents = append(sub.documents, d)
		answer.Accepted = append(answer.Accepted, myinvois.AcceptedDocument{UUID: d.uuid, Number: given.CodeNumber})
	}
	if len(sub.documents) == 0 {
		p.store.forget(key)
		return reply{status: http.StatusAccepted, body: answer}
	}
	p.store.add(sub)
	answer.SubmissionUID = &sub.uid
	return reply{status: http.StatusAccepted, body: answer}
}

// refuseWhole tells why nothing of a submission is looked at.
func (p *Platform) refuseWhole(c *call, documents []myinvois.SubmittedDocument) *reply {
	if !p.may(c.who, MaySubmit, c.now) {
		return new(refuse(http.StatusForbidden, "IncorrectSubmitter", "the taxpayer has not given the intermediary the right to submit"))
	}
	switch {
	case len(documents) == 0:
		return new(refuse(http.StatusBadRequest, "BadStructure", "the submission has no document").about("documents"))
	case len(documents) > myinvois.MaxDocuments:
		return new(refuse(http.StatusBadRequest, "MaximumSizeExceeded", "the submission has %d documents; at most %d", len(documents), myinvois.MaxDocuments).about("documents"))
	}
	for i := range documents {
		if documents[i].Format != documents[0].Format {
			return new(refuse(http.StatusBadRequest, "BadStructure", "the documents of one submission must be of one format").about("format"))
		}
	}
	return nil
}

// flaw is why a document is rejected at once.
type flaw struct{ code, message, target, path string }

// take reads a document, or says why it is rejected. A document that was read is
// returned even so.
func (p *Platform) take(c *call, sub *submission, given *myinvois.SubmittedDocument) (*document, []flaw) {
	if flaws := envelope(given); len(flaws) > 0 {
		return nil, flaws
	}
	facts, err := xades.Inspect(given.Document)
	if err != nil {
		return nil, []flaw{{"InvalidStructure", fmt.Sprintf("Invalid Structure: %v", err), "document", "document"}}
	}
	format, _ := xades.Detect(given.Document) // Inspect has read it
	d := &document{
		uuid: identifier(), longID: longIdentifier(), submission: sub.uid,
		facts: facts, format: format, raw: given.Document, hash: sha256.Sum256(given.Document),
		content: parse(given.Document, format).content(),
		who:     c.who, received: c.now, ready: c.now.Add(p.config.Validation),
	}
	var flaws []flaw
	d.issued, flaws = p.core(c.now, given, format, facts)
	d.stale = p.stale(d, c.now)
	d.verdict = sync.OnceValue(func() verdict { return p.judge(d) })
	return d, flaws
}

// envelope judges what stands around a document.
func envelope(given *myinvois.SubmittedDocument) (flaws []flaw) {
	add := func(code, target, format string, args ...any) {
		flaws = append(flaws, flaw{code, fmt.Sprintf(format, args...), target, target})
	}
	digest := sha256.Sum256(given.Document)
	switch {
	case given.Format != myinvois.XML && given.Format != myinvois.JSON:
		add("BadArgument", "format", "format must be XML or JSON")
	case len(given.Document) == 0:
		add("BadArgument", "document", "the document is missing")
	case len(given.Document) > myinvois.MaxDocumentBytes:
		add("MaximumSizeExceeded", "document", "the document has %d bytes; at most 300 KB", len(given.Document))
	case given.Hash != hex.EncodeToString(digest[:]):
		add("BadArgument", "documentHash", "Document hash is not valid: it must be the SHA-256 of the very bytes, in lower-case hexadecimal")
	}
	if n := utf8.RuneCountInString(given.CodeNumber); n == 0 || n > myinvois.MaxNumber {
		add("BadArgument", "codeNumber", "codeNumber must have 1 to %d characters", myinvois.MaxNumber)
	}
	return flaws
}

// core is the Core Fields Validator, in part. CF321 is what third parties report for
// an issue date that is too old; that a future one has it as well is a guess.
func (p *Platform) core(now time.Time, given *myinvois.SubmittedDocument, format xades.Format, facts xades.Facts) (issued time.Time, flaws []flaw) {
	add := func(code, target, path, format string, args ...any) {
		flaws = append(flaws, flaw{code, fmt.Sprintf(format, args...), target, path})
	}
	if string(given.Format) != format.String() {
		add("BadArgument", "format", "format", "the document is %s, not %s", format, given.Format)
	}
	if facts.Number != given.CodeNumber {
		add("BadArgument", "codeNumber", "Invoice.ID", "codeNumber is %q, the document's number %q", given.CodeNumber, facts.Number)
	}
	if !documentTypes[facts.Type] {
		add("InvalidStructure", "InvoiceTypeCode", "Invoice.InvoiceTypeCode", "%q is no type of document", facts.Type)
	}
	if _, known := signedVersions[facts.Version]; !known {
		add("InvalidStructure", "listVersionID", "Invoice.InvoiceTypeCode", "%q is no version of a document", facts.Version)
	}
	issued, err := time.Parse(time.RFC3339, facts.IssueDate+"T"+facts.IssueTime)
	switch {
	case err != nil:
		add("CF321", "DatetimeIssued", "Invoice.IssueDate", "the date and the time of issue must be as 2026-11-20 and 03:15:00Z, in UTC")
	case issued.After(now):
		add("CF321", "DatetimeIssued", "Invoice.IssueDate", "Document issuance date and time is in the future: is it in UTC?")
	case now.Sub(issued) > p.config.IssueWindow:
		add("CF321", "DatetimeIssued", "Invoice.IssueDate", "Issuance date time value of the document is too old and cannot be submitted")
	}
	return issued.UTC(), flaws
}

// documentTypes are those of LHDN's code table "e-Invoice Types".
var documentTypes = map[string]bool{
	"01": true, "02": true, "03": true, "04": true, "11": true, "12": true, "13": true, "14": true,
}

// signedVersions are the versions of documents, with whether they carry a signature.
var signedVersions = map[string]bool{"1.0": false, "1.1": true, "1.2": false, "1.3": true}

// rejection is a rejected document as seen on the wire.
func rejection(number string, flaws []flaw) myinvois.RejectedDocument {
	all := myinvois.Problem{Code: "3", Message: "Validation Error", Target: number}
	for _, f := range flaws {
		all.Details = append(all.Details, myinvois.Problem{Code: f.code, Message: f.message, Target: f.target, PropertyPath: f.path})
	}
	return myinvois.RejectedDocument{Number: number, Error: all}
}

// stale are the references of a document to others that are not valid now.
func (p *Platform) stale(d *document, now time.Time) (uuids []string) {
	for _, uuid := range d.content.references {
		other := p.store.document(uuid)
		if other == nil && p.config.Strict || other != nil && other.status(now, p.store.changes(other).cancelled) != valid {
			uuids = append(uuids, uuid)
		}
	}
	return uuids
}
