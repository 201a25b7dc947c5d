// Package policy decides who may have what signed, on whose behalf, and when.
//
// It is pure: a file's bytes and the time go in, decisions come out. It never
// reads a clock, a file or a connection, and it does not know who calls: the
// name of a caller is proven elsewhere (package signer, from the client
// certificate) before it is judged here.
//
// The one idea: everything is denied but what the file says, and a [Grant], the
// only thing that lets a signature be made, comes from nowhere but
// [Policy.Decide]; so does a [ReadGrant] from [Policy.DecideRead]. The zero
// values of every type deny.
package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Method is one thing a caller may ask for, by the name of its RPC. Each is
// granted by itself; none implies another.
type Method string

// The methods. SignDigest and SignDigests are blind: they sign any SHA-256, for
// a taxpayer as stated by the caller. SignDocument reads the document's own.
// The last three read what is on record of signatures.
const (
	SignDigest     Method = "SignDigest"
	SignDigests    Method = "SignDigests"
	SignDocument   Method = "SignDocument"
	GetCertificate Method = "GetCertificate"
	ListTaxpayers  Method = "ListTaxpayers"
	GetReceipt     Method = "GetReceipt"
	ListSignatures Method = "ListSignatures"
	FindSignature  Method = "FindSignature"
)

// The methods by what they concern: a taxpayer on whose behalf they act (blindly
// or not), none or every one, or what was signed on behalf of one. Together they are all, in the
// order in which they are listed.
var (
	signing  = []Method{SignDigest, SignDigests, SignDocument}
	blind    = signing[:2]
	general  = []Method{GetCertificate, ListTaxpayers}
	readings = []Method{GetReceipt, ListSignatures, FindSignature}
	methods  = slices.Concat(signing, general, readings)
)

// Blind is the name under which the blind methods are counted together. It is no
// method, and none is granted by it.
const Blind Method = "blind"

// Blind tells whether the method signs whatever digest it is given.
func (m Method) Blind() bool { return slices.Contains(blind, m) }

// Methods returns every method.
func Methods() []Method { return slices.Clone(methods) }

// ParseMethod returns the method of that name.
func ParseMethod(name string) (Method, error) {
	if m := Method(name); slices.Contains(methods, m) {
		return m, nil
	}
	return "", fmt.Errorf("%s is not a method: the methods are %s", quoted(name), listed(methods))
}

// listed writes names for people.
func listed[S ~string](names []S) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}

// Policy is one file's content: the taxpayers that are represented, and the
// callers with what each is granted. It never changes once parsed, so it is
// safe for concurrent use. The zero Policy, and a nil one, deny everything.
type Policy struct {
	taxpayers []Taxpayer // in the order of the file; Methods are unset here
	lines     []int      // of the taxpayers
	places    map[TIN]int
	callers   map[Caller]*caller
	warnings  Faults // those that hold at any time
}

// caller is what one caller is granted. Its zero value is nothing.
type caller struct {
	methods map[Method]Limits // those granted, with their own limits
	blind   Limits            // of the blind ones together
	signs   reach
	reads   reach // others' signatures
	auditor bool
	limits  Limits
	// pinned tells that only these certificates may be used, as the line says.
	pinned       bool
	pinLine      int
	certificates [][32]byte
}

func (c *caller) may(method Method) bool {
	_, granted := c.methods[method]
	return granted
}

func (c *caller) mayAny(of []Method) bool { return slices.ContainsFunc(of, c.may) }

// uses tells whether the caller may have signatures under that certificate.
func (c *caller) uses(certificate [32]byte) bool {
	return certificate != [32]byte{} && (!c.pinned || slices.Contains(c.certificates, certificate))
}

// Knows tells whether the caller is one of the policy's, whatever it may do.
func (p *Policy) Knows(who Caller) bool { return p != nil && who != "" && p.callers[who] != nil }

// Callers returns all callers, in no order.
func (p *Policy) Callers() []Caller {
	if p == nil {
		return nil
	}
	return slices.Collect(maps.Keys(p.callers))
}

// Intermediary returns the taxpayer that is the intermediary itself, if the
// policy says which.
func (p *Policy) Intermediary() (Taxpayer, bool) {
	if p == nil {
		return Taxpayer{}, false
	}
	i := slices.IndexFunc(p.taxpayers, func(t Taxpayer) bool { return t.Intermediary })
	if i < 0 {
		return Taxpayer{}, false
	}
	return p.taxpayers[i], true
}

// Taxpayers returns those on whose behalf caller may use any signing method at
// now under that certificate, sorted by TIN, each with exactly the methods that
// [Policy.Decide] would grant.
func (p *Policy) Taxpayers(who Caller, certificate [32]byte, now time.Time) (list []Taxpayer) {
	if p == nil {
		return nil
	}
	for _, taxpayer := range p.taxpayers {
		for _, method := range signing {
			if _, _, why := p.judge(who, method, taxpayer.TIN, certificate, now); why == allowed {
				taxpayer.Methods = append(taxpayer.Methods, method)
			}
		}
		if len(taxpayer.Methods) > 0 {
			taxpayer.Rights = slices.Clone(taxpayer.Rights)
			list = append(list, taxpayer)
		}
	}
	slices.SortFunc(list, func(a, b Taxpayer) int { return strings.Compare(string(a.TIN), string(b.TIN)) })
	return list
}
