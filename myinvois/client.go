package myinvois

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"
)

// Client speaks to the platform for one or many taxpayers. It is safe for
// concurrent use, and one for the whole process is enough: what the platform
// limits is counted here. Logins are counted together with those of other processes
// that have the same journal.
//
// A taxpayer is named as a login names it: TIN, or TIN:ROB for a sole proprietor's
// business.
type Client struct {
	api, identity string
	credentials   *Credentials
	http          *http.Client
	timeout       time.Duration
	poll          time.Duration
	gates         *gates
	tokens        *tokens
	known         *answers // of ValidateTIN
	clock         clock
}

// New checks the configuration and returns a Client. It connects with the first
// call. The caller has to Close it.
func New(cfg Config, credentials *Credentials) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{
		credentials: credentials,
		timeout:     cmp.Or(cfg.Timeout, defaultTimeout),
		poll:        cmp.Or(cfg.PollInterval, defaultPoll),
		gates:       newGates(cmp.Or(cfg.Share, 1)),
		known:       newAnswers(),
	}
	if cfg.Journal != "" {
		c.gates.turns = &turns{behind(cfg.Journal) + turnsSuffix, cfg.Note}
	}
	c.api, c.identity, _ = cfg.Places()
	transport := cfg.Transport
	if transport == nil {
		made, err := newTransport(cfg.CA, c.timeout)
		if err != nil {
			return nil, err
		}
		transport = made
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: stay}
	c.tokens = newTokens(c.logIn)
	return c, nil
}

// Close ends logins under way, and idle connections.
func (c *Client) Close() {
	c.tokens.close()
	c.http.CloseIdleConnections()
}

// Document is a signed document to submit.
type Document struct {
	Format Format
	// Number is the document's own, at most 50 characters.
	Number string
	// Content is its exact bytes.
	Content []byte
}

// Payload is the body of a submission: the same for the same documents in the
// same order, which is what the platform recognizes a second submission by.
func Payload(documents []Document) ([]byte, error) {
	r := SubmissionRequest{Documents: make([]SubmittedDocument, len(documents))}
	for i, d := range documents {
		r.Documents[i] = SubmittedDocument{d.Format, d.Content, fmt.Sprintf("%x", sha256.Sum256(d.Content)), d.Number}
	}
	return json.Marshal(r)
}

// Submit submits a payload ([Payload]) once, on behalf of a taxpayer. It is sent
// again only where the platform has surely not taken it: after a 401 with another
// token, and after a 429. The error is an [*Error]; unless [Error.Refused], the
// payload may have been taken.
func (c *Client) Submit(ctx context.Context, taxpayer string, payload []byte) (*SubmissionAnswer, error) {
	return c.submit(ctx, taxpayer, payload, nil)
}

// submit is Submit, with what is asked each time at the last moment: its error is
// submit's, and nothing is sent then.
func (c *Client) submit(ctx context.Context, taxpayer string, payload []byte, ready func() error) (*SubmissionAnswer, error) {
	r := request{doing: "submitting" + behalf(taxpayer), at: submit, method: http.MethodPost, url: c.api + PathSubmissions, body: payload, ready: ready}
	for n := 1; ; n++ {
		got, err := c.authorized(ctx, taxpayer, r, c.once)
		failed, ours := errors.AsType[*Error](err)
		if ours && failed.Status == http.StatusTooManyRequests && n < attempts && failed.RetryAfter <= maxPatience && ctx.Err() == nil {
			continue // the gate waits
		}
		if err != nil {
			return nil, err
		}
		var said SubmissionAnswer
		return &said, decode(r.doing, got, &said)
	}
}

// Refused tells whether the platform has surely not taken what it was sent.
func (e *Error) Refused() bool { return e.definite() || errors.Is(e.cause, errRefused) || e.unsent }

func behalf(taxpayer string) string {
	if taxpayer == "" {
		return ""
	}
	return " on behalf of " + taxpayer
}

// authorized sends a request with a taxpayer's token, and once more with another
// one if that is refused.
func (c *Client) authorized(ctx context.Context, taxpayer string, r request, send func(context.Context, request) (*answer, error)) (*answer, error) {
	one, err := c.credential(taxpayer, r.doing)
	if err != nil {
		return nil, err
	}
	r.client, r.most = one.id, maxAnswer
	for n := 1; ; n++ {
		token, err := c.tokens.get(ctx, one, taxpayer)
		if err != nil {
			return nil, unsent(r.doing, err)
		}
		r.header = http.Header{"Authorization": {"Bearer " + token.secret.reveal()}}
		if r.body != nil {
			r.header.Set("Content-Type", mediaJSON)
		}
		got, err := send(ctx, r)
		if failed, ours := errors.AsType[*Error](err); ours && failed.Status == http.StatusUnauthorized && n == 1 {
			c.tokens.drop(one, taxpayer, token)
			continue
		}
		return got, err
	}
}

// unsent is the error of a login, before which nothing else was sent.
func unsent(doing string, err error) error {
	failed, ours := errors.AsType[*Error](err)
	if !ours {
		return &Error{Doing: doing, Message: "given up", cause: err, unsent: true}
	}
	copied := *failed
	copied.Doing = doing + ": " + failed.Doing
	copied.unsent = true
	return &copied
}

func (c *Client) credential(taxpayer, doing string) (*credential, error) {
	if one := c.credentials.of(taxpayer); one != nil {
		return one, nil
	}
	return nil, &Error{Doing: doing, Code: "no_credentials", Message: "there is no client ID for this taxpayer", unsent: true}
}

// decode reads an answer of the platform's.
func decode(doing string, got *answer, into any) error {
	if err := json.Unmarshal(got.body, into); err != nil {
		return &Error{
			Doing: doing, Status: got.status, Message: "the answer cannot be read",
			CorrelationID: correlation(got.header), cause: errors.Join(errUnreadable, err),
		}
	}
	conceal(reflect.ValueOf(into), got.hidden)
	return nil
}

// conceal takes out of an answer's texts what must not be told, in case the platform
// says it: what is right is printed as well as what is wrong.
func conceal(said reflect.Value, hidden *strings.Replacer) {
	switch said.Kind() {
	case reflect.String:
		said.SetString(hidden.Replace(said.String()))
	case reflect.Pointer:
		conceal(said.Elem(), hidden)
	case reflect.Slice:
		for i := range said.Len() {
			conceal(said.Index(i), hidden)
		}
	case reflect.Struct:
		for _, field := range said.Fields() {
			if field.CanSet() {
				conceal(field, hidden)
			}
		}
	}
}

// errUnreadable marks an answer that came whole and makes no sense.
var errUnreadable = errors.New("not the answer that the platform's pages describe")

// ask is a request that reads something, and may be repeated.
func (c *Client) ask(ctx context.Context, taxpayer string, r request, into any) error {
	r.method = http.MethodGet
	got, err := c.authorized(ctx, taxpayer, r, c.patiently)
	if err != nil || into == nil {
		return err
	}
	return decode(r.doing, got, into)
}

// at is a path with its value, whatever is in that.
func (c *Client) at(path, name, value string, query url.Values) string {
	address := c.api + strings.Replace(path, "{"+name+"}", url.PathEscape(value), 1)
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}

// answers remembers which TINs the platform knows, for a day: it asks to be asked
// seldom.
type answers struct {
	mu  sync.Mutex
	all map[string]remembered
}

type remembered struct {
	valid bool
	until time.Time
}

// Of TINs, how many are remembered and for how long. One that is not known may be
// registered any hour.
const (
	maxAnswers   = 100_000
	rememberGood = 24 * time.Hour
	rememberBad  = time.Hour
)

func newAnswers() *answers { return &answers{all: map[string]remembered{}} }

func (a *answers) get(key string) (valid, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, known := a.all[key]
	return found.valid, known && time.Now().Before(found.until)
}

func (a *answers) put(key string, valid bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) >= maxAnswers {
		clear(a.all)
	}
	keep := rememberBad
	if valid {
		keep = rememberGood
	}
	a.all[key] = remembered{valid, time.Now().Add(keep)}
}
