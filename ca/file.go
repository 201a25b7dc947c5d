package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// Save writes the authority's certificate and key to two files that
// [Load] reads. An existing key file is left alone, and an error.
func (a *Authority) Save(certificateFile, keyFile string) error {
	if err := WriteKey(keyFile, a.key); err != nil {
		return err
	}
	return WriteCertificates(certificateFile, a.certificate)
}

// Save writes the certificate, followed by its issuers if any, and the key to
// two files. An existing key file is left alone, and an error.
func (p *Pair) Save(certificateFile, keyFile string, issuers ...*x509.Certificate) error {
	if err := WriteKey(keyFile, p.Key); err != nil {
		return err
	}
	return WriteCertificates(certificateFile, append([]*x509.Certificate{p.Certificate}, issuers...)...)
}

// WriteCertificates writes certificates as PEM, in the order given, readable by
// all. It replaces an existing file in one step: readers see the old content or
// the new, and the new survives a crash once it returns.
func WriteCertificates(path string, certificates ...*x509.Certificate) error {
	var text bytes.Buffer
	for _, c := range certificates {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	if err := write(path, text.Bytes(), 0o644, os.Rename); err != nil {
		return fmt.Errorf("writing certificates: %w", err)
	}
	return nil
}

// WriteKey writes a private key as PKCS#8 PEM, readable by its owner alone, and
// durable once it returns. An existing file is left alone, and an error that
// matches [os.ErrExist].
func WriteKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("writing the key %s: %w", path, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := write(path, text, 0o600, linkAway); err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	return nil
}

// linkAway is a rename that never replaces.
func linkAway(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// write puts content into a temporary file beside path, makes it durable and
// moves it into place.
func write(path string, content []byte, mode os.FileMode, place func(from, to string) error) (err error) {
	folder := filepath.Dir(path)
	// CreateTemp makes the file 0600, so a key is never readable for a moment.
	file, err := os.CreateTemp(folder, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	if _, err = file.Write(content); err != nil {
		return err
	}
	if err = file.Chmod(mode); err != nil {
		return err
	}
	if err = file.Sync(); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	if err = place(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(folder)
}

// syncFolder makes a folder's entries durable.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
