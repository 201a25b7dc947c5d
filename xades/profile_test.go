package xades

import (
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
)

// TestEachPointOutsideTheProfileIsNamed: one thing wrong, one sentence about it.
func TestEachPointOutsideTheProfileIsNamed(t *testing.T) {
	public := &testKey(t, 2048).PublicKey
	without := func(c *x509.Certificate, oid string) {
		var kept []nameValue
		for _, e := range []nameValue{{"2.5.4.6", "MY"}, {"2.5.4.10", "O"}, {"2.5.4.97", "C20880050010"}, {"2.5.4.3", "CN"}, {"2.5.4.5", "201901054321"}} {
			if e.oid != oid {
				kept = append(kept, e)
			}
		}
		c.RawSubject = distinguishedName(t, kept...)
	}
	for _, row := range []struct {
		name   string
		change func(*x509.Certificate)
		want   string // "" for none
	}{
		{"LHDN's profile", func(*x509.Certificate) {}, ""},
		{"another Key Usage", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "Key Usage lacks Non-Repudiation"},
		{"another Key Usage beside it", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }, ""},
		{"no document signing", func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, "Extended Key Usage lacks Document Signing"},
		{"no CN", func(c *x509.Certificate) { without(c, "2.5.4.3") }, "no CN"},
		{"no C", func(c *x509.Certificate) { without(c, "2.5.4.6") }, "no C,"},
		{"no O", func(c *x509.Certificate) { without(c, "2.5.4.10") }, "no O,"},
		{"no TIN", func(c *x509.Certificate) { without(c, "2.5.4.97") }, "no organizationIdentifier"},
		{"no BRN", func(c *x509.Certificate) { without(c, "2.5.4.5") }, "no serialNumber (2.5.4.5)"},
		{"28 digits", func(c *x509.Certificate) { c.SerialNumber, _ = new(big.Int).SetString(strings.Repeat("9", 28), 10) }, ""},
		{"29 digits", func(c *x509.Certificate) { c.SerialNumber, _ = new(big.Int).SetString(strings.Repeat("9", 29), 10) }, "29 digits"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := CheckProfile(issue(t, public, func(c *x509.Certificate) {
				c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{documentSigning}
				row.change(c)
			}))
			if row.want == "" && len(got) > 0 || row.want != "" && (len(got) != 1 || !strings.Contains(got[0], row.want)) {
				t.Errorf("got %q, want a sentence about %q", got, row.want)
			}
		})
	}
	if got := CheckProfile(issue(t, &testKey(t, 1024).PublicKey, nil)); len(got) != 2 || !strings.Contains(got[0], "1024 bits") {
		t.Errorf("RSA-1024 and no document signing: got %q", got)
	}
}
