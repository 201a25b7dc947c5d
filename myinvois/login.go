package myinvois

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// token is one taxpayer's access to the API.
type token struct {
	secret  Secret
	renewal time.Time // from when on a new one is fetched
	ends    time.Time
}

// Times of a token's life.
const (
	minLife      = 10 * time.Second // one that ends sooner is used once
	slack        = 5 * time.Second  // before its end it is no longer used
	afterRefusal = time.Minute      // until a login that was refused is tried again
	maxLife      = 24 * time.Hour
)

// tokens are the access tokens, by client ID and taxpayer. For each, one login at
// most is under way, however many ask.
type tokens struct {
	login func(context.Context, *credential, string) (*token, error)

	ctx    context.Context
	cancel context.CancelFunc
	under  sync.WaitGroup // logins under way

	mu  sync.Mutex
	all map[tokenKey]*tokenEntry
}

type tokenKey struct{ client, taxpayer string }

// tokenEntry is what is known of one taxpayer's access.
type tokenEntry struct {
	token  *token
	flight *flight
	// refused is why the last login was, until then.
	refused error
	until   time.Time
}

// flight is a login under way.
type flight struct {
	cancel  context.CancelFunc
	waiting int
	done    chan struct{}
	token   *token // once done
	err     error
}

func newTokens(login func(context.Context, *credential, string) (*token, error)) *tokens {
	t := &tokens{login: login, all: map[tokenKey]*tokenEntry{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// close ends the logins under way.
func (t *tokens) close() {
	t.cancel()
	t.under.Wait()
}

// get returns a token that is valid for a while: the one at hand, or a new one. One
// that ends soon is still handed out while the next is being fetched. It returns
// when ctx ends; the login goes on as long as anybody waits for it.
func (t *tokens) get(ctx context.Context, one *credential, taxpayer string) (*token, error) {
	key := tokenKey{one.id, taxpayer}
	t.mu.Lock()
	now := time.Now()
	entry, known := t.all[key]
	if !known {
		t.forget(now)
		entry = &tokenEntry{}
		t.all[key] = entry
	}
	held := entry.token
	usable := held != nil && now.Before(held.ends)
	switch {
	case usable && now.Before(held.renewal):
		t.mu.Unlock()
		return held, nil
	case entry.refused != nil && now.Before(entry.until):
		t.mu.Unlock()
		if usable {
			return held, nil
		}
		return nil, entry.refused
	case entry.flight == nil:
		t.take(key, entry, one)
	}
	f := entry.flight
	if usable {
		f.waiting++ // for good: it is wanted, if by nobody yet
		t.mu.Unlock()
		return held, nil
	}
	f.waiting++
	t.mu.Unlock()
	select {
	case <-f.done:
		if errors.Is(f.err, context.Canceled) && ctx.Err() == nil && t.ctx.Err() == nil {
			return t.get(ctx, one, taxpayer) // all who had waited for it went away, just then
		}
		return f.token, f.err
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		if f.waiting--; f.waiting == 0 {
			f.cancel()
		}
		return nil, ctx.Err()
	}
}

// take starts a login, with mu held.
func (t *tokens) take(key tokenKey, entry *tokenEntry, one *credential) {
	ctx, cancel := context.WithCancel(t.ctx)
	f := &flight{cancel: cancel, done: make(chan struct{})}
	entry.flight = f
	t.under.Go(func() {
		defer cancel()
		f.token, f.err = t.login(ctx, one, key.taxpayer)
		t.mu.Lock()
		defer t.mu.Unlock()
		entry.flight = nil
		entry.refused = nil
		if f.err == nil {
			entry.token = f.token
		} else if failed, ours := errors.AsType[*Error](f.err); ours && ctx.Err() == nil {
			entry.refused, entry.until = f.err, time.Now().Add(max(min(failed.RetryAfter, maxPatience), afterRefusal))
		}
		close(f.done)
	})
}

// drop forgets a token that the platform refused, unless there is another already.
func (t *tokens) drop(one *credential, taxpayer string, refused *token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if entry := t.all[tokenKey{one.id, taxpayer}]; entry != nil && entry.token == refused {
		entry.token = nil
	}
}

// forget drops what has ended, so that taxpayers of long ago take no room.
func (t *tokens) forget(now time.Time) {
	if len(t.all)%128 != 127 {
		return
	}
	maps.DeleteFunc(t.all, func(_ tokenKey, e *tokenEntry) bool {
		return e.flight == nil && now.After(e.until) && (e.token == nil || now.After(e.token.ends))
	})
}

// Access tells what a login gave.
type Access struct {
	Role   Role
	Client string    // the client ID
	Ends   time.Time // of the token
}

// Login makes sure that a taxpayer is logged in. Nothing else needs it: every call
// logs in by itself.
func (c *Client) Login(ctx context.Context, taxpayer string) (Access, error) {
	doing := "logging in" + behalf(taxpayer)
	one, err := c.credential(taxpayer, doing)
	if err != nil {
		return Access{}, err
	}
	got, err := c.tokens.get(ctx, one, taxpayer)
	if err != nil {
		if _, ours := errors.AsType[*Error](err); !ours {
			err = &Error{Doing: doing, Message: "given up", cause: err}
		}
		return Access{}, err
	}
	return Access{one.role, one.id, got.ends}, nil
}

// logIn fetches a token: with the secret that ends last, and if that is refused
// with the one beside it.
func (c *Client) logIn(ctx context.Context, one *credential, taxpayer string) (*token, error) {
	doing := "logging in" + behalf(taxpayer)
	if one.role == Taxpayer {
		doing = "logging in as " + one.taxpayer
	}
	usable := one.usable(time.Now())
	if len(usable) == 0 {
		return nil, &Error{Doing: doing, Code: "expired", Message: "every secret of client ID " + one.id + " has ended"}
	}
	var refused error
	for _, s := range usable {
		got, err := c.logInWith(ctx, doing, one, taxpayer, s.secret)
		if !errors.Is(err, InvalidClient) {
			return got, err
		}
		refused = cmp.Or(refused, err)
	}
	return nil, refused
}

func (c *Client) logInWith(ctx context.Context, doing string, one *credential, taxpayer string, secret Secret) (*token, error) {
	form := url.Values{
		"client_id": {one.id}, "client_secret": {secret.reveal()},
		"grant_type": {"client_credentials"}, "scope": {Scope},
	}
	r := request{
		doing: doing, at: loginTaxpayer, client: one.id, method: http.MethodPost, url: c.identity + PathLogin,
		header: http.Header{"Content-Type": {mediaForm}}, body: []byte(form.Encode()), most: maxToken,
	}
	if one.role == Intermediary {
		r.at = loginIntermediary
		r.header[OnBehalfOf] = []string{taxpayer} // as the platform spells it
	}
	asked := time.Now()
	got, err := c.patiently(ctx, r)
	if err != nil {
		return nil, err
	}
	var said TokenAnswer
	if err := decode(doing, got, &said); err != nil {
		return nil, &Error{Doing: doing, Status: got.status, Message: "the answer cannot be read", CorrelationID: correlation(got.header)}
	}
	if !sendable(said.AccessToken) || !strings.EqualFold(said.TokenType, "Bearer") || said.ExpiresIn <= 0 {
		return nil, &Error{Doing: doing, Status: got.status, Message: "the answer holds no bearer token", CorrelationID: correlation(got.header)}
	}
	return newToken(said, asked), nil
}

// newToken keeps a token from when it was asked for. When it is renewed is spread
// over the last tenth of its life, so that those fetched together are not renewed
// together.
func newToken(said TokenAnswer, asked time.Time) *token {
	life := min(time.Duration(said.ExpiresIn)*time.Second, maxLife)
	usable := max(life-slack, life/2)
	early := usable/20 + rand.N(usable/20+1)
	if life < minLife {
		early = 0
	}
	return &token{secret: NewSecret(said.AccessToken), ends: asked.Add(usable), renewal: asked.Add(usable - early)}
}

// sendable tells whether a token can be sent in a header.
func sendable(text string) bool {
	return text != "" && len(text) <= 64<<10 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}
