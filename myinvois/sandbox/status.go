package sandbox

import (
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// summary is what the platform tells of a document, in the spelling of the pages
// "Get Submission", "Get Document" and "Get Document Details".
type summary struct {
	UUID              string  `json:"uuid"`
	Submission        string  `json:"submissionUid"`
	LongID            string  `json:"longId"`
	InternalID        string  `json:"internalId"`
	Type              string  `json:"typeName"`
	Version           string  `json:"typeVersionName"`
	IssuerTIN         string  `json:"issuerTin"`
	IssuerName        string  `json:"issuerName"`
	ReceiverID        string  `json:"receiverId"`
	ReceiverName      string  `json:"receiverName"`
	Issued            instant `json:"dateTimeIssued"`
	Received          instant `json:"dateTimeReceived"`
	Validated         instant `json:"dateTimeValidated"`
	TotalExcludingTax float64 `json:"totalExcludingTax"`
	TotalDiscount     float64 `json:"totalDiscount"`
	TotalNet          float64 `json:"totalNetAmount"`
	TotalPayable      float64 `json:"totalPayableAmount"`
	Status            string  `json:"status"`
	Cancelled         instant `json:"cancelDateTime"`
	Rejected          instant `json:"rejectRequestDateTime"`
	Reason            *string `json:"documentStatusReason"`
	CreatedBy         string  `json:"createdByUserId"`
}

// typeNames are the types in words. LHDN's page shows "invoice" alone.
var typeNames = map[string]string{
	"01": "invoice", "02": "credit note", "03": "debit note", "04": "refund note",
	"11": "self-billed invoice", "12": "self-billed credit note", "13": "self-billed debit note", "14": "self-billed refund note",
}

// issuer is the party on whose behalf the document is, receiver the other one.
func (d *document) issuer() party {
	if d.facts.SelfBilled {
		return d.content.buyer
	}
	return d.content.supplier
}

func (d *document) receiver() party {
	if d.facts.SelfBilled {
		return d.content.supplier
	}
	return d.content.buyer
}

func (p *Platform) summary(d *document, now time.Time) summary {
	done := p.store.changes(d)
	status := d.status(now, done.cancelled)
	s := summary{
		UUID: d.uuid, Submission: d.submission, InternalID: d.facts.Number,
		Type: typeNames[d.facts.Type], Version: d.facts.Version,
		IssuerTIN: d.facts.TIN, IssuerName: d.issuer().name, ReceiverID: d.receiver().id, ReceiverName: d.receiver().name,
		Issued: instant(d.issued), Received: instant(d.received),
		TotalExcludingTax: d.content.totals.exclTax, TotalDiscount: d.content.totals.discount,
		TotalNet: d.content.totals.net, TotalPayable: d.content.totals.payable,
		Status: status, Cancelled: instant(done.cancelled), Rejected: instant(done.rejected), Reason: text(done.reason),
		CreatedBy: d.who.client.TIN + ":" + d.who.client.ID,
	}
	if status == valid || status == stateCancelled {
		s.LongID, s.Validated = d.longID, instant(d.ready)
	}
	return s
}

// submission tells what became of a submission. It is for who submitted it, and for
// that taxpayer.
func (p *Platform) submission(c *call) reply {
	sub := p.store.submission(c.PathValue("submissionUid"))
	if sub == nil {
		return refuse(http.StatusNotFound, "NotFound", "there is no such submission").about("submissionUid")
	}
	if sub.who != c.who {
		return refuse(http.StatusForbidden, "Forbidden", "the submission is another submitter's")
	}
	first, last, _, refused := page(c.URL.Query(), len(sub.documents))
	if refused != nil {
		return *refused
	}
	shown := []summary{}
	for _, d := range sub.documents[first:last] {
		shown = append(shown, p.summary(d, c.now))
	}
	return reply{status: http.StatusOK, body: struct {
		UID      string    `json:"submissionUid"`
		Count    int       `json:"documentCount"`
		Received instant   `json:"dateTimeReceived"`
		Overall  string    `json:"overallStatus"`
		Shown    []summary `json:"documentSummary"`
	}{sub.uid, len(sub.documents), instant(sub.received), sub.overall(c.now), shown}}
}

// overall is the state of a submission as a whole. What was cancelled was valid.
func (s *submission) overall(now time.Time) string {
	good := 0
	for _, d := range s.documents {
		switch d.status(now, time.Time{}) {
		case submitted:
			return "in progress"
		case valid:
			good++
		}
	}
	switch good {
	case len(s.documents):
		return "valid"
	case 0:
		return "invalid"
	}
	return "partially valid"
}

// maxPage is the largest page.
const maxPage = 100

// page reads which page is wanted of so many items: their first and last, and how
// many pages there are.
func page(query url.Values, n int) (first, last, pages int, refused *reply) {
	number, size := 1, maxPage
	for _, each := range []struct {
		name string
		to   *int
		most int
	}{{"pageNo", &number, 1 << 30}, {"pageSize", &size, maxPage}} {
		given := query.Get(each.name)
		if given == "" {
			continue
		}
		value, err := strconv.Atoi(given)
		if err != nil || value < 1 || value > each.most {
			return 0, 0, 0, new(refuse(http.StatusBadRequest, "BadArgument", "%s must be a number from 1 to %d", each.name, each.most).about(each.name))
		}
		*each.to = value
	}
	pages = (n + size - 1) / size
	if number > pages {
		return n, n, pages, nil
	}
	return (number - 1) * size, min(number*size, n), pages, nil
}

// sees tells whether a caller may know of a document: an intermediary of those that
// it submitted itself, a taxpayer of its own and of those issued to it that are
// valid or were (SDK, FAQ on intermediaries, and "Get Document").
func (p *Platform) sees(who identity, d *document, now time.Time) bool {
	switch {
	case who.behalf:
		return d.who == who
	case d.facts.TIN == who.tin:
		return true
	}
	status := d.status(now, p.store.changes(d).cancelled)
	return d.receiver().tin == who.tin && (status == valid || status == stateCancelled)
}

// wanted finds the document that a path names, if the caller may know of it.
func (p *Platform) wanted(c *call) (*document, *reply) {
	d := p.store.document(c.PathValue("uuid"))
	if d == nil || !p.sees(c.who, d, c.now) {
		return nil, new(refuse(http.StatusNotFound, "NotFound", "there is no such document").about("uuid"))
	}
	return d, nil
}

// details tells the steps of a document's validation.
func (p *Platform) details(c *call) reply {
	d, refused := p.wanted(c)
	if refused != nil {
		return *refused
	}
	type results struct {
		Status string `json:"status"`
		Steps  []step `json:"validationSteps"`
	}
	shown := struct {
		summary
		Results results `json:"validationResults"`
	}{p.summary(d, c.now), results{Status: submitted, Steps: []step{}}}
	if shown.Status != submitted {
		v := d.verdict()
		shown.Results = results{v.status, v.steps}
	}
	return reply{status: http.StatusOK, body: shown}
}

// raw gives a document as it was submitted. One that is invalid is not given.
func (p *Platform) raw(c *call) reply {
	d, refused := p.wanted(c)
	if refused != nil {
		return *refused
	}
	shown := struct {
		summary
		Document string `json:"document"`
	}{p.summary(d, c.now), string(d.raw)}
	if shown.Status == invalid {
		return refuse(http.StatusNotFound, "NotFound", "the document is invalid; its details tell why").about("uuid")
	}
	return reply{status: http.StatusOK, body: shown}
}
