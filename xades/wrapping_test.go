package xades

import (
	"strings"
	"testing"
)

// wrapping is a way to rearrange a signed document so that one reader judges what
// another does not read.
type wrapping struct {
	name   string
	change func(text string) string
	want   string // codes; none where no reader can be misled
	warned string // part of a warning, if there must be one
}

// judge asserts what is said of the rearranged document; that without an error its
// covered content is what it was; and that it is never valid once that is changed.
func (w wrapping) judge(t *testing.T, signed, old, new string) {
	t.Helper()
	text := w.change(signed)
	if text == signed && w.name != "nothing" {
		t.Fatal("nothing was rearranged")
	}
	r := judged(t, []byte(text), w.want)
	if before, err := DigestAsIs([]byte(signed)); r.Valid() && (err != nil || r.Digest != before) {
		t.Errorf("valid with the digest %x, signed with %x (%v)", r.Digest, before, err)
	}
	said := w.warned == ""
	for _, f := range r.Findings {
		said = said || f.Severity == SeverityWarning && strings.Contains(f.Message, w.warned)
	}
	if !said {
		t.Errorf("no warning says %q", w.warned)
	}
	changed := strings.Replace(text, old, new, 1)
	if changed == text {
		t.Fatal("there is no content to change")
	}
	for _, document := range []string{changed, w.change(strings.Replace(signed, old, new, 1))} {
		if Verify([]byte(document), VerifyOptions{}).Valid() {
			t.Errorf("valid with other content: %s", document)
		}
	}
}

func replacing(pairs ...string) func(string) string {
	return func(text string) string {
		for i := 0; i < len(pairs); i += 2 {
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		return text
	}
}

// between gives what stands from one text to another, both included.
func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	inner, _, found := strings.Cut(rest, to)
	if !found {
		return "none of " + from
	}
	return from + inner + to
}

// moved takes out what stands from one text to another, and puts it after a third.
func moved(from, to, after string) func(string) string {
	return func(text string) string {
		part := between(text, from, to)
		return strings.Replace(strings.Replace(text, part, "", 1), after, after+part, 1)
	}
}

// copied puts what stands from one text to another after a third as well.
func copied(from, to, after string) func(string) string {
	return func(text string) string {
		return strings.Replace(text, after, after+between(text, from, to), 1)
	}
}

func TestNoWrappingMisleadsAReaderOfXML(t *testing.T) {
	whole := string(signed(t, []byte(minimal("")), Options{}))
	const (
		props, propsEnd           = `<xades:SignedProperties `, `</xades:SignedProperties>`
		signature, signatureEnd   = `<ds:Signature `, `</ds:Signature>`
		reference, referenceEnd   = `<ds:Reference Id="id-doc-signed-data"`, `</ds:Reference>`
		extensions, extensionsEnd = `<UBLExtensions `, `</UBLExtensions>`
		supplier                  = `<cac:AccountingSupplierParty>`
		blocksOpen                = `<UBLExtensions xmlns="` + nsExt + `">`
	)
	inPrefix := func(old, new string) func(string) string {
		return func(text string) string {
			return strings.NewReplacer("<"+old+":", "<"+new+":", "</"+old+":", "</"+new+":", "xmlns:"+old+"=", "xmlns:"+new+"=").Replace(text)
		}
	}
	reseal := func(change func(string) string) func(string) string {
		return func(text string) string { return resealed(t, change(text)) }
	}
	for _, row := range []wrapping{
		{"nothing", replacing(), "", ""},
		{"References in the other order", func(text string) string {
			part := between(text, reference, referenceEnd)
			return strings.Replace(strings.Replace(text, part, "", 1), "</ds:SignedInfo>", part+"</ds:SignedInfo>", 1)
		}, "", ""},
		{"two References to the document", copied(reference, referenceEnd, "<ds:SignedInfo>"), "DS300", ""},
		{"two References to the properties", copied(`<ds:Reference Type`, referenceEnd, "<ds:SignedInfo>"), "DS300", ""},
		{"both References to the document", replacing(`URI="#`+idProps+`"`, `URI=""`), "DS300", ""},
		{"both References to the properties", replacing(`URI=""`, `URI="#`+idProps+`"`), "DS300", ""},
		{"a Reference to something else", replacing("<ds:SignedInfo>", `<ds:SignedInfo><ds:Reference URI="#x"/>`), "DS300", ""},
		{"the References, swapped", replacing(`URI=""`, `URI="#swap"`, `URI="#`+idProps+`"`, `URI=""`, `URI="#swap"`, `URI="#`+idProps+`"`), "DS320 DS322 DS333", ""},
		{"References nested", replacing(referenceEnd+`<ds:Reference Type`, `<ds:Reference Type`, referenceEnd+`</ds:SignedInfo>`, referenceEnd+referenceEnd+`</ds:SignedInfo>`), "DS315 DS319", ""},
		{"xml:base on the root", replacing("<Invoice ", `<Invoice xml:base="urn:other" `), "DS322", ""},
		{"xml:base on SignedInfo", replacing("<ds:SignedInfo>", `<ds:SignedInfo xml:base="urn:other">`), "", ""},
		{"xml:base on the properties", replacing(props, props+`xml:base="urn:other" `), "DS320", ""},
		{"xml:id on the properties", replacing(props, props+`xml:id="other" `), "DS320", ""},
		{"another prefix for ds", reseal(inPrefix("ds", "d")), "", ""},
		{"another prefix for xades", reseal(inPrefix("xades", "x")), "", ""},
		{"ds bound to something else", replacing(`xmlns:ds="`+nsDS+`"`, `xmlns:ds="urn:other"`), "DS301", ""},
		{"ds bound to something else in SignedInfo", replacing("<ds:SignedInfo>", `<ds:SignedInfo xmlns:ds="urn:other">`), "DS314 DS315 DS316 DS319 DS321", ""},
		{"ds bound to something else in KeyInfo", replacing("<ds:KeyInfo>", `<ds:KeyInfo xmlns:ds="urn:other">`), "DS305", ""},
		{"ds bound to something else at the value", replacing("<ds:SignatureValue>", `<ds:SignatureValue xmlns:ds="urn:other">`), "DS332", ""},
		{"ds bound to something else at the issuer", replacing("<ds:X509IssuerName>", `<ds:X509IssuerName xmlns:ds="urn:other">`), "DS320 DS324", ""},
		{"xades bound to something else", replacing(`xmlns:xades="`+nsXAdES+`"`, `xmlns:xades="urn:other"`), "DS303 DS313 DS317 DS320 DS324 DS325", ""},
		{"cbc bound to something else in the pointer", replacing("<cac:Signature>", `<cac:Signature xmlns:cbc="urn:other">`), "DS323", ""},
		{"the extension's namespace bound to something else", replacing("<UBLExtension>", `<UBLExtension xmlns="urn:other">`), "DS301", ""},
		{"cbc bound to something else at the root", replacing(`xmlns:cbc="`+nsCBC+`"`, `xmlns:cbc="urn:other"`), "- DS322 DS323", ""},
		{"no Transforms", func(text string) string {
			return strings.Replace(text, between(text, "<ds:Transforms>", "</ds:Transforms>"), "", 1)
		}, "", ""},
		{"Transforms that select something else", replacing("not(//ancestor-or-self::ext:UBLExtensions)", "self::node()[false()]"), "", ""},
		{"a Transform by XSLT", replacing("<ds:Transforms>", `<ds:Transforms><ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"><x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform"/></ds:Transform>`), "", ""},
		{"properties with another Id", reseal(replacing(`Id="`+idProps+`"`, `Id="other"`)), "", `have the Id "other"`},
		{"properties with another Id, digest left", replacing(`Id="`+idProps+`"`, `Id="other"`), "DS320", ""},
		{"properties twice", copied(props, propsEnd, propsEnd), "DS300", ""},
		{"properties in a second place", replacing("<ExtensionContent>", `<ExtensionContent><x:SignedProperties xmlns:x="`+nsXAdES+`" Id="`+idProps+`"/>`), "- DS320", ""},
		{"properties with a wrong Id, and right ones elsewhere", func(text string) string {
			part := between(text, props, propsEnd)
			text = strings.Replace(text, `Id="`+idProps+`"`, `Id="other"`, 1)
			return strings.Replace(text, "<ExtensionContent>", "<ExtensionContent>"+strings.Replace(part, "<xades:SignedProperties", `<xades:SignedProperties xmlns:ds="`+nsDS+`" xmlns:xades="`+nsXAdES+`"`, 1), 1)
		}, "DS320", ""},
		{"another element with the properties' Id", replacing("<ds:Object>", `<ds:Object Id="`+idProps+`">`), "-", ""},
		{"another element with the properties' ID", replacing("<ds:KeyInfo>", `<ds:KeyInfo ID="`+idProps+`">`), "-", ""},
		{"another element with the properties' xml:id", replacing("<ds:KeyInfo>", `<ds:KeyInfo xml:id="`+idProps+`">`), "-", ""},
		{"QualifyingProperties twice", copied("<xades:QualifyingProperties ", "</xades:QualifyingProperties>", "<ds:Object>"), "DS300", ""},
		{"Object twice", copied("<ds:Object>", "</ds:Object>", "</ds:Object>"), "DS300", ""},
		{"an empty second Object", replacing("<ds:Object>", "<ds:Object></ds:Object><ds:Object>"), "DS300", ""},
		{"a second SignedInfo", copied("<ds:SignedInfo>", "</ds:SignedInfo>", "</ds:SignedInfo>"), "DS300", ""},
		{"SignatureValue twice", copied("<ds:SignatureValue>", "</ds:SignatureValue>", "</ds:SignatureValue>"), "DS300", ""},
		{"a second certificate", copied("<ds:X509Certificate>", "</ds:X509Certificate>", "</ds:X509Certificate>"), "DS300", ""},
		{"a second X509Data", copied("<ds:X509Data>", "</ds:X509Data>", "</ds:X509Data>"), "DS300", ""},
		{"the signature in its own Object", func(text string) string {
			return strings.Replace(text, "</ds:Object>", between(text, signature, signatureEnd)+"</ds:Object>", 1)
		}, "DS302", ""},
		{"the signature higher up in its extension", moved(signature, signatureEnd, "<UBLExtension>"), "", "does not stand in ExtensionContent"},
		{"the signature outside an extension", moved(signature, signatureEnd, blocksOpen), "DS301", ""},
		{"the signature in the root", moved(signature, signatureEnd, supplier+"</cac:AccountingSupplierParty>"), "- DS301", ""},
		{"the signature in the pointer", moved(signature, signatureEnd, "<cac:Signature>"), "DS301", ""},
		{"a second signature in the pointer", copied(signature, signatureEnd, "<cac:Signature>"), "DS302", ""},
		{"a second signature outside an extension", copied(signature, signatureEnd, blocksOpen), "DS302", ""},
		{"UBLExtensions last", moved(extensions, extensionsEnd, supplier+"</cac:AccountingSupplierParty>"), "", ""},
		{"UBLExtensions further down", moved(extensions, extensionsEnd, supplier), "-", ""},
		{"UBLExtensions in the pointer", moved(extensions, extensionsEnd, "<cac:Signature>"), "- DS301", ""},
		{"other UBLExtensions in the pointer", replacing("<cac:Signature>", `<cac:Signature><UBLExtensions xmlns="`+nsExt+`">10 MYR</UBLExtensions>`), "-", ""},
		{"the pointer in UBLExtensions", moved("<cac:Signature>", "</cac:Signature>", "<ExtensionContent>"), "- DS323", ""},
		{"content in a second pointer", replacing(supplier, "<cac:Signature><cbc:Note>10 MYR</cbc:Note></cac:Signature>"+supplier), "-", ""},
	} {
		t.Run(row.name, func(t *testing.T) { row.judge(t, whole, "<cbc:ID>1</cbc:ID>", "<cbc:ID>2</cbc:ID>") })
	}
}

func TestNoWrappingMisleadsAReaderOfJSON(t *testing.T) {
	whole := string(signed(t, []byte(smallJSON), Options{}))
	const (
		toProps = `{"Type":"` + jsonTypeProps + `"`
		toDoc   = `{"Type":"","URI":"",`
		refEnd  = `"}]}`
	)
	twice := func(list string) func(string) string { // its one element, as two
		return func(text string) string {
			return strings.Replace(text, `"`+list+`":[{`, `"`+list+`":[{},{`, 1)
		}
	}
	for _, row := range []wrapping{
		{"nothing", replacing(), "", ""},
		{"References in the other order", func(text string) string {
			props, doc := between(text, toProps, refEnd), between(text, toDoc, refEnd)
			return strings.Replace(text, props+","+doc, doc+","+props, 1)
		}, "", ""},
		{"two References to the document", func(text string) string {
			doc := between(text, toDoc, refEnd)
			return strings.Replace(text, doc, doc+","+doc, 1)
		}, "DS300", ""},
		{"two References to the properties", func(text string) string {
			props := between(text, toProps, refEnd)
			return strings.Replace(text, props, props+","+props, 1)
		}, "DS300", ""},
		{"the References, swapped", replacing(toDoc, `{"Type":"swap",`, toProps+`,"URI":"#`+idProps+`"`, `{"Type":"","URI":""`, `{"Type":"swap",`, toProps+`,"URI":"#`+idProps+`",`), "DS320 DS322 DS333", ""},
		{"Transforms", replacing(toDoc, toDoc+`"Transforms":[{"Transform":[{"Algorithm":"http://www.w3.org/TR/1999/REC-xslt-19991116"}]}],`), "", ""},
		{"properties with another Id", func(text string) string {
			return resealed(t, strings.Replace(text, `"Id":"`+idProps+`"`, `"Id":"other"`, 1))
		}, "", `have the Id "other"`},
		{"properties with another Id, digest left", replacing(`"Id":"`+idProps+`"`, `"Id":"other"`), "DS320", ""},
		{"another part with the properties' Id", replacing(`"KeyInfo":[{`, `"KeyInfo":[{"Id":"`+idProps+`",`), "-", ""},
		{"properties twice", twice("SignedProperties"), "DS300", ""},
		{"QualifyingProperties twice", twice("QualifyingProperties"), "DS300", ""},
		{"Object twice", twice("Object"), "DS300", ""},
		{"a second SignedInfo", twice("SignedInfo"), "DS300", ""},
		{"SignatureValue twice", twice("SignatureValue"), "DS300", ""},
		{"a second certificate", twice("X509Certificate"), "DS300", ""},
		{"a second X509Data", twice("X509Data"), "DS300", ""},
		{"a member twice", replacing(`"SignatureValue":[`, `"SignatureValue":[],"SignatureValue":[`), "DS300", ""},
		{"a member twice, once escaped", replacing(`"SignatureValue":[`, `"Signature\u0056alue":[],"SignatureValue":[`), "DS300", ""},
		{"a member twice but for case", replacing(`"SignatureValue":[`, `"signatureValue":[],"SignatureValue":[`), "-", ""},
		{"a second signature beside it", replacing(`"Signature":[{"Id"`, `"Signature":[{},{"Id"`), "DS302", ""},
		{"a second signature in an Object", replacing(`"Object":[{`, `"Object":[{"Signature":[{}],`), "DS302", ""},
		{"a second signature in its extension", replacing(`"ExtensionContent":[`, `"Signature":[{}],"ExtensionContent":[`), "DS302", ""},
		{"the signature under another name", replacing(`"Signature":[{"Id"`, `"Other":[{"Id"`), "DS301", ""},
		{"UBLExtensions first", func(text string) string {
			block := between(text, `,"UBLExtensions":`, `}]}]}]}]}]}]}]}]}]`)
			text = strings.Replace(text, block, "", 1)
			return strings.Replace(text, `"Invoice":[{`, `"Invoice":[{`+block[1:]+",", 1)
		}, "", ""},
		{"UBLExtensions twice in its list", replacing(`"UBLExtensions":[`, `"UBLExtensions":[{},`), "-", ""},
		{"the pointer twice in its list", replacing(`"Signature":[{"ID"`, `"Signature":[{},{"ID"`), "- DS323", ""},
		{"other UBLExtensions in the pointer", replacing(`"Signature":[{"ID"`, `"Signature":[{"UBLExtensions":["10 MYR"],"ID"`), "-", ""},
		{"UBLExtensions further down", replacing(`"Total":[{`, `"Total":[{"UBLExtensions":[],`), "DS322", ""},
		{"a second invoice", replacing(`"Invoice":[{`, `"Invoice":[{},{`), "DS300", ""},
		{"UBLExtensions at the top", replacing(`{"Invoice"`, `{"UBLExtensions":[],"Invoice"`), "DS322", ""},
	} {
		t.Run(row.name, func(t *testing.T) { row.judge(t, whole, `"_":"7"`, `"_":"8"`) })
	}
}
