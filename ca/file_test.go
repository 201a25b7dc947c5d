package ca

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// entries are a folder's, hidden ones too: nothing temporary may be left.
func entries(t *testing.T, folder string) []string {
	t.Helper()
	list, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}

func TestKeysAreTheirOwnersAndNeverOverwritten(t *testing.T) {
	folder := t.TempDir()
	keyFile := filepath.Join(folder, "ca.key")
	first, second := authority(t, ECDSA), authority(t, ECDSA)
	if err := first.Save(filepath.Join(folder, "ca.pem"), keyFile); err != nil {
		t.Fatalf("Save: %v", err)
	}
	if got := mode(t, keyFile); got != 0o600 {
		t.Errorf("mode of the key: got %v, want 0600", got)
	}
	before, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	err = second.Save(filepath.Join(folder, "other.pem"), keyFile)
	if !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), keyFile) {
		t.Errorf("saving over a key: got %v, want that %s exists", err, keyFile)
	}
	after, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("the key was overwritten")
	}
	if got := entries(t, folder); strings.Join(got, " ") != "ca.key ca.pem" {
		t.Errorf("files: got %v, want ca.key and ca.pem alone", got)
	}
}

func TestCertificatesAreReplacedInOneStep(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "ca.pem")
	first, second := authority(t, ECDSA).Certificate(), authority(t, ECDSA).Certificate()
	for _, certificate := range []*x509.Certificate{first, second} {
		if err := WriteCertificates(path, certificate); err != nil {
			t.Fatalf("WriteCertificates: %v", err)
		}
		got, err := LoadCertificates(path)
		if err != nil || len(got) != 1 || !got[0].Equal(certificate) {
			t.Errorf("LoadCertificates: got %v, %v, want the one written last", got, err)
		}
	}
	if got := mode(t, path); got != 0o644 {
		t.Errorf("mode of the certificate: got %v, want 0644", got)
	}
	if got := entries(t, folder); len(got) != 1 {
		t.Errorf("files: got %v, want one", got)
	}
}

func TestWritingWhereNothingCanBeWritten(t *testing.T) {
	a := authority(t, ECDSA)
	missing := filepath.Join(t.TempDir(), "missing", "ca.key")
	if err := WriteKey(missing, a.key); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("WriteKey into a missing folder: got %v, want that it does not exist", err)
	}
	if err := WriteCertificates(missing, a.certificate); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("WriteCertificates into a missing folder: got %v, want that it does not exist", err)
	}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func keyPEM(t *testing.T, key crypto.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PRIVATE KEY", der)
}

func TestFilesThatCannotBeUsedSayWhy(t *testing.T) {
	root, other := authority(t, ECDSA), authority(t, ECDSA)
	pair, err := root.Server([]string{"localhost"}, valid())
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, issuer, stranger := pemOf("CERTIFICATE", pair.Certificate.Raw), pemOf("CERTIFICATE", root.certificate.Raw), pemOf("CERTIFICATE", other.certificate.Raw)
	key := keyPEM(t, pair.Key)
	folder := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(folder, "file.pem")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chain := func(text string) error { _, err := LoadCertificates(file(text)); return err }
	pool := func(text string) error { _, err := LoadPool(file(text)); return err }
	private := func(text string) error { _, err := LoadKey(file(text)); return err }
	for _, row := range []struct {
		name string
		load func(string) error
		text string
		want string // empty: none
	}{
		{"a leaf", chain, leaf, ""},
		{"a leaf and its issuer", chain, leaf + issuer, ""},
		{"words around the blocks", chain, "subject: x\n" + leaf + "issuer:\n" + issuer, ""},
		{"the issuer first", chain, issuer + leaf, "put the leaf first"},
		{"a stranger in the chain", chain, leaf + stranger, "did not issue"},
		{"the leaf twice", chain, leaf + leaf, "did not issue"},
		{"nothing", chain, "", "no PEM certificate"},
		{"DER", chain, string(pair.Certificate.Raw), "openssl x509 -inform DER"},
		{"a key among certificates", chain, leaf + key, "holds a PRIVATE KEY"},
		{"garbage in a block", chain, pemOf("CERTIFICATE", []byte("no")), "certificate 1: "},
		{"a second block cut off", chain, leaf + issuer[:len(issuer)/2], "damaged or cut off"},
		{"a first block cut off", chain, leaf[:len(leaf)/2], "damaged or cut off"},
		{"endless", chain, strings.Repeat("x", maxFile+1), "longer than"},
		{"roots in any order", pool, stranger + issuer, ""},
		{"a leaf as a root", pool, issuer + leaf, "certificate 2"},
		{"no roots", pool, "", "no PEM certificate"},
		{"a key", private, key, ""},
		{"curve parameters before the key", private, pemOf("EC PARAMETERS", []byte{6, 8}) + key, ""},
		{"no key", private, "", "no PEM key"},
		{"a certificate for a key", private, leaf, "holds a CERTIFICATE"},
		{"two keys", private, key + key, "one key alone"},
		{"an encrypted key", private, pemOf("ENCRYPTED PRIVATE KEY", []byte{1}), "is encrypted"},
		{"an Ed25519 key", private, keyPEM(t, foreign), "neither RSA nor ECDSA"},
		{"garbage in a key's block", private, pemOf("PRIVATE KEY", []byte("no")), "asn1"},
	} {
		err := row.load(row.text)
		if row.want == "" && err != nil {
			t.Errorf("%s: got %v, want none", row.name, err)
		}
		if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "file.pem")) {
			t.Errorf("%s: got %v, want %q and the file's name in it", row.name, err, row.want)
		}
	}
}

func TestPairsMustBelongTogether(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	root := authority(t, ECDSA)
	for _, name := range []string{"a", "b"} {
		pair, err := root.Client(name, valid())
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.Save(path(name+".pem"), path(name+".key"), root.Certificate()); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err := LoadPair(path("a.pem"), path("a.key")); err != nil || len(pair.Certificate) != 2 {
		t.Errorf("LoadPair: got %d certificates, %v, want 2", len(pair.Certificate), err)
	}
	if _, err := LoadPair(path("a.pem"), path("b.key")); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("LoadPair with another's key: got %v, want that it does not belong", err)
	}
	if _, err := Load(path("a.pem"), path("a.key")); err == nil || !strings.Contains(err.Error(), "not an authority's") {
		t.Errorf("Load of a client's certificate: got %v, want that it is not an authority's", err)
	}
	if _, err := LoadPair(path("c.pem"), path("a.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("LoadPair of a missing file: got %v, want that it does not exist", err)
	}
}

func TestKeysOfOpenSSLsOlderFormsAreRead(t *testing.T) {
	folder := t.TempDir()
	for _, row := range []struct{ name, want string }{
		{"ec.key", "EC PRIVATE KEY"}, {"rsa.key", "RSA PRIVATE KEY"},
	} {
		path := filepath.Join(folder, row.name)
		if row.name == "ec.key" {
			openssl(t, "ecparam", "-name", "prime256v1", "-genkey", "-out", path)
		} else {
			openssl(t, "genrsa", "-traditional", "-out", path, "2048")
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), row.want) {
			t.Fatalf("%s: got %v, want a %s", row.name, err, row.want)
		}
		if _, err := LoadKey(path); err != nil {
			t.Errorf("LoadKey of a %s: %v", row.want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := ParseCertificates(text); (len(list) == 0) == (err == nil) {
			t.Errorf("ParseCertificates: got %d and %v", len(list), err)
		}
		if key, err := ParseKey(text); (key == nil) == (err == nil) {
			t.Errorf("ParseKey: got %v and %v", key, err)
		}
	})
}
