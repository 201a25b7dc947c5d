package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/myinvois"
)

// listed is what the lists tell of a document, in the spelling of the pages "Get
// Recent Documents" and "Search Documents", which differ in the case of TIN.
type listed struct {
	UUID             string  `json:"uuid"`
	Submission       string  `json:"submissionUID"`
	LongID           string  `json:"longId"`
	InternalID       string  `json:"internalId"`
	Type             string  `json:"typeName"`
	Version          string  `json:"typeVersionName"`
	IssuerTIN        string  `json:"issuerTin"`
	IssuerName       string  `json:"issuerName"`
	ReceiverID       string  `json:"receiverId"`
	ReceiverName     string  `json:"receiverName"`
	Issued           instant `json:"dateTimeIssued"`
	Received         instant `json:"dateTimeReceived"`
	Validated        instant `json:"dateTimeValidated"`
	TotalSales       float64 `json:"totalSales"`
	TotalDiscount    float64 `json:"totalDiscount"`
	Net              float64 `json:"netAmount"`
	Total            float64 `json:"total"`
	Status           string  `json:"status"`
	Cancelled        instant `json:"cancelDateTime"`
	Rejected         instant `json:"rejectRequestDateTime"`
	Reason           *string `json:"documentStatusReason"`
	CreatedBy        string  `json:"createdByUserId"`
	SupplierName     string  `json:"supplierName"`
	Channel          string  `json:"submissionChannel"`
	IntermediaryName *string `json:"intermediaryName"`
	IntermediaryTIN  *string `json:"intermediaryTin"`
	IntermediaryROB  *string `json:"intermediaryRob"`
	BuyerName        string  `json:"buyerName"`
}

// recentlyListed is what the recent list adds.
type recentlyListed struct {
	listed
	SupplierTIN string `json:"supplierTin"`
	BuyerTIN    string `json:"buyerTin"`
}

// foundListed is what the search adds.
type foundListed struct {
	listed
	SupplierTIN string `json:"supplierTIN"`
	BuyerTIN    string `json:"buyerTIN"`
}

func (p *Platform) listed(d *document, now time.Time) listed {
	s := p.summary(d, now)
	l := listed{
		UUID: s.UUID, Submission: s.Submission, LongID: s.LongID, InternalID: s.InternalID, Type: s.Type, Version: s.Version,
		IssuerTIN: s.IssuerTIN, IssuerName: s.IssuerName, ReceiverID: s.ReceiverID, ReceiverName: s.ReceiverName,
		Issued: s.Issued, Received: s.Received, Validated: s.Validated,
		TotalSales: s.TotalExcludingTax, TotalDiscount: s.TotalDiscount, Net: s.TotalNet, Total: s.TotalPayable,
		Status: s.Status, Cancelled: s.Cancelled, Rejected: s.Rejected, Reason: s.Reason, CreatedBy: s.CreatedBy,
		SupplierName: d.content.supplier.name, Channel: "ERP", BuyerName: d.content.buyer.name,
	}
	if d.who.behalf {
		by := p.taxpayers[d.who.client.TIN]
		l.IntermediaryName, l.IntermediaryTIN, l.IntermediaryROB = text(by.Name), text(by.TIN), text(by.BRN)
	}
	return l
}

// listWindow is how far back the lists reach, and the longest time they take.
const listWindow = 31 * 24 * time.Hour

// recent lists what was issued in the last 31 days, the latest first.
func (p *Platform) recent(c *call) reply {
	found, refused := p.find(c)
	if refused != nil {
		return *refused
	}
	found = slices.DeleteFunc(found, func(d *document) bool { return c.now.Sub(d.issued) > listWindow })
	return paged(c, found, func(d *document) recentlyListed {
		return recentlyListed{p.listed(d, c.now), d.content.supplier.tin, d.content.buyer.tin}
	})
}

// search lists what the query names. It wants a time, of submission or of issue.
func (p *Platform) search(c *call) reply {
	query := c.URL.Query()
	if query.Get("submissionDateFrom") == "" && query.Get("issueDateFrom") == "" {
		return refuse(http.StatusBadRequest, "BadArgument", "submissionDateFrom and submissionDateTo, or issueDateFrom and issueDateTo, must be given").about("submissionDateFrom")
	}
	found, refused := p.find(c)
	if refused != nil {
		return *refused
	}
	return paged(c, found, func(d *document) foundListed {
		return foundListed{p.listed(d, c.now), d.content.supplier.tin, d.content.buyer.tin}
	})
}

// paged answers with the page that is wanted.
func paged[T any](c *call, found []*document, show func(*document) T) reply {
	first, last, pages, refused := page(c.URL.Query(), len(found))
	if refused != nil {
		return *refused
	}
	shown := []T{}
	for _, d := range found[first:last] {
		shown = append(shown, show(d))
	}
	return reply{status: http.StatusOK, body: struct {
		Result   []T                     `json:"result"`
		Metadata myinvois.RecentMetadata `json:"metadata"`
	}{shown, myinvois.RecentMetadata{Pages: myinvois.Whole(pages), Count: myinvois.Whole(len(found))}}}
}

// find finds the documents that the caller may know of and the query names.
func (p *Platform) find(c *call) ([]*document, *reply) {
	query := lowered(c.URL.Query())
	received, refused := between(query, "submissiondate")
	if refused != nil {
		return nil, refused
	}
	issued, refused := between(query, "issuedate")
	if refused != nil {
		return nil, refused
	}
	var found []*document
	for _, d := range p.store.everything() {
		if p.sees(c.who, d, c.now) && received.holds(d.received) && issued.holds(d.issued) && p.matches(c, d, query) {
			found = append(found, d)
		}
	}
	slices.Reverse(found)
	return found, nil
}

// lowered is a query with its names in lower case: LHDN's pages spell
// InvoiceDirection in two ways.
func lowered(query url.Values) url.Values {
	all := url.Values{}
	for name, values := range query {
		all[strings.ToLower(name)] = values
	}
	return all
}

func (p *Platform) matches(c *call, d *document, query url.Values) bool {
	direction := "received"
	if d.facts.TIN == c.who.tin {
		direction = "sent"
	}
	for name, value := range map[string]string{
		"uuid": d.uuid, "status": d.status(c.now, p.store.changes(d).cancelled), "documenttype": d.facts.Type,
		"invoicedirection": direction, "issuertin": d.facts.TIN, "receivertin": d.receiver().tin, "receiverid": d.receiver().id,
	} {
		if wanted := query.Get(name); wanted != "" && !strings.EqualFold(wanted, value) {
			return false
		}
	}
	text := query.Get("searchquery")
	return text == "" || slices.ContainsFunc([]string{
		d.uuid, d.facts.Number, d.content.supplier.tin, d.content.buyer.tin, d.content.supplier.name, d.content.buyer.name,
	}, func(value string) bool { return strings.Contains(strings.ToLower(value), strings.ToLower(text)) })
}

// span is a time from and to; the zero span holds all.
type span struct{ from, to time.Time }

func (s span) holds(at time.Time) bool {
	return s.from.IsZero() || !at.Before(s.from) && !at.After(s.to)
}

// between reads a span of the query. Of its two ends none or both must be given.
func between(query url.Values, name string) (span, *reply) {
	from, to := query.Get(name+"from"), query.Get(name+"to")
	if from == "" && to == "" {
		return span{}, nil
	}
	var s span
	for _, each := range []struct {
		text string
		to   *time.Time
	}{{from, &s.from}, {to, &s.to}} {
		at, err := time.Parse(time.RFC3339, each.text)
		if err != nil {
			if at, err = time.Parse("2006-01-02T15:04:05", each.text); err != nil {
				return s, new(refuse(http.StatusBadRequest, "BadArgument", "%q is no time such as 2026-11-20T03:15:00Z", each.text).about(name))
			}
		}
		*each.to = at
	}
	if s.to.Before(s.from) || s.to.Sub(s.from) > listWindow {
		return s, new(refuse(http.StatusBadRequest, "BadArgument", "the time must end after it begins, and last 31 days at most").about(name))
	}
	return s, nil
}
