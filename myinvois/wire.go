package myinvois

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// The paths of the platform's API, from its SDK's pages on the identity service
// and on e-invoicing. What is in braces stands for a value.
const (
	PathLogin       = "/connect/token"                                // POST, a form
	PathSubmissions = "/api/v1.0/documentsubmissions/"                // POST
	PathSubmission  = "/api/v1.0/documentsubmissions/{submissionUid}" // GET ?pageNo=1&pageSize=100
	PathDetails     = "/api/v1.0/documents/{uuid}/details"            // GET
	PathRaw         = "/api/v1.0/documents/{uuid}/raw"                // GET
	PathState       = "/api/v1.0/documents/state/{uuid}/state"        // PUT
	PathRecent      = "/api/v1.0/documents/recent"                    // GET ?pageNo=1&pageSize=100&submissionDateFrom=...&submissionDateTo=...
	PathValidateTIN = "/api/v1.0/taxpayer/validate/{tin}"             // GET ?idType=BRN&idValue=...
	OnBehalfOf      = "onbehalfof"                                    // header of a login: TIN, or TIN:ROB
	CorrelationID   = "correlationId"                                 // header of every answer
	Scope           = "InvoicingAPI"                                  // of a login
	mediaForm       = "application/x-www-form-urlencoded"
	mediaJSON       = "application/json"
)

// The limits of one submission (SDK, Submit Documents). The platform does not say
// whether its K is 1,000 or 1,024; the smaller is safe.
const (
	MaxDocuments       = 100       // in one submission
	MaxSubmissionBytes = 5_000_000 // the request's body
	MaxDocumentBytes   = 300 << 10 // one document; package xades warns over 300,000
	MaxNumber          = 50        // characters of a document's number
	MaxReason          = 300       // characters of the reason for a cancellation
)

// Format is a document's syntax as the platform spells it.
type Format string

// The two formats. One submission holds documents of one.
const (
	XML  Format = "XML"
	JSON Format = "JSON"
)

// TokenAnswer is the answer to a login.
type TokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   Whole  `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
}

// TokenRefusal is the answer to a login that is refused, with status 400.
type TokenRefusal struct {
	Error       string  `json:"error"` // "invalid_client"
	Description string  `json:"error_description"`
	URI         *string `json:"error_uri"`
}

// SubmissionRequest is the body of a submission.
type SubmissionRequest struct {
	Documents []SubmittedDocument `json:"documents"`
}

// SubmittedDocument is one document of a submission.
type SubmittedDocument struct {
	Format     Format `json:"format"`
	Document   []byte `json:"document"`     // the exact bytes, in base64 on the wire
	Hash       string `json:"documentHash"` // their SHA-256, lower-case hexadecimal
	CodeNumber string `json:"codeNumber"`   // the document's own number
}

// SubmissionAnswer is the answer to a submission that was taken, status 202. The
// SDK's pages write submissionUID, the wire submissionUid; reading takes both.
type SubmissionAnswer struct {
	SubmissionUID *string            `json:"submissionUid"` // null when all are rejected
	Accepted      []AcceptedDocument `json:"acceptedDocuments"`
	Rejected      []RejectedDocument `json:"rejectedDocuments"`
}

// AcceptedDocument is a document that is now being validated.
type AcceptedDocument struct {
	UUID   string `json:"uuid"`
	Number string `json:"invoiceCodeNumber"`
}

// RejectedDocument is one that did not pass the checks at the door.
type RejectedDocument struct {
	Number string  `json:"invoiceCodeNumber"`
	Error  Problem `json:"error"`
}

// SubmissionStatus is a page of what became of a submission's documents.
type SubmissionStatus struct {
	SubmissionUID string            `json:"submissionUid"`
	Count         Whole             `json:"documentCount"` // in all pages
	Received      Instant           `json:"dateTimeReceived"`
	Overall       string            `json:"overallStatus"` // "in progress", "valid", "partially valid", "invalid"
	Documents     []DocumentSummary `json:"documentSummary"`
}

// DocumentSummary is what the platform tells of a document.
type DocumentSummary struct {
	UUID            string  `json:"uuid"`
	SubmissionUID   string  `json:"submissionUid"`
	LongID          string  `json:"longId"` // only when Valid
	Number          string  `json:"internalId"`
	Type            string  `json:"typeName"`
	Version         string  `json:"typeVersionName"`
	IssuerTIN       string  `json:"issuerTin"`
	IssuerName      string  `json:"issuerName"`
	ReceiverID      string  `json:"receiverId"`
	ReceiverName    string  `json:"receiverName"`
	Issued          Instant `json:"dateTimeIssued"`
	Received        Instant `json:"dateTimeReceived"`
	Validated       Instant `json:"dateTimeValidated"`
	TotalExclTax    Amount  `json:"totalExcludingTax"`
	TotalDiscount   Amount  `json:"totalDiscount"`
	TotalNet        Amount  `json:"totalNetAmount"`
	TotalPayable    Amount  `json:"totalPayableAmount"`
	Status          string  `json:"status"` // "Submitted", "Valid", "Invalid", "Cancelled"
	Cancelled       Instant `json:"cancelDateTime"`
	RejectRequested Instant `json:"rejectRequestDateTime"`
	StatusReason    string  `json:"documentStatusReason"`
	CreatedBy       string  `json:"createdByUserId"`
}

// DocumentDetails is a document with the steps of its validation.
type DocumentDetails struct {
	DocumentSummary
	Results ValidationResults `json:"validationResults"`
}

// ValidationResults are the steps of a validation.
type ValidationResults struct {
	Status string           `json:"status"`
	Steps  []ValidationStep `json:"validationSteps"`
}

// ValidationStep is one of them. Its name begins with its number:
// "Step08-Document Signature Validator".
type ValidationStep struct {
	Name   string       `json:"name"`
	Status string       `json:"status"` // "Valid", "Invalid", "Submitted"
	Error  *StepProblem `json:"error"`
}

// RawDocument is a document with its text as it was submitted.
type RawDocument struct {
	DocumentSummary
	Document string `json:"document"`
}

// RecentAnswer is a page of the documents of the last 31 days.
type RecentAnswer struct {
	Documents []DocumentSummary `json:"result"`
	Metadata  RecentMetadata    `json:"metadata"`
}

// RecentMetadata counts the pages.
type RecentMetadata struct {
	Pages Whole `json:"totalPages"`
	Count Whole `json:"totalCount"`
}

// StateRequest is the body of a change of a document's state.
type StateRequest struct {
	Status string `json:"status"` // "cancelled" by the issuer, "rejected" by the receiver
	Reason string `json:"reason"`
}

// StateAnswer is the answer to it.
type StateAnswer struct {
	UUID   string   `json:"uuid"`
	Status string   `json:"status"`
	Error  *Problem `json:"error"`
}

// ErrorAnswer is the body of a request that is refused.
type ErrorAnswer struct {
	Error Problem `json:"error"`
}

// Problem is what the platform says is wrong. It has two spellings on the wire:
// this one (code, message, details), and that of a [StepProblem]. Reading takes
// either; writing gives this one.
type Problem struct {
	Code         string
	Message      string
	Malay        string // the message in Malay, where there is one
	Target       string
	PropertyName string
	PropertyPath string
	Details      []Problem
}

// StepProblem is a [Problem] in the spelling of validation steps (errorCode,
// error, innerError).
type StepProblem Problem

// bare is a Problem's first spelling.
type bare struct {
	Code         string    `json:"code"`
	Message      *string   `json:"message"`
	Target       *string   `json:"target"`
	PropertyPath *string   `json:"propertyPath"`
	Details      []Problem `json:"details"`
}

// stepped is its second.
type stepped struct {
	PropertyName *string       `json:"propertyName"`
	PropertyPath *string       `json:"propertyPath"`
	ErrorCode    string        `json:"errorCode"`
	Error        string        `json:"error"`
	ErrorMS      string        `json:"errorMs"`
	Target       *string       `json:"target,omitempty"`
	InnerError   []StepProblem `json:"innerError"`
}

// MarshalJSON writes the first spelling.
func (p Problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(bare{p.Code, orNull(p.Message), orNull(p.Target), orNull(p.PropertyPath), p.Details})
}

// MarshalJSON writes the second spelling.
func (p StepProblem) MarshalJSON() ([]byte, error) {
	inner := make([]StepProblem, len(p.Details))
	for i, d := range p.Details {
		inner[i] = StepProblem(d)
	}
	return json.Marshal(stepped{orNull(p.PropertyName), orNull(p.PropertyPath), p.Code, p.Message, p.Malay, orNull(p.Target), inner})
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// UnmarshalJSON reads either spelling, in which a code may be a number, too; and a
// bare text as the message.
func (p *Problem) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		*p = Problem{}
		return json.Unmarshal(text, &p.Message)
	}
	var said struct {
		Code         word      `json:"code"`
		ErrorCode    word      `json:"errorCode"`
		Message      word      `json:"message"`
		Error        word      `json:"error"`
		ErrorMS      word      `json:"errorMs"`
		Target       word      `json:"target"`
		PropertyName word      `json:"propertyName"`
		PropertyPath word      `json:"propertyPath"`
		Details      []Problem `json:"details"`
		InnerError   []Problem `json:"innerError"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return err
	}
	*p = Problem{
		Code: first(said.Code, said.ErrorCode), Message: first(said.Message, said.Error), Malay: string(said.ErrorMS),
		Target: string(said.Target), PropertyName: string(said.PropertyName), PropertyPath: string(said.PropertyPath),
		Details: append(said.Details, said.InnerError...),
	}
	return nil
}

// UnmarshalJSON reads either spelling.
func (p *StepProblem) UnmarshalJSON(text []byte) error { return (*Problem)(p).UnmarshalJSON(text) }

func first(a, b word) string {
	if a != "" {
		return string(a)
	}
	return string(b)
}

// word is a text that may come as another kind of value.
type word string

func (w *word) UnmarshalJSON(text []byte) error {
	switch {
	case bytes.Equal(text, []byte("null")):
		return nil
	case text[0] != '"':
		*w = word(text)
		return nil
	}
	return json.Unmarshal(text, (*string)(w))
}

// Amount is a sum of money on the wire.
type Amount float64

// UnmarshalJSON reads it. What is no number is taken for none: nothing depends on
// it.
func (a *Amount) UnmarshalJSON(text []byte) error {
	var said word
	if err := said.UnmarshalJSON(text); err != nil {
		return err
	}
	*a = 0
	if sum, err := strconv.ParseFloat(string(said), 64); err == nil {
		*a = Amount(sum)
	}
	return nil
}

// Whole is a whole number on the wire.
type Whole int

// UnmarshalJSON reads it, also where it is written as a text or with a fraction, which
// is cut off; null is 0. What is no number is an error: much depends on it.
func (w *Whole) UnmarshalJSON(text []byte) error {
	var said word
	if err := said.UnmarshalJSON(text); err != nil {
		return err
	}
	*w = 0
	if said == "" {
		return nil
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(said)), 64)
	if err != nil || !(math.Abs(n) <= 1e9) {
		return errors.New("a number is written in no way that is one")
	}
	*w = Whole(n)
	return nil
}

// Instant is a time on the wire: RFC 3339, with or without fractions of a second
// and a zone (UTC then); null where there is none.
type Instant struct{ time.Time }

// MarshalJSON writes UTC, or null.
func (i Instant) MarshalJSON() ([]byte, error) {
	if i.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(i.UTC().Format(time.RFC3339Nano))
}

// UnmarshalJSON reads it. What is no time is taken for none, which nothing may be
// concluded from.
func (i *Instant) UnmarshalJSON(text []byte) error {
	var said word
	if err := said.UnmarshalJSON(text); err != nil {
		return err
	}
	*i = Instant{}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if at, err := time.Parse(layout, string(said)); err == nil {
			*i = Instant{at.UTC()}
			break
		}
	}
	return nil
}
