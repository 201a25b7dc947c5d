package xades

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestACertificateThatLHDNRefusesIsReportedByItsCode(t *testing.T) {
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := &testKey(t, 2048).PublicKey
	modulus := func(bits uint) any {
		return &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(105)), E: 65537}
	}
	without := func(oid string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			elements := []nameValue{{"2.5.4.6", "MY"}, {"2.5.4.97", "C20880050010"}, {"2.5.4.5", "201901054321"}}
			var kept []nameValue
			for _, e := range elements {
				if e.oid != oid {
					kept = append(kept, e)
				}
			}
			c.RawSubject = distinguishedName(t, kept...)
		}
	}
	holder := func(tin, brn string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.RawSubject = distinguishedName(t, nameValue{"2.5.4.6", "MY"}, nameValue{"2.5.4.97", tin}, nameValue{"2.5.4.5", brn})
		}
	}
	manyValued := func(c *x509.Certificate) {
		var set []nameValue
		for range 33 {
			set = append(set, nameValue{"2.5.4.11", "x"})
		}
		c.RawSubject = multiValued(t, set...)
	}
	padded := func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("x", maxCertificate)} }
	for _, row := range []struct {
		name, want string
		cert       *x509.Certificate
		options    VerifyOptions
	}{
		{"LHDN's profile", "", issue(t, public, nil), VerifyOptions{}},
		{"no serialNumber", "DS306", issue(t, public, without("2.5.4.5")), VerifyOptions{}},
		{"no organizationIdentifier", "DS307", issue(t, public, without("2.5.4.97")), VerifyOptions{}},
		{"a serialNumber that is none", "DS337", issue(t, public, holder("C20880050010", "2019 01054321")), VerifyOptions{}},
		{"an organizationIdentifier that is none", "DS338", issue(t, public, holder("TIN: C20880050010", "201901054321")), VerifyOptions{}},
		{"a long organizationIdentifier", "DS338", issue(t, public, holder(strings.Repeat("1", 41), "201901054321")), VerifyOptions{}},
		{"the submitter's TIN", "", issue(t, public, nil), VerifyOptions{SubmitterTIN: "C20880050010", SubmitterBRN: "201901054321"}},
		{"another submitter's TIN", "DS311", issue(t, public, nil), VerifyOptions{SubmitterTIN: "C1"}},
		{"another submitter's BRN", "DS312", issue(t, public, nil), VerifyOptions{SubmitterBRN: "1"}},
		{"another root", "DS329", issue(t, public, nil), VerifyOptions{Roots: x509.NewCertPool()}},
		{"judged before it was signed", "DS304", issue(t, public, nil), VerifyOptions{At: signingTime.Add(-time.Hour)}},
		{"RSA-1024", "DS334", issue(t, modulus(1024), nil), VerifyOptions{}},
		{"RSA-8192", "DS334", issue(t, modulus(8192), nil), VerifyOptions{}},
		{"RSA-65536", "DS334", issue(t, modulus(65536), nil), VerifyOptions{}},
		{"an exponent of 3", "DS334", issue(t, &rsa.PublicKey{N: public.N, E: 3}, nil), VerifyOptions{}},
		{"ECDSA", "DS334", issue(t, &elliptical.PublicKey, nil), VerifyOptions{}},
		{"a serial number of 2 KB", "DS305 DS327", issue(t, public, func(c *x509.Certificate) {
			c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 16_000)
		}), VerifyOptions{}},
		{"over 16 KB", "DS305", issue(t, public, padded), VerifyOptions{}},
		{"a subject of over 32 elements in one set", "DS305", issue(t, public, manyValued), VerifyOptions{}},
		{"an issuer of over 32 elements", "DS305", issue(t, public, func(c *x509.Certificate) {
			c.RawIssuer = distinguishedName(t, make33(nameValue{"2.5.4.11", "x"})...)
		}), VerifyOptions{}},
	} {
		for format, document := range map[string]string{"XML": minimal(""), "JSON": smallJSON} {
			t.Run(row.name+" in "+format, func(t *testing.T) {
				out := signedWith(t, document, row.cert)
				r := Verify(out, row.options)
				if got := errorCodes(r); got != row.want {
					t.Errorf("got the codes %q, want %q: %+v", got, row.want, r.Findings)
				}
			})
		}
	}
}

func make33(e nameValue) (many []nameValue) {
	for range 33 {
		many = append(many, e)
	}
	return many
}

// signedWith signs with a certificate that Prepare would refuse: it goes in
// where the test's own stands. The signature is the test key's.
func signedWith(t *testing.T, document string, cert *x509.Certificate) []byte {
	t.Helper()
	own := testCertificate(t)
	draft, err := Prepare([]byte(document), own, signingTime, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var was, is values
	if err := was.certificateValues(own, JSON); err != nil {
		t.Fatal(err)
	}
	is.certDigest, is.certificate, is.serial = digestText(cert.Raw), base64.StdEncoding.EncodeToString(cert.Raw), cert.SerialNumber.String()
	text := strings.NewReplacer(was.certDigest, is.certDigest, was.certificate, is.certificate, was.serial, is.serial).Replace(string(completed(t, draft)))
	return []byte(resealed(t, text))
}

// A long serial number is LHDN's own matter: it is in the official sample, too.
func TestALongSerialNumberIsWarnedOfInXML(t *testing.T) {
	serial := new(big.Int).Exp(big.NewInt(10), big.NewInt(28), nil) // 29 digits
	cert := issue(t, &testKey(t, 2048).PublicKey, func(c *x509.Certificate) { c.SerialNumber = serial })
	shorter := issue(t, &testKey(t, 2048).PublicKey, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Sub(serial, big.NewInt(1)) })
	for _, row := range []struct {
		name, document string
		cert           *x509.Certificate
		want           bool
	}{
		{"29 digits in XML", minimal(""), cert, true},
		{"28 digits in XML", minimal(""), shorter, false},
		{"29 digits in JSON", smallJSON, cert, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := judged(t, signedWith(t, row.document, row.cert), "")
			got := slices.ContainsFunc(r.Findings, func(f Finding) bool {
				return f == Finding{"", SeverityWarning, "X509SerialNumber has 29 digits; LHDN's XML validation may fail over 28 (JSON documents are not affected)"}
			})
			if got != row.want {
				t.Errorf("warned: %v, want %v: %+v", got, row.want, r.Findings)
			}
		})
	}
}
