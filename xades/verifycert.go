package xades

import (
	"cmp"
	"crypto/sha1" // to recognise the digest of those who took it
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
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
	cert, err := embedded(v.unwrapped("X509Certificate", v.parts.certificate))
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
		v.fail("DS318", "the digest of the certificate is %s; the document says %q: %s", got, v.parts.certDigest,
			cmp.Or(certificateSlip(cert.Raw, v.parts.certDigest), "it is another certificate's: was the certificate renewed, and one of the two not replaced?"))
	}
}

// unwrapped takes blanks out of base64, and warns of them.
func (v *verification) unwrapped(name, text string) string {
	if !strings.ContainsAny(text, " \t\r\n") {
		return text
	}
	v.warn("", "%s has line breaks or blanks within its base64; .NET reads it all the same, but in all samples it is one line, so write it as one", name)
	return strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(text)
}

// certificateSlip explains a CertDigest that is not the certificate's.
func certificateSlip(der []byte, stored string) string {
	if happened := encodingSlip(sha256.Sum256(der), stored); happened != "" {
		return happened
	}
	thumbprint := sha1.Sum(der)
	text := base64.StdEncoding.EncodeToString(der)
	armoured := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	switch stored {
	case base64.StdEncoding.EncodeToString(thumbprint[:]), hex.EncodeToString(thumbprint[:]), strings.ToUpper(hex.EncodeToString(thumbprint[:])):
		return "it is the certificate's SHA-1 thumbprint; take SHA-256"
	case digestText([]byte(text)):
		return "the certificate's base64 text was hashed; hash its bytes (DER)"
	case digestText([]byte(armoured)), digestText([]byte(strings.TrimSuffix(armoured, "\n"))):
		return "the certificate's PEM text was hashed; hash its bytes (DER)"
	}
	return ""
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
		if strings.HasPrefix(text, "-----BEGIN") {
			return nil, errors.New("it is PEM, with its first and last line; put in the base64 between them, as one line")
		}
		return nil, fmt.Errorf("not the base64 of a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		var first asn1.RawValue
		if rest, parseErr := asn1.Unmarshal(der, &first); parseErr == nil && len(rest) > 0 {
			return nil, fmt.Errorf("%d bytes follow the certificate; put in the signing certificate alone, without its chain", len(rest))
		}
		return nil, fmt.Errorf("not a certificate: %w", err)
	}
	if bits := cert.SerialNumber.BitLen(); bits > maxSerialBits {
		return nil, fmt.Errorf("its serial number has %d bits; at most %d are taken", bits, maxSerialBits)
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
	why := ""
	switch {
	case at.Before(from):
		why = "the certificate was issued later: is the clock right, and SigningTime the signing's own?"
	case at.After(to):
		why = "the certificate had expired: renew it, and sign again"
	}
	if why != "" {
		v.fail("DS304", "SigningTime %s is outside the certificate's validity, %s to %s: %s",
			at.Format(timeLayout), from.Format(timeLayout), to.Format(timeLayout), why)
	}
	if !v.options.At.IsZero() && at.After(v.options.At) {
		why = "is the signer's clock right?"
		if at.Sub(v.options.At) <= malaysian {
			why = "is the signer's clock right, and is it in UTC? Malaysian time with a Z is eight hours ahead"
		}
		v.fail("DS304", "SigningTime %s is after %s, the time at which the document is judged: %s",
			at.Format(timeLayout), v.options.At.UTC().Format(timeLayout), why)
	}
}

// malaysian is how far Malaysia's clocks are ahead of UTC.
const malaysian = 8 * time.Hour

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
