package xades

// Facts is what a document says of itself, read from fixed paths (never by
// searching the whole document: the delivery party has a TIN too). Texts are
// unescaped, without blanks at either end.
type Facts struct {
	// Number is the document's number (cbc:ID).
	Number string
	// Type is the InvoiceTypeCode: 01 to 04, or 11 to 14 for self-billed ones.
	Type string
	// Version is the InvoiceTypeCode's listVersionID ("1.1").
	Version string
	// IssueDate and IssueTime are as written ("2024-07-23", "00:40:00Z").
	IssueDate, IssueTime string
	// SelfBilled is true of the types 11 to 14, where the buyer is the
	// taxpayer on whose behalf the document is issued.
	SelfBilled bool
	// TIN and BRN belong to the taxpayer on whose behalf the document is
	// issued: the supplier, or the buyer where SelfBilled. Empty if not stated.
	TIN, BRN string
}

// header is what the scanners collect on their way, before the type decides
// which party is the taxpayer.
type header struct {
	number, typeCode, version string
	issueDate, issueTime      string
	supplier, customer        party
}

// party is one party's identification. The counts tell a document that names
// two, which no reader can be trusted to read alike.
type party struct {
	tin, brn   string
	tins, brns int // how many were found
}

// identify records one PartyIdentification/ID.
func (p *party) identify(scheme, id string) {
	switch scheme {
	case "TIN":
		p.tins++
		if p.tins == 1 {
			p.tin = id
		}
	case "BRN":
		p.brns++
		if p.brns == 1 {
			p.brn = id
		}
	}
}

// taxpayer returns the party on whose behalf the document is issued.
func (h *header) taxpayer() *party {
	if selfBilled(h.typeCode) {
		return &h.customer
	}
	return &h.supplier
}

func (h *header) facts() Facts {
	who := h.taxpayer()
	return Facts{
		Number: h.number, Type: h.typeCode, Version: h.version,
		IssueDate: h.issueDate, IssueTime: h.issueTime,
		SelfBilled: selfBilled(h.typeCode),
		TIN:        who.tin, BRN: who.brn,
	}
}

func selfBilled(typeCode string) bool {
	return len(typeCode) == 2 && typeCode[0] == '1' && typeCode[1] >= '1' && typeCode[1] <= '4'
}

// knownType tells whether typeCode is one of the eight document types.
func knownType(typeCode string) bool {
	return selfBilled(typeCode) || len(typeCode) == 2 && typeCode[0] == '0' && typeCode[1] >= '1' && typeCode[1] <= '4'
}
