package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/myinvois"
)

// identity is who calls, for whom.
type identity struct {
	client *Client
	tin    string // of the taxpayer whom it acts for
	behalf bool   // as an intermediary
}

func (i identity) id() string {
	if i.client == nil {
		return ""
	}
	return i.client.ID
}

// claims are what a token says. Everything it needs stands in it, so that however
// many tokens are given out, none is kept.
type claims struct {
	Issuer     string `json:"iss"`
	Client     string `json:"client_id"`
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
	Issued     int64  `json:"iat"`
	Expires    int64  `json:"exp"`
	Epoch      int    `json:"epoch"` // tokens of earlier ones are void
}

const (
	tokenHeader = `{"alg":"HS256","typ":"JWT"}`
	issuer      = "roamsign sandbox, NOT LHDN"
)

// loginClient is the client that a login counts for.
func (p *Platform) loginClient(c *call) string {
	form, _ := url.ParseQuery(string(c.body))
	if id := form.Get("client_id"); p.clients[id] != nil {
		return id
	}
	return ""
}

// oauth is an error of the token endpoint (RFC 6749, section 5.2).
func oauth(code, format string, args ...any) reply {
	return reply{status: http.StatusBadRequest, body: myinvois.TokenRefusal{Error: code, Description: fmt.Sprintf(format, args...)}}
}

// login gives out a token. Which of OAuth's errors LHDN answers with is not
// published, except that a blocked user has the description "User blocked": here
// each has the meaning that RFC 6749 gives it.
func (p *Platform) login(c *call) reply {
	kind, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type"))
	form, err := url.ParseQuery(string(c.body))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return oauth("invalid_request", "the body must be application/x-www-form-urlencoded")
	}
	for _, name := range []string{"client_id", "client_secret", "grant_type"} {
		if form.Get(name) == "" {
			return oauth("invalid_request", "%s is missing", name)
		}
	}
	if form.Get("grant_type") != "client_credentials" {
		return oauth("unsupported_grant_type", "grant_type must be client_credentials")
	}
	if asked := form.Get("scope"); asked != "" && asked != myinvois.Scope {
		return oauth("invalid_scope", "scope must be %s, or left out", myinvois.Scope)
	}
	client := p.clients[form.Get("client_id")]
	if client == nil || !client.knows(form.Get("client_secret")) {
		return oauth("invalid_client", "no client has this ID and this secret")
	}
	if client.Blocked || !client.Expires.IsZero() && !c.now.Before(client.Expires) {
		return oauth("invalid_grant", "User blocked")
	}
	behalf := c.Header.Get(myinvois.OnBehalfOf)
	if behalf != "" {
		tin, refused := p.behalf(client, behalf, c.now)
		if refused != nil {
			return *refused
		}
		behalf = tin
	}
	c.who = identity{client, behalf, behalf != ""}
	return reply{status: http.StatusOK, body: myinvois.TokenAnswer{
		AccessToken: p.token(client.ID, behalf, c.now), TokenType: "Bearer", ExpiresIn: myinvois.Whole(p.config.TokenLife / time.Second), Scope: myinvois.Scope,
	}}
}

// behalf reads the header of an intermediary: the taxpayer must be represented by
// it now.
func (p *Platform) behalf(client *Client, header string, now time.Time) (string, *reply) {
	tin, rob, business := strings.Cut(header, ":")
	if !tinForm.MatchString(tin) || business && rob == "" {
		return "", new(oauth("invalid_request", "onbehalfof must be a TIN, or a TIN, a colon and a business registration number"))
	}
	taxpayer := p.taxpayers[tin]
	if taxpayer == nil || business && taxpayer.BRN != rob {
		return "", new(oauth("unauthorized_client", "there is no such taxpayer, or it is not represented by this client's organisation"))
	}
	if _, represented := taxpayer.represented(client.TIN, now); !represented {
		return "", new(oauth("unauthorized_client", "there is no such taxpayer, or it is not represented by this client's organisation"))
	}
	return tin, nil
}

func (c *Client) knows(secret string) bool {
	given := sha256.Sum256([]byte(secret))
	return slices.ContainsFunc(c.Secrets, func(s string) bool {
		wanted := sha256.Sum256([]byte(s))
		return subtle.ConstantTimeCompare(wanted[:], given[:]) == 1
	})
}

// token writes a JWT.
func (p *Platform) token(client, behalf string, now time.Time) string {
	said := encoded(claims{issuer, client, behalf, now.Unix(), now.Add(p.config.TokenLife).Unix(), p.currentEpoch()})
	signed := base64.RawURLEncoding.EncodeToString([]byte(tokenHeader)) + "." + base64.RawURLEncoding.EncodeToString(said)
	return signed + "." + base64.RawURLEncoding.EncodeToString(p.mac(signed))
}

func (p *Platform) mac(text string) []byte {
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// identify reads the token of a call. What a taxpayer has taken back since the
// login counts at once.
func (p *Platform) identify(c *call) (identity, *reply) {
	refused := new(refuse(http.StatusUnauthorized, "Unauthorized", "the token is missing, malformed or expired; log in again"))
	token, bearer := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	said, ok := p.claims(token)
	if !bearer || !ok || c.now.Unix() >= said.Expires || said.Epoch != p.currentEpoch() {
		return identity{}, refused
	}
	client := p.clients[said.Client]
	if said.OnBehalfOf == "" {
		return identity{client: client, tin: client.TIN}, nil
	}
	if _, represented := p.taxpayers[said.OnBehalfOf].represented(client.TIN, c.now); !represented {
		return identity{}, new(refuse(http.StatusForbidden, "Forbidden", "the taxpayer is not represented by this client's organisation any more"))
	}
	return identity{client, said.OnBehalfOf, true}, nil
}

func (p *Platform) currentEpoch() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch
}

// claims reads a token of this process.
func (p *Platform) claims(token string) (said claims, ok bool) {
	at := strings.LastIndexByte(token, '.')
	if at < 0 {
		return said, false
	}
	mac, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	if err != nil || !hmac.Equal(mac, p.mac(token[:at])) {
		return said, false
	}
	_, middle, _ := strings.Cut(token[:at], ".")
	body, err := base64.RawURLEncoding.DecodeString(middle)
	return said, err == nil && json.Unmarshal(body, &said) == nil && p.clients[said.Client] != nil
}

// may tells whether the caller has a right now: a taxpayer of its own documents has
// all of them.
func (p *Platform) may(who identity, right Right, at time.Time) bool {
	if !who.behalf {
		return true
	}
	rights, _ := p.taxpayers[who.tin].represented(who.client.TIN, at)
	return slices.Contains(rights, right)
}
