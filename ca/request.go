package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Element is a part of a subject's name, by the name that LHDN's profile gives it.
type Element struct {
	Name  string // C, O, organizationIdentifier, OU, CN, serialNumber or E
	Value string
}

type element struct {
	name     string
	oid      asn1.ObjectIdentifier
	most     int
	optional bool
	means    string
}

// elements are those of LHDN's profile (SDK, "Digital Signature", certificate
// profile), with the most characters that certificates allow (RFC 5280, appendix
// A.1).
var elements = []element{
	{"C", asn1.ObjectIdentifier{2, 5, 4, 6}, 2, false, "the country, MY"},
	{"O", asn1.ObjectIdentifier{2, 5, 4, 10}, 64, false, "the organization's registered name"},
	{"organizationIdentifier", asn1.ObjectIdentifier{2, 5, 4, 97}, 64, false, "the organization's TIN"},
	{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}, 64, true, "the unit"},
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}, 64, false, "mostly the organization's name again"},
	{"serialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}, 64, false, "the organization's BRN"},
	{"E", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, 255, true, "an e-mail address"},
}

// keyUsage and extendedKeyUsage are what the extensions are called (RFC 5280,
// sections 4.2.1.3 and 4.2.1.12).
var (
	keyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	extendedKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// Request makes a certificate request (PKCS#10, in DER) of LHDN's profile,
// signed by signer with SHA-256: the subject's elements in the order given, Key
// Usage non-repudiation alone, Extended Key Usage document signing. The error
// tells all that is wrong with the subject.
func Request(subject []Element, signer crypto.Signer) ([]byte, error) {
	if _, ok := signer.Public().(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("requesting a certificate: the key is a %T, and MyInvois takes RSA only", signer.Public())
	}
	name, err := rawName(subject)
	if err != nil {
		return nil, fmt.Errorf("requesting a certificate: %w", err)
	}
	// Bit 1 of two (RFC 5280): 0x40.
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x40}, BitLength: 2})
	if err != nil {
		return nil, fmt.Errorf("requesting a certificate: %w", err)
	}
	extended, err := asn1.Marshal([]asn1.ObjectIdentifier{documentSigning})
	if err != nil {
		return nil, fmt.Errorf("requesting a certificate: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject: name, SignatureAlgorithm: x509.SHA256WithRSA,
		ExtraExtensions: []pkix.Extension{
			{Id: keyUsage, Critical: true, Value: usage},
			{Id: extendedKeyUsage, Value: extended},
		},
	}, signer)
	if err != nil {
		return nil, fmt.Errorf("requesting a certificate: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("requesting a certificate: reading it back: %w", err)
	}
	return der, nil
}

// rawName writes a subject in the order given.
func rawName(subject []Element) ([]byte, error) {
	var name pkix.RDNSequence
	var faults []error
	seen := map[string]bool{}
	for _, e := range subject {
		at := slices.IndexFunc(elements, func(known element) bool { return known.name == e.Name })
		if at < 0 {
			faults = append(faults, fmt.Errorf("%q is no element of LHDN's profile", e.Name))
			continue
		}
		if seen[e.Name] {
			faults = append(faults, fmt.Errorf("%s is given twice", e.Name))
			continue
		}
		seen[e.Name] = true
		if err := e.check(elements[at].most); err != nil {
			faults = append(faults, err)
		}
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: elements[at].oid, Value: e.der()}})
	}
	for _, known := range elements {
		if !known.optional && !seen[known.name] {
			faults = append(faults, fmt.Errorf("%s is missing: %s", known.name, known.means))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return asn1.Marshal(name)
}

// check judges a value by itself.
func (e Element) check(most int) error {
	switch {
	case strings.TrimSpace(e.Value) != e.Value || e.Value == "":
		return fmt.Errorf("%s is %q: it must not be empty, or begin or end with a blank", e.Name, e.Value)
	case strings.ContainsFunc(e.Value, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return fmt.Errorf("%s is %q: it has characters that cannot be printed", e.Name, e.Value)
	case len([]rune(e.Value)) > most:
		return fmt.Errorf("%s is %q: at most %d characters", e.Name, e.Value, most)
	case e.Name == "C" && (len(e.Value) != 2 || strings.Trim(e.Value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != ""):
		return fmt.Errorf("C is %q: it must be two capital letters", e.Value)
	case e.Name == "E" && (!strings.Contains(e.Value, "@") || strings.ContainsFunc(e.Value, func(r rune) bool { return r > unicode.MaxASCII })):
		return fmt.Errorf("E is %q: it must be an e-mail address in ASCII", e.Value)
	}
	return nil
}

// der is the value in its string type: IA5String for an address (RFC 5280,
// appendix A.1), else PrintableString, or UTF8String where that is not enough.
func (e Element) der() any {
	if e.Name == "E" {
		return asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(e.Value)}
	}
	return e.Value
}
