package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// valid is a validity around today, since openssl judges by its own clock.
func valid() Validity {
	now := time.Now().Truncate(time.Second)
	return Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
}

func authority(t *testing.T, algorithm Algorithm) *Authority {
	t.Helper()
	validity := valid()
	validity.NotAfter = validity.NotAfter.AddDate(1, 0, 0)
	a, err := New("Test CA, NOT FOR SUBMISSION", algorithm, validity)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return a
}

var company = Organization{
	Country: "MY", Name: "Syarikat Ujian Sdn. Bhd.", TIN: "C20880050010",
	Unit: "Kewangan", CommonName: "Syarikat Ujian Sdn. Bhd.", BRN: "202001234567",
}

func publicKey(t *testing.T, bits int) *rsa.PublicKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

// openssl runs the foreign judge.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func written(t *testing.T, name string, certificates ...*x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := WriteCertificates(path, certificates...); err != nil {
		t.Fatalf("WriteCertificates: %v", err)
	}
	return path
}

func TestOpenSSLVerifiesWhatIsIssued(t *testing.T) {
	for _, algorithm := range []Algorithm{ECDSA, RSA} {
		a := authority(t, algorithm)
		root := written(t, "root.pem", a.Certificate())
		server, err := a.Server([]string{"signer.example.com", "127.0.0.1", "::1"}, valid())
		if err != nil {
			t.Fatal(err)
		}
		client, err := a.Client("spiffe://example.com/erp", valid())
		if err != nil {
			t.Fatal(err)
		}
		host, err := a.Client("erp.example.com", valid())
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range []struct {
			purpose string
			pair    *Pair
			names   []string
		}{
			{"sslserver", server, []string{"DNS:signer.example.com", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1"}},
			{"sslclient", client, []string{"URI:spiffe://example.com/erp"}},
			{"sslclient", host, []string{"DNS:erp.example.com"}},
		} {
			path := written(t, "leaf.pem", row.pair.Certificate)
			openssl(t, "verify", "-x509_strict", "-purpose", row.purpose, "-CAfile", root, path)
			text := openssl(t, "x509", "-in", path, "-noout", "-ext", "subjectAltName,extendedKeyUsage,keyUsage")
			if want := strings.Join(row.names, ", ") + "\n"; !strings.Contains(text, want) {
				t.Errorf("%v %s: got\n%s\nwant the names %s", algorithm, row.purpose, text, want)
			}
		}
	}
}

func TestSigningCertificateHasLHDNsProfile(t *testing.T) {
	a := authority(t, RSA)
	leaf, err := a.Signing(company, publicKey(t, 2048), valid())
	if err != nil {
		t.Fatalf("Signing: %v", err)
	}
	path := written(t, "leaf.pem", leaf)
	openssl(t, "verify", "-purpose", "any", "-x509_strict", "-CAfile", written(t, "root.pem", a.Certificate()), path)

	subject := openssl(t, "x509", "-in", path, "-noout", "-subject", "-nameopt", "sep_comma_plus,oid")
	want := "subject=2.5.4.6=MY,2.5.4.10=Syarikat Ujian Sdn. Bhd.,2.5.4.97=C20880050010,2.5.4.11=Kewangan," +
		"2.5.4.3=Syarikat Ujian Sdn. Bhd.,2.5.4.5=202001234567\n"
	if subject != want {
		t.Errorf("subject:\n got %swant %s", subject, want)
	}
	usage := openssl(t, "x509", "-in", path, "-noout", "-ext", "keyUsage,extendedKeyUsage")
	for _, want := range []string{"Key Usage: critical\n    Non Repudiation\n", "Extended Key Usage: \n    1.3.6.1.4.1.311.10.3.12\n"} {
		if !strings.Contains(usage, want) {
			t.Errorf("usage: got\n%s\nwant %q in it", usage, want)
		}
	}
	if leaf.SignatureAlgorithm != x509.SHA256WithRSA {
		t.Errorf("signature algorithm: got %v, want SHA256-RSA", leaf.SignatureAlgorithm)
	}
}

func TestUnitMayBeLeftOutOfTheSubject(t *testing.T) {
	who := company
	who.Unit = ""
	der, err := who.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(der, []byte{0x06, 0x03, 0x55, 0x04, 0x0b}) {
		t.Errorf("the subject %x has an organizational unit", der)
	}
}

func TestSerialsAreSixtyFourRandomBits(t *testing.T) {
	seen := map[string]bool{}
	longest := 0
	for range 1000 {
		n, err := serialNumber()
		if err != nil {
			t.Fatal(err)
		}
		if n.Sign() <= 0 || n.BitLen() > 64 {
			t.Fatalf("serial: got %v, want 1 to 64 bits, positive", n)
		}
		longest = max(longest, n.BitLen())
		seen[n.String()] = true
	}
	if len(seen) != 1000 || longest != 64 {
		t.Errorf("serials: got %d different ones of up to %d bits, want 1000 of 64", len(seen), longest)
	}
}

func TestWhatIsNotIssued(t *testing.T) {
	tls, signing := authority(t, ECDSA), authority(t, RSA)
	key := publicKey(t, 2048)
	long, backwards := valid(), valid()
	long.NotAfter = long.NotAfter.AddDate(50, 0, 0)
	backwards.NotBefore, backwards.NotAfter = backwards.NotAfter, backwards.NotBefore
	without := func(change func(*Organization)) Organization {
		who := company
		change(&who)
		return who
	}
	issue := func(who Organization) func() error {
		return func() error { _, err := signing.Signing(who, key, valid()); return err }
	}
	for _, row := range []struct {
		name, want string
		do         func() error
	}{
		{"authority without a name", "needs a name", func() error { _, err := New("", ECDSA, valid()); return err }},
		{"authority of no algorithm", "unspecified algorithm", func() error { _, err := New("CA", 0, valid()); return err }},
		{"authority of no validity", "ends before it begins", func() error { _, err := New("CA", ECDSA, Validity{}); return err }},
		{"server without hosts", "needs a DNS name", func() error { _, err := tls.Server(nil, valid()); return err }},
		{"server with an empty host", "is empty", func() error { _, err := tls.Server([]string{"a", ""}, valid()); return err }},
		{"client without a name", "needs a name", func() error { _, err := tls.Client("", valid()); return err }},
		{"client with a broken URI", "parse", func() error { _, err := tls.Client("://", valid()); return err }},
		{"a leaf that outlives its authority", "but the authority", func() error { _, err := tls.Client("a", long); return err }},
		{"a leaf that ends before it begins", "ends before", func() error { _, err := tls.Client("a", backwards); return err }},
		{"signing under an ECDSA authority", "must be RSA", func() error { _, err := tls.Signing(company, key, valid()); return err }},
		{"signing without a key", "2048 bits", func() error { _, err := signing.Signing(company, nil, valid()); return err }},
		{"signing with a short key", "2048 bits", func() error { _, err := signing.Signing(company, publicKey(t, 1024), valid()); return err }},
		{"no country", "country", issue(without(func(o *Organization) { o.Country = "" }))},
		{"country in full", "country", issue(without(func(o *Organization) { o.Country = "Malaysia" }))},
		{"no organization", "the organization is missing", issue(without(func(o *Organization) { o.Name = "" }))},
		{"no TIN", "the TIN is missing", issue(without(func(o *Organization) { o.TIN = "" }))},
		{"no common name", "the common name is missing", issue(without(func(o *Organization) { o.CommonName = "" }))},
		{"no BRN", "the BRN is missing", issue(without(func(o *Organization) { o.BRN = "" }))},
	} {
		if err := row.do(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q in it", row.name, err, row.want)
		}
	}
}

func TestAnAuthorityComesBackFromItsFiles(t *testing.T) {
	for _, algorithm := range []Algorithm{ECDSA, RSA} {
		folder := t.TempDir()
		certificateFile, keyFile := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key")
		made := authority(t, algorithm)
		if err := made.Save(certificateFile, keyFile); err != nil {
			t.Fatalf("Save: %v", err)
		}
		loaded, err := Load(certificateFile, keyFile)
		if err != nil {
			t.Fatalf("Load: %v", err)
		}
		pair, err := loaded.Client("erp.example.com", valid())
		if err != nil {
			t.Fatalf("Client: %v", err)
		}
		if err := pair.Certificate.CheckSignatureFrom(made.Certificate()); err != nil {
			t.Errorf("%v: what the loaded authority issues: %v", algorithm, err)
		}
		openssl(t, "pkey", "-in", keyFile, "-check", "-noout")
	}
}

func TestSubjectAlternativesAreNotCritical(t *testing.T) {
	pair, err := authority(t, ECDSA).Client("spiffe://example.com/erp", valid())
	if err != nil {
		t.Fatal(err)
	}
	for _, extension := range pair.Certificate.Extensions {
		if extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) && extension.Critical {
			t.Error("a subject stands beside the names, so they need not be critical")
		}
	}
	want := []string{"erp", "P-256"}
	got := []string{filepath.Base(pair.Certificate.URIs[0].Path), pair.Key.Public().(*ecdsa.PublicKey).Curve.Params().Name}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("name and curve (-want +got):\n%s", diff)
	}
}

func TestACertificateMayLiveAsLongAsItsAuthority(t *testing.T) {
	validity := valid()
	validity.NotAfter = validity.NotAfter.Truncate(time.Second).Add(time.Second - 1) // certificates state whole seconds
	authority, err := New("CA", ECDSA, validity)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Server([]string{"localhost"}, validity); err != nil {
		t.Errorf("got %v, want that the authority's own validity is within it", err)
	}
}
