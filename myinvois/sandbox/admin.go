package sandbox

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"time"
)

// Accepted is a document that the platform accepted.
type Accepted struct {
	UUID       string `json:"uuid"`
	Submission string `json:"submissionUid"`
	// Number is the document's own.
	Number string `json:"number"`
	// TIN is the taxpayer's on whose behalf it was submitted.
	TIN    string `json:"tin"`
	Client string `json:"client"`
	// SHA256 is that of the bytes submitted, in hex.
	SHA256 string `json:"sha256"`
	// Status is Submitted, Valid, Invalid or Cancelled.
	Status string `json:"status"`
}

// admin puts this package's own paths beside LHDN's. They want JSON, which no web
// page sends to another site without asking it first.
func (p *Platform) admin() {
	p.mux.HandleFunc("GET "+FaultsPath, func(w http.ResponseWriter, _ *http.Request) {
		p.plain(w, reply{status: http.StatusOK, body: p.Faults()})
	})
	p.mux.HandleFunc("POST "+FaultsPath, func(w http.ResponseWriter, r *http.Request) { p.plain(w, p.injected(w, r)) })
	p.mux.HandleFunc("DELETE "+FaultsPath, func(w http.ResponseWriter, _ *http.Request) {
		p.Clear()
		p.plain(w, reply{status: http.StatusNoContent})
	})
	p.mux.HandleFunc("GET "+DocumentsPath, func(w http.ResponseWriter, _ *http.Request) {
		p.plain(w, reply{status: http.StatusOK, body: p.Documents()})
	})
	p.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p.plain(w, refuse(http.StatusNotFound, "NotFound", "the platform has no such path"))
	})
}

// plain answers without a fault.
func (p *Platform) plain(w http.ResponseWriter, answer reply) { answer.write(w, p.config.Errors) }

// injected reads a fault, in Go's JSON of [Fault] or with its delay as text ("5s").
func (p *Platform) injected(w http.ResponseWriter, r *http.Request) reply {
	body, refused := read(w, r, maxOther)
	if refused != nil {
		return *refused
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "BadRequest", "the body must be application/json")
	}
	fault := struct {
		*Fault
		Delay wait `json:"delay"`
	}{Fault: &Fault{}}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&fault); err != nil {
		return refuse(http.StatusBadRequest, "BadArgument", "the fault: %v", err)
	}
	fault.Fault.Delay = time.Duration(fault.Delay)
	if err := p.Inject(*fault.Fault); err != nil {
		return refuse(http.StatusBadRequest, "BadArgument", "%v", err)
	}
	return reply{status: http.StatusCreated, body: p.Faults()}
}

// wait is a duration in JSON: text, or nanoseconds.
type wait time.Duration

// UnmarshalJSON reads either form.
func (d *wait) UnmarshalJSON(text []byte) error {
	var said string
	if json.Unmarshal(text, &said) != nil {
		return json.Unmarshal(text, (*int64)(d))
	}
	parsed, err := time.ParseDuration(said)
	*d = wait(parsed)
	return err
}
