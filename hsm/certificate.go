package hsm

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"github.com/miekg/pkcs11"
)

// ImportCertificate puts a certificate into the token beside its key, under the
// key's own label and ID (PKCS#11 section 4.6.3), where other programs look for it.
// [ErrKeyMismatch] unless the config's key is the one that it certifies, proven
// with a signature. One that is there already is left as it is.
//
// Serving does not need it there: it takes the certificate from a file.
func ImportCertificate(ctx context.Context, config Config, certificate *x509.Certificate) error {
	err := config.Check()
	if err == nil {
		err = work(ctx, config, func(b bench) error { return b.importCertificate(certificate) })
	}
	if err != nil {
		return withKind(fmt.Errorf("importing a certificate for key %s: %w", config.keyName(), err))
	}
	return nil
}

func (b bench) importCertificate(certificate *x509.Certificate) error {
	handle, public, err := b.provenKey(b.session)
	if err != nil {
		return err
	}
	if err := Certifies(certificate, public); err != nil {
		return err
	}
	key := b.read(b.session, handle)
	key.Public = public
	there, _, err := b.certificates(b.session, key)
	if err != nil {
		return err
	}
	for _, c := range there {
		if c.Equal(certificate) {
			return nil
		}
	}
	serial, err := asn1.Marshal(certificate.SerialNumber)
	if err != nil {
		return fmt.Errorf("the serial number: %w", err)
	}
	_, err = b.tools.CreateObject(b.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		pkcs11.NewAttribute(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, key.Label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, b.value(b.session, handle, pkcs11.CKA_ID)),
		pkcs11.NewAttribute(pkcs11.CKA_SUBJECT, certificate.RawSubject),
		pkcs11.NewAttribute(pkcs11.CKA_ISSUER, certificate.RawIssuer),
		pkcs11.NewAttribute(pkcs11.CKA_SERIAL_NUMBER, serial),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, certificate.Raw),
	})
	return called("C_CreateObject of the certificate", err)
}

// Certifies returns nil when the certificate is for the public key, else an
// [ErrKeyMismatch] that says what it is for.
func Certifies(certificate *x509.Certificate, public *rsa.PublicKey) error {
	certified, err := publicKeyOf(certificate)
	if err != nil {
		return err
	}
	if !certified.Equal(public) {
		return fmt.Errorf("%w: the certificate's public key is %s, the token's is %s", ErrKeyMismatch,
			Key{Public: certified}.Fingerprint(), Key{Public: public}.Fingerprint())
	}
	return nil
}

// provenKey finds the config's key and proves with a signature that it is what
// it says.
func (s slot) provenKey(session pkcs11.SessionHandle) (pkcs11.ObjectHandle, *rsa.PublicKey, error) {
	handle, err := s.findKey(session)
	if err != nil {
		return 0, nil, err
	}
	public, err := s.publicKey(session, handle)
	if err != nil {
		return 0, nil, err
	}
	return handle, public, s.prove(session, handle, public)
}

// certificates returns the certificates in the token that have a key's ID and
// certify it. What cannot be read as a certificate is passed over.
func (s slot) certificates(session pkcs11.SessionHandle, key Key) (all []*x509.Certificate, handles []pkcs11.ObjectHandle, err error) {
	id := Config{KeyID: key.ID}.keyID()
	if len(id) == 0 || key.Public == nil {
		return nil, nil, nil
	}
	found, err := s.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return nil, nil, err
	}
	want, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		return nil, nil, err
	}
	for _, handle := range found {
		certificate, err := x509.ParseCertificate(s.value(session, handle, pkcs11.CKA_VALUE))
		if err == nil && bytes.Equal(certificate.RawSubjectPublicKeyInfo, want) {
			all, handles = append(all, certificate), append(handles, handle)
		}
	}
	return all, handles, nil
}
