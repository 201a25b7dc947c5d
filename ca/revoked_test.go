package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/internal/strict"
)

func TestSpellingsOfASerialNumber(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"4711", "18193"}, // hexadecimal, whatever it looks like
		{"4A3B", "19003"},
		{"4a3b", "19003"},
		{"0x4A3B", "19003"},
		{"0004A3B", "19003"},
		{"serial=4A3B", "19003"},
		{"4a:3b", "19003"},
		{"00:4a:3b", "19003"},
		{"19003 (0x4a3b)", "19003"},
		{"Serial Number: 19003 (0x4a3b)", "19003"},
		{strings.Repeat("F", 40), "1461501637330902918203684832716283019655932542975"},
		{"", ""},
		{"0", ""},
		{"-4A", ""},
		{"4G", ""},
		{"4A 3B", ""},
		{"4a:3", ""},
		{"19004 (0x4a3b)", ""},
		{strings.Repeat("F", 41), ""},
	} {
		got, err := ParseSerial(row.text)
		if row.want == "" {
			if err == nil {
				t.Errorf("%q: got %v, want an error", row.text, got)
			}
			continue
		}
		if err != nil || got.String() != row.want {
			t.Errorf("%q: got %v, %v, want %s", row.text, got, err, row.want)
			continue
		}
		if again, err := ParseSerial(FormatSerial(got)); err != nil || again.Cmp(got) != 0 {
			t.Errorf("%q: written as %q it is read as %v, %v", row.text, FormatSerial(got), again, err)
		}
	}
}

// chmod changes a mode.
func chmod(t *testing.T, path string, mode uint32) {
	t.Helper()
	if err := os.Chmod(path, os.FileMode(mode)); err != nil {
		t.Fatal(err)
	}
}

// issued is a client certificate of an authority.
func issued(t *testing.T, a *Authority) *Pair {
	t.Helper()
	pair, err := a.Client("erp.example.com", Validity{a.certificate.NotBefore, a.certificate.NotAfter})
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestWhatOpenSSLPrintsOfASerialNumberIsRead(t *testing.T) {
	a := authority(t, ECDSA)
	for range 8 { // some begin with a bit that is set, which openssl prints otherwise
		path := filepath.Join(t.TempDir(), "client.pem")
		c := issued(t, a).Certificate
		if err := WriteCertificates(path, c); err != nil {
			t.Fatal(err)
		}
		print := func(args ...string) string {
			out, err := exec.CommandContext(t.Context(), "openssl", append([]string{"x509", "-in", path, "-noout"}, args...)...).Output()
			if err != nil {
				t.Fatalf("openssl: %v", err)
			}
			return string(out)
		}
		plain := print("-serial")
		_, rest, _ := strings.Cut(print("-text"), "Serial Number:")
		text, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
		if want := "serial=" + FormatSerial(c.SerialNumber); strings.TrimSpace(plain) != want {
			t.Errorf("openssl prints %q, we print %q", plain, want)
		}
		for _, line := range []string{plain, text} {
			list, err := ParseSerials([]byte(line))
			if err != nil || !list.Revokes(c) {
				t.Errorf("%q: got %v, want that it revokes serial number %X", line, err, c.SerialNumber)
			}
		}
	}
}

func TestAListOfSerialNumbers(t *testing.T) {
	a := authority(t, ECDSA)
	c, other := issued(t, a).Certificate, issued(t, a).Certificate
	text := "# revoked\r\n\n  serial=" + FormatSerial(c.SerialNumber) + "  # erp, lost\n1F\n1F\n"
	list, err := ParseSerials([]byte(text))
	if err != nil || list.Len() != 2 || !list.Revokes(c) || list.Revokes(other) {
		t.Errorf("got %v, %v, want two entries that revoke one certificate of the two", list, err)
	}
	var none *Serials
	if none.Revokes(c) || none.Len() != 0 || (&Serials{}).Revokes(c) {
		t.Error("no list revokes a certificate")
	}
	list, err = ParseSerials([]byte("1F\nnonsense\n\n2F # fine\n-1\n"))
	if faults, ok := errors.AsType[strict.Faults](err); !ok || len(faults) != 2 || faults[0].Line != 2 || faults[1].Line != 5 || list != nil {
		t.Errorf("got %v, %v, want faults on lines 2 and 5, and no list", list, err)
	}
}

// revoking makes a revocation list.
func revoking(t *testing.T, a *Authority, change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: a.certificate.NotBefore, NextUpdate: a.certificate.NotAfter}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: c.SerialNumber, RevocationTime: a.certificate.NotBefore,
		})
	}
	change(list)
	der, err := x509.CreateRevocationList(rand.Reader, list, a.certificate, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func asIs(*x509.RevocationList) {}

func crlPEM(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }

func TestRevocationListsRevokeWhatTheirIssuerIssued(t *testing.T) {
	a, err := New("A", ECDSA, valid())
	if err != nil {
		t.Fatal(err)
	}
	b, err := New("B", RSA, valid())
	if err != nil {
		t.Fatal(err)
	}
	issuers := []*x509.Certificate{a.certificate, b.certificate}
	ofA, alsoOfA, ofB := issued(t, a).Certificate, issued(t, a).Certificate, issued(t, b).Certificate
	soon := a.certificate.NotBefore.Add(time.Minute)
	forA := revoking(t, a, asIs, ofA, ofB) // B's is not A's to revoke
	forB := revoking(t, b, func(l *x509.RevocationList) { l.NextUpdate = soon })
	for name, text := range map[string][]byte{"DER": forA, "PEM": crlPEM(forA), "two": append(crlPEM(forA), crlPEM(forB)...)} {
		lists, err := ParseCRLs(text, issuers)
		if err != nil || !lists.Revokes(ofA) || lists.Revokes(alsoOfA) || lists.Revokes(ofB) {
			t.Errorf("%s: got %v, %v, want that it revokes the one that A issued and listed", name, lists, err)
			continue
		}
		want := a.certificate.NotAfter
		if name == "two" {
			want = soon
		}
		if got := lists.RenewalDue(); !got.Equal(want) {
			t.Errorf("%s: renewal due at %v, want %v", name, got, want)
		}
	}
	var none *CRLs
	if none.Revokes(ofA) || !none.RenewalDue().IsZero() {
		t.Error("no lists revoke a certificate")
	}
}

func TestRevocationListsThatProveNothingAreRefused(t *testing.T) {
	a, err := New("A", ECDSA, valid())
	if err != nil {
		t.Fatal(err)
	}
	namesake, err := New("A", ECDSA, valid())
	if err != nil {
		t.Fatal(err)
	}
	c := issued(t, a).Certificate
	good := revoking(t, a, asIs, c)
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	forged := bytes.Clone(good)
	at := bytes.Index(forged, c.SerialNumber.Bytes())
	forged[at+1] ^= 1
	for _, row := range []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "no revocation list"},
		{"a text", []byte("revoked\n"), "no revocation list"},
		{"a certificate", []byte(pemOf("CERTIFICATE", a.certificate.Raw)), "it holds a CERTIFICATE"},
		{"cut off", crlPEM(good)[:200], "damaged or cut off"},
		{"the second cut off", append(crlPEM(good), crlPEM(good)[:200]...), "damaged or cut off"},
		{"DER cut off", good[:len(good)-10], "revocation list 1"},
		{"of another authority with the same name", revoking(t, namesake, asIs), "has signed it"},
		{"changed", forged, "has signed it"},
		{"an addition to another list", revoking(t, a, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical} }), "critical extension 2.5.29.27"},
		{"an entry with more to it", revoking(t, a, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{critical}
		}, c), "critical extension"},
	} {
		lists, err := ParseCRLs(row.text, []*x509.Certificate{a.certificate})
		if err == nil || !strings.Contains(err.Error(), row.want) || lists != nil {
			t.Errorf("%s: got %v, %v, want %q", row.name, lists, err, row.want)
		}
	}
	if _, err := ParseCRLs(good, nil); err == nil {
		t.Error("without authorities: got none, want an error")
	}
}

func TestLookupsTakeTheSameTimeHoweverLongTheListIs(t *testing.T) {
	var long bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&long, "%X\n", i+1)
	}
	list, err := ParseSerials(long.Bytes())
	if err != nil || list.Len() != 20_000 {
		t.Fatalf("got %d, %v", list.Len(), err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(20_000)}
	if allocs := testing.AllocsPerRun(100, func() { list.Revokes(c) }); allocs > 1 {
		t.Errorf("a lookup allocates %v times, want once at most", allocs)
	}
	if !list.Revokes(c) {
		t.Error("the last one is not found")
	}
}

func TestKeysThatOthersCanReadAreRefused(t *testing.T) {
	folder := t.TempDir()
	certificate, key := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key")
	if err := authority(t, ECDSA).Save(certificate, key); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		mode uint32
		fine bool
	}{{0o600, true}, {0o400, true}, {0o640, false}, {0o604, false}, {0o660, false}, {0o610, false}} {
		chmod(t, key, row.mode)
		_, err := Load(certificate, key)
		if (err == nil) != row.fine || !row.fine && !strings.Contains(err.Error(), "run chmod 600 on it") {
			t.Errorf("mode %#o: got %v, want fine: %v", row.mode, err, row.fine)
		}
	}
	chmod(t, key, 0o440)
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	if err := Guarded(key); err != nil {
		t.Errorf("a systemd credential that its group can read: %v", err)
	}
	chmod(t, key, 0o444)
	if err := Guarded(key); err == nil {
		t.Error("a systemd credential that all can read: got none, want an error")
	}
	if err := Guarded(folder); err == nil {
		t.Error("a folder: got none, want an error")
	}
}
