package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"slices"
	"strconv"
	"strings"

	"github.com/roamsign/roamsign/xades"
)

// element is a part of a document, the same for XML and JSON. It serves what the
// platform shows of a document and what its simpler steps judge. Whose document it
// is, and whether its signature is good, package xades says.
type element struct {
	name       string
	text       string
	attributes map[string]string
	children   []*element
}

// parse reads a document that package xades has found well-formed. What it cannot
// read is empty.
func parse(document []byte, format xades.Format) *element {
	if format == xades.JSON {
		return parseJSON(document)
	}
	root := &element{}
	open := []*element{root}
	decoder := xml.NewDecoder(bytes.NewReader(document))
	for {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		top := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			child := &element{name: t.Name.Local, attributes: map[string]string{}}
			for _, a := range t.Attr {
				child.attributes[a.Name.Local] = a.Value
			}
			top.children = append(top.children, child)
			open = append(open, child)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			top.text += string(t)
		}
	}
	return root.at("Invoice")
}

// parseJSON reads UBL's JSON: an element is an object in a list, its text the
// member "_", its attributes the members that are no lists.
func parseJSON(document []byte) *element {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var whole any
	if decoder.Decode(&whole) != nil {
		return &element{}
	}
	return converted("", whole).at("Invoice")
}

func converted(name string, value any) *element {
	e := &element{name: name, attributes: map[string]string{}}
	members, _ := value.(map[string]any)
	for key, member := range members {
		switch m := member.(type) {
		case []any:
			for _, item := range m {
				e.children = append(e.children, converted(key, item))
			}
		case string:
			e.attributes[key] = m
		case json.Number:
			e.attributes[key] = m.String()
		}
	}
	e.text = e.attributes["_"]
	return e
}

// at finds the first element on a path; an empty one if there is none.
func (e *element) at(path ...string) *element {
	for _, name := range path {
		i := slices.IndexFunc(e.children, func(c *element) bool { return c.name == name })
		if i < 0 {
			return &element{}
		}
		e = e.children[i]
	}
	return e
}

// all are the children of a name.
func (e *element) all(name string) []*element {
	var found []*element
	for _, c := range e.children {
		if c.name == name {
			found = append(found, c)
		}
	}
	return found
}

func (e *element) trimmed() string { return strings.TrimSpace(e.text) }

// amount is a number in a document; 0 if it is none.
func (e *element) amount() float64 {
	n, _ := strconv.ParseFloat(e.trimmed(), 64)
	return n
}

// party is a supplier or a buyer.
type party struct{ tin, brn, id, name, country, state string }

func (e *element) party(which string) party {
	at := e.at(which, "Party")
	p := party{
		name:    at.at("PartyLegalEntity", "RegistrationName").trimmed(),
		country: at.at("PostalAddress", "Country", "IdentificationCode").trimmed(),
		state:   at.at("PostalAddress", "CountrySubentityCode").trimmed(),
	}
	for _, identification := range at.all("PartyIdentification") {
		id := identification.at("ID")
		switch scheme := id.attributes["schemeID"]; scheme {
		case "TIN":
			p.tin = cmp.Or(p.tin, id.trimmed())
		case "BRN":
			p.brn = cmp.Or(p.brn, id.trimmed())
			p.id = cmp.Or(p.id, id.trimmed())
		case "NRIC", "PASSPORT", "ARMY":
			p.id = cmp.Or(p.id, id.trimmed())
		}
	}
	return p
}

// content is what the platform keeps of a document beside its bytes.
type content struct {
	supplier, buyer party
	references      []string // the UUIDs of the documents that it adjusts
	currency        string
	rate            bool // it states an exchange rate
	totals          totals
}

// totals are as the document states them. The platform's are in ringgit; these are
// not converted.
type totals struct{ exclTax, discount, net, payable float64 }

func (e *element) content() content {
	total := e.at("LegalMonetaryTotal")
	return content{
		supplier: e.party("AccountingSupplierParty"), buyer: e.party("AccountingCustomerParty"),
		references: e.references(),
		currency:   e.at("DocumentCurrencyCode").trimmed(),
		rate:       e.at("TaxExchangeRate", "CalculationRate").amount() > 0,
		totals: totals{
			total.at("TaxExclusiveAmount").amount(), total.at("AllowanceTotalAmount").amount(),
			total.at("LineExtensionAmount").amount(), total.at("PayableAmount").amount(),
		},
	}
}

// references are the UUIDs of billing references. NA stands where there is none.
func (e *element) references() []string {
	var uuids []string
	for _, billing := range e.all("BillingReference") {
		for _, reference := range billing.all("InvoiceDocumentReference") {
			if uuid := reference.at("UUID").trimmed(); uuid != "" && uuid != "NA" {
				uuids = append(uuids, uuid)
			}
		}
	}
	return uuids
}
