package sandbox

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// reply is what a request is answered with: a body, a problem, or neither.
type reply struct {
	status  int
	body    any      // written as JSON
	page    string   // an HTML page, as a gateway in front of the platform has it
	problem *problem // written in the configured shape
	retry   time.Duration
	half    bool // the connection is cut in the middle of the body
}

// problem is an error of a whole request.
type problem struct {
	code, message, target string
	details               []detail
}

// detail is one of several things that are wrong, as seen on the wire.
type detail struct {
	Code    string `json:"code"`
	Target  string `json:"target"`
	Message string `json:"message"`
}

// refuse is a reply for a problem without details.
func refuse(status int, code, format string, args ...any) reply {
	return reply{status: status, problem: &problem{code: code, message: fmt.Sprintf(format, args...)}}
}

// about names what the problem is with.
func (r reply) about(target string) reply {
	r.problem.target = target
	return r
}

// after says when trying again may help.
func (r reply) after(wait time.Duration) reply {
	r.retry = wait
	return r
}

// wireError is the shape of errors on the wire.
type wireError struct {
	Code    string   `json:"code"`
	Message *string  `json:"message"`
	Target  *string  `json:"target"`
	Details []detail `json:"details"`
}

// documentedError is the shape that LHDN's page "Standard Error Response" has, of
// errors that have none inside them.
type documentedError struct {
	PropertyName *string           `json:"propertyName"`
	PropertyPath *string           `json:"propertyPath"`
	ErrorCode    string            `json:"errorCode"`
	Error        string            `json:"error"`
	ErrorMS      string            `json:"errorMS"`
	Target       *string           `json:"target"`
	InnerError   []documentedError `json:"innerError"`
}

// text is a JSON string, or null for "".
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// malay is a text in Malay: not translated, which LHDN's own example does not do
// either but for this mark.
func malay(english string) string { return "MS-" + english }

// in writes a problem in a shape.
func (p *problem) in(shape Shape) any {
	if shape != Documented {
		return struct {
			Error wireError `json:"error"`
		}{wireError{p.code, text(p.message), text(p.target), p.details}}
	}
	message := p.message
	if message == "" && len(p.details) > 0 {
		message = p.details[0].Message
	}
	outer := documentedError{ErrorCode: p.code, Error: message, ErrorMS: malay(message), Target: text(p.target)}
	for _, d := range p.details {
		outer.InnerError = append(outer.InnerError, documentedError{
			PropertyName: text(d.Target), ErrorCode: d.Code, Error: d.Message, ErrorMS: malay(d.Message),
		})
	}
	return struct {
		Error documentedError `json:"error"`
	}{outer}
}

// write sends the reply.
func (r reply) write(w http.ResponseWriter, shape Shape) {
	if r.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(wholeSeconds(r.retry)))
	}
	body := []byte(r.page)
	switch {
	case r.page != "":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
	case r.problem != nil:
		body = encoded(r.problem.in(shape))
	case r.body != nil:
		body = encoded(r.body)
	}
	if len(body) > 0 && r.page == "" {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.status)
	if r.half {
		body = body[:len(body)/2]
	}
	_, _ = w.Write(body) // the client may have gone
	if r.half {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// encoded is JSON of a value of this package's own, which has a form.
func encoded(body any) []byte {
	out, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("sandbox: a reply that JSON cannot hold: %v", err))
	}
	return out
}

// wholeSeconds rounds up: a client that waits so long has waited enough.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// identifier is an ID as the platform makes them: 26 capitals and digits.
func identifier() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random[:])
}

// longIdentifier is what stands in share links.
func longIdentifier() string { return identifier() + identifier() }

// instant is a time in JSON: UTC to the second, or null.
type instant time.Time

// MarshalJSON writes the instant.
func (i instant) MarshalJSON() ([]byte, error) {
	if time.Time(i).IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(time.Time(i).UTC().Format(time.RFC3339))
}
