package xades

import (
	"encoding/base64"
	"strings"
	"testing"
)

// smallJSON is the smallest document there is in JSON.
const smallJSON = `{"Invoice":[{"ID":[{"_":"7"}],"InvoiceTypeCode":[{"_":"01","listVersionID":"1.1"}],"Total":[{"_":1.5}]}]}`

// resealed puts in the PropsDigest anew, as anybody can.
func resealed(t *testing.T, document string) string {
	t.Helper()
	doc, err := parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	p, err := doc.parts()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(document, p.propsDigest, digestText(p.props))
}

// Each of LHDN's codes that can be told offline, and nothing but it, in both
// formats.
func TestEachFaultIsReportedByItsCodeAlone(t *testing.T) {
	const sha1 = "http://www.w3.org/2000/09/xmldsig#sha1"
	nth := func(n int, old, new string) func(string) string {
		return func(text string) string {
			at := 0
			for range n {
				at += strings.Index(text[at:], old) + 1
			}
			return text[:at-1] + new + text[at-1+len(old):]
		}
	}
	all := func(old, new string) func(string) string {
		return func(text string) string { return strings.ReplaceAll(text, old, new) }
	}
	xmlOrJSON := func(inXML, inJSON func(string) string) func(string) string {
		return func(text string) string {
			if text[0] == '<' {
				return inXML(text)
			}
			return inJSON(text)
		}
	}
	cut := func(from, to string) func(string) string {
		return func(text string) string {
			before, rest, _ := strings.Cut(text, from)
			_, after, found := strings.Cut(rest, to)
			if !found {
				return text
			}
			return before + from + to + after
		}
	}
	emptied := func(element string) func(string) string { // the nth with a prefix of its own
		_, local, _ := strings.Cut(element, ":")
		return xmlOrJSON(cut("<"+element+">", "</"+element+">"), cut(`"`+local+`":[{"_":"`, `"`))
	}
	docDigestIs := func(value string) func(string) string {
		return func(text string) string {
			digest, err := DigestAsIs([]byte(text))
			if err != nil {
				return text
			}
			return strings.ReplaceAll(text, base64.StdEncoding.EncodeToString(digest[:]), value)
		}
	}
	const serial = "486950663298417463" // 0x6c1ff0c5d0b0337
	for _, row := range []struct {
		name, want string
		change     func(string) string
		reseal     bool
	}{
		{"nothing", "", all("x", "x"), false},
		{"nothing, digests put in anew", "", all("x", "x"), true},
		{"the number", "DS322", xmlOrJSON(all("SM-2026-00417", "SM-2026-00418"), all("SM-2026-00417", "SM-2026-00418")), false},
		{"cut short", "DS300", func(text string) string { return text[:len(text)-2] }, false},
		{"no SigningTime", "DS303", emptied("xades:SigningTime"), true},
		{"a later SigningTime", "DS304", all("2026-10-03T04:05:06Z", "2028-10-03T04:05:06Z"), true},
		{"an earlier SigningTime", "DS304", all("2026-10-03T04:05:06Z", "2025-10-03T04:05:06Z"), true},
		{"a local SigningTime", "DS336", all("2026-10-03T04:05:06Z", "2026-10-03T12:05:06+08:00"), true},
		{"a SigningTime with a fraction", "DS336", all("2026-10-03T04:05:06Z", "2026-10-03T04:05:06.123Z"), true},
		{"a SigningTime of no day", "DS336", all("2026-10-03T04:05:06Z", "2026-02-30T04:05:06Z"), true},
		{"SigningTime, digest left", "DS320", all("2026-10-03T04:05:06Z", "2026-10-03T04:05:07Z"), false},
		{"no certificate", "DS305", emptied("ds:X509Certificate"), false},
		{"a certificate and something before it", "DS305", xmlOrJSON(nth(1, "<ds:X509Certificate>", "<ds:X509Certificate>AAAA"), nth(1, `"X509Certificate":[{"_":"`, `"X509Certificate":[{"_":"AAAA`)), false},
		{"no certificate but text", "DS305", xmlOrJSON(nth(1, "<ds:X509Certificate>", "<ds:X509Certificate>!"), nth(1, `"X509Certificate":[{"_":"`, `"X509Certificate":[{"_":"!`)), false},
		{"another DigestMethod of the certificate", "DS313", xmlOrJSON(nth(3, algDigest, sha1), nth(1, algDigest, sha1)), true},
		{"another DigestMethod of the document", "DS314", xmlOrJSON(nth(1, algDigest, sha1), nth(3, algDigest, sha1)), false},
		{"another DigestMethod of the properties", "DS315", nth(2, algDigest, sha1), false},
		{"another SignatureMethod", "DS316", all(algSignature, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384"), false},
		{"no CertDigest", "DS317", func(text string) string { return cutDigest(text, "CertDigest") }, true},
		{"another CertDigest", "DS318", func(text string) string {
			return strings.Replace(text, digestIn(text, "CertDigest"), base64.StdEncoding.EncodeToString(make([]byte, 32)), 1)
		}, true},
		{"another ExtensionURI", "DS323", nth(1, uriEnveloped, "urn:other"), false},
		{"another SignatureMethod of the pointer", "DS323", nth(2, uriEnveloped, "urn:other"), false},
		{"no issuer", "DS324", emptied("ds:X509IssuerName"), true},
		{"another issuer", "DS326", all("CN=Contoh Sub CA", "CN=Contoh Sub CB"), true},
		{"the issuer without blanks", "DS326", all("CN=Contoh Sub CA, ", "CN=Contoh Sub CA,"), true},
		{"no serial", "DS325", emptied("ds:X509SerialNumber"), true},
		{"the serial in hex", "DS327", all(serial, "06C1FF0C5D0B0337"), true},
		{"the serial in hex with 0x", "DS327", all(serial, "0x6c1ff0c5d0b0337"), true},
		{"a negative serial", "DS327", all(serial, "-"+serial), true},
		{"a serial with a huge exponent", "DS327", xmlOrJSON(all(serial, "4e999999999"), all(`"`+serial+`"`, "4e999999999")), true},
		{"a serial with a huge negative exponent", "DS327", xmlOrJSON(all(serial, "4e-999999999"), all(`"`+serial+`"`, "4e-999999999")), true},
		{"a serial in Arabic-Indic digits", "DS327", all(serial, "٤٨٦"), true},
		{"another serial", "DS328", all(serial, serial+"1"), true},
		{"no digest of the document", "DS321", docDigestIs(""), false},
		{"another digest of the document", "DS322 DS333", docDigestIs(base64.StdEncoding.EncodeToString(make([]byte, 32))), false},
		{"no digest but text", "DS322 DS333", docDigestIs("!"), false},
		{"no SignatureValue", "DS332", emptied("ds:SignatureValue"), false},
		{"another SignatureValue", "DS333", xmlOrJSON(
			nth(1, "<ds:SignatureValue>", "<ds:SignatureValue>AAAA"), nth(1, `"SignatureValue":[{"_":"`, `"SignatureValue":[{"_":"AAAA`)), false},
		{"no SignatureValue but text", "DS333", xmlOrJSON(
			nth(1, "<ds:SignatureValue>", "<ds:SignatureValue>!"), nth(1, `"SignatureValue":[{"_":"`, `"SignatureValue":[{"_":"!`)), false},
	} {
		for format, file := range map[string]string{"XML": "testdata/xml/invoice-1.1.xml", "JSON": "testdata/json/invoice-1.1.json"} {
			t.Run(row.name+" in "+format, func(t *testing.T) {
				before := string(signed(t, read(t, file), Options{}))
				after := row.change(before)
				if after == before && row.want != "" {
					t.Fatal("nothing changed")
				}
				if row.reseal {
					after = resealed(t, after)
				}
				judged(t, []byte(after), row.want)
			})
		}
	}
}

// digestIn gives the DigestValue within an element or member.
func digestIn(text, within string) string {
	_, after, _ := strings.Cut(text, within)
	_, after, _ = strings.Cut(after, "DigestValue")
	after = strings.TrimLeft(after, `>":[{_`)
	return after[:44]
}

func cutDigest(text, within string) string {
	return strings.Replace(text, digestIn(text, within), "", 1)
}

// Two elements where one is meant are read by each reader as it likes: whoever
// shows one and lets another be judged must not get away with it.
func TestWhatIsHiddenOrTwofoldIsFound(t *testing.T) {
	whole := string(signed(t, []byte(minimal("")), Options{}))
	extensions, _ := cutElement(t, whole, "UBLExtensions")
	_, signature, _ := strings.Cut(extensions, "<ds:Signature ")
	signature, _, _ = strings.Cut(signature, "</ds:Signature>")
	signature = "<ds:Signature " + signature + "</ds:Signature>"
	pointer, _ := cutElement(t, whole, "cac:Signature")
	inside := func(element, what string) string {
		return strings.Replace(whole, "</"+element+">", what+"</"+element+">", 1)
	}
	twice := func(element string) string {
		part, _ := cutElement(t, whole, element)
		return strings.Replace(whole, part, part+part, 1)
	}
	const supplier = "<cac:AccountingSupplierParty>"
	for _, row := range []struct{ name, document, want string }{
		{"no blocks", strings.NewReplacer(extensions, "", pointer, "").Replace(whole), "DS301"},
		{"no UBLExtensions", strings.Replace(whole, extensions, "", 1), "DS301"},
		{"no cac:Signature", strings.Replace(whole, pointer, "", 1), "DS323"},
		{"UBLExtensions twice", strings.Replace(whole, extensions, extensions+extensions, 1), "- DS302"},
		{"other UBLExtensions", strings.Replace(whole, extensions, extensions+`<UBLExtensions xmlns="`+nsExt+`">10 MYR</UBLExtensions>`, 1), "-"},
		{"other UBLExtensions, first", strings.Replace(whole, extensions, `<UBLExtensions xmlns="`+nsExt+`">10 MYR</UBLExtensions>`+extensions, 1), "-"},
		{"UBLExtensions further down", strings.Replace(whole, supplier, supplier+`<UBLExtensions xmlns="`+nsExt+`"/>`, 1), "-"},
		{"the pointer twice", strings.Replace(whole, pointer, pointer+pointer, 1), "-"},
		{"the pointer further down", strings.NewReplacer(pointer, "", supplier, supplier+pointer).Replace(whole), "-"},
		{"an element only called so", strings.Replace(whole, supplier, `<x:Signature xmlns:x="urn:x"/>`+supplier, 1), "- DS322"},
		{"a second signature", strings.Replace(whole, signature, signature+signature, 1), "DS302"},
		{"a second signature in an Object", inside("ds:Object", signature), "DS302"},
		{"a second signature outside ExtensionContent", inside("UBLExtension", signature), "DS302"},
		{"an empty second signature", inside("sac:SignatureInformation", `<ds:Signature xmlns:ds="`+nsDS+`"/>`), "DS302"},
		{"SignatureValue twice", twice("ds:SignatureValue"), "DS300"},
		{"X509Certificate twice", twice("ds:X509Certificate"), "DS300"},
		{"KeyInfo twice", twice("ds:KeyInfo"), "DS300"},
		{"SignedInfo twice", twice("ds:SignedInfo"), "DS300"},
		{"Object twice", twice("ds:Object"), "DS300"},
		{"SignedProperties twice", twice("xades:SignedProperties"), "DS300"},
		{"SigningTime twice", twice("xades:SigningTime"), "DS300"},
		{"X509IssuerName twice", twice("ds:X509IssuerName"), "DS300"},
		{"ExtensionURI twice", twice("ExtensionURI"), "DS300"},
		{"a third Reference", inside("ds:SignedInfo", `<ds:Reference URI=""><ds:DigestValue>x</ds:DigestValue></ds:Reference>`), "DS300"},
		{"SignedProperties outside the signature", strings.Replace(whole, "<cbc:ID>"+idSignature, `<xades:SignedProperties xmlns:xades="`+nsXAdES+`"/><cbc:ID>`+idSignature, 1), "DS320"},
		{"other text in the issuer's element", strings.Replace(whole, "</ds:X509IssuerName>", "<ds:X/>x</ds:X509IssuerName>", 1), "DS320 DS326"},
		{"the blocks in each other's place", strings.NewReplacer(extensions, pointer, pointer, extensions).Replace(whole), ""},
	} {
		t.Run(row.name, func(t *testing.T) { judged(t, []byte(row.document), row.want) })
	}
}

// What readers read differently is a warning, and no more: the digest may be the
// same with all of them that matter.
func TestWhatReadersReadDifferentlyIsWarnedOf(t *testing.T) {
	for _, row := range []struct{ name, content, want string }{
		{"nothing", "<cbc:Note>x y</cbc:Note>", ""},
		{"an indented document", "\r\n  <cbc:Note>x</cbc:Note>\r\n", ""},
		{"blanks by reference", "<cbc:Note>&#32;</cbc:Note>", ".NET keeps them"},
		{"blanks in CDATA", "<cbc:Note><![CDATA[ ]]></cbc:Note>", ".NET keeps them"},
		{"blanks beside CDATA", "<cbc:Note> <![CDATA[x]]></cbc:Note>", "libxml2 keeps them"},
		{"CR LF in a text", "<cbc:Note>x\r\ny</cbc:Note>", "keeps it as &#xD;"},
		{"a line end in an attribute", "<cbc:Note a='x\ny'>x</cbc:Note>", "keeps it as a reference"},
		{"xml:space", `<cbc:Note xml:space="preserve"> </cbc:Note>`, `xml:space="preserve" makes .NET keep`},
		{"an empty xml:lang", `<cbc:Note xml:lang="">x</cbc:Note>`, "leaves it out"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var said []string
			for _, f := range Verify([]byte(minimal(row.content)), VerifyOptions{}).Findings {
				if f.Code == "DS322" {
					said = append(said, string(f.Severity)+": "+f.Message)
				}
			}
			got := strings.Join(said, "; ")
			if !strings.Contains(got, row.want) || (got == "") != (row.want == "") || strings.Contains(got, "error") {
				t.Errorf("got %q, want a warning that says %q", got, row.want)
			}
		})
	}
}
