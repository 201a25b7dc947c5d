package policy

import "slices"

// ReadGrant is a decision to allow: this caller may read, by this method, what
// is on record of a signature that owner had made on behalf of this taxpayer.
// Only [Policy.DecideRead] makes one; the zero ReadGrant is not valid and allows
// nothing.
type ReadGrant struct {
	caller, owner Caller
	method        Method
	taxpayer      TIN
}

// Valid tells whether the grant comes from a decision.
func (g ReadGrant) Valid() bool { return g.caller != "" }

// Caller returns who may read.
func (g ReadGrant) Caller() Caller { return g.caller }

// Owner returns whose signature it may read: who had it made.
func (g ReadGrant) Owner() Caller { return g.owner }

// Method returns what it may ask for.
func (g ReadGrant) Method() Method { return g.method }

// Taxpayer returns on whose behalf the signature was made.
func (g ReadGrant) Taxpayer() TIN { return g.taxpayer }

// DecideRead judges the reading of one signature: may caller, by GetReceipt,
// ListSignatures or FindSignature, read one that owner had made on behalf of
// taxpayer? It may read its own; another's, if it has the read grant for a
// taxpayer of the policy; all, as an auditor. A representation's end ends no
// right to read, and neither does its taxpayer's leaving the policy for the owner
// and auditors. The error is of kind NotAllowed.
func (p *Policy) DecideRead(who Caller, method Method, owner Caller, taxpayer TIN) (ReadGrant, error) {
	if why := p.judgeRead(who, method, owner, taxpayer); why != allowed {
		return ReadGrant{}, why.error(who, method, taxpayer)
	}
	return ReadGrant{caller: who, owner: owner, method: method, taxpayer: taxpayer}, nil
}

// PermitRead judges a call that reads before it is known whose signatures: may
// caller use GetReceipt, ListSignatures or FindSignature at all? The error is of
// kind NotAllowed.
func (p *Policy) PermitRead(who Caller, method Method) error {
	if _, why := p.holds(who, method, readings); why != allowed {
		return why.error(who, method, "")
	}
	return nil
}

// ReadsAll tells whether caller may read, by that method, every signature on
// behalf of taxpayer, whoever had it made. It narrows a search; each signature
// that is found is judged by [Policy.DecideRead].
func (p *Policy) ReadsAll(who Caller, method Method, taxpayer TIN) bool {
	held, why := p.holds(who, method, readings)
	return why == allowed && taxpayer != "" && p.othersRead(held, taxpayer)
}

// ReadsOthers tells whether caller may read, by that method, any signature that
// another had made. It narrows a search, as ReadsAll does.
func (p *Policy) ReadsOthers(who Caller, method Method) bool {
	held, why := p.holds(who, method, readings)
	return why == allowed && (held.auditor || !held.reads.empty())
}

// Audits tells whether caller is an auditor that may read at all: one with any of
// the methods that read.
func (p *Policy) Audits(who Caller) bool {
	return slices.ContainsFunc(readings, func(method Method) bool {
		held, why := p.holds(who, method, readings)
		return why == allowed && held.auditor
	})
}

// othersRead tells whether the holder may read others' signatures of a taxpayer.
func (p *Policy) othersRead(held *caller, taxpayer TIN) bool {
	place, known := p.places[taxpayer]
	return held.auditor || known && held.reads.has(place)
}

func (p *Policy) judgeRead(who Caller, method Method, owner Caller, taxpayer TIN) answer {
	held, why := p.holds(who, method, readings)
	if why != allowed {
		return why
	}
	switch {
	case owner == "" || taxpayer == "":
		return foreignSignature
	case owner == who || p.othersRead(held, taxpayer):
		return allowed
	}
	return foreignSignature
}
