package myinvois

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// pageSize is the most that a page holds; maxPages bounds what is read of pages.
const (
	pageSize = 100
	maxPages = 100
)

// Status words of documents, in the platform's spelling.
const (
	StatusSubmitted = "Submitted"
	StatusValid     = "Valid"
	StatusInvalid   = "Invalid"
	StatusCancelled = "Cancelled"
)

// InProgress tells whether some documents are still being validated. The platform
// spells it "in progress", "InProgress" and the like.
func (s *SubmissionStatus) InProgress() bool {
	word := strings.ToLower(strings.Map(func(r rune) rune {
		if r == ' ' || r == '_' || r == '-' {
			return -1
		}
		return r
	}, s.Overall))
	return word == "inprogress" || word == "" || word == "submitted"
}

// Submission tells what became of a submission, all pages of it. The answer may
// list fewer documents than it counts while they are in progress.
func (c *Client) Submission(ctx context.Context, taxpayer, uid string) (*SubmissionStatus, error) {
	var all *SubmissionStatus
	for page := 1; page <= maxPages; page++ {
		r := request{
			doing: "asking for submission " + uid + behalf(taxpayer), at: submission,
			url: c.at(PathSubmission, "submissionUid", uid, paged(page)),
		}
		var said SubmissionStatus
		if err := c.ask(ctx, taxpayer, r, &said); err != nil {
			return nil, err
		}
		if all == nil {
			all = &said
		} else {
			all.Documents, all.Overall = append(all.Documents, said.Documents...), said.Overall
		}
		if len(said.Documents) < pageSize || len(all.Documents) >= int(said.Count) {
			break
		}
	}
	return all, nil
}

func paged(page int) url.Values {
	return url.Values{"pageNo": {strconv.Itoa(page)}, "pageSize": {strconv.Itoa(pageSize)}}
}

// Await asks for a submission at the platform's pace until no document is in
// progress, and tells each answer to seen. When ctx ends, so does it.
func (c *Client) Await(ctx context.Context, taxpayer, uid string, seen func(*SubmissionStatus) error) error {
	for n := 1; ; n++ {
		if err := wait(ctx, c.poll); err != nil {
			return &Error{Doing: "waiting for submission " + uid + behalf(taxpayer), Message: "given up", cause: err}
		}
		status, err := c.Submission(ctx, taxpayer, uid)
		if failed, ours := errors.AsType[*Error](err); ours && failed.Status == http.StatusNotFound && n < attempts {
			continue
		}
		if err != nil {
			return err
		}
		if err := seen(status); err != nil || !status.InProgress() {
			return err
		}
	}
}

// Details tells of a document with the steps of its validation. Asking is for
// errors: the state of a submission is cheaper to ask for.
func (c *Client) Details(ctx context.Context, taxpayer, uuid string) (*DocumentDetails, error) {
	var said DocumentDetails
	r := request{doing: "asking for the details of document " + uuid, at: details, url: c.at(PathDetails, "uuid", uuid, nil)}
	return &said, c.ask(ctx, taxpayer, r, &said)
}

// Raw fetches a document as it was submitted. There is none of an invalid one.
func (c *Client) Raw(ctx context.Context, taxpayer, uuid string) (*RawDocument, error) {
	var said RawDocument
	r := request{doing: "fetching document " + uuid, at: raw, url: c.at(PathRaw, "uuid", uuid, nil)}
	return &said, c.ask(ctx, taxpayer, r, &said)
}

// Recent lists the documents that were submitted in a span of time of the last 31
// days, in whichever direction: whether a self-billed one counts as sent, the
// platform's pages do not say. It lists all or is an error.
func (c *Client) Recent(ctx context.Context, taxpayer string, from, to time.Time) ([]DocumentSummary, error) {
	var all []DocumentSummary
	doing := "asking for recent documents" + behalf(taxpayer)
	for page := 1; page <= maxPages; page++ {
		query := paged(page)
		query.Set("submissionDateFrom", from.UTC().Format(time.RFC3339))
		query.Set("submissionDateTo", to.UTC().Format(time.RFC3339))
		r := request{doing: doing, at: recent, url: c.api + PathRecent + "?" + query.Encode()}
		var said RecentAnswer
		if err := c.ask(ctx, taxpayer, r, &said); err != nil {
			return nil, err
		}
		all = append(all, said.Documents...)
		pages, counted := int(said.Metadata.Pages), said.Metadata.Pages > 0
		if len(said.Documents) == 0 || counted && page >= pages || !counted && len(said.Documents) < pageSize {
			return all, nil
		}
	}
	return nil, &Error{Doing: doing, Message: fmt.Sprintf("there are more than %d pages of them since %s", maxPages, from.UTC().Format(time.RFC3339))}
}

// ID is a registration number of a taxpayer's, of a kind.
type ID struct {
	Kind  string // "NRIC", "PASSPORT", "BRN" or "ARMY"
	Value string
}

// ValidateTIN tells whether a TIN and a registration number belong together. What
// the platform answered is remembered for a day, or an hour if they do not: it
// asks not to be asked before every submission.
func (c *Client) ValidateTIN(ctx context.Context, taxpayer, tin string, id ID) (bool, error) {
	key := tin + "\n" + id.Kind + "\n" + id.Value
	if valid, known := c.known.get(key); known {
		return valid, nil
	}
	r := request{
		doing: "validating TIN " + tin, at: validateTIN,
		url: c.at(PathValidateTIN, "tin", tin, url.Values{"idType": {id.Kind}, "idValue": {id.Value}}),
	}
	err := c.ask(ctx, taxpayer, r, nil)
	if failed, ours := errors.AsType[*Error](err); ours && failed.Status == http.StatusNotFound {
		c.known.put(key, false)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.known.put(key, true)
	return true, nil
}
