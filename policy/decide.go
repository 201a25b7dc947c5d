package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
)

// Grant is a decision to allow: this caller, this method, on behalf of this
// taxpayer, under this certificate, at this time. Only [Policy.Decide] makes
// one; the zero Grant is not valid and allows nothing.
type Grant struct {
	caller      Caller
	method      Method
	taxpayer    TIN
	certificate [32]byte
	at          time.Time
	window      Window
	limits      Limits // the caller's
	blind       Limits // of the blind methods together, if the method is one
	own         Limits // the method's
}

// Valid tells whether the grant comes from a decision.
func (g Grant) Valid() bool { return g.caller != "" }

// Caller returns who may.
func (g Grant) Caller() Caller { return g.caller }

// Method returns what it may ask for.
func (g Grant) Method() Method { return g.method }

// Taxpayer returns on whose behalf.
func (g Grant) Taxpayer() TIN { return g.taxpayer }

// Certificate returns the SHA-256 over the DER of the signing certificate that
// the decision is about.
func (g Grant) Certificate() [32]byte { return g.certificate }

// At returns the time for which it was decided.
func (g Grant) At() time.Time { return g.at }

// Window returns the taxpayer's representation, which holds At. What is signed
// may tell a time of its own, which [Grant.Covers] judges. The window of a Grant
// that is not valid contains no time.
func (g Grant) Window() Window {
	if !g.Valid() {
		return Window{To: time.Time{}.Add(1)}
	}
	return g.window
}

// Limits returns what the caller may take of this signer, by all methods.
func (g Grant) Limits() Limits { return g.limits }

// BlindLimits returns what the caller may take of this signer by all [Blind]
// methods, within Limits. There are none where the method is not one of those.
func (g Grant) BlindLimits() Limits { return g.blind }

// MethodLimits returns what the caller may take of this signer by this method,
// within Limits and BlindLimits.
func (g Grant) MethodLimits() Limits { return g.own }

// Covers tells whether a document issued at that time is one of the
// representation's: LHDN takes no other. The error is of kind
// RepresentationEnded, and its metadata has the window and the time; of a Grant
// that is not valid, it is of kind NotAllowed.
func (g Grant) Covers(issued time.Time) error {
	if !g.Valid() {
		return fault.New(fault.NotAllowed, "there is no grant")
	}
	if g.window.Contains(issued) {
		return nil
	}
	err := outside(g.taxpayer, g.window, issued)
	err.Metadata["issued"] = issued.UTC().Format(time.RFC3339)
	err.Err = fmt.Errorf("a document issued at %s: %w", err.Metadata["issued"], err.Err)
	return err
}

// Decide judges one signature: may caller use method on behalf of taxpayer, with
// the signing certificate of that SHA-256 fingerprint, at now? The error is of
// kind NotAllowed for whatever is unknown, foreign or not granted, its text (for
// the log) saying which; RepresentationEnded outside the taxpayer's window, but
// only to a caller to whom nothing else is missing. Methods that act for no
// taxpayer are denied here; see [Policy.Permit] and [Policy.DecideRead].
func (p *Policy) Decide(who Caller, method Method, taxpayer TIN, certificate [32]byte, now time.Time) (Grant, error) {
	held, represented, why := p.judge(who, method, taxpayer, certificate, now)
	switch why {
	case allowed:
		grant := Grant{
			caller: who, method: method, taxpayer: taxpayer, certificate: certificate, at: now,
			window: represented.Window, limits: held.limits, own: held.methods[method],
		}
		if method.Blind() {
			grant.blind = held.blind
		}
		return grant, nil
	case outOfWindow:
		return Grant{}, outside(taxpayer, represented.Window, now)
	default:
		return Grant{}, why.error(who, method, taxpayer)
	}
}

// judge is the decision itself. What it returns beside the answer is there when
// that is allowed or outOfWindow.
func (p *Policy) judge(who Caller, method Method, taxpayer TIN, certificate [32]byte, now time.Time) (*caller, *Taxpayer, answer) {
	held, why := p.holds(who, method, signing)
	if why != allowed {
		return nil, nil, why
	}
	place, known := p.places[taxpayer]
	if !known || taxpayer == "" {
		return nil, nil, unknownTaxpayer
	}
	represented := &p.taxpayers[place]
	switch {
	case !held.signs.has(place):
		return nil, nil, foreignTaxpayer
	case !held.uses(certificate):
		return nil, nil, foreignCertificate
	case !slices.Contains(represented.Rights, Submit):
		return nil, nil, noRight
	case !represented.Contains(now):
		return held, represented, outOfWindow
	}
	return held, represented, allowed
}

// holds returns what a caller is granted, if the method, one of those, is part
// of it.
func (p *Policy) holds(who Caller, method Method, of []Method) (*caller, answer) {
	if p == nil {
		return nil, noPolicy
	}
	held := p.callers[who]
	switch {
	case held == nil || who == "":
		return nil, unknownCaller
	case !held.may(method):
		return nil, noMethod
	case !slices.Contains(of, method):
		return nil, otherMethod
	}
	return held, allowed
}

// Permit judges a call that concerns no taxpayer or every one: GetCertificate
// and ListTaxpayers. The error is of kind NotAllowed. All other methods are
// denied here; see [Policy.Decide] and [Policy.DecideRead].
func (p *Policy) Permit(who Caller, method Method) error {
	if _, why := p.holds(who, method, general); why != allowed {
		return why.error(who, method, "")
	}
	return nil
}

// outside tells a granted caller what the window is.
func outside(taxpayer TIN, window Window, at time.Time) *fault.Error {
	metadata := map[string]string{"tin": string(taxpayer)}
	if !window.From.IsZero() {
		metadata["not_before"] = window.From.UTC().Format(time.RFC3339)
	}
	if !window.To.IsZero() {
		metadata["not_after"] = window.To.UTC().Format(time.RFC3339)
	}
	side := "ended"
	if at.Before(window.From) {
		side = "not begun"
	}
	return &fault.Error{
		Kind:     fault.RepresentationEnded,
		Metadata: metadata,
		Err:      fmt.Errorf("the representation of taxpayer %q has %s", taxpayer, side),
	}
}

// answer is how a question is judged. The zero answer denies.
type answer uint8

const (
	noPolicy answer = iota
	unknownCaller
	noMethod
	otherMethod
	unknownTaxpayer
	foreignTaxpayer
	foreignCertificate
	noRight
	foreignSignature
	outOfWindow
	allowed
)

// error is a denial's, all of the one kind that tells a caller nothing. Its text
// tells the log which it was.
func (a answer) error(who Caller, method Method, taxpayer TIN) error {
	switch a {
	case noPolicy:
		return fault.New(fault.NotAllowed, "there is no policy")
	case unknownCaller:
		return fault.New(fault.NotAllowed, "caller %q is not in the policy", who)
	case noMethod:
		return fault.New(fault.NotAllowed, "caller %q is not granted method %q", who, method)
	case otherMethod:
		return fault.New(fault.NotAllowed, "method %q is not judged by this question", method)
	case unknownTaxpayer:
		return fault.New(fault.NotAllowed, "taxpayer %q is not in the policy (caller %q)", taxpayer, who)
	case foreignTaxpayer:
		return fault.New(fault.NotAllowed, "caller %q has no grant for taxpayer %q", who, taxpayer)
	case foreignCertificate:
		return fault.New(fault.NotAllowed, "caller %q is not granted the certificate that it names (taxpayer %q)", who, taxpayer)
	case noRight:
		return fault.New(fault.NotAllowed, "taxpayer %q has not given the right to %s (caller %q)", taxpayer, Submit, who)
	case foreignSignature:
		return fault.New(fault.NotAllowed, "caller %q may not read that signature of taxpayer %q", who, taxpayer)
	default:
		return fault.New(fault.NotAllowed, "denied: caller %q, method %q, taxpayer %q", who, method, taxpayer)
	}
}
