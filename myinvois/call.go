package myinvois

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/roamsign/roamsign/internal/strict"
)

// Bounds of what is read of an answer, in bytes.
const (
	maxAnswer = 16 << 20
	maxToken  = 256 << 10
)

// Pauses after requests that failed in passing, doubled each time.
const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
	attempts   = 5
)

// request is one to the platform.
type request struct {
	doing  string // for errors
	at     endpoint
	client string // the client ID that is counted
	method string
	url    string
	header http.Header
	body   []byte
	most   int64        // bytes of the answer
	ready  func() error // asked when its turn has come; may be nil
}

// answer is what came back with a status below 300.
type answer struct {
	status int
	body   []byte
	header http.Header
	hidden *strings.Replacer // takes out what must not be told of it
}

// newTransport returns connections under the system's authorities, or those of a
// file. There is no proxy: the configuration alone says where documents go.
func newTransport(ca string, timeout time.Duration) (http.RoundTripper, error) {
	secured := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := strict.ReadFile(ca, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("reading ca: %w", err)
		}
		secured.RootCAs = x509.NewCertPool()
		if !secured.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("reading ca: %s holds no certificate in PEM form", ca)
		}
	}
	dialer := &net.Dialer{Timeout: min(timeout, 15*time.Second), KeepAlive: 30 * time.Second}
	return &http.Transport{
		TLSClientConfig:       secured,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: timeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   8,
		MaxConnsPerHost:       32,
		ForceAttemptHTTP2:     true,
	}, nil
}

// stay refuses to follow a redirection: credentials and documents go where the
// configuration says.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// patiently sends a request that may be repeated, until it is answered for good.
func (c *Client) patiently(ctx context.Context, r request) (*answer, error) {
	for n := 1; ; n++ {
		got, err := c.once(ctx, r)
		failed, ours := errors.AsType[*Error](err)
		if err == nil || !ours || !failed.passing() || n == attempts || ctx.Err() != nil || failed.RetryAfter > maxPatience {
			return got, err
		}
		if failed.Status == http.StatusTooManyRequests {
			continue // the gate waits
		}
		if ended := wait(ctx, max(failed.RetryAfter, pause(n))); ended != nil {
			return nil, err
		}
	}
}

// pause is a random while after the nth failure.
func pause(n int) time.Duration {
	longest := min(maxPause, firstPause<<min(n-1, 10))
	return longest/2 + rand.N(longest/2)
}

// once sends a request in its turn, and reads the answer. The error is an *Error,
// or that of ready.
func (c *Client) once(ctx context.Context, r request) (*answer, error) {
	gate := c.gates.of(r.client, r.at)
	if err := gate.pass(ctx); errors.Is(err, errUncounted) {
		return nil, &Error{Doing: r.doing, Message: "not sent", cause: err, unsent: true}
	} else if err != nil {
		return nil, &Error{Doing: r.doing, Message: "given up while waiting for a turn within the platform's limits", cause: err, unsent: true}
	}
	if r.ready != nil {
		if err := r.ready(); err != nil {
			return nil, err
		}
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	sent, err := http.NewRequestWithContext(limited, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, &Error{Doing: r.doing, cause: errors.Join(errRefused, unaddressed(err))}
	}
	sent.Header = r.header.Clone()
	sent.Header.Set("Accept", mediaJSON)
	asked := time.Now()
	got, err := c.http.Do(sent)
	if err != nil {
		return nil, &Error{Doing: r.doing, cause: cmp.Or(ctx.Err(), unaddressed(err))}
	}
	defer got.Body.Close()
	c.clock.heed(got.Header, asked, time.Now())
	hidden := hiding(r)
	for _, name := range correlations {
		if said := got.Header.Get(name); said != "" {
			got.Header.Set(name, hidden.Replace(said))
		}
	}
	most := r.most
	if got.StatusCode >= 300 {
		most = min(most, maxToken) // a refusal is short
	}
	body, err := io.ReadAll(io.LimitReader(got.Body, most+1))
	if err == nil && int64(len(body)) > most {
		err = fmt.Errorf("the answer is longer than %d bytes", most)
	}
	if got.StatusCode < 300 {
		if err != nil {
			err = &Error{
				Doing: r.doing, Status: got.StatusCode, Message: "the answer was cut off", CorrelationID: correlation(got.Header), cause: err,
			}
		}
		return &answer{got.StatusCode, body, got.Header, hidden}, err
	}
	failed := refusal(r.doing, got, body, hidden)
	failed.login = r.at == loginTaxpayer || r.at == loginIntermediary
	if failed.Status == http.StatusTooManyRequests {
		failed.RetryAfter = cmp.Or(failed.RetryAfter, untold)
		gate.heed(got.Header, failed.RetryAfter)
	}
	return nil, failed
}

// unaddressed takes the address out of an error of package http: there are
// people's numbers in it.
func unaddressed(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// correlations are the headers that name a request in the platform's logs.
var correlations = []string{CorrelationID, "X-Correlation-Id"}

// correlation is the name of a request in the platform's logs, bounded.
func correlation(header http.Header) string {
	return clipped(cmp.Or(header.Get(correlations[0]), header.Get(correlations[1])), 100)
}

// hiding takes the secrets of a request out of a text, in case the platform says
// them: the token and the client's secret, as they are and as a form spells them.
func hiding(r request) *strings.Replacer {
	var pairs []string
	hide := func(secret string) {
		if secret != "" {
			spelled := url.QueryEscape(secret)
			pairs = append(pairs, secret, "(secret)", spelled, "(secret)", lowerEscapes(spelled), "(secret)")
		}
	}
	if token := strings.TrimPrefix(r.header.Get("Authorization"), "Bearer "); len(token) >= minSecret { // less is no secret, but in every word
		hide(token)
	}
	if r.header.Get("Content-Type") == mediaForm {
		if form, err := url.ParseQuery(string(r.body)); err == nil {
			hide(form.Get("client_secret"))
		}
	}
	return strings.NewReplacer(pairs...)
}

// lowerEscapes writes the escapes of a form in lower case ("%2b"), as some do.
func lowerEscapes(text string) string {
	parts := strings.Split(text, "%")
	for i, part := range parts[1:] {
		parts[i+1] = strings.ToLower(part[:2]) + part[2:]
	}
	return strings.Join(parts, "%")
}

func clipped(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// refusal makes an Error of an answer: of either form of the API's errors, of the
// login's, or of none of these, without what is hidden.
func refusal(doing string, got *http.Response, body []byte, hidden *strings.Replacer) *Error {
	failed := &Error{
		Doing: doing, Status: got.StatusCode, CorrelationID: correlation(got.Header),
		RetryAfter: retryAfter(got.Header, time.Now()),
	}
	if got.StatusCode < 400 {
		failed.Message, failed.cause = "the platform answered with a redirection, which is not followed", errRefused
		return failed
	}
	problem, err := problemOf(body)
	if err != nil {
		return failed // a page for people, of a gateway in between
	}
	problem = problem.without(hidden)
	failed.Code, failed.Message, failed.Details = clipped(problem.Code, 100), clipped(problem.Message, 1000), problem.Details
	if normal(failed.Code) == "validationerror" || failed.Code == "" {
		for _, d := range failed.Details { // the cause is often within
			if _, known := advice[normal(d.Code)]; known {
				failed.Code = d.Code
				break
			}
		}
	}
	return failed
}

// problemOf reads the body of a refusal: {"error": {...}} in either spelling, such
// an error by itself, or a login's {"error": "code", "error_description": "..."}.
func problemOf(body []byte) (problem Problem, err error) {
	var said struct {
		Error       json.RawMessage `json:"error"`
		ErrorCode   word            `json:"errorCode"`
		Description word            `json:"error_description"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return problem, err
	}
	switch {
	case len(said.Error) > 0 && said.Error[0] == '{':
		return problem, json.Unmarshal(said.Error, &problem)
	case len(said.Error) == 0 || said.ErrorCode != "":
		return problem, json.Unmarshal(body, &problem)
	}
	var code word
	err = json.Unmarshal(said.Error, &code)
	return Problem{Code: string(code), Message: string(said.Description)}, err
}
