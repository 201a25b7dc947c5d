package xades

import (
	"crypto/x509"
	"strings"
	"testing"
)

func TestWhatIsWrongWithAnIssuerNameIsNamed(t *testing.T) {
	cert := issue(t, &testKey(t, 2048).PublicKey, func(c *x509.Certificate) {
		c.RawIssuer = distinguishedName(t, nameValue{"2.5.4.6", "MY"}, nameValue{"2.5.4.10", "Contoh"}, nameValue{"2.5.4.8", "Selangor"},
			nameValue{"2.5.4.97", "C1"}, nameValue{"2.5.4.3", "Contoh CA"}, nameValue{"1.2.840.113549.1.9.1", "ca@contoh.my"})
	})
	want, err := Name(cert.RawIssuer)
	if err != nil {
		t.Fatal(err)
	}
	const right = "E=ca@contoh.my, CN=Contoh CA, OID.2.5.4.97=C1, S=Selangor, O=Contoh, C=MY"
	if want != right {
		t.Fatalf("got the name %q, want %q", want, right)
	}
	subject, err := Name(cert.RawSubject)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ written, says string }{
		{"C=MY, O=Contoh, S=Selangor, OID.2.5.4.97=C1, CN=Contoh CA, E=ca@contoh.my", "the certificate's own order; they must stand in the reverse of it"},
		{"C=MY,O=Contoh,S=Selangor,OID.2.5.4.97=C1,CN=Contoh CA,E=ca@contoh.my", "without blanks after the commas"},
		{strings.ReplaceAll(right, ", ", ","), "a blank is missing after each comma"},
		{strings.ReplaceAll(right, ", ", "\n"), "in lines of their own"},
		{"C=MY\nO=Contoh\nS=Selangor\nOID.2.5.4.97=C1\nCN=Contoh CA\nE=ca@contoh.my", "in lines of their own, in the certificate's own order"},
		{strings.ReplaceAll(right, "=", " = "), "no blanks around ="},
		{strings.ToLower(right), "capitals only"},
		{"CN=Contoh CA, O=Contoh, S=Selangor, C=MY, OID.2.5.4.97=C1, E=ca@contoh.my", "the same elements in another order"},
		{"Contoh CA", "the CN alone"},
		{"CN=Contoh CA", "the CN alone"},
		{"emailAddress=ca@contoh.my, CN=Contoh CA, organizationIdentifier=C1, ST=Selangor, O=Contoh, C=MY", "named otherwise than .NET names them"},
		{"1.2.840.113549.1.9.1=ca@contoh.my,CN=Contoh CA,2.5.4.97=C1,ST=Selangor,O=Contoh,C=MY", "named otherwise than .NET names them"},
		{"/C=MY/O=Contoh/ST=Selangor/organizationIdentifier=C1/CN=Contoh CA/emailAddress=ca@contoh.my", "OpenSSL's one line"},
		{subject, "the subject's name"},
		{"CN=Lain, C=MY", ""},
		{"", ""},
	} {
		got := issuerSlip(cert, row.written)
		if !strings.Contains(got, row.says) || (got == "") != (row.says == "") {
			t.Errorf("%q: got %q, want %q", row.written, got, row.says)
		}
	}
}
