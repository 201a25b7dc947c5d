// Package policy decides who may have what signed, on whose behalf, and when.
//
// It is pure: a file's bytes and the time go in, decisions come out. It never
// reads a clock, a file or a connection, and it does not know who calls: the
// name of a caller is proven elsewhere (package signer, from the client
// certificate) before it is judged here.
//
// The one idea: everything is denied but what the file says, and a [Grant], the
// only thing that lets a signature be made, comes from nowhere but
// [Policy.Decide]. The zero values of every type deny.
package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Method is one thing a caller may ask for, by the name of its RPC. Each is
// granted by itself; none implies another.
type Method string

// The methods. SignDigest and SignDigests are blind: they sign any SHA-256, for
// a taxpayer as stated by the caller. SignDocument reads the document's own.
const (
	SignDigest     Method = "SignDigest"
	SignDigests    Method = "SignDigests"
	SignDocument   Method = "SignDocument"
	GetCertificate Method = "GetCertificate"
	ListTaxpayers  Method = "ListTaxpayers"
)

// methods are all of them, in the order in which they are listed.
var methods = []Method{SignDigest, SignDigests, SignDocument, GetCertificate, ListTaxpayers}

// signing are those that act on behalf of a taxpayer.
var signing = []Method{SignDigest, SignDigests, SignDocument}

// Methods returns every method.
func Methods() []Method { return slices.Clone(methods) }

// ParseMethod returns the method of that name.
func ParseMethod(name string) (Method, error) {
	if m := Method(name); slices.Contains(methods, m) {
		return m, nil
	}
	return "", fmt.Errorf("%q is not a method: the methods are %s", name, listed(methods))
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
	taxpayers map[TIN]Taxpayer // Methods are unset here
	sorted    []TIN
	callers   map[Caller]caller
}

// caller is what one caller is granted. Its zero value is nothing.
type caller struct {
	methods   map[Method]Limits
	everybody bool // every taxpayer of the file
	taxpayers map[TIN]bool
	limits    Limits
}

func (c caller) may(method Method) bool {
	_, granted := c.methods[method]
	return granted
}

func (c caller) mayFor(tin TIN) bool { return c.everybody || c.taxpayers[tin] }

// Taxpayer is one on whose behalf documents are signed, with the window of its
// representation as set on the MyInvois portal.
type Taxpayer struct {
	// TIN identifies the taxpayer.
	TIN TIN
	// BRN and Name are for people; they may be empty.
	BRN, Name string
	// Window is the time of the representation.
	Window
	// Methods are those granted to the caller that asks.
	Methods []Method
}
