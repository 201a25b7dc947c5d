package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// writeNew writes a public file that must not be there yet, in one step and
// durably: readers see nothing or all of it. What is there by then is left alone,
// and the error matches [os.ErrExist].
func writeNew(path string, text []byte) (err error) {
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(file.Name())
	_, err = file.Write(text)
	if err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	err = os.Link(file.Name(), path)
	if (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP)) && !isThere(path) {
		err = os.Rename(file.Name(), path) // a stick to carry it away on may know no links
	}
	return errors.Join(err, syncFolder(folder))
}

// writeNewCertificates writes certificates, in PEM, as [writeNew] does.
func writeNewCertificates(path string, certificates ...*x509.Certificate) error {
	var text bytes.Buffer
	for _, c := range certificates {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return writeNew(path, text.Bytes())
}
