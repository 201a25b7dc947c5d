package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/roamsign/roamsign/internal/strict"
)

// CRLs are certificate revocation lists (RFC 5280, section 5), of one authority
// or of several. The nil CRLs revoke nothing. They do not change, and are safe
// for concurrent use.
type CRLs struct {
	revoked map[string]struct{} // by the issuer's name and the serial number
	issuers map[string]struct{} // by name
	renewal time.Time
}

// Revokes reports whether a certificate is on its issuer's list. It takes the
// same time however long the lists are.
func (l *CRLs) Revokes(c *x509.Certificate) bool {
	if l == nil || c.SerialNumber == nil {
		return false
	}
	_, revoked := l.revoked[entryOf(c.RawIssuer, c.SerialNumber.Bytes())]
	return revoked
}

// Covers reports whether there is a list of the certificate's issuer.
func (l *CRLs) Covers(c *x509.Certificate) bool {
	if l == nil {
		return false
	}
	_, covered := l.issuers[string(c.RawIssuer)]
	return covered
}

// RenewalDue returns when the first of the lists should have been replaced by a
// newer one (nextUpdate); the zero time if none of them says.
func (l *CRLs) RenewalDue() time.Time {
	if l == nil {
		return time.Time{}
	}
	return l.renewal
}

// entryOf is unambiguous: an issuer's name is DER, which tells its own length.
func entryOf(issuer, serial []byte) string { return string(issuer) + string(serial) }

// LoadCRLs reads a file of revocation lists; see [ParseCRLs].
func LoadCRLs(path string, issuers []*x509.Certificate) (*CRLs, error) {
	text, err := strict.ReadFile(path, maxList)
	if err != nil {
		return nil, err
	}
	lists, err := ParseCRLs(text, issuers)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return lists, nil
}

// ParseCRLs reads revocation lists, one in DER or any number in PEM. Each must be
// signed by one of the issuers and be a full list for all that this issuer
// issues. Dates are not looked at: an old list still revokes what it names.
func ParseCRLs(text []byte, issuers []*x509.Certificate) (*CRLs, error) {
	ders, err := crlBlocks(text)
	if err != nil {
		return nil, err
	}
	lists := &CRLs{revoked: map[string]struct{}{}, issuers: map[string]struct{}{}}
	for i, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err == nil {
			err = judgeCRL(list, issuers)
		}
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		lists.issuers[string(list.RawIssuer)] = struct{}{}
		for _, entry := range list.RevokedCertificateEntries {
			lists.revoked[entryOf(list.RawIssuer, entry.SerialNumber.Bytes())] = struct{}{}
		}
		if next := list.NextUpdate; !next.IsZero() && (lists.renewal.IsZero() || next.Before(lists.renewal)) {
			lists.renewal = next
		}
	}
	return lists, nil
}

func crlBlocks(text []byte) (ders [][]byte, err error) {
	if len(text) > 0 && text[0] == 0x30 { // a SEQUENCE: DER
		return [][]byte{text}, nil
	}
	block, rest := pem.Decode(text)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("it holds a %s where only revocation lists are expected", block.Type)
		}
		ders = append(ders, block.Bytes)
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("a PEM block after revocation list %d is damaged or cut off", len(ders))
	}
	if len(ders) == 0 {
		return nil, errors.New("no revocation list in it (DER, or PEM: -----BEGIN X509 CRL-----)")
	}
	return ders, nil
}

func judgeCRL(list *x509.RevocationList, issuers []*x509.Certificate) error {
	if err := signedByOne(list, issuers); err != nil {
		return err
	}
	// A critical extension narrows what a list is about, or makes it an addition
	// to another list: to go by it all the same would miss certificates.
	if oid := criticalOf(list); oid != nil {
		return fmt.Errorf("it has the critical extension %v, which is not understood: have the authority make a full list without it", oid)
	}
	return nil
}

func signedByOne(list *x509.RevocationList, issuers []*x509.Certificate) error {
	for _, issuer := range issuers {
		if bytes.Equal(issuer.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(issuer) == nil {
			return nil
		}
	}
	return fmt.Errorf("none of the authorities that are named beside it has signed it (it is from %v)", list.Issuer)
}

func criticalOf(list *x509.RevocationList) asn1.ObjectIdentifier {
	for _, extension := range list.Extensions {
		if extension.Critical {
			return extension.Id
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical {
				return extension.Id
			}
		}
	}
	return nil
}
