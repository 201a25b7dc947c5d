package myinvois

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// ours tells whether a submission that the platform lists is the batch's: the
// platform tells of it as it does to its submitter only, it holds nothing but
// documents of the batch by number, issuer, type and time of issue where these are
// told, and where the platform shows one it is, to the byte, what was sent.
func (r *run) ours(ctx context.Context, uid string, entries []Entry) (bool, error) {
	status, err := r.Client.Submission(ctx, r.batch.Taxpayer, uid)
	failed, told := errors.AsType[*Error](err)
	switch {
	case told && (failed.Status == http.StatusForbidden || failed.Status == http.StatusNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	numbered := byNumber(entries)
	var shown *DocumentSummary
	for i, d := range status.Documents {
		e, known := numbered[d.Number]
		if !known || another(e, d) {
			return false, nil
		}
		if shown == nil && strings.EqualFold(d.Status, StatusValid) {
			shown = &status.Documents[i]
		}
	}
	if shown == nil {
		return true, nil
	}
	return r.sameBytes(ctx, numbered[shown.Number], *shown)
}

// sameBytes compares a document that the platform shows with what was sent. One
// that it does not show is no reason to doubt.
func (r *run) sameBytes(ctx context.Context, e Entry, d DocumentSummary) (bool, error) {
	sent, err := r.Journal.Content(e.ID)
	if err != nil {
		return false, err
	}
	told, err := r.Client.Raw(ctx, e.Taxpayer, d.UUID)
	failed, ours := errors.AsType[*Error](err)
	switch {
	case ours && failed.definite() && failed.Status != http.StatusUnauthorized && failed.Status != http.StatusTooManyRequests:
		return true, nil
	case err != nil:
		return false, err
	case told.Document == "" || bytes.Equal(sent, []byte(told.Document)):
		return true, nil
	}
	return r.Same != nil && r.Same(sent, []byte(told.Document)), nil
}

func byNumber(entries []Entry) map[string]Entry {
	all := map[string]Entry{}
	for _, e := range entries {
		all[e.Number] = e
	}
	return all
}

// another tells whether a document of an entry's number cannot be the entry's, by
// what the platform tells of it.
func another(e Entry, d DocumentSummary) bool {
	if kind := typeOf(d.Type); kind != "" && e.Type != "" && kind != e.Type {
		return true
	}
	return issuedByAnother(e, d) || !issuedAt(e.Issued, d.Issued.Time)
}

// issuedByAnother tells whether a listed document cannot be an entry's because of
// its issuer. Of a self-billed one (11 to 14) that is the supplier.
func issuedByAnother(e Entry, d DocumentSummary) bool {
	return d.IssuerTIN != "" && !strings.HasPrefix(e.Type, "1") && !strings.EqualFold(d.IssuerTIN, tinOf(e.Taxpayer))
}

// issuedAt tells whether a time of issue may be told as another: to the second or as a
// day alone, in UTC or as Malaysia's clocks have it. What is not known is no
// contradiction.
func issuedAt(issued, told time.Time) bool {
	if issued.IsZero() || told.IsZero() {
		return true
	}
	issued, told = issued.UTC().Truncate(time.Second), told.UTC().Truncate(time.Second)
	_, ahead := issued.In(malaysia()).Zone()
	for _, at := range []time.Time{issued, issued.Add(time.Duration(ahead) * time.Second)} {
		if told.Equal(at) || told.Equal(at.Truncate(24*time.Hour)) {
			return true
		}
	}
	return false
}

// typeOf is the code of a type of document that is told by its code or name ("Credit
// Note"), or "" for one that is not known.
func typeOf(told string) string {
	word := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, told)
	for code, name := range typeNames {
		if word == code || word == name {
			return code
		}
	}
	return ""
}

var typeNames = map[string]string{
	"01": "invoice", "02": "creditnote", "03": "debitnote", "04": "refundnote",
	"11": "selfbilledinvoice", "12": "selfbilledcreditnote", "13": "selfbilleddebitnote", "14": "selfbilledrefundnote",
}
