package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Pair is a certificate with its fresh key, as issued for TLS.
type Pair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Server issues a server certificate for hosts, each an IP address or a DNS
// name.
func (a *Authority) Server(hosts []string, validity Validity) (*Pair, error) {
	if len(hosts) == 0 {
		return nil, errors.New("issuing a server certificate: it needs a DNS name or an IP address")
	}
	template := &x509.Certificate{
		Subject:     commonName(hosts[0]),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		} else {
			return nil, errors.New("issuing a server certificate: one of the hosts is empty")
		}
	}
	return a.pair(template, "server", hosts[0], validity)
}

// Client issues a client certificate of exactly one name: a URI if it has a
// colon, such as a SPIFFE ID, else a DNS name. That name is all that the signer
// knows of a caller.
func (a *Authority) Client(name string, validity Validity) (*Pair, error) {
	template := &x509.Certificate{
		Subject:     commonName(name),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	switch {
	case name == "":
		return nil, errors.New("issuing a client certificate: it needs a name, a URI or a DNS name")
	case strings.Contains(name, ":"):
		uri, err := url.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("issuing a client certificate: %w", err)
		}
		template.URIs = []*url.URL{uri}
	default:
		template.DNSNames = []string{name}
	}
	return a.pair(template, "client", name, validity)
}

func (a *Authority) pair(template *x509.Certificate, kind, name string, validity Validity) (*Pair, error) {
	key, err := ECDSA.generate()
	if err != nil {
		return nil, err
	}
	certificate, err := a.issue(template, key.Public(), validity)
	if err != nil {
		return nil, fmt.Errorf("issuing a %s certificate for %q: %w", kind, name, err)
	}
	return &Pair{Certificate: certificate, Key: key}, nil
}

// commonName is a subject for people: TLS looks at the other names only.
func commonName(name string) pkix.Name {
	const most = 64 // RFC 5280, appendix A.1, ub-common-name
	if len(name) > most {
		return pkix.Name{}
	}
	return pkix.Name{CommonName: name}
}

// Organization is the subject of a signing certificate. All but Unit must be
// set.
type Organization struct {
	// Country is two capital letters ("MY").
	Country string
	// Name is the organization's, as registered.
	Name string
	// TIN is its tax identification number (organizationIdentifier, 2.5.4.97).
	TIN string
	// Unit is the organizational unit, or empty.
	Unit string
	// CommonName is mostly the organization's name again.
	CommonName string
	// BRN is its business registration number (serialNumber, 2.5.4.5).
	BRN string
}

// documentSigning is Microsoft's "Document Signing" purpose, which LHDN's
// profile asks for (SDK, "Digital Signature", certificate profile).
var documentSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 12}

// Signing issues a signing certificate of LHDN's profile for an RSA public key
// of 2048 bits or more: the subject's elements in the order C, O,
// organizationIdentifier, OU, CN, serialNumber; Key Usage non-repudiation alone;
// Extended Key Usage document signing. The authority's key must be RSA, as those
// of real issuers are.
func (a *Authority) Signing(who Organization, public *rsa.PublicKey, validity Validity) (*x509.Certificate, error) {
	if _, ok := a.key.Public().(*rsa.PublicKey); !ok {
		return nil, errors.New("issuing a signing certificate: the authority's key must be RSA")
	}
	if public == nil || public.N == nil || public.N.BitLen() < 2048 {
		return nil, errors.New("issuing a signing certificate: the key must be RSA of 2048 bits or more")
	}
	subject, err := who.marshal()
	if err != nil {
		return nil, fmt.Errorf("issuing a signing certificate: %w", err)
	}
	template := &x509.Certificate{
		RawSubject:         subject,
		SignatureAlgorithm: x509.SHA256WithRSA,
		KeyUsage:           x509.KeyUsageContentCommitment,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{documentSigning},
	}
	certificate, err := a.issue(template, public, validity)
	if err != nil {
		return nil, fmt.Errorf("issuing a signing certificate for %q: %w", who.Name, err)
	}
	return certificate, nil
}

// marshal writes the subject itself, since [pkix.Name] reorders it.
func (o Organization) marshal() ([]byte, error) {
	if len(o.Country) != 2 || o.Country != strings.ToUpper(o.Country) {
		return nil, fmt.Errorf("the country must be two capital letters, not %q", o.Country)
	}
	var name pkix.RDNSequence
	for _, each := range []struct {
		what     string
		oid      asn1.ObjectIdentifier
		value    string
		optional bool
	}{
		{"country", asn1.ObjectIdentifier{2, 5, 4, 6}, o.Country, false},
		{"organization", asn1.ObjectIdentifier{2, 5, 4, 10}, o.Name, false},
		{"TIN", asn1.ObjectIdentifier{2, 5, 4, 97}, o.TIN, false},
		{"unit", asn1.ObjectIdentifier{2, 5, 4, 11}, o.Unit, true},
		{"common name", asn1.ObjectIdentifier{2, 5, 4, 3}, o.CommonName, false},
		{"BRN", asn1.ObjectIdentifier{2, 5, 4, 5}, o.BRN, false},
	} {
		if each.value == "" && each.optional {
			continue
		}
		if each.value == "" {
			return nil, fmt.Errorf("the %s is missing", each.what)
		}
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: each.oid, Value: each.value}})
	}
	return asn1.Marshal(name)
}
