package xades

import (
	"bytes"
	"fmt"
)

// place says where in the document a value stands, as far as the scanner
// cares: on one of the fixed paths of the facts, or elsewhere. A name elsewhere
// that reads the same (the delivery party has a TIN too) is thereby never
// mistaken for one of them.
type place uint8

// asList marks the array of which a place is the first element.
const asList place = 0x80

const (
	elsewhere place = iota
	placeRoot
	placeInvoice
	placeNumber
	placeDate
	placeTime
	placeType
	placeSupplier
	placeCustomer
	placeParty
	placeIdentification
	placeID
	placeExtensions // any value: taken out
	placeSignature  // any value: taken out
	textNumber      // from here on: strings and numbers whose text is a fact
	textType
	textVersion
	textDate
	textTime
	textID
	textScheme
)

type placeField struct {
	name string
	is   place
}

// placeFields holds the members that lead from one place to the next.
var placeFields = [...][]placeField{
	placeRoot: {{"Invoice", placeInvoice | asList}},
	placeInvoice: {
		{"ID", placeNumber | asList},
		{"IssueDate", placeDate | asList},
		{"IssueTime", placeTime | asList},
		{"InvoiceTypeCode", placeType | asList},
		{"AccountingSupplierParty", placeSupplier | asList},
		{"AccountingCustomerParty", placeCustomer | asList},
		{"UBLExtensions", placeExtensions},
		{"Signature", placeSignature},
	},
	placeNumber:         {{"_", textNumber}},
	placeDate:           {{"_", textDate}},
	placeTime:           {{"_", textTime}},
	placeType:           {{"_", textType}, {"listVersionID", textVersion}},
	placeSupplier:       {{"Party", placeParty | asList}},
	placeCustomer:       {{"Party", placeParty | asList}},
	placeParty:          {{"PartyIdentification", placeIdentification | asList}},
	placeIdentification: {{"ID", placeID | asList}},
	placeID:             {{"_", textID}, {"schemeID", textScheme}},
}

// member returns the place of p's member of that name.
func (p place) member(name []byte) place {
	if p == elsewhere || int(p) >= len(placeFields) {
		return elsewhere
	}
	for _, f := range placeFields[p] {
		if f.name == string(name) {
			return f.is
		}
	}
	return elsewhere
}

// element returns the place of element i of an array at p: the paths lead
// through first elements, but for the identifications, which all count.
func (p place) element(i int) place {
	if p&asList == 0 {
		return elsewhere
	}
	p &^= asList
	if i > 0 && p != placeIdentification && p != placeID && p != placeInvoice {
		return elsewhere
	}
	return p
}

// item returns p for an object that stands at p, and elsewhere for one that
// stands where an array belongs.
func (p place) item() place {
	if p&asList != 0 {
		return elsewhere
	}
	return p
}

// shape refuses what makes a document none of MyInvois: it has exactly one
// invoice, whatever its type, and that is an object in an array.
func (s *jsonScanner) shape(p place, c byte) error {
	switch {
	case c == 0:
		return nil
	case p == placeInvoice|asList && c != '[':
		return s.fault(s.at, `the member Invoice is not an array; a MyInvois document is {"Invoice":[{...}]}`)
	case p == placeInvoice && s.doc.spliceAt > 0:
		return s.fault(s.at, "the array Invoice has a second element; a MyInvois document has exactly one, so write a file for each")
	case p == placeInvoice && c != '{':
		return s.fault(s.at, `the element Invoice[0] is not an object; a MyInvois document is {"Invoice":[{...}]}`)
	}
	return nil
}

// oneInvoice is called at the end of the array Invoice.
func (s *jsonScanner) oneInvoice() error {
	if s.doc.spliceAt == 0 {
		return s.fault(s.at, "the array Invoice is empty; a MyInvois document has exactly one element there")
	}
	return nil
}

// partyID is one PartyIdentification/ID. Its scheme may stand before or after
// its text.
type partyID struct{ scheme, text string }

// enter is called at the start of each object.
func (s *jsonScanner) enter(p place) {
	switch p {
	case placeSupplier:
		s.party = &s.doc.header.supplier
	case placeCustomer:
		s.party = &s.doc.header.customer
	case placeID:
		s.id = partyID{}
	}
}

// leave is called before the closing brace of each object.
func (s *jsonScanner) leave(p place, hasMembers bool) {
	switch p {
	case placeID:
		s.party.identify(s.id.scheme, s.id.text)
	case placeType:
		if s.doc.versionTo > 0 {
			break
		}
		if s.setVersion != "" {
			s.addVersion(hasMembers)
			break
		}
		s.doc.versionAt = len(s.out) + s.at - s.kept
		s.doc.versionTo = s.doc.versionAt
	case placeInvoice:
		s.flush(s.at)
		s.applyCuts()
		s.doc.spliceAt = len(s.out)
		s.doc.empty = s.out[len(s.out)-1] == '{'
	}
}

// fact records a text that stands on one of the fixed paths.
func (s *jsonScanner) fact(p place, text []byte) {
	t := string(bytes.Trim(text, " \t\r\n"))
	h := &s.doc.header
	switch p {
	case textNumber:
		h.number = t
	case textType:
		h.typeCode = t
	case textVersion:
		h.version = t
	case textDate:
		h.issueDate = t
	case textTime:
		h.issueTime = t
	case textID:
		s.id.text = t
	case textScheme:
		s.id.scheme = t
	}
}

// version reads the value of listVersionID, or puts the wanted one in its place.
func (s *jsonScanner) version(c byte) error {
	s.doc.versionAt = len(s.out) + s.at - s.kept
	if s.setVersion == "" {
		err := s.value(textVersion, c)
		s.doc.versionTo = len(s.out) + s.at - s.kept
		return err
	}
	s.flush(s.at)
	from := len(s.out)
	if err := s.unjudged(); err != nil {
		return err
	}
	s.out = fmt.Appendf(s.out[:from], "%q", s.setVersion)
	s.setTo()
	return nil
}

// addVersion gives a type code that has no listVersionID the wanted one.
func (s *jsonScanner) addVersion(hasMembers bool) {
	s.flush(s.at)
	if hasMembers {
		s.out = append(s.out, ',')
	}
	s.out = fmt.Appendf(s.out, `"listVersionID":%q`, s.setVersion)
	s.setTo()
}

func (s *jsonScanner) setTo() {
	s.doc.header.version = s.setVersion
	s.doc.versionTo = len(s.out)
}

// stray notes a name that a reader which ignores case takes for one of the blocks.
func (s *jsonScanner) stray(name []byte) {
	for _, block := range []string{"UBLExtensions", "Signature"} {
		if len(name) >= len(block) && string(name) != block && bytes.EqualFold(name, []byte(block)) && len(s.doc.strays) < maxNamed {
			s.doc.strays = append(s.doc.strays, s.where())
		}
	}
}

// cutMember reads the value of a member that does not stay and starts at offset
// from of out. It is only marked here: whether the comma before or behind it
// goes is known at the end of the object.
func (s *jsonScanner) cutMember(from int, keep *[]byte) error {
	s.flush(s.at)
	value := len(s.out)
	s.cutting = true
	if err := s.unjudged(); err != nil {
		return err
	}
	s.cutting = false
	s.cuts = append(s.cuts, jsonCut{from: from, value: value, to: len(s.out), keep: keep})
	return nil
}

// unjudged reads a value that does not stay, so that its literals do not
// matter, to the end of out.
func (s *jsonScanner) unjudged() error {
	rule := s.literals
	s.literals = literalsAsIs
	err := s.value(elsewhere, s.peek())
	s.literals = rule
	s.flush(s.at)
	return err
}

// applyCuts takes the marked members out of the invoice that has just ended,
// each with one comma, last one first so that the offsets stay true.
func (s *jsonScanner) applyCuts() {
	for i := len(s.cuts) - 1; i >= 0; i-- {
		c := s.cuts[i]
		*c.keep = bytes.Clone(s.out[c.value:c.to])
		switch {
		case c.to < len(s.out) && s.out[c.to] == ',':
			c.to++
		case s.out[c.from-1] == ',':
			c.from--
		}
		s.out = append(s.out[:c.from], s.out[c.to:]...)
		if s.doc.versionAt >= c.to {
			s.doc.versionAt -= c.to - c.from
			s.doc.versionTo -= c.to - c.from
		}
	}
}
