package policy

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Caller is the name of a client as its certificate states it: a URI (such as a
// SPIFFE ID) or a DNS name, in the form that [ParseCaller] gives. The zero
// Caller is nobody.
type Caller string

// maxCaller is the longest name of a caller, in bytes (a SPIFFE ID's bound).
const maxCaller = 2048

// ParseCaller checks a caller's name. A name with a colon is a URI: absolute, in
// the very spelling that a certificate carries, compared byte by byte. Any
// other is a DNS name (RFC 1123: letters, digits and hyphens, no wildcard),
// compared in lower case.
func ParseCaller(name string) (Caller, error) {
	check := checkDNS
	if strings.Contains(name, ":") {
		check = checkURI
	} else {
		name = strings.ToLower(name)
	}
	if err := check(name); err != nil {
		return "", fmt.Errorf("%s is not a caller's name: %w", quoted(name), err)
	}
	return Caller(name), nil
}

func checkURI(name string) error {
	if len(name) > maxCaller {
		return fmt.Errorf("longer than %d bytes", maxCaller)
	}
	u, err := url.Parse(name)
	if err != nil {
		return errors.New("not a URI")
	}
	if u.Scheme == "" || u.Host == "" && u.Opaque == "" && u.Path == "" {
		return errors.New("not an absolute URI such as spiffe://example.com/erp")
	}
	if u.String() != name {
		return fmt.Errorf("not in the form that certificates give, %s", quoted(u.String()))
	}
	return nil
}

func checkDNS(name string) error {
	if name == "" {
		return errors.New("it is empty")
	}
	if len(name) > 253 {
		return errors.New("longer than 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("neither a URI such as spiffe://example.com/erp nor a DNS name such as erp.example.com")
		}
	}
	return nil
}
