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
// may tell a time of its own, which [Grant.Covers] judges.
func (g Grant) Window() Window { return g.window }

// Limits returns what the caller may take of this signer, by all methods.
func (g Grant) Limits() Limits { return g.limits }

// MethodLimits returns what the caller may take of this signer by this method,
// within Limits.
func (g Grant) MethodLimits() Limits { return g.own }

// Covers tells whether a document issued at that time is one of the
// representation's: LHDN takes no other. The error is of kind
// RepresentationEnded, and its metadata has the window and the time.
func (g Grant) Covers(issued time.Time) error {
	if !g.Valid() {
		return fault.New(fault.NotAllowed, "there is no grant")
	}
	if g.window.Contains(issued) {
		return nil
	}
	err := outside(Taxpayer{TIN: g.taxpayer, Window: g.window}, issued)
	err.Metadata["issued"] = issued.UTC().Format(time.RFC3339)
	err.Err = fmt.Errorf("a document issued at %s: %w", err.Metadata["issued"], err.Err)
	return err
}

// Decide judges one signature: may caller use method on behalf of taxpayer, with
// the signing certificate of that SHA-256 fingerprint, at now? The error is of
// kind NotAllowed for whatever is unknown, foreign or not granted, its text (for
// the log) saying which; RepresentationEnded outside the taxpayer's window, but
// only to a caller that holds a grant for the taxpayer and the method.
// Methods that act for no taxpayer are denied here; see [Policy.Permit].
func (p *Policy) Decide(who Caller, method Method, taxpayer TIN, certificate [32]byte, now time.Time) (Grant, error) {
	held, err := p.judge(who, method, taxpayer, now)
	if err != nil {
		return Grant{}, err
	}
	if certificate == [32]byte{} {
		return Grant{}, fault.New(fault.NotAllowed, "no certificate is named")
	}
	return Grant{caller: who, method: method, taxpayer: taxpayer, certificate: certificate, at: now,
		window: p.taxpayers[taxpayer].Window, limits: held.limits, own: held.methods[method]}, nil
}

// judge is Decide for whichever certificate is current.
func (p *Policy) judge(who Caller, method Method, taxpayer TIN, now time.Time) (caller, error) {
	granted, err := p.granted(who, method)
	if err != nil {
		return caller{}, err
	}
	if !slices.Contains(signing, method) {
		return caller{}, fault.New(fault.NotAllowed, "method %q acts on behalf of no taxpayer", method)
	}
	represented, known := p.taxpayers[taxpayer]
	if !known {
		return caller{}, fault.New(fault.NotAllowed, "taxpayer %q is not in the policy (caller %q)", taxpayer, who)
	}
	if !granted.mayFor(taxpayer) {
		return caller{}, fault.New(fault.NotAllowed, "caller %q has no grant for taxpayer %q", who, taxpayer)
	}
	if !represented.Contains(now) {
		return caller{}, outside(represented, now)
	}
	return granted, nil
}

// Permit judges a call that concerns no taxpayer or every one: GetCertificate
// and ListTaxpayers. The error is of kind NotAllowed. The signing methods are
// denied here; see [Policy.Decide].
func (p *Policy) Permit(who Caller, method Method) error {
	if _, err := p.granted(who, method); err != nil {
		return err
	}
	if slices.Contains(signing, method) {
		return fault.New(fault.NotAllowed, "method %q needs a taxpayer", method)
	}
	return nil
}

// granted returns what a caller is granted, if method is part of it.
func (p *Policy) granted(who Caller, method Method) (caller, error) {
	if p == nil {
		return caller{}, fault.New(fault.NotAllowed, "there is no policy")
	}
	granted, known := p.callers[who]
	if !known || who == "" {
		return caller{}, fault.New(fault.NotAllowed, "caller %q is not in the policy", who)
	}
	if !granted.may(method) {
		return caller{}, fault.New(fault.NotAllowed, "caller %q is not granted method %q", who, method)
	}
	return granted, nil
}

// outside tells a granted caller what the window is.
func outside(t Taxpayer, now time.Time) *fault.Error {
	window := map[string]string{"tin": string(t.TIN)}
	if !t.From.IsZero() {
		window["not_before"] = t.From.UTC().Format(time.RFC3339)
	}
	if !t.To.IsZero() {
		window["not_after"] = t.To.UTC().Format(time.RFC3339)
	}
	side := "ended"
	if now.Before(t.From) {
		side = "not begun"
	}
	return &fault.Error{
		Kind:     fault.RepresentationEnded,
		Metadata: window,
		Err:      fmt.Errorf("the representation of taxpayer %q has %s", t.TIN, side),
	}
}

// Taxpayers returns those on whose behalf caller may use any signing method at
// now, sorted by TIN, each with exactly the methods that [Policy.Decide] would
// grant.
func (p *Policy) Taxpayers(who Caller, now time.Time) []Taxpayer {
	if p == nil {
		return nil
	}
	var list []Taxpayer
	for _, tin := range p.sorted {
		taxpayer := p.taxpayers[tin]
		for _, method := range signing {
			if _, err := p.judge(who, method, tin, now); err == nil {
				taxpayer.Methods = append(taxpayer.Methods, method)
			}
		}
		if len(taxpayer.Methods) > 0 {
			list = append(list, taxpayer)
		}
	}
	return list
}
