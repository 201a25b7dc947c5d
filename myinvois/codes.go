package myinvois

import "strings"

// InWords tells what one of LHDN's signature codes (DS300 to DS338) means, or ""
// for any other. Source: Pos Digicert's guideline 1.2, as the community copy of
// LHDN's documentation has it. DS302, which has two meanings, is told by
// [DocumentDetails.Findings], where the step's name tells which.
func InWords(code string) string { return signatureCodes[strings.ToUpper(code)] }

var signatureCodes = map[string]string{
	"DS300": "the document cannot be parsed",
	"DS301": "there is no signature",
	"DS303": "there is no SigningTime",
	"DS304": "SigningTime is outside the certificate's validity",
	"DS305": "the X509Certificate is invalid",
	"DS306": "the certificate's SERIALNUMBER is empty",
	"DS307": "the certificate's organizationIdentifier is empty",
	"DS308": "an organisation's certificate was used in the portal or on a phone",
	"DS309": "a person's certificate was used by an ERP system",
	"DS310": "the user's login is not the certificate's SERIALNUMBER",
	"DS311": "the submitter's TIN is not the certificate's organizationIdentifier",
	"DS312": "the submitter's registration number is not the certificate's SERIALNUMBER",
	"DS313": "the certificate's digest algorithm is wrong",
	"DS314": "the document's digest algorithm is wrong",
	"DS315": "the signed properties' digest algorithm is wrong",
	"DS316": "the signature algorithm is wrong",
	"DS317": "the certificate's digest is empty",
	"DS318": "the certificate's digest does not match",
	"DS319": "the signed properties' digest is empty",
	"DS320": "the signed properties' digest does not match",
	"DS321": "the document's digest is empty",
	"DS322": "the document's digest does not match",
	"DS323": "the SignatureMethod is not the enveloped XAdES one",
	"DS324": "the issuer's name is empty",
	"DS325": "the serial number is empty",
	"DS326": "the issuer's name does not match the certificate",
	"DS327": "the serial number cannot be parsed",
	"DS328": "the serial number does not match the certificate",
	"DS329": "the certificate's chain of trust does not hold",
	"DS330": "the TIN is not known to LHDN",
	"DS331": "the signature cannot be parsed",
	"DS332": "the SignatureValue is empty",
	"DS333": "the signature is invalid",
	"DS334": "the certificate cannot validate the signature",
	"DS335": "validating the signature did not succeed",
	"DS336": "SigningTime has the wrong form",
	"DS337": "the certificate's SERIALNUMBER cannot be parsed",
	"DS338": "the certificate's organizationIdentifier cannot be parsed",
}

// Findings are what the steps of a validation found wrong, a line each: the
// step's name, and its error with the innermost causes.
func (d *DocumentDetails) Findings() []string {
	var said []string
	for _, step := range d.Results.Steps {
		if step.Error == nil {
			continue
		}
		said = append(said, strings.TrimSpace(step.Name)+": "+inStep(step.Name, Problem(*step.Error)))
	}
	return said
}

// inStep tells a problem of a step; without a name, of the checks at the door.
func inStep(step string, p Problem) string {
	line := p.String()
	if words := twofold(step, p); words != "" {
		line += ": " + words
	}
	return line
}

// twofold tells what DS302 means in a step, or "" where there is none. In that on
// duplicates it is one, which some answers call DV302.
func twofold(step string, p Problem) string {
	duplicates := strings.Contains(strings.ToLower(step), "duplicat") || strings.HasPrefix(strings.TrimSpace(step), "Step03")
	switch code := strings.ToUpper(p.Code); {
	case code == "DV302", code == "DS302" && duplicates:
		return "a document of the same number, type and time of issue was submitted within two hours before; look at what became of that one"
	case code == "DS302":
		return "there is not exactly one signature"
	}
	for _, d := range p.Details {
		if words := twofold(step, d); words != "" {
			return words
		}
	}
	return ""
}
