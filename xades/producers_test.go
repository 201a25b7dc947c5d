package xades

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// produced is a signed document, to be changed as another signer would have
// made it.
type produced struct {
	t         *testing.T
	text      string
	canonical string
	parts     *parts
}

func produce(t *testing.T, document string, options Options) *produced {
	t.Helper()
	draft, err := Prepare([]byte(document), testCertificate(t), signingTime, options)
	if err != nil {
		t.Fatal(err)
	}
	p := &produced{t: t, text: string(completed(t, draft)), canonical: string(draft.Canonical())}
	doc, err := parse([]byte(p.text))
	if err != nil {
		t.Fatal(err)
	}
	if p.parts, err = doc.parts(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *produced) put(old, new string) {
	p.t.Helper()
	if strings.Count(p.text, old) != 1 {
		p.t.Fatalf("%q is not once in the document", old)
	}
	p.text = strings.Replace(p.text, old, new, 1)
}

// digested puts in the digest of another text, signed as such.
func (p *produced) digested(text string) {
	digest := sha256.Sum256([]byte(text))
	p.put(p.parts.docDigest, base64.StdEncoding.EncodeToString(digest[:]))
	p.signed(digest)
}

// signed puts in a signature over another digest.
func (p *produced) signed(digest [sha256.Size]byte) {
	p.t.Helper()
	signature, err := rsa.SignPKCS1v15(nil, testKey(p.t, 2048), crypto.SHA256, digest[:])
	if err != nil {
		p.t.Fatal(err)
	}
	p.put(p.parts.signatureValue, base64.StdEncoding.EncodeToString(signature))
}

// props puts in the digest of another text of the signed properties.
func (p *produced) props(text string) { p.put(p.parts.propsDigest, digestText([]byte(text))) }

// certified puts in another digest of the certificate, sealed by PropsDigest.
func (p *produced) certified(digest string) {
	p.t.Helper()
	p.put(p.parts.certDigest, digest)
	p.text = resealed(p.t, p.text)
}

// numbered puts in another serial number, sealed by PropsDigest.
func (p *produced) numbered(serial string) {
	p.text = resealed(p.t, strings.ReplaceAll(p.text, p.parts.serial, serial))
}

// inLines breaks base64 into lines.
func inLines(text, end string) string {
	return strings.Join([]string{text[:20], text[20:]}, end)
}

// A digest or signature that was made wrongly is told by its code alone, and the
// message names what happened.
func TestWhatOtherSignersGetWrongIsNamed(t *testing.T) {
	xml := minimal(`<cbc:Note></cbc:Note><cbc:Note a="x">é/&amp;</cbc:Note>`)
	jsonText := strings.Replace(smallJSON, `"Total":[{"_":1.5}]`, `"Total":[{"_":1.50},{"_":10.00},{"_":7.5}],"Name":[{"_":"é a/b & <c> +'\u00fc' 𝟜"}]`, 1)
	const version = "and was changed after that"
	empties := regexp.MustCompile(`(<[^/>]*)></[^>]*>`)
	digits := regexp.MustCompile(`:(\d+)\.(\d+)`)
	inHex := func(text string) string { d := sha256.Sum256([]byte(text)); return hex.EncodeToString(d[:]) }
	escaped := func(text string) string {
		return strings.NewReplacer("é", `\u00e9`, "ü", `\u00fc`, "𝟜", `\ud835\udfdc`).Replace(text)
	}
	for _, row := range []struct {
		name, document string
		make           func(*produced)
		want, says     string
	}{
		{"nothing", xml, func(*produced) {}, "", ""},
		{"version 1.0", xml, func(p *produced) { p.digested(strings.Replace(p.canonical, `"1.1"`, `"1.0"`, 1)) }, "DS322", "listVersionID was 1.0 when the digest was taken, " + version},
		{"version 1.0", jsonText, func(p *produced) { p.digested(strings.Replace(p.canonical, `"1.1"`, `"1.0"`, 1)) }, "DS322", "listVersionID was 1.0 when the digest was taken, " + version},
		{"blanks", xml, func(p *produced) {
			p.text = strings.ReplaceAll(p.text, "><", ">\n  <")
			p.digested(strings.ReplaceAll(p.canonical, "><", ">\n  <"))
		}, "DS322", "blanks between elements were not removed"},
		{"blanks, with blocks put between", xml, func(p *produced) {
			p.digested(strings.ReplaceAll(p.canonical, "><", ">\n\t<"))
			element, rest := cutElement(t, p.text, "UBLExtensions")
			pointer, rest := cutElement(t, rest, "cac:Signature")
			rest = strings.ReplaceAll(rest, "><", ">\n\t<")
			rest = strings.Replace(rest, "\n\t<cbc:ID>", element+"\n\t<cbc:ID>", 1)
			p.text = strings.Replace(rest, "\n\t<cac:Acc", pointer+"\n\t<cac:Acc", 1)
		}, "DS322", "blanks between elements were not removed"},
		{"blanks, version 1.0", xml, func(p *produced) {
			p.text = strings.ReplaceAll(p.text, "><", ">\n<")
			p.digested(strings.Replace(strings.ReplaceAll(p.canonical, "><", ">\n<"), `"1.1"`, `"1.0"`, 1))
		}, "DS322", "and blanks between elements were not removed"},
		{"empty elements", xml, func(p *produced) { p.digested(empties.ReplaceAllString(p.canonical, "$1/>")) }, "DS322", "hashed as <a/>"},
		{"empty elements with a blank", xml, func(p *produced) { p.digested(empties.ReplaceAllString(p.canonical, "$1 />")) }, "DS322", "hashed as <a />"},
		{"declaration", xml, func(p *produced) { p.digested(`<?xml version="1.0" encoding="UTF-8"?>` + p.canonical) }, "DS322", "the XML declaration was hashed"},
		{"pointer", xml, func(p *produced) {
			element, _ := cutElement(t, p.text, "cac:Signature")
			const next = "<cac:AccountingSupplierParty>"
			p.digested(strings.Replace(p.canonical, next, element+next, 1))
		}, "DS322", "cac:Signature was not removed"},
		{"pointer", jsonText, func(p *produced) {
			at := strings.Index(p.text, `,"Signature":[{"ID"`)
			p.digested(strings.TrimSuffix(p.canonical, "}]}") + p.text[at:])
		}, "DS322", "the member Signature was not removed"},
		{"hex", xml, func(p *produced) { p.put(p.parts.docDigest, inHex(p.canonical)) }, "DS322 DS333", "the digest was written in hex"},
		{"base64 of hex", jsonText, func(p *produced) {
			p.put(p.parts.docDigest, base64.StdEncoding.EncodeToString([]byte(inHex(p.canonical))))
		}, "DS322 DS333", "the base64 was made of the digest's hex text"},
		{"hashed twice", xml, func(p *produced) { d := sha256.Sum256([]byte(p.canonical)); p.digested(string(d[:])) }, "DS322", "hashed a second time"},
		{"slashes", jsonText, func(p *produced) { p.digested(strings.ReplaceAll(p.canonical, "/", `\/`)) }, "DS322", `slashes were hashed as \/`},
		{"bare slashes", strings.ReplaceAll(jsonText, "/", `\/`), func(p *produced) { p.digested(strings.ReplaceAll(p.canonical, `\/`, "/")) }, "DS322", `stand in the file as \/`},
		{"beyond ASCII", jsonText, func(p *produced) { p.digested(escaped(p.canonical)) }, "DS322", "as Python writes them"},
		{"PHP", jsonText, func(p *produced) { p.digested(strings.ReplaceAll(escaped(p.canonical), "/", `\/`)) }, "DS322", "as PHP writes them"},
		{"Go", jsonText, func(p *produced) {
			var out bytes.Buffer
			json.HTMLEscape(&out, []byte(strings.ReplaceAll(p.canonical, `\u00fc`, "ü")))
			p.digested(out.String())
		}, "DS322", "as Go writes them"},
		{"System.Text.Json", jsonText, func(p *produced) {
			p.digested(strings.NewReplacer("é", `\u00E9`, `\u00fc`, `\u00FC`, "𝟜", `\uD835\uDFDC`, "&", `\u0026`, "<", `\u003C`, ">", `\u003E`, "+", `\u002B`, "'", `\u0027`).Replace(p.canonical))
		}, "DS322", "as System.Text.Json writes them"},
		{"no escapes", jsonText, func(p *produced) { p.digested(strings.ReplaceAll(p.canonical, `\u00fc`, "ü")) }, "DS322", "without any escapes but those JSON needs"},
		{"trailing zeros", jsonText, func(p *produced) {
			p.digested(strings.NewReplacer("1.50", "1.5", "10.00", "10.0").Replace(p.canonical))
		}, "DS322", "without trailing zeros (1.5 for 1.50"},
		{"no decimals, and slashes", jsonText, func(p *produced) {
			p.digested(strings.NewReplacer("1.50", "1.5", "10.00", "10", "/", `\/`).Replace(p.canonical))
		}, "DS322", `trailing zeros and decimal points (10 for 10.00), and slashes were hashed as \/`},
		{"two decimals", jsonText, func(p *produced) {
			p.digested(digits.ReplaceAllString(strings.ReplaceAll(p.canonical, "7.5}", "7.50}"), ":$1.$2"))
		}, "DS322", "with two decimals"},
		{"safe form", jsonText, func(p *produced) {
			p.digested(strings.NewReplacer("1.50", "1.5", "10.00", "10.0", `\u00fc`, "ü").Replace(p.canonical))
		}, "DS322", "it is the digest of their safe form"},
		{"something else", jsonText, func(p *produced) { p.digested("x") }, "DS322", "the first that does not survive: Invoice[0].Total[0]._: kept 1.50"},
		{"something else", xml, func(p *produced) { p.digested("x") }, "DS322", "it was changed after it was signed"},

		{"properties in C14N", xml, func(p *produced) { _, exclusive := p.subtree("SignedProperties"); p.props(exclusive) }, "DS320", "canonical form (C14N)"},
		{"properties in inclusive C14N", xml, func(p *produced) { inclusive, _ := p.subtree("SignedProperties"); p.props(inclusive) }, "DS320", "canonical form (C14N)"},
		{"properties without a blank", xml, func(p *produced) { p.props(strings.Replace(string(p.parts.props), " />", "/>", 1)) }, "DS320", "a blank before the slash"},
		{"properties expanded", xml, func(p *produced) { p.props(strings.Replace(string(p.parts.props), " />", "></ds:DigestMethod>", 1)) }, "DS320", "and the file has it self-closed"},
		{"properties without namespaces", xml, func(p *produced) {
			p.props(regexp.MustCompile(` xmlns:\w+="[^"]*"`).ReplaceAllString(string(p.parts.props), ""))
		}, "DS320", "without the namespaces"},
		{"properties as they stand, indented", xml, func(p *produced) {
			p.text = strings.ReplaceAll(p.text, "><xades:", ">\n  <xades:")
			element, _ := cutElement(t, p.text, "xades:SignedProperties")
			p.props(element)
		}, "DS320", "as it stands in the file"},
		{"properties in hex", xml, func(p *produced) { p.put(p.parts.propsDigest, inHex(string(p.parts.props))) }, "DS320", "written in hex"},
		{"properties without Target", jsonText, func(p *produced) {
			_, inner, _ := strings.Cut(string(p.parts.props), `"SignedProperties":[`)
			p.props(strings.TrimSuffix(inner, "]}"))
		}, "DS320", `with "Target"`},

		{"SignedInfo signed", xml, func(p *produced) { _, exclusive := p.subtree("SignedInfo"); p.signed(sha256.Sum256([]byte(exclusive))) }, "DS333", "SignedInfo was signed"},
		{"SignedInfo signed inclusively", xml, func(p *produced) { inclusive, _ := p.subtree("SignedInfo"); p.signed(sha256.Sum256([]byte(inclusive))) }, "DS333", "SignedInfo was signed"},
		{"SignedInfo signed", jsonText, func(p *produced) { p.signed(sha256.Sum256(p.parts.signedInfo)) }, "DS333", "SignedInfo was signed"},
		{"digest hashed before it was signed", xml, func(p *produced) {
			d := sha256.Sum256([]byte(p.canonical))
			p.signed(sha256.Sum256(d[:]))
		}, "DS333", "hashed a second time before it was signed"},
		{"base64 of the digest signed", xml, func(p *produced) { p.signed(sha256.Sum256([]byte(p.parts.docDigest))) }, "DS333", "the base64 text of the digest was hashed"},
		{"hex of the digest signed", jsonText, func(p *produced) { p.signed(sha256.Sum256([]byte(inHex(p.canonical)))) }, "DS333", "the hex text of the digest was hashed"},
		{"signature in hex", xml, func(p *produced) {
			p.put(p.parts.signatureValue, hex.EncodeToString(decoded(p.t, p.parts.signatureValue)))
		}, "DS333", "it must be base64"},
		{"signature in base64 twice", jsonText, func(p *produced) {
			p.put(p.parts.signatureValue, base64.StdEncoding.EncodeToString([]byte(p.parts.signatureValue)))
		}, "DS333", "encoded in base64 twice"},
		{"signature of another kind", xml, func(p *produced) { p.put(p.parts.signatureValue, base64.StdEncoding.EncodeToString(make([]byte, 71))) }, "DS333", "it may be an ECDSA signature"},
		{"signature in lines", xml, func(p *produced) { p.put(p.parts.signatureValue, inLines(p.parts.signatureValue, "\n    ")) }, "", "SignatureValue has line breaks"},
		{"certificate in lines", xml, func(p *produced) { p.put(p.parts.certificate, inLines(p.parts.certificate, "\n\t")) }, "", "X509Certificate has line breaks"},
		{"certificate in lines", jsonText, func(p *produced) { p.put(p.parts.certificate, inLines(p.parts.certificate, `\r\n`)) }, "", "X509Certificate has line breaks"},
		{"digest in lines", xml, func(p *produced) { p.put(p.parts.docDigest, inLines(p.parts.docDigest, "\n")) }, "DS322", "write it as one word"},
		{"certificate in PEM", jsonText, func(p *produced) {
			p.put(p.parts.certificate, `-----BEGIN CERTIFICATE-----\n`+inLines(p.parts.certificate, `\n`)+`\n-----END CERTIFICATE-----\n`)
		}, "DS305", "it is PEM"},
		{"certificate and its chain", xml, func(p *produced) {
			der := decoded(p.t, p.parts.certificate)
			p.put(p.parts.certificate, base64.StdEncoding.EncodeToString(append(der, der...)))
		}, "DS305", "without its chain"},
		{"thumbprint of the certificate", xml, func(p *produced) {
			thumbprint := sha1.Sum(decoded(p.t, p.parts.certificate))
			p.certified(base64.StdEncoding.EncodeToString(thumbprint[:]))
		}, "DS318", "SHA-1 thumbprint"},
		{"digest of the certificate's text", jsonText, func(p *produced) { p.certified(digestText([]byte(p.parts.certificate))) }, "DS318", "base64 text was hashed"},
		{"digest of the certificate's PEM", xml, func(p *produced) {
			p.certified(digestText(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: decoded(p.t, p.parts.certificate)})))
		}, "DS318", "PEM text was hashed"},
		{"digest of the certificate in hex", xml, func(p *produced) { p.certified(inHex(string(decoded(p.t, p.parts.certificate)))) }, "DS318", "in hex"},
		{"serial number with colons", xml, func(p *produced) { p.numbered("06:C1:FF:0C:5D:0B:03:37") }, "DS327", "it is in hex"},
		{"serial number reversed", xml, func(p *produced) { p.numbered("37030B5D0CFFC106") }, "DS327", "its bytes reversed"},
		{"serial number rounded", jsonText, func(p *produced) { p.numbered("486950663298417500") }, "DS328", "its last digits are lost"},
		{"serial number with an exponent", xml, func(p *produced) { p.numbered("4.869506632984175e+17") }, "DS327", "its last digits are lost"},
		{"another serial number", jsonText, func(p *produced) { p.numbered("486950663298417464") }, "DS328", "the certificate's serial number is 486950663298417463"},
		{"members with a prefix", jsonText, func(p *produced) { p.put(`"QualifyingProperties"`, `"XadesQualifyingProperties"`) }, "DS300", "LHDN reads QualifyingProperties"},
	} {
		format, _ := Detect([]byte(row.document))
		t.Run(row.name+" in "+format.String(), func(t *testing.T) {
			p := produce(t, row.document, Options{KeepLiterals: true})
			row.make(p)
			r := Verify([]byte(p.text), VerifyOptions{})
			if got := errorCodes(r); got != row.want {
				t.Fatalf("got the codes %q, want %q: %+v", got, row.want, r.Findings)
			}
			said := ""
			for _, f := range r.Findings {
				if f.Severity == SeverityError || row.want == "" {
					said += f.Message + "\n"
				}
			}
			if !strings.Contains(said, row.says) {
				t.Errorf("got %q, want a message that says %q", said, row.says)
			}
		})
	}
}

// subtree has xmllint make both canonical forms of an element of the block, out
// of a document of that element with all that is declared around it.
func (p *produced) subtree(element string) (inclusive, exclusive string) {
	p.t.Helper()
	prefix := "ds:"
	if element == "SignedProperties" {
		prefix = "xades:"
	}
	text, _ := cutElement(p.t, p.text, prefix+element)
	around := ` xmlns="` + nsExt + `" xmlns:cac="` + nsCAC + `" xmlns:cbc="` + nsCBC + `" xmlns:sig="` + nsSig + `" xmlns:sac="` + nsSAC + `" xmlns:sbc="` + nsSBC + `" xmlns:ds="` + nsDS + `"`
	if prefix == "xades:" {
		around += ` xmlns:xades="` + nsXAdES + `"`
	}
	file := filepath.Join(p.t.TempDir(), "element.xml")
	whole := strings.Replace(text, "<"+prefix+element, "<"+prefix+element+around, 1)
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return program(p.t, "xmllint", "--c14n11", file), program(p.t, "xmllint", "--exc-c14n", file)
}
