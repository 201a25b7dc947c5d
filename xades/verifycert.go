package xades

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// VerifyOptions are the facts that a caller has and a document cannot prove of
// itself. Each is checked only if given.
type VerifyOptions struct {
	// Roots are the trust anchors, and Intermediates what may stand between
	// them and the signing certificate. Nil Roots leave the chain unchecked,
	// with a warning.
	Roots, Intermediates *x509.CertPool
	// At is when the chain is judged; zero takes SigningTime, which is not
	// authenticated, with a warning.
	At time.Time
	// SubmitterTIN and SubmitterBRN are those of who submits: the intermediary,
	// or the taxpayer itself. They are compared with the certificate's
	// organizationIdentifier (DS311) and serialNumber (DS312).
	SubmitterTIN, SubmitterBRN string
}

// certificate reads the certificate of the signature block and judges it.
func (v *verification) certificate() {
	cert, err := embedded(v.parts.certificate)
	if err != nil {
		v.fail("DS305", "X509Certificate: %v", err)
		return
	}
	v.Certificate = cert
	if v.key, err = rsaKey(cert); err != nil {
		v.fail("DS334", "%v", err)
	}
	v.validity()
	v.chain()
	v.subject()
	v.profile()
	switch got := digestText(cert.Raw); v.parts.certDigest {
	case "":
		v.fail("DS317", "there is no digest of the certificate")
	case got:
	default:
		v.fail("DS318", "the digest of the certificate is %s; the document says %q", got, v.parts.certDigest)
	}
}

// embedded reads the one-line base64 of a certificate's DER.
func embedded(text string) (*x509.Certificate, error) {
	if text == "" {
		return nil, errors.New("there is none")
	}
	if base64.StdEncoding.DecodedLen(len(text)) > maxCertificate+3 {
		return nil, fmt.Errorf("over %d bytes", maxCertificate)
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("not the base64 of a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("not a certificate: %w", err)
	}
	if _, err := parseName(cert.RawSubject); err != nil {
		return nil, fmt.Errorf("its subject: %w", err)
	}
	if _, err := parseName(cert.RawIssuer); err != nil {
		return nil, fmt.Errorf("its issuer: %w", err)
	}
	return cert, nil
}

func (v *verification) validity() {
	at := v.SigningTime
	if at.IsZero() {
		return
	}
	from, to := v.Certificate.NotBefore.UTC(), v.Certificate.NotAfter.UTC()
	if at.Before(from) || at.After(to) {
		v.fail("DS304", "SigningTime %s is outside the certificate's validity, %s to %s",
			at.Format(timeLayout), from.Format(timeLayout), to.Format(timeLayout))
	}
	if !v.options.At.IsZero() && at.After(v.options.At) {
		v.fail("DS304", "SigningTime %s is after %s, the time at which the document is judged", at.Format(timeLayout), v.options.At.UTC().Format(timeLayout))
	}
}

func (v *verification) chain() {
	if v.options.Roots == nil {
		v.warn("DS329", "the chain of trust was not checked: no roots were given")
		return
	}
	at := v.options.At
	if at.IsZero() {
		if at = v.SigningTime; at.IsZero() {
			v.fail("DS329", "the chain of trust cannot be judged without a SigningTime; give the time of submission")
			return
		}
		v.warn("DS329", "the chain of trust was judged at SigningTime, which the signature does not cover; give the time of submission to be sure")
	}
	if _, err := v.Certificate.Verify(x509.VerifyOptions{
		Roots: v.options.Roots, Intermediates: v.options.Intermediates,
		CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		v.fail("DS329", "the certificate does not chain to the roots given: %v", err)
	}
}

func (v *verification) subject() {
	for _, d := range subjectDeviations(v.Certificate) {
		v.fail(d.code, "%s", d.message)
	}
	brn := nameAttribute(v.Certificate.RawSubject, oidSerialNumber)
	tin := nameAttribute(v.Certificate.RawSubject, oidOrganizationIdentifier)
	if want := v.options.SubmitterTIN; want != "" && tin != "" && tin != want {
		v.fail("DS311", "the certificate belongs to TIN %q; the submitter's is %q", tin, want)
	}
	if want := v.options.SubmitterBRN; want != "" && brn != "" && brn != want {
		v.fail("DS312", "the certificate belongs to %q; the submitter's registration number is %q", brn, want)
	}
}

// profile warns where the certificate leaves LHDN's profile without a code.
func (v *verification) profile() {
	for _, d := range usageDeviations(v.Certificate) {
		v.warn("", "%s", d.message)
	}
}
