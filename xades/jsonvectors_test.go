package xades

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
)

func TestOfficialJSONGivesTheOfficialBytes(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	files := vectorFiles(t, dir, "bytes", "*.json.doc.bin")
	if len(files) == 0 {
		t.Fatal("no bytes of JSON documents among the vectors")
	}
	for _, file := range files {
		base := strings.TrimSuffix(file, ".doc.bin")
		name := filepath.Base(base)
		d := scanned(t, string(read(t, dir, "official", name)), jsonOptions{})
		p, err := d.parts()
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, name+": the document", d.canonical, read(t, base+".doc.bin"))
		sameBytes(t, name+": the properties", p.props, read(t, base+".props.bin"))
		sameBytes(t, name+": the certificate", decoded(t, p.certificate), read(t, base+".cert.der"))
		sameBytes(t, name+": the signature", decoded(t, p.signatureValue), read(t, base+".sig.bin"))
	}
}

// The block's texts and the order of its members are right if an official
// sample's own values give the official file again.
func TestAnOfficialBlockIsRebuiltFromItsOwnValues(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	files := vectorFiles(t, dir, "official", "*.json")
	if len(files) == 0 {
		t.Fatal("no official JSON documents among the vectors")
	}
	for _, file := range files {
		name := filepath.Base(file)
		d := scanned(t, string(read(t, file)), jsonOptions{})
		p, err := d.parts()
		if err != nil {
			t.Fatal(err)
		}
		v := values{
			docDigest: p.docDigest, propsDigest: p.propsDigest, certDigest: p.certDigest,
			signingTime: p.signingTime, issuer: p.issuer, serial: p.serial,
			subject:     p.issuer, // so it stands in the official samples
			certificate: p.certificate, signature: p.signatureValue,
		}
		sameBytes(t, name+": the properties", jsonProps(v), p.props)
		sameBytes(t, name+": the block", jsonBlock(v), []byte(`"UBLExtensions":`+string(d.extensions)+`,"Signature":`+string(d.signature)))
		// The official block stands last, so the whole file comes again too.
		sameBytes(t, name+": the file", d.assemble(jsonBlock(v)), scanned(t, `{"Invoice":[{"x":[`+string(read(t, file))+`]}]}`, jsonOptions{}).inner())
	}
}

// inner returns the minified document that stands in Invoice[0].x[0], where the
// scanner takes nothing out.
func (d *jsonDocument) inner() []byte {
	return d.canonical[len(`{"Invoice":[{"x":[`) : len(d.canonical)-len(`]}]}`)]
}

func TestSignedJSONOfOthersVerifies(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	for _, row := range []struct {
		file    string
		doc     bool   // the stored DocDigest is the recomputed one
		version string // what listVersionID was when it was signed, if it was edited later
	}{
		{"official/1.1-Invoice-Sample.json", true, ""},
		{"official/1.1-Invoice-MultiLineItem-Sample.json", true, ""},
		{"official/1.3-Invoice-Sample.json", false, ""},
		{"official/1.3-Invoice-Sample.json", true, "1.1"},
		{"peers/klsheng-01-signed.json", true, ""},
		{"peers/klsheng-01-serial160-signed.json", true, ""},
		{"peers/danieyal-Invoice-Sample-signed.json", true, ""},
		{"peers/changsheng-Invoice-Sample-signed.json", true, ""},
		{"peers/osikh-EdgeChars-signed.json", false, ""},
	} {
		t.Run(row.file, func(t *testing.T) {
			d := scanned(t, string(read(t, dir, row.file)), jsonOptions{setVersion: row.version})
			p, err := d.parts()
			if err != nil {
				t.Fatal(err)
			}
			if p.signatures != 1 {
				t.Errorf("got %d signatures, want 1", p.signatures)
			}
			if got, want := digest64(p.props), p.propsDigest; got != want {
				t.Errorf("PropsDigest recomputed %s, stored %s", got, want)
			}
			if got, want := digest64(d.canonical), p.docDigest; (got == want) != row.doc {
				t.Errorf("DocDigest recomputed %s, stored %s; equal should be %v", got, want, row.doc)
			}
			certificate := decoded(t, p.certificate)
			if got, want := digest64(certificate), p.certDigest; got != want {
				t.Errorf("CertDigest recomputed %s, stored %s", got, want)
			}
			verifyStored(t, certificate, p)
		})
	}
}

// verifyStored verifies the signature over the stored DocDigest, as LHDN does.
func verifyStored(t *testing.T, certificate []byte, p *parts) {
	t.Helper()
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		t.Fatalf("the certificate has a key of type %T", c.PublicKey)
	}
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, decoded(t, p.docDigest), decoded(t, p.signatureValue)); err != nil {
		t.Error(err)
	}
}

func TestWhatAnotherSDKHashedIsTheCanonicalText(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	unsigned := read(t, dir, "peers/klsheng-01-unsigned.json")
	sameBytes(t, "the unsigned file", scanned(t, string(unsigned), jsonOptions{}).canonical, unsigned)
	sameBytes(t, "the signed file", scanned(t, string(read(t, dir, "peers/klsheng-01-signed.json")), jsonOptions{}).canonical, unsigned)
}

func TestUnsignedSamplesCanBeWritten(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	files := vectorFiles(t, dir, "unsigned", "*.json")
	if len(files) < 2 {
		t.Fatalf("found only %d unsigned JSON documents", len(files))
	}
	for _, file := range files {
		name := filepath.Base(file)
		d, err := scanJSON(read(t, file), jsonOptions{literals: literalsSafe, setVersion: "1.1"})
		if name == "1.0-Invoice-MultiLineItem-Sample.json" {
			refused(t, err, ErrMalformed, "the member Invoice[0].TaxTotal[0].TaxSubtotal occurs twice")
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h := d.header; h.number == "" || !knownType(h.typeCode) || h.version != "1.1" || h.taxpayer().tins != 1 {
			t.Errorf("%s: the header is %+v", name, h)
		}
		again := scanned(t, string(d.canonical), jsonOptions{literals: literalsSafe})
		sameBytes(t, name+": written again", again.canonical, d.canonical)
	}
}

func sameBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if string(got) == string(want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Errorf("%s: got %d bytes, want %d; from byte %d on got %.80q, want %.80q", what, len(got), len(want), i, got[i:], want[i:])
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		t.Fatalf("decoding %.40q: %v", text, err)
	}
	return b
}

func digest64(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
