package xades

import (
	"bytes"
	"cmp"
	"unicode/utf8"
)

// role says what an element is, by its path from the root.
type role uint8

const (
	roleNone role = iota
	roleRoot
	roleNumber
	roleTypeCode
	roleIssueDate
	roleIssueTime
	roleSupplier
	roleCustomer
	roleSupplierParty
	roleCustomerParty
	roleSupplierIdentification
	roleCustomerIdentification
	roleSupplierID
	roleCustomerID
)

// role tells what the element that starts is.
func (r *xmlReader) role() role {
	s := &r.scanner
	if len(r.roles) == 0 {
		return roleRoot
	}
	parent := r.roles[len(r.roles)-1]
	if parent == roleNone {
		return roleNone
	}
	switch s.ns.known(s.space) {
	case cbcVocabulary:
		return basicRole(parent, s.local(s.name))
	case cacVocabulary:
		return aggregateRole(parent, s.local(s.name))
	}
	return roleNone
}

func basicRole(parent role, local []byte) role {
	switch parent {
	case roleRoot:
		switch string(local) {
		case "ID":
			return roleNumber
		case "InvoiceTypeCode":
			return roleTypeCode
		case "IssueDate":
			return roleIssueDate
		case "IssueTime":
			return roleIssueTime
		}
	case roleSupplierIdentification:
		if string(local) == "ID" {
			return roleSupplierID
		}
	case roleCustomerIdentification:
		if string(local) == "ID" {
			return roleCustomerID
		}
	}
	return roleNone
}

func aggregateRole(parent role, local []byte) role {
	switch {
	case parent == roleRoot && string(local) == "AccountingSupplierParty":
		return roleSupplier
	case parent == roleRoot && string(local) == "AccountingCustomerParty":
		return roleCustomer
	case parent == roleSupplier && string(local) == "Party":
		return roleSupplierParty
	case parent == roleCustomer && string(local) == "Party":
		return roleCustomerParty
	case parent == roleSupplierParty && string(local) == "PartyIdentification":
		return roleSupplierIdentification
	case parent == roleCustomerParty && string(local) == "PartyIdentification":
		return roleCustomerIdentification
	}
	return roleNone
}

// versionAttribute is the attribute of InvoiceTypeCode that says the version.
const versionAttribute = "listVersionID"

// noted notes the attributes that matter of an element with a role, and gives the
// version to write instead of the document's own, or "".
func (r *xmlReader) noted(is role) (version string) {
	switch is {
	case roleTypeCode:
		version = r.options.setVersion
		r.doc.header.version = cmp.Or(version, r.attr(versionAttribute))
	case roleSupplierID, roleCustomerID:
		r.scheme = r.attr("schemeID")
	}
	return version
}

// attr gives the value of an attribute without a namespace, "" if it is absent.
func (r *xmlReader) attr(name string) string {
	s := &r.scanner
	for i := range s.attrs {
		if a := &s.attrs[i]; !a.declares && string(s.text(a.name.span)) == name {
			return string(s.value(a))
		}
	}
	return ""
}

// value takes what an element with a role contains: canonical text, or nil if
// there is an element in it.
func (r *xmlReader) value(is role, canonical []byte) {
	if is == roleNone || is == roleRoot {
		return
	}
	text := trimBlanks(unescape(canonical))
	h := &r.doc.header
	switch is {
	case roleSupplierID:
		h.supplier.identify(r.scheme, text)
		return
	case roleCustomerID:
		h.customer.identify(r.scheme, text)
		return
	case roleSupplierIdentification, roleCustomerIdentification:
		return
	}
	if r.found[is]++; r.found[is] > 1 {
		r.doc.repeated = string(r.scanner.text(r.scanner.name.span))
		return
	}
	switch is {
	case roleNumber:
		h.number = text
	case roleTypeCode:
		h.typeCode = text
	case roleIssueDate:
		h.issueDate = text
	case roleIssueTime:
		h.issueTime = text
	}
}

// trimBlanks trims the blanks of XML, and no other space.
func trimBlanks(text []byte) string { return string(bytes.Trim(text, " \t\r\n")) }

// unescape resolves the references of canonical text and leaves all else alone.
func unescape(text []byte) []byte {
	if bytes.IndexByte(text, '&') < 0 {
		return text
	}
	var out []byte
	for {
		at := bytes.IndexByte(text, '&')
		if at < 0 {
			return append(out, text...)
		}
		size := 1 + bytes.IndexByte(text[at:], ';')
		r, _ := referenced(text[at+1 : at+size-1])
		out = utf8.AppendRune(append(out, text[:at]...), r)
		text = text[at+size:]
	}
}
