package xades

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
)

// documentSigning is the Extended Key Usage that LHDN's profile requires.
var documentSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 12}

// The elements of a subject that LHDN's certificate profile requires.
const (
	oidSerialNumber           = "2.5.4.5"  // BRN or NRIC
	oidOrganizationIdentifier = "2.5.4.97" // TIN
)

// CheckProfile tells each point where a certificate leaves LHDN's profile (SDK,
// signature page, Certificate Profile), in sentences that name it: Key Usage,
// Extended Key Usage, the subject's elements, the key, and a serial number too
// long for LHDN's XML validation. Nil is good. It needs neither the time nor
// issuers, so validity and the chain are for the caller to judge.
func CheckProfile(cert *x509.Certificate) []string {
	var said []string
	if _, err := rsaKey(cert); err != nil {
		said = append(said, err.Error())
	}
	for _, d := range slices.Concat(usageDeviations(cert), subjectDeviations(cert)) {
		said = append(said, d.message)
	}
	if digits := len(cert.SerialNumber.String()); digits > maxSerialDigits {
		said = append(said, fmt.Sprintf("the certificate's serial number has %d digits; LHDN's XML validation may fail over %d (JSON documents are not affected)",
			digits, maxSerialDigits))
	}
	return said
}

// deviation is a point where a certificate leaves LHDN's profile, with the code
// that LHDN refuses documents for it with, or "" where it publishes none.
type deviation struct{ code, message string }

// usageDeviations are those without a code.
func usageDeviations(cert *x509.Certificate) (all []deviation) {
	add := func(format string, args ...any) { all = append(all, deviation{"", fmt.Sprintf(format, args...)}) }
	if cert.KeyUsage&x509.KeyUsageContentCommitment == 0 {
		add("the certificate's Key Usage lacks Non-Repudiation, which LHDN's profile requires")
	}
	if !slices.ContainsFunc(cert.UnknownExtKeyUsage, documentSigning.Equal) {
		add("the certificate's Extended Key Usage lacks Document Signing (%s), which LHDN's profile requires", documentSigning)
	}
	for _, element := range []struct{ oid, name string }{{"2.5.4.3", "CN"}, {"2.5.4.6", "C"}, {"2.5.4.10", "O"}} {
		if nameAttribute(cert.RawSubject, element.oid) == "" {
			add("the certificate's subject has no %s, which LHDN's profile requires", element.name)
		}
	}
	return all
}

// subjectDeviations are those with codes: who the holder is.
func subjectDeviations(cert *x509.Certificate) (all []deviation) {
	add := func(code, format string, args ...any) {
		all = append(all, deviation{code, fmt.Sprintf(format, args...)})
	}
	brn := nameAttribute(cert.RawSubject, oidSerialNumber)
	tin := nameAttribute(cert.RawSubject, oidOrganizationIdentifier)
	if brn == "" {
		add("DS306", "the certificate's subject has no serialNumber (2.5.4.5), which holds the holder's BRN")
	}
	if tin == "" {
		add("DS307", "the certificate's subject has no organizationIdentifier (2.5.4.97), which holds the holder's TIN")
	}
	if brn != "" && !identifier(brn) {
		add("DS337", "the certificate's serialNumber (2.5.4.5) is %q; a registration number has letters, digits and hyphens only", brn)
	}
	if tin != "" && !identifier(tin) {
		add("DS338", "the certificate's organizationIdentifier (2.5.4.97) is %q; a TIN has letters and digits only", tin)
	}
	return all
}

// identifier tells whether text can be a registration or tax number.
func identifier(text string) bool {
	for _, c := range text {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(text) <= 40
}
