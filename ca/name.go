package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
)

// NameOf returns the name that a client certificate is for: its one URI, in the
// very spelling that it carries, or else its one DNS name. One has a colon and the
// other has none, so that an authority which lets its customers choose the one
// does not give them the other.
func NameOf(c *x509.Certificate) (string, error) {
	switch uris, names := c.URIs, c.DNSNames; {
	case len(uris) > 1:
		return "", fmt.Errorf("it has %d URIs, so it names nobody", len(uris))
	case len(uris) == 1:
		return nameOf(soleURI(c), true)
	case len(names) > 1:
		return "", fmt.Errorf("it has %d DNS names and no URI, so it names nobody", len(names))
	case len(names) == 1:
		return nameOf(names[0], false)
	default:
		return "", errors.New("it has neither a URI nor a DNS name")
	}
}

func nameOf(name string, uri bool) (string, error) {
	switch {
	case strings.Contains(name, ":") == uri:
		return name, nil
	case uri:
		return "", fmt.Errorf("its URI %q is not absolute, so it names nobody", name)
	default:
		return "", fmt.Errorf("its DNS name %q is none, so it names nobody", name)
	}
}

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// soleURI returns the one URI as it stands in the certificate: package url forgets
// some of it, such as an empty fragment.
func soleURI(c *x509.Certificate) string {
	const uniformResourceIdentifier = 6 // RFC 5280, section 4.2.1.6
	for _, extension := range c.Extensions {
		if !extension.Id.Equal(subjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(extension.Value, &names); err != nil {
			return ""
		}
		for _, name := range names {
			if name.Class == asn1.ClassContextSpecific && name.Tag == uniformResourceIdentifier {
				return string(name.Bytes)
			}
		}
	}
	return ""
}
