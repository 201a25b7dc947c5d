package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/xades"
)

// issueWindow is how old a document may be when it is submitted.
const issueWindow = 72 * time.Hour

// issuedAt is when a document says that it was issued, or zero if it does not say so
// as LHDN wants it: in UTC.
func issuedAt(facts xades.Facts) time.Time {
	at, err := time.Parse("2006-01-02T15:04:05Z", facts.IssueDate+"T"+facts.IssueTime)
	if err != nil {
		return time.Time{}
	}
	return at
}

// same tells whether a document that the platform shows is the one that was sent,
// written anew: the same by number and type, signed with the same certificate in the
// same second.
func same(sent, shown []byte) bool {
	a, b := xades.Verify(sent, xades.VerifyOptions{}), xades.Verify(shown, xades.VerifyOptions{})
	return a.Certificate != nil && b.Certificate != nil && a.Certificate.Equal(b.Certificate) &&
		!a.SigningTime.IsZero() && a.SigningTime.Equal(b.SigningTime) &&
		a.Facts.Number == b.Facts.Number && a.Facts.Type == b.Facts.Type
}

// judge refuses what LHDN would refuse, unless that is to be sent all the same.
func (r *submission) judge(p *paper, content []byte) error {
	now := time.Now()
	options := xades.VerifyOptions{Roots: r.roots, At: now}
	options.SubmitterTIN, options.SubmitterBRN = r.intermediary(p.taxpayer)
	var said []string
	for _, f := range xades.Verify(content, options).Findings {
		if f.Severity == xades.SeverityError {
			said = append(said, strings.TrimSpace(f.Code+" "+f.Message))
		}
	}
	if n := utf8.RuneCountInString(p.facts.Number); n < 1 || n > myinvois.MaxNumber {
		said = append(said, fmt.Sprintf("its number has %d characters; LHDN takes 1 to %d", n, myinvois.MaxNumber))
	}
	issued := issuedAt(p.facts)
	switch {
	case issued.IsZero():
		said = append(said, fmt.Sprintf("its issue date and time are %q and %q; LHDN takes UTC, such as 2026-07-01 and 08:30:00Z", p.facts.IssueDate, p.facts.IssueTime))
	case now.Sub(issued) > issueWindow:
		said = append(said, fmt.Sprintf("it was issued at %s; LHDN takes documents for 72 hours", issued.Format(time.RFC3339)))
	case issued.After(now):
		said = append(said, fmt.Sprintf("it was issued at %s, which is still to come; is that local time, called UTC?", issued.Format(time.RFC3339)))
	default:
		if err := r.represented(p.taxpayer, issued); err != nil {
			said = append(said, fmt.Sprintf("it was issued at %s, and %v", issued.Format(time.RFC3339), err))
		}
	}
	switch {
	case len(said) == 0:
		return nil
	case r.force:
		r.report.complain(p.name, fmt.Errorf("warning: sent although LHDN would refuse it: %s", strings.Join(said, "; ")))
		return nil
	}
	return fmt.Errorf("LHDN would refuse it: %s (--force sends it)", strings.Join(said, "; "))
}
