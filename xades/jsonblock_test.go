package xades

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// sampleValues has texts that HTML-minded or lenient writers would escape.
var sampleValues = values{
	docDigest: "ZG9j+/==", propsDigest: "cHJvcHM=", certDigest: "Y2VydA==",
	signingTime: "2026-10-02T03:15:09Z",
	issuer:      `CN="Ujian, ""A&B"" <CA>", O=C\D, C=MY`, subject: "CN=Seri Melur – é, C=MY", serial: "131296",
	certificate: "MIIB/+==", signature: "c2ln",
}

func TestASignedDocumentGivesBackWhatWentIn(t *testing.T) {
	for _, row := range []struct{ name, src string }{
		{"an invoice", in(`"a":1.0`)},
		{"an empty invoice", in("")},
		{"members behind Invoice", `{"Invoice":[{"a":[{"b":"}]}"}]}],"_D":"x}]}"}`},
		{"an older block, replaced", in(`"Signature":[{"x":1}],"a":1.0,"UBLExtensions":[{"y":2}]`)},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := scanned(t, row.src, jsonOptions{})
			signed := before.assemble(jsonBlock(sampleValues))
			if !json.Valid(signed) {
				t.Fatalf("the signed document is no JSON: %s", signed)
			}
			after := scanned(t, string(signed), jsonOptions{literals: literalsSafe})
			if got, want := string(after.canonical), string(before.canonical); got != want {
				t.Errorf("canonical %s, want %s", got, want)
			}
			p, err := after.parts()
			if err != nil {
				t.Fatal(err)
			}
			comparePartsWithSample(t, p)
		})
	}
}

func comparePartsWithSample(t *testing.T, p *parts) {
	t.Helper()
	v := sampleValues
	for _, row := range []struct{ name, got, want string }{
		{"extension URI", p.extensionURI, uriEnveloped},
		{"signature method", p.signatureMethod, uriEnveloped},
		{"signature algorithm", p.signatureAlgorithm, algSignature},
		{"signature value", p.signatureValue, v.signature},
		{"certificate", p.certificate, v.certificate},
		{"DocDigest", p.docDigest, v.docDigest},
		{"DocDigest's method", p.docDigestMethod, algDigest},
		{"PropsDigest", p.propsDigest, v.propsDigest},
		{"PropsDigest's method", p.propsDigestMethod, algDigest},
		{"CertDigest", p.certDigest, v.certDigest},
		{"CertDigest's method", p.certDigestMethod, algDigest},
		{"signing time", p.signingTime, v.signingTime},
		{"issuer", p.issuer, v.issuer},
		{"serial", p.serial, v.serial},
		{"properties", string(p.props), string(jsonProps(v))},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, row.got, row.want)
		}
	}
	if p.signatures != 1 {
		t.Errorf("got %d signatures, want 1", p.signatures)
	}
	if !strings.HasPrefix(string(p.signedInfo), `{"SignatureMethod"`) {
		t.Errorf("signed info is %s", p.signedInfo)
	}
}

func TestTheBlockEmbedsThePropertiesVerbatim(t *testing.T) {
	props := string(jsonProps(sampleValues))
	if n := strings.Count(string(jsonBlock(sampleValues)), `"QualifyingProperties":[`+props+`]`); n != 1 {
		t.Errorf("found the properties %d times, want once", n)
	}
	for _, want := range []string{`CN=\"Ujian, \"\"A&B\"\" <CA>\", O=C\\D, C=MY`, "ZG9j+/==", "Seri Melur – é"} {
		if !strings.Contains(string(jsonBlock(sampleValues)), want) {
			t.Errorf("the block does not say %s", want)
		}
	}
}

// block returns a document whose signature block holds these JSON texts.
func block(extension, signature string) string {
	return in(`"UBLExtensions":[{"UBLExtension":[` + extension + `]}],"Signature":[` + signature + `]`)
}

// extension returns an extension that holds these signatures.
func extension(uri string, signatures ...string) string {
	return `{"ExtensionURI":[{"_":"` + uri + `"}],"ExtensionContent":[{"UBLDocumentSignatures":[{"SignatureInformation":[{"Signature":[` +
		strings.Join(signatures, ",") + `]}]}]}]}`
}

func TestPartsTolerateWhatDoesNotMatter(t *testing.T) {
	reference := func(kind, uri, digest string) string {
		return `{` + kind + uri + `"DigestValue":[{"_":"` + digest + `"}]}`
	}
	for _, row := range []struct {
		name, src string
		want      parts
	}{
		{"no block", in(""), parts{}},
		{"empty arrays", in(`"UBLExtensions":[],"Signature":[]`), parts{}},
		{"null", in(`"UBLExtensions":null,"Signature":null`), parts{}},
		{"an extension of another kind", block(`{"ExtensionURI":[{"_":"urn:x"}],"ExtensionContent":[{"Other":[1]}]}`, ""), parts{extensionURI: "urn:x"}},
		{"the signature in the second extension", block(extension("urn:a")+","+extension("urn:b", `{"SignatureValue":[{"_":"s"}]}`), ""),
			parts{signatures: 1, extensionURI: "urn:b", signatureValue: "s"}},
		{"two signatures side by side", block(extension("urn:a", `{"SignatureValue":[{"_":"s"}]}`, `{}`), ""), parts{signatures: 2, extensionURI: "urn:a", signatureValue: "s"}},
		{"two signatures in two extensions", block(extension("urn:a", `{}`)+","+extension("urn:b", `{}`), ""), parts{signatures: 2, extensionURI: "urn:a"}},
		{"a signature in a signature", block(extension("urn:a", `{"SignatureValue":[{"_":"s"}],"Object":[{"\u0053ignature":[{}]}]}`), ""), parts{signatures: 2, extensionURI: "urn:a", signatureValue: "s"}},
		{"a signature beside the content", block(extension("urn:a", `{}`)+`,{"Signature":{}}`, ""), parts{signatures: 2, extensionURI: "urn:a"}},
		{"a signature where none belongs", block(`{"Signature":[{}]}`, ""), parts{}},
		{"two signatures in two lists", in(`"UBLExtensions":[{"UBLExtension":[` + extension("urn:a", `{}`) + `]},{"UBLExtension":[` + extension("urn:b", `{}`) + `]}]`),
			parts{signatures: 2, extensionURI: "urn:a"}},
		{"names in another case", block(extension("", `{"signaturevalue":[{"_":"s"}],"SIGNATUREVALUE":[{"_":"s"}]}`), `{"signaturemethod":[{"_":"x"}]}`), parts{signatures: 1}},
		{"blanks, an extra member, and escapes", block(extension("", ` { "More" : { } , "SignatureValue" : [ { "x" : 1 , "_" : "a\/\u0062" } ] } `), ""),
			parts{signatures: 1, signatureValue: "a/b"}},
		{"a serial that is a number", block(extension("", `{"Object":[{"QualifyingProperties":[{"SignedProperties":[{"SignedSignatureProperties":[{"SigningCertificate":[{"Cert":[{"IssuerSerial":[{"X509SerialNumber":[{"_":131296}]}]}]}]}]}]}]}]}`), ""),
			parts{signatures: 1, serial: "131296",
				props: []byte(`{"SignedProperties":[{"SignedSignatureProperties":[{"SigningCertificate":[{"Cert":[{"IssuerSerial":[{"X509SerialNumber":[{"_":131296}]}]}]}]}]}]}`)}},
		{"references by type", block(extension("", `{"SignedInfo":[{"Reference":[`+reference(`"Type":"",`, `"URI":"",`, "d")+`,`+reference(`"Type":"`+jsonTypeProps+`",`, `"URI":"",`, "p")+`]}]}`), ""),
			parts{signatures: 1, docDigest: "d", propsDigest: "p",
				signedInfo: []byte(`{"Reference":[` + reference(`"Type":"",`, `"URI":"",`, "d") + `,` + reference(`"Type":"`+jsonTypeProps+`",`, `"URI":"",`, "p") + `]}`)}},
		{"references by address, and one of another kind", block(extension("", `{"SignedInfo":[{"Reference":[`+reference(``, `"URI":"#id-xades-signed-props",`, "p")+`,`+reference(`"Type":"x",`, `"URI":"#y",`, "z")+`,`+reference(`"Type":"x",`, `"URI":"",`, "d")+`]}]}`), ""),
			parts{signatures: 1, docDigest: "d", propsDigest: "p",
				signedInfo: []byte(`{"Reference":[` + reference(``, `"URI":"#id-xades-signed-props",`, "p") + `,` + reference(`"Type":"x",`, `"URI":"#y",`, "z") + `,` + reference(`"Type":"x",`, `"URI":"",`, "d") + `]}`)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := scanned(t, row.src, jsonOptions{}).parts()
			if err != nil {
				t.Fatal(err)
			}
			if partsText(got) != partsText(&row.want) {
				t.Errorf("got  %s\nwant %s", partsText(got), partsText(&row.want))
			}
		})
	}
}

func TestPartsOfAnotherShapeAreRefusedByPath(t *testing.T) {
	const inSignature = "Invoice[0].UBLExtensions[0].UBLExtension[0].ExtensionContent[0].UBLDocumentSignatures[0].SignatureInformation[0].Signature[0]"
	for _, row := range []struct{ name, src, want string }{
		{"an object for the extensions", in(`"UBLExtensions":{}`), "Invoice[0].UBLExtensions is not an array"},
		{"a text in the extensions", in(`"UBLExtensions":["x"]`), "Invoice[0].UBLExtensions[0] is not an object"},
		{"an object for the signature's reference", in(`"Signature":{}`), "Invoice[0].Signature is not an array"},
		{"an object for the content", block(`{"ExtensionContent":{}}`, ""), "Invoice[0].UBLExtensions[0].UBLExtension[0].ExtensionContent is not an array"},
		{"a text for a signature", block(extension("", `"x"`), ""), inSignature + " is not an object"},
		{"a text without its wrapping", block(extension("", `{"SignatureValue":"s"}`), ""), inSignature + ".SignatureValue is not an array"},
		{"true for a text", block(extension("", `{"SignatureValue":[{"_":true}]}`), ""), inSignature + ".SignatureValue[0]._ is neither a string nor a number"},
		{"an object for a text", block(extension("", `{"SignatureValue":[{"_":{}}]}`), ""), inSignature + ".SignatureValue[0]._ is neither a string nor a number"},
		{"two signed infos", block(extension("", `{"SignedInfo":[{},{}]}`), ""), inSignature + ".SignedInfo has 2 elements where one is meant"},
		{"two certificates", block(extension("", `{"KeyInfo":[{"X509Data":[{"X509Certificate":[{},{}]}]}]}`), ""), inSignature + ".KeyInfo[0].X509Data[0].X509Certificate has 2 elements"},
		{"two digests of the document", block(extension("", `{"SignedInfo":[{"Reference":[{"URI":""},{"Type":""}]}]}`), ""), inSignature + ".SignedInfo[0].Reference[1] refers to the same"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, err := scanned(t, row.src, jsonOptions{}).parts()
			refused(t, err, ErrMalformed, row.want)
			if p != nil {
				t.Errorf("got parts beside the error: %+v", p)
			}
			if errors.Is(err, ErrSignature) {
				t.Errorf("a wrong shape is no wrong signature: %v", err)
			}
		})
	}
}

func partsText(p *parts) string {
	fields := []string{p.extensionURI, p.signatureMethod, p.signatureAlgorithm, p.signatureValue, p.certificate, p.docDigest, p.docDigestMethod,
		p.propsDigest, p.propsDigestMethod, p.certDigest, p.certDigestMethod, p.signingTime, p.issuer, p.serial, string(p.props), string(p.signedInfo)}
	return strings.Repeat("#", p.signatures) + strings.Join(fields, "|")
}
