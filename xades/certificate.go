package xades

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"github.com/roamsign/roamsign/internal/pkcs1"
)

// Bounds on a certificate, checked before any arithmetic with it.
const (
	maxCertificate  = 16 << 10 // bytes of DER
	minModulus      = 2048     // bits
	maxModulus      = 4096
	publicExponent  = 65537
	maxSerialBits   = 256 // RFC 5280, section 4.1.2.2, has 160
	maxSerialDigits = 28  // .NET reads xs:integer into a Decimal
)

// timeLayout is SigningTime's form: UTC to the second.
const timeLayout = "2006-01-02T15:04:05Z"

// rsaKey gives the certificate's public key, if it is of the kind that signs.
func rsaKey(cert *x509.Certificate) (*rsa.PublicKey, error) {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: its key is %s; MyInvois takes RSA only", ErrCertificate, cert.PublicKeyAlgorithm)
	}
	if bits := key.N.BitLen(); bits < minModulus || bits > maxModulus {
		return nil, fmt.Errorf("%w: its RSA modulus has %d bits; %d to %d are accepted", ErrCertificate, bits, minModulus, maxModulus)
	}
	if key.E != publicExponent {
		return nil, fmt.Errorf("%w: its RSA exponent is %d, not %d", ErrCertificate, key.E, publicExponent)
	}
	return key, nil
}

// checkCertificate refuses a certificate that cannot have made a signature at
// the time given.
func checkCertificate(cert *x509.Certificate, at time.Time) (*rsa.PublicKey, error) {
	if cert == nil || len(cert.Raw) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrCertificate)
	}
	key, err := rsaKey(cert)
	if err != nil {
		return nil, err
	}
	if cert.SerialNumber.Sign() <= 0 {
		return nil, fmt.Errorf("%w: its serial number is not positive", ErrCertificate)
	}
	if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
		return nil, fmt.Errorf("%w: it is valid from %s to %s, and the signing time is %s; check the clock, or renew the certificate",
			ErrCertificate, cert.NotBefore.UTC().Format(timeLayout), cert.NotAfter.UTC().Format(timeLayout), at.UTC().Format(timeLayout))
	}
	return key, nil
}

// Leaf is a signing certificate, with what each signature block says of it worked
// out once, the first time it is needed. It is immutable and safe for concurrent
// use. A certificate that cannot sign is refused by [Leaf.Prepare].
type Leaf struct {
	cert          *x509.Certificate
	inXML, inJSON func() (values, error)
	verifier      func() (*pkcs1.Verifier, error)
}

// NewLeaf makes a Leaf of a certificate, which must not be changed afterwards.
func NewLeaf(cert *x509.Certificate) *Leaf {
	in := func(format Format) func() (values, error) {
		return sync.OnceValues(func() (v values, err error) {
			err = v.certificateValues(cert, format)
			return v, err
		})
	}
	verifier := sync.OnceValues(func() (*pkcs1.Verifier, error) {
		key, err := rsaKey(cert)
		if err != nil {
			return nil, err
		}
		return pkcs1.New(key)
	})
	return &Leaf{cert: cert, inXML: in(XML), inJSON: in(JSON), verifier: verifier}
}

// certificateValues fills in what a signature block of the format says of its
// certificate.
func (v *values) certificateValues(cert *x509.Certificate, format Format) (err error) {
	digest := sha256.Sum256(cert.Raw)
	v.certDigest = base64.StdEncoding.EncodeToString(digest[:])
	v.certificate = base64.StdEncoding.EncodeToString(cert.Raw)
	v.serial = cert.SerialNumber.String()
	if v.issuer, err = Name(cert.RawIssuer); err != nil {
		return fmt.Errorf("%w: its issuer: %w", ErrCertificate, err)
	}
	if format == XML {
		if !xmlText(v.issuer) {
			return fmt.Errorf("%w: its issuer %q has a character that XML cannot hold; sign JSON, or get another certificate", ErrCertificate, v.issuer)
		}
		return nil
	}
	if v.subject, err = Name(cert.RawSubject); err != nil {
		return fmt.Errorf("%w: its subject: %w", ErrCertificate, err)
	}
	return nil
}
