package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/roamsign/roamsign/xades"
)

// verdict is what the validation of a document ends with.
type verdict struct {
	status string
	steps  []step
}

// step is a validation step as LHDN tells it.
type step struct {
	Name   string     `json:"name"`
	Status string     `json:"status"`
	Error  *stepError `json:"error"`
}

// stepError is the error of a step. LHDN's own example spells errorMS so here, and
// errorMs within.
type stepError struct {
	PropertyName *string      `json:"propertyName"`
	PropertyPath *string      `json:"propertyPath"`
	ErrorCode    string       `json:"errorCode"`
	Error        string       `json:"error"`
	ErrorMS      string       `json:"errorMS"`
	InnerError   []innerError `json:"innerError"`
}

type innerError struct {
	PropertyName *string      `json:"propertyName"`
	PropertyPath *string      `json:"propertyPath"`
	ErrorCode    string       `json:"errorCode"`
	Error        string       `json:"error"`
	ErrorMs      string       `json:"errorMs"`
	InnerError   []innerError `json:"innerError"`
}

// validator is one of LHDN's steps that come after the submission. Names and codes
// are as third parties saw them on the wire. Each judges a part of what LHDN's does:
// its comment tells which.
type validator struct {
	name, code, says string
	judge            func(*Platform, *document) []flaw
}

var validators = []validator{
	// All of it: type, version, issue date-time, number and TIN, within two hours.
	{"Step03-Duplicated Submission Validator", "Error03", "Duplicated Submission Validator", (*Platform).duplicated},
	// The form of the currency's code, and Malaysia's states.
	{"Step04-Code Field Validator", "Error04", "Step04-Invalid Code Field Validator", (*Platform).codes},
	// The counterparty's TIN and registration number, where the sandbox knows it.
	{"Step05-Taxpayer Profile Validator", "Error05", "Step05-Invalid Taxpayer Profile Validator", (*Platform).profiles},
	// That what a note refers to is valid, where it was submitted here.
	{"Step06-Document References Validator", "Error06", "Step06-Invalid Document References Validator", (*Platform).references},
	// That a foreign currency has an exchange rate.
	{"Step07-Document Currency Validator", "Error07", "Step07-Invalid Document Currency Validator", (*Platform).currency},
	// All that package xades knows, and who signed.
	{signatureStep, "Error21", "Step08-Invalid Document Signature Validator", (*Platform).signature},
}

const signatureStep = "Step08-Document Signature Validator"

// Steps are the names of the validation steps, in their order.
func Steps() []string {
	all := make([]string, len(validators))
	for i, v := range validators {
		all[i] = v.name
	}
	return all
}

// judge runs the steps. All of them run, whatever an earlier one found; that of the
// signature only where the document's version has one.
func (p *Platform) judge(d *document) verdict {
	whole := verdict{status: valid}
	for _, v := range validators {
		if v.name == signatureStep && !signedVersions[d.facts.Version] {
			continue
		}
		s := step{Name: v.name, Status: valid}
		if flaws := v.judge(p, d); len(flaws) > 0 {
			whole.status = invalid
			s.Status = invalid
			s.Error = v.error(flaws)
		}
		whole.steps = append(whole.steps, s)
	}
	return whole
}

func (v validator) error(flaws []flaw) *stepError {
	e := &stepError{ErrorCode: v.code, Error: v.says, ErrorMS: malay(v.says)}
	for _, f := range flaws {
		code := f.code
		if code == "" {
			code = v.code
		}
		e.InnerError = append(e.InnerError, innerError{
			PropertyName: text(f.target), PropertyPath: text(f.path), ErrorCode: code, Error: f.message, ErrorMs: malay(f.message),
		})
	}
	return e
}

// duplicated has LHDN's code and words (SDK, "Standard Error Response").
func (p *Platform) duplicated(d *document) []flaw {
	if d.twin == "" {
		return nil
	}
	return []flaw{{"DS302", fmt.Sprintf("Duplicated submitted document with UUID %s where the values of configured attributes match with values for the document with UUID: %s",
		d.uuid, d.twin), "document", "document"}}
}

// codes has CV302, which third parties report.
func (p *Platform) codes(d *document) (flaws []flaw) {
	add := func(path, format string, args ...any) {
		flaws = append(flaws, flaw{"CV302", fmt.Sprintf(format, args...), path[strings.LastIndexByte(path, '.')+1:], path})
	}
	if len(d.content.currency) != 3 || strings.Trim(d.content.currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		add("Invoice.DocumentCurrencyCode", "%q is no currency's code", d.content.currency)
	}
	for _, who := range []struct {
		where string
		party party
	}{{"Supplier", d.content.supplier}, {"Customer", d.content.buyer}} {
		if who.party.country == "MYS" && !malaysian(who.party.state) {
			add("Invoice.Accounting"+who.where+"Party.Party.PostalAddress.CountrySubentityCode", "ItemCode %s was not active when document issued", who.party.state)
		}
	}
	return flaws
}

// malaysian tells whether a code is one of LHDN's table "State Codes": 01 to 17.
func malaysian(state string) bool {
	return len(state) == 2 && state >= "01" && state <= "17" && strings.Trim(state, "0123456789") == ""
}

// profiles has ERR406 for a TIN, which third parties report, and for a registration
// number as well.
func (p *Platform) profiles(d *document) (flaws []flaw) {
	for _, who := range []struct {
		where, word string
		party       party
	}{{"AccountingSupplierParty", "Supplier", d.content.supplier}, {"AccountingCustomerParty", "Buyer", d.content.buyer}} {
		path := "document.Invoice." + who.where + ".Party.PartyIdentification.ID"
		add := func(what string) {
			flaws = append(flaws, flaw{"ERR406", who.word + " " + what + " is invalid. Kindly use the Search TIN function to get the correct TIN", who.word + "Tin", path})
		}
		taxpayer := p.taxpayers[who.party.tin]
		switch {
		case taxpayer == nil && p.config.Strict && !strings.HasPrefix(who.party.tin, "EI"):
			add("TIN")
		case taxpayer != nil && who.party.brn != "" && who.party.brn != "NA" && taxpayer.BRN != "" && who.party.brn != taxpayer.BRN:
			add("BRN")
		}
	}
	return flaws
}

func (p *Platform) references(d *document) (flaws []flaw) {
	for _, uuid := range d.stale {
		flaws = append(flaws, flaw{"", "the document with UUID " + uuid + " was not valid when this one referred to it", "UUID", "Invoice.BillingReference.InvoiceDocumentReference.UUID"})
	}
	return flaws
}

func (p *Platform) currency(d *document) []flaw {
	if d.content.currency == "MYR" || d.content.rate {
		return nil
	}
	return []flaw{{"", "the exchange rate to MYR is missing", "CalculationRate", "Invoice.TaxExchangeRate.CalculationRate"}}
}

// signature verifies the signature at the time of submission. The signer is the
// issuer, or else who submitted (SDK, "Digital Signature", validation rules): then
// it must have represented the issuer when the document was issued, with the right
// to submit.
func (p *Platform) signature(d *document) []flaw {
	submitter := p.taxpayers[d.who.client.TIN]
	flaws := p.signed(d, submitter)
	if !d.who.behalf {
		return flaws
	}
	issuer := p.taxpayers[d.who.tin]
	if slices.ContainsFunc(flaws, foreign) {
		if own := p.signed(d, issuer); !slices.ContainsFunc(own, foreign) {
			return own
		}
	}
	if rights, _ := issuer.represented(d.who.client.TIN, d.issued); !slices.Contains(rights, MaySubmit) {
		flaws = append(flaws, flaw{"DS311", "the signer did not represent the issuer, with the right to submit, at the date and time of issue", "document", "document"})
	}
	return flaws
}

// foreign tells whether a flaw is that the signer is another one.
func foreign(f flaw) bool { return f.code == "DS311" || f.code == "DS312" }

func (p *Platform) signed(d *document, signer *Taxpayer) (flaws []flaw) {
	report := xades.Verify(d.raw, xades.VerifyOptions{
		Roots: p.config.Roots, At: d.received, SubmitterTIN: signer.TIN, SubmitterBRN: signer.BRN,
	})
	for _, finding := range report.Findings {
		if finding.Severity == xades.SeverityError {
			flaws = append(flaws, flaw{finding.Code, finding.Message, "document", "document"})
		}
	}
	return flaws
}
