package xades

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// within puts what is given into the root of an otherwise empty document.
func within(content string) string {
	return `<Invoice xmlns="` + nsInvoice + `">` + content + `</Invoice>`
}

func numbered(count int, format string) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestWhatIsNoXMLIsRefusedInOneSentence(t *testing.T) {
	const reserved = "belong to each other only"
	for _, row := range []struct{ name, source, want string }{
		{"no element", "<!-- x -->", "no element in it"},
		{"a declaration only", `<?xml version="1.0"?>`, "no element in it"},
		{"a tag that does not end", within("<a "), "line 1, column 76: a name is expected here"},
		{"cut short in a tag", "<Invoice ", "the document ends within a tag; it is truncated"},
		{"cut short after <", within("")[:72] + "<", "the document ends within a tag; it is truncated"},
		{"cut short in an attribute", `<Invoice xmlns="`, "the document ends within an attribute value; it is truncated"},
		{"cut short in an end tag", within("<a></a"), "the end tag of a does not close"},
		{"cut short in a comment", within("<!-- a"), "a comment that does not end"},
		{"cut short in CDATA", within("<![CDATA[ a"), "a CDATA section that does not end"},
		{"cut short in an instruction", "<?a", "a processing instruction that does not end"},
		{"the wrong end tag", within("<a></b>"), "</b> where </a> is expected"},
		{"the same name with another prefix", within(`<x:a xmlns:x="urn:x" xmlns:y="urn:x"></y:a>`), "</y:a> where </x:a> is expected"},
		{"an end tag too many", within("") + "</a>", "</a> ends nothing"},
		{"an end tag with attributes", within(`<a></a b="c">`), "the end tag of a does not close"},
		{"an end tag closed twice", within("</a/>"), "the end tag of a does not close"},
		{"text before the root", "x" + within(""), "neither XML nor JSON"},
		{"text after the root", within("") + " x", "text outside the root element"},
		{"a reference after the root", within("") + "&#32;", "text outside the root element"},
		{"CDATA after the root", within("") + "<![CDATA[]]>", "a CDATA section outside the root element"},
		{"a zero byte after the root", within("") + "\x00", "character U+0000 is not allowed in XML"},

		{"a name that begins with a digit", within("<1a/>"), "a name is expected here"},
		{"a name that begins with a hyphen", within("<-a/>"), "a name is expected here"},
		{"a name that begins with a mark", within("<\u0301a/>"), "U+0301 where a name is expected"},
		{"a name with a multiplication sign", within("<a\u00d7/>"), "U+00D7 where a name is expected"},
		{"a name of invalid UTF-8", within("<a\xff/>"), "invalid UTF-8 (byte 0xff)"},
		{"a blank before the name", within("< a/>"), "a name is expected here"},
		{"an empty prefix", within("<:a/>"), "a name is expected here"},
		{"an empty local name", within("<a:/>"), "a name is expected here"},
		{"two colons", within(`<a:b:c xmlns:a="urn:a"/>`), "a blank is missing before this attribute"},
		{"two colons in an attribute", within(`<b xmlns:a="urn:a" a:b:c="1"/>`), "attribute a:b has no value"},

		{"an attribute without a value", within("<a b/>"), "attribute b has no value"},
		{"an attribute without quotes", within("<a b=1/>"), "the value of attribute b is not quoted"},
		{"attributes without a blank between", within(`<a b="1"c="2"/>`), "a blank is missing before this attribute"},
		{"< in an attribute", within(`<a b="<"/>`), "< in an attribute value; write &lt;"},
		{"& in an attribute", within(`<a b="a & b"/>`), "& that begins no reference; write &amp;"},
		{"a slash in a tag", within(`<a / b="1">`), "/ in a tag without the > after it"},
		{"an attribute twice", within(`<a b="1" b="1"/>`), "<a> has attribute b twice"},
		{"an attribute twice by two prefixes", within(`<a xmlns:x="urn:n" xmlns:y="urn:n" x:b="1" y:b="1"/>`), "<a> has attribute y:b twice"},
		{"one twice among many", within(`<a ` + numbered(40, `b%d="" `) + `b7=""/>`), "<a> has attribute b7 twice"},
		{"one twice by two prefixes among many", within(`<a xmlns:x="urn:n" ` + numbered(40, `x:b%d="" `) + ` xmlns:y="urn:n" y:b7=""/>`), ":b7 twice"},
		{"a declaration twice", within(`<a xmlns:x="urn:x" xmlns:x="urn:x"/>`), "<a> has attribute xmlns:x twice"},
		{"the default declaration twice", within(`<a xmlns="urn:x" xmlns="urn:x"/>`), "<a> has attribute xmlns twice"},

		{"an unbound prefix", within("<x:a/>"), "the prefix x of <x:a> is not declared"},
		{"an unbound prefix of an attribute", within(`<a x:b="1"/>`), "the prefix x of attribute x:b is not declared"},
		{"a prefix out of scope", within(`<a xmlns:x="urn:x"/><x:b/>`), "the prefix x of <x:b> is not declared"},
		{"a prefix undeclared", within(`<a xmlns:x="urn:x"><b xmlns:x=""/></a>`), `xmlns:x="" undeclares a prefix, which XML 1.0 does not know`},
		{"xmlns declared", within(`<a xmlns:xmlns="urn:x"/>`), "the prefix xmlns is reserved"},
		{"xmlns as a prefix", within(`<xmlns:a/>`), "the prefix xmlns of <xmlns:a> is not declared"},
		{"xml bound to another namespace", within(`<a xmlns:xml="urn:x"/>`), reserved},
		{"another prefix bound to xml's", within(`<a xmlns:x="` + nsXML + `"/>`), reserved},
		{"the default bound to xml's", within(`<a xmlns="` + nsXML + `"/>`), reserved},
		{"a prefix bound to xmlns's", within(`<a xmlns:x="` + nsXMLNS + `"/>`), "is reserved"},
		{"a relative namespace", within(`<a xmlns:x="x/y"/>`), `namespace "x/y" is a relative URI, which canonical XML refuses`},
		{"a relative default namespace", within(`<a xmlns="#x"/>`), "is a relative URI"},
		{"a namespace of one word", within(`<a xmlns="urn"/>`), "is a relative URI"},
		{"a namespace that begins with a colon", within(`<a xmlns=":x"/>`), "is a relative URI"},

		{"a zero byte", within("\x00"), "character U+0000 is not allowed in XML"},
		{"a control character", within("\x1b[2J"), "character U+001B is not allowed in XML"},
		{"U+FFFE", within("\ufffe"), "character U+FFFE is not allowed in XML"},
		{"U+FFFF in an attribute", within("<a b='\uffff'/>"), "character U+FFFF is not allowed in XML"},
		{"a form feed in a comment", within("<!--\f-->"), "character U+000C is not allowed in XML"},
		{"a vertical tab in CDATA", within("<![CDATA[\v]]>"), "character U+000B is not allowed in XML"},
		{"a zero byte in an instruction", within("<?a \x00?>"), "character U+0000 is not allowed in XML"},
		{"Latin-1", within("caf\xe9 "), "invalid UTF-8 (byte 0xe9); save the document as UTF-8"},
		{"an overlong slash", within("\xc0\xaf"), "invalid UTF-8 (byte 0xc0)"},
		{"an overlong <", within("\xc0\xbca/>"), "invalid UTF-8 (byte 0xc0)"},
		{"a surrogate", within("\xed\xa0\x80"), "invalid UTF-8 (byte 0xed)"},
		{"beyond Unicode", within("\xf4\x90\x80\x80"), "invalid UTF-8 (byte 0xf4)"},
		{"half a character at the end", within("\xe2\x82")[:len(within(""))-len("</Invoice>")+2], "invalid UTF-8 (byte 0xe2)"},
		{"a mark of UTF-16 within", within("\ufffe"), "not allowed"},

		{"a reference to nothing", within("&;"), "&; is not a reference XML allows without a DTD"},
		{"& alone", within("a & b"), "& that begins no reference; write &amp;"},
		{"an HTML entity", within("&nbsp;"), "&nbsp; is not a reference XML allows without a DTD"},
		{"a reference in capitals", within("&LT;"), "&LT; is not a reference"},
		{"a reference with a blank", within("& lt;"), "& lt; is not a reference"},
		{"a reference to zero", within("&#0;"), "&#0; is not a reference"},
		{"a reference to a surrogate", within("&#xD800;"), "&#xD800; is not a reference"},
		{"a reference to U+FFFF", within("&#65535;"), "&#65535; is not a reference"},
		{"a reference beyond Unicode", within("&#x110000;"), "&#x110000; is not a reference"},
		{"a reference beyond 64 bits", within("&#x10000000000000041;"), "is not a reference"},
		{"a reference of no digits", within("&#;"), "&#; is not a reference"},
		{"a hexadecimal reference of no digits", within("&#x;"), "&#x; is not a reference"},
		{"a reference with a capital X", within("&#X41;"), "&#X41; is not a reference"},
		{"a negative reference", within("&#-65;"), "&#-65; is not a reference"},
		{"a decimal reference of hexadecimal digits", within("&#4a;"), "&#4a; is not a reference"},
		{"]]> in text", within("a]]>b"), "]]> in text; write ]]&gt;"},

		{"-- in a comment", within("<!-- a -- b -->"), "-- within a comment"},
		{"a comment that ends with ---", within("<!-- a --->"), "-- within a comment"},
		{"a comment of one hyphen", within("<!-->"), "a comment that does not end"},
		{"a CDATA section in small letters", within("<![cdata[x]]>"), "<! that begins neither a comment nor a CDATA section"},
		{"an ELEMENT", within("<!ELEMENT a ANY>"), "<! that begins neither a comment nor a CDATA section"},
		{"a DOCTYPE", "<!DOCTYPE Invoice>" + within(""), "a DOCTYPE is refused, since it can change what the document says; remove it"},
		{"a DOCTYPE after the declaration", `<?xml version="1.0"?><!DOCTYPE Invoice [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + within("&x;"), "a DOCTYPE is refused"},
		{"a DOCTYPE within", within("<!DOCTYPE a>"), "a DOCTYPE is refused"},
		{"a second declaration", `<?xml version="1.0"?><?xml version="1.0"?>` + within(""), "<?xml stands at the very beginning of a document or nowhere"},
		{"a declaration within", within(`<?xml version="1.0"?>`), "<?xml stands at the very beginning"},
		{"a declaration in capitals", within("<?XML x?>"), "<?xml stands at the very beginning"},
		{"a declaration without a version", `<?xml encoding="UTF-8"?>` + within(""), "the XML declaration is not well-formed"},
		{"a declaration in another order", `<?xml encoding="UTF-8" version="1.0"?>` + within(""), "the XML declaration is not well-formed"},
		{"a declaration with two kinds of quotes", `<?xml version="1.0'?>` + within(""), "the XML declaration is not well-formed"},
		{"a declaration that is neither alone nor not", `<?xml version="1.0" standalone="maybe"?>` + within(""), "the XML declaration is not well-formed"},
		{"a declaration of many blanks", `<?xml version="1.0"` + strings.Repeat(" ", 500) + `?>` + within(""), "an XML declaration of over 512 bytes"},
		{"version 2", `<?xml version="2.0"?>` + within(""), "the XML declaration is not well-formed"},
		{"version 1.1", `<?xml version="1.1"?>` + within(""), "XML version 1.1 is refused; MyInvois documents are XML 1.0"},
		{"windows-1252", `<?xml version="1.0" encoding="windows-1252"?>` + within(""), "it declares the encoding windows-1252; save it as UTF-8 and declare that"},
		{"US-ASCII", `<?xml version="1.0" encoding='US-ASCII'?>` + within(""), "it declares the encoding US-ASCII"},
		{"an instruction without a name", within("<? a?>"), "a name is expected here"},
		{"an instruction with a colon", within("<?a:b?>"), "a processing instruction with a colon in its name"},
		{"an instruction without a blank", within("<?a=b?>"), "a blank is missing after the processing instruction's name"},

		{"129 deep", "<Invoice xmlns='" + nsInvoice + "'>" + strings.Repeat("<a>", 128), "elements nested over 128 deep"},
		{"129 attributes", within("<a" + numbered(129, ` b%d=""`) + "/>"), "an element with over 128 attributes"},
		{"129 declarations in scope", within("<a" + numbered(128, ` xmlns:b%d="urn:x"`) + "/>"), "over 128 namespace declarations in scope"},
		{"129 declarations one in the other", within(numbered(100, "<a xmlns='urn:%d'>") + "<a" + numbered(28, " xmlns:a%d='urn:a'") + ">"), "over 128 namespace declarations in scope"},
		{"a name of 513 bytes", within("<" + strings.Repeat("a", 513) + "/>"), "a name of over 512 bytes"},
		{"an attribute's name of 513 bytes", within("<a " + strings.Repeat("é", 257) + "=''/>"), "a name of over 512 bytes"},
		{"a namespace of 513 bytes", within("<a xmlns='urn:" + strings.Repeat("a", 509) + "'/>"), "a namespace URI of over 512 bytes"},
		{"a reference of 65 bytes", within("&#x" + strings.Repeat("0", 64) + "41;"), "& that begins no reference"},
		{"blocks of over 64 KB", within(`<e:UBLExtensions xmlns:e="` + nsExt + `">` + strings.Repeat("x", 70_000) + `</e:UBLExtensions>`), "UBLExtensions and cac:Signature of over 65536 bytes"},
		{"many blocks", within(strings.Repeat(`<e:UBLExtensions xmlns:e="`+nsExt+`"/>`, 1000)), "UBLExtensions and cac:Signature of over 65536 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := DigestAsIs([]byte(row.source))
			refused(t, err, ErrMalformed, row.want)
			if len(err.Error()) > 1000 {
				t.Errorf("the sentence has %d bytes", len(err.Error()))
			}
			if r := Verify([]byte(row.source), VerifyOptions{}); errorCodes(r) != "DS300" {
				t.Errorf("got the codes %s, want DS300", errorCodes(r))
			}
		})
	}
}

func TestWhatIsJustWithinTheBoundsIsRead(t *testing.T) {
	for name, source := range map[string]string{
		"128 deep":                   "<Invoice xmlns='" + nsInvoice + "'>" + strings.Repeat("<a>", 127) + strings.Repeat("</a>", 127) + "</Invoice>",
		"128 attributes":             within("<a" + numbered(128, ` b%d=""`) + "/>"),
		"128 declarations in scope":  within("<a" + numbered(127, ` xmlns:b%d="urn:x"`) + "/>"),
		"many siblings that declare": within(strings.Repeat("<a xmlns='urn:a' xmlns:b='urn:b'/>", 1000)),
		"a name of 512 bytes":        within("<" + strings.Repeat("a", 512) + "/>"),
		"a long reference":           within("&#x000000000000000000000000000041;"),
		"names of other scripts":     within("<名前 é·='1'/>"),
	} {
		if _, err := DigestAsIs([]byte(source)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCuttingXMLAnywhereIsAnErrorNotAPanic(t *testing.T) {
	t.Parallel()
	g := &generator{Rand: rand.New(rand.NewPCG(7, 2026)), blanks: true, comments: true, blocks: true}
	documents := [][]byte{[]byte(minimal("<?a b?><!-- é --><a b='&#x1F600;'>&lt;<![CDATA[]]]]></a>"))}
	for range 6 {
		document, _ := g.signedProperties()
		documents = append(documents, []byte(strings.TrimRight(document, " \t\r\n")))
	}
	for _, document := range documents {
		for n := range document {
			if _, err := scanXML(document[:n], xmlOptions{}); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q cut to %d bytes: got %v, want an error that is %q", document, n, err, ErrMalformed)
			}
		}
	}
}

func TestFactsOfXMLComeFromFixedPathsOnly(t *testing.T) {
	id := func(scheme, value string) string {
		return `<cac:PartyIdentification><cbc:ID schemeID="` + scheme + `">` + value + `</cbc:ID></cac:PartyIdentification>`
	}
	document := func(code string) string {
		return `<Invoice xmlns="` + nsInvoice + `" xmlns:cac="` + nsCAC + `" xmlns:cbc="` + nsCBC + `"><cac:X><cbc:ID>no</cbc:ID></cac:X><cbc:ID> A&amp;<!-- -->B<![CDATA[<1>]]>&#9;</cbc:ID>` +
			`<cbc:IssueDate>2026-10-02</cbc:IssueDate><cbc:IssueTime>00:00:00Z</cbc:IssueTime><ID>no</ID>` +
			`<cbc:InvoiceTypeCode listVersionID="1.1">` + code + `</cbc:InvoiceTypeCode><cac:Delivery><cac:DeliveryParty>` + id("TIN", "C3") + `</cac:DeliveryParty></cac:Delivery>` +
			`<cac:AccountingSupplierParty><cac:Party>` + id("BRN", "B1") + id("TIN", "\n C1 ") + id("SST", "NA") + `<cac:X>` + id("TIN", "C4") + `</cac:X></cac:Party></cac:AccountingSupplierParty>` +
			`<cac:AccountingCustomerParty><cac:Party>` + id("TIN", "C2") + id("BRN", "B2") + `</cac:Party></cac:AccountingCustomerParty></Invoice>`
	}
	for code, want := range map[string]Facts{
		"01": {Type: "01", TIN: "C1", BRN: "B1"},
		"12": {Type: "12", TIN: "C2", BRN: "B2", SelfBilled: true},
	} {
		want.Number, want.Version, want.IssueDate, want.IssueTime = "A&B<1>", "1.1", "2026-10-02", "00:00:00Z"
		if got, err := Inspect([]byte(document(code))); err != nil || got != want {
			t.Errorf("type %s: got %+v (%v), want %+v", code, got, err, want)
		}
	}
}
