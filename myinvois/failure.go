package myinvois

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Error is why the platform did not do something: what it said, or that it gave no
// answer.
type Error struct {
	// Doing is what was being done ("submitting 3 documents on behalf of ...").
	Doing string
	// Status is the HTTP status of the answer, or 0 if there was none.
	Status int
	// Code is the platform's, such as "DuplicateSubmission", or OAuth's, such as
	// "invalid_client". It may be empty.
	Code string
	// Message is what the platform said, for people.
	Message string
	// Details are what it said in detail.
	Details []Problem
	// CorrelationID names the request in the platform's logs. LHDN's support
	// asks for it.
	CorrelationID string
	// RetryAfter is when the platform says that trying again may help, or 0.
	RetryAfter time.Duration

	cause  error
	unsent bool // nothing was sent of what was to be done
	login  bool // it was a login
}

// Error tells what happened, what to do next, and the correlation ID.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString(e.Doing + ": ")
	said := Problem{Code: e.Code, Message: e.Message, Details: e.Details}.String()
	switch {
	case e.Status == 0 && e.cause != nil:
		fmt.Fprintf(&text, "%s: %v", cmp.Or(e.Message, "no answer"), e.cause)
	case e.Status == 0:
		text.WriteString(said)
	case e.Status < 300 && e.cause != nil:
		fmt.Fprintf(&text, "%s: %v", said, e.cause)
	default:
		fmt.Fprintf(&text, "%s (status %d)", cmp.Or(said, http.StatusText(e.Status)), e.Status)
	}
	if next := e.Advice(); next != "" {
		text.WriteString(": " + next)
	}
	if e.CorrelationID != "" {
		text.WriteString("; correlation ID " + e.CorrelationID)
	}
	return text.String()
}

// Unwrap returns what lies beneath, such as [context.Canceled].
func (e *Error) Unwrap() error { return e.cause }

// Advice is what to do next, or "".
func (e *Error) Advice() string {
	text := advice[normal(e.Code)]
	switch {
	case text != "":
	case e.Status == http.StatusUnauthorized:
		text = "log in again; if that does not help, see that the client ID is still active in the portal"
	case e.Status == http.StatusForbidden && e.login:
		text = "LHDN answers so to credentials of the other environment (preprod and production each have their own): see that environment of the configuration is theirs; if it is, that the client ID is active and the taxpayer has appointed it"
	case e.Status == http.StatusForbidden:
		text = "see in the portal that the taxpayer has appointed you for this, and until when"
	case e.Status == http.StatusTooManyRequests:
		text = "send less; or give each process that shares the client ID its share of the limits"
	case e.Status >= http.StatusInternalServerError:
		text = "the platform is at fault; try again later"
	case errors.Is(e.cause, errUncounted):
		text = "see that this user may write in the journal's folder; if the file is damaged, delete it"
	case e.Status == 0 && e.cause != nil && !errors.Is(e.cause, context.Canceled):
		text = "see that the platform can be reached, and that environment or api and ca of the configuration are right"
	}
	if e.RetryAfter > 0 {
		text = strings.TrimPrefix(text+"; try again in "+e.RetryAfter.Round(time.Second).String(), "; ")
	}
	return text
}

// advice is what to do next, by the platform's codes in lower case without
// underlines (SDK: identity service, standard error response, and each API's
// page).
var advice = map[string]string{
	"invalidrequest":             "a parameter of the login is missing: tell the makers of this program",
	"invalidclient":              "see that client ID and secret are right, of this environment (preprod has its own), and not expired or revoked in the portal",
	"invalidgrant":               "see in the portal that the taxpayer named has appointed this intermediary, that the representation is active today, and that its TIN (and ROB) is right",
	"unauthorizedclient":         "see in the portal that the client ID is of an ERP system of the kind that the credentials say (as: intermediary or taxpayer), and that the taxpayer has appointed it",
	"unauthorisedclient":         "see in the portal that the client ID is of an ERP system of the kind that the credentials say (as: intermediary or taxpayer), and that the taxpayer has appointed it",
	"unsupportedgranttype":       "see that identity is the platform's login service; if it is, tell the makers of this program",
	"invalidscope":               "the client ID has no access to the invoicing API: register the ERP system again in the portal",
	"expired":                    "make a new secret in the portal and put it in the credentials file",
	"nocredentials":              "add a client ID for this taxpayer, or one for all, to the credentials file",
	"incorrectsubmitter":         "see that the documents' taxpayer is the one logged in for, and that it allows you to submit",
	"duplicatesubmission":        "the same documents were submitted within the last ten minutes; look at what became of those",
	"maximumsizeexceeded":        "send smaller documents, or fewer at a time",
	"badstructure":               "tell the makers of this program",
	"operationperiodover":        "the 72 hours after validation are over: issue a credit or debit note instead",
	"incorrectstate":             "only a valid document can be cancelled or rejected: look at its status",
	"activereferencingdocuments": "cancel the documents that refer to this one first",
}

// normal is a code as the table has it.
func normal(code string) string { return strings.ReplaceAll(strings.ToLower(code), "_", "") }

// Is tells whether the error has a code, however it is spelled.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && normal(e.Code) == normal(string(code))
}

// Code is an error's code, for [errors.Is].
type Code string

func (c Code) Error() string { return string(c) }

// Codes that callers tell apart.
const (
	InvalidClient       Code = "invalid_client"
	DuplicateSubmission Code = "DuplicateSubmission"
	IncorrectSubmitter  Code = "IncorrectSubmitter"
	OperationPeriodOver Code = "OperationPeriodOver"
	IncorrectState      Code = "IncorrectState"
)

// definite tells whether the platform has surely not done what it was asked.
func (e *Error) definite() bool {
	return e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout
}

// passing tells whether the same request may fare better a little later.
func (e *Error) passing() bool {
	if errors.Is(e.cause, errRefused) || errors.Is(e.cause, errUncounted) {
		return false
	}
	return e.Status < 300 && e.cause != nil || e.Status == http.StatusTooManyRequests ||
		e.Status == http.StatusRequestTimeout || e.Status >= http.StatusInternalServerError && e.Status != http.StatusNotImplemented
}

// errRefused marks what this side refuses to do or to take.
var errRefused = errors.New("refused on this side")

// without returns a problem with each of its texts replaced.
func (p Problem) without(hidden *strings.Replacer) Problem {
	for _, text := range []*string{&p.Code, &p.Message, &p.Malay, &p.Target, &p.PropertyName, &p.PropertyPath} {
		*text = hidden.Replace(*text)
	}
	details := make([]Problem, len(p.Details))
	for i, d := range p.Details {
		details[i] = d.without(hidden)
	}
	p.Details = details
	return p
}

// String tells a problem in one line, its innermost causes included.
func (p Problem) String() string {
	var text strings.Builder
	text.WriteString(p.Message)
	if words := InWords(p.Code); words != "" && !strings.Contains(p.Message, words) {
		if p.Message != "" {
			text.WriteString(", ")
		}
		text.WriteString(words)
	}
	if p.Code != "" {
		text.WriteString(" [" + p.Code + "]")
	}
	if p.PropertyPath != "" && !strings.EqualFold(p.PropertyPath, "document") {
		text.WriteString(" at " + p.PropertyPath)
	}
	said := []string{strings.TrimSpace(text.String())}
	for _, d := range p.Details {
		said = append(said, d.String())
	}
	return strings.TrimPrefix(strings.Join(said, ": "), ": ")
}
