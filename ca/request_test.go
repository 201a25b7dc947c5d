package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// subject is one of LHDN's profile, in the order of Pos Digicert's certificates.
func subject() []Element {
	return []Element{
		{"C", "MY"}, {"O", "Syarikat Séri Melur Sdn. Bhd."}, {"organizationIdentifier", "C20880050010"}, {"OU", "e-Invois"},
		{"CN", "Syarikat Séri Melur Sdn. Bhd."}, {"serialNumber", "202001234567"}, {"E", "cukai@melur.example"},
	}
}

// TestAForeignJudgeReadsTheRequest: OpenSSL verifies it and shows what it asks for.
func TestAForeignJudgeReadsTheRequest(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	reversed := subject()
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	for _, row := range []struct {
		name    string
		subject []Element
		want    string
	}{
		{"as Pos Digicert orders it", subject(), "C=MY\nO=Syarikat Séri Melur Sdn. Bhd.\norganizationIdentifier=C20880050010\nOU=e-Invois\n" +
			"CN=Syarikat Séri Melur Sdn. Bhd.\nserialNumber=202001234567\nemailAddress=cukai@melur.example\n"},
		{"as Raffcomm orders it", reversed, "emailAddress=cukai@melur.example\nserialNumber=202001234567\nCN=Syarikat Séri Melur Sdn. Bhd.\n" +
			"OU=e-Invois\norganizationIdentifier=C20880050010\nO=Syarikat Séri Melur Sdn. Bhd.\nC=MY\n"},
	} {
		der, err := Request(row.subject, key)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "request.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "openssl", "req", "-in", path, "-verify", "-noout", "-text",
			"-nameopt", "sep_multiline,utf8,sname").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: openssl: %v: %s", row.name, err, out)
		}
		text := strings.ReplaceAll(string(out), " ", "")
		for _, want := range []string{
			"verifyOK", strings.ReplaceAll(row.want, " ", ""), "Public-Key:(2048bit)", "SignatureAlgorithm:sha256WithRSAEncryption",
			"X509v3KeyUsage:critical\nNonRepudiation\n", "X509v3ExtendedKeyUsage:\n1.3.6.1.4.1.311.10.3.12\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: got\n%s\nwant it to say %q", row.name, out, want)
			}
		}
		parsed, err := exec.CommandContext(t.Context(), "openssl", "asn1parse", "-in", path).CombinedOutput()
		if err != nil || !strings.Contains(string(parsed), "IA5STRING") || strings.Count(string(parsed), "UTF8STRING") != 2 {
			t.Errorf("%s: got %s (%v), want an IA5String and two UTF8Strings", row.name, parsed, err)
		}
	}
}

func TestASubjectOutsideTheProfileIsRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	with := func(name, value string) []Element {
		all := subject()
		for i := range all {
			if all[i].Name == name {
				all[i].Value = value
			}
		}
		return all
	}
	for _, row := range []struct {
		name    string
		subject []Element
		words   []string
	}{
		{"nothing", nil, []string{"C is missing", "O is missing", "organizationIdentifier is missing: the organization's TIN", "CN is missing",
			"serialNumber is missing: the organization's BRN"}},
		{"an element twice", append(subject(), Element{"O", "Another"}), []string{"O is given twice"}},
		{"an unknown element", append(subject(), Element{"L", "Kuala Lumpur"}), []string{`"L" is no element`}},
		{"an empty one", with("OU", ""), []string{"OU is \"\""}},
		{"a blank at the end", with("O", "Melur "), []string{"begin or end"}},
		{"a line break", with("O", "Melur\nSdn"), []string{"cannot be printed"}},
		{"bytes that are no text", with("O", "Melur\xff"), []string{"cannot be printed"}},
		{"a long name", with("CN", strings.Repeat("é", 65)), []string{"at most 64"}},
		{"a country in small letters", with("C", "my"), []string{"two capital letters"}},
		{"an address without @", with("E", "melur"), []string{"e-mail address"}},
		{"an address that is not ASCII", with("E", "é@melur.example"), []string{"in ASCII"}},
	} {
		_, err := Request(row.subject, key)
		for _, word := range row.words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: got error %v, want one that says %q", row.name, err, word)
			}
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Request(subject(), other); err == nil || !strings.Contains(err.Error(), "RSA only") {
		t.Errorf("ECDSA: got error %v", err)
	}
}
