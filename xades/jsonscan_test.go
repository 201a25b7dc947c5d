package xades

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// in puts the members into the invoice of an otherwise empty document.
func in(members string) string { return `{"Invoice":[{` + members + `}]}` }

func scanned(t testing.TB, src string, opt jsonOptions) *jsonDocument {
	t.Helper()
	d, err := scanJSON([]byte(src), opt)
	if err != nil {
		t.Fatalf("scanning %s: %v", shorten([]byte(src)), err)
	}
	return d
}

func TestWhatIsNoJSONIsRefusedInOneSentence(t *testing.T) {
	for _, row := range []struct{ name, src, want string }{
		{"nothing", "", "the document is empty"},
		{"blanks only", " \r\n\t", "the document is empty"},
		{"a byte order mark only", "\ufeff", "the document is empty"},
		{"UTF-16 with a mark", "\xff\xfe{\x00}\x00", "UTF-16; save it as UTF-8"},
		{"big-endian UTF-16 with a mark", "\xfe\xff\x00{\x00}", "UTF-16; save it as UTF-8"},
		{"UTF-16 without a mark", "{\x00}\x00", "UTF-16; save it as UTF-8"},
		{"big-endian UTF-16 without a mark", "\x00{\x00}", "UTF-16; save it as UTF-8"},
		{"UTF-32 with a mark", "\xff\xfe\x00\x00{\x00\x00\x00", "UTF-32; save it as UTF-8"},
		{"big-endian UTF-32 without a mark", "\x00\x00\x00{\x00\x00\x00}", "UTF-32; save it as UTF-8"},
		{"Latin-1", in(`"a":"caf` + "\xe9" + `"`), "line 1, column 22: the byte 0xe9 is not part of a character in UTF-8"},
		{"an overlong zero", in(`"a":"` + "\xc0\x80" + `"`), "the byte 0xc0"},
		{"a surrogate in UTF-8", in(`"a":"` + "\xed\xa0\x80" + `"`), "the byte 0xed"},
		{"a second byte order mark", "\ufeff\ufeff{}", "starts with a brace, not with '\\ufeff'"},
		{"an array", "[]", "starts with a brace, not with '['"},
		{"a bare string", `"Invoice"`, "starts with a brace"},
		{"a PDF", "%PDF-1.7", "starts with a brace, not with '%'"},
		{"cut short in an object", "{\n  \"Invoice\"", "line 2, column 12: the document ends where a colon belongs; it has been cut short"},
		{"cut short after a colon", `{"Invoice":`, "the document ends where a value belongs"},
		{"cut short after a comma", `{"Invoice":[{"a":1,`, "the document ends where a member's name belongs"},
		{"cut short in a string", in(`"a":"b`)[:20], "the document ends where the closing quote of a string belongs"},
		{"cut short in an escape", `{"Invoice":[{"a":"\`, "the document ends in an escape"},
		{"cut short in a \\u", `{"Invoice":[{"a":"\u00`, "four hexadecimal digits"},
		{"cut short in a number", `{"Invoice":[{"a":1.`, "the document ends where a digit belongs"},
		{"cut short in a word", `{"Invoice":[{"a":tru`, "a value belongs here, not 't'"},
		{"cut short before the last brace", `{"Invoice":[{"a":1}]`, "the document ends where a comma or '}' belongs"},
		{"something after the end", in("") + "\n x", "line 2, column 2: the document has ended, but 'x' follows"},
		{"two documents", in("") + in(""), "the document has ended, but '{' follows"},
		{"a zero byte after the end", in("") + "\x00", `the document has ended, but '\x00' follows`},
		{"a comment", in(`/* x */"a":1`), "JSON has no comments"},
		{"a comment before a value", in(`"a": // x` + "\n1"), "JSON has no comments"},
		{"a comma behind the last member", in(`"a":1,`), "the comma before this '}' has nothing after it"},
		{"a comma behind the last element", in(`"a":[1 , ]`), "the comma before this ']' has nothing after it"},
		{"two commas", in(`"a":[1,,2]`), "a value belongs here, not ','"},
		{"no comma", in(`"a":[1 2]`), "a comma or ']' belongs here, not '2'"},
		{"no colon", in(`"a" 1`), "a colon belongs here, not '1'"},
		{"single quotes", in(`'a':1`), "not a single quote; names and texts stand in double quotes"},
		{"a bare name", in(`a:1`), "a member's name belongs here, not 'a'"},
		{"a name that is a number", in(`1:1`), "a member's name belongs here, not '1'"},
		{"a leading zero", in(`"a":01`), "a number has a leading zero"},
		{"a leading zero behind a minus", in(`"a":-012.5`), "a number has a leading zero"},
		{"a plus", in(`"a":+1`), "a number starts with a digit or a minus"},
		{"a point first", in(`"a":.5`), "a number starts with a digit or a minus"},
		{"a point last", in(`"a":5.`), "a digit belongs here, not '}'"},
		{"a minus alone", in(`"a":-`), "a digit belongs here"},
		{"an exponent without digits", in(`"a":1e+`), "a digit belongs here"},
		{"a hexadecimal number", in(`"a":0x10`), "a comma or '}' belongs here, not 'x'"},
		{"NaN", in(`"a":NaN`), "a value belongs here, not 'N'"},
		{"-Infinity", in(`"a":-Infinity`), "a digit belongs here, not 'I'"},
		{"undefined", in(`"a":undefined`), "a value belongs here, not 'u'"},
		{"a word with more letters", in(`"a":nulls`), "a comma or '}' belongs here, not 's'"},
		{"True", in(`"a":True`), "a value belongs here, not 'T'"},
		{"a newline in a string", in("\"a\":\"b\nc\""), "the control character U+000A stands bare in a string"},
		{"a zero byte in a string", in("\"a\":\"b\x00c\""), "the control character U+0000 stands bare"},
		{"a tab in a name", in("\"a\t\":1"), "the control character U+0009 stands bare"},
		{"an unknown escape", in(`"a":"\x41"`), "a character that has no escape"},
		{"an escaped single quote", in(`"a":"\'"`), "a character that has no escape"},
		{"a capital U", in(`"a":"\U0041"`), "a character that has no escape"},
		{"\\u with a letter beyond f", in(`"a":"\u00g0"`), "four hexadecimal digits"},
		{"half a surrogate pair", in(`"a":"\ud83d"`), "half of a surrogate pair stands alone"},
		{"the second half alone", in(`"a":"\ude00x"`), "half of a surrogate pair stands alone"},
		{"two first halves", in(`"a":"\ud83d\ud83d"`), "half of a surrogate pair stands alone"},
		{"a half before another escape", in(`"a":"\ud83d\n"`), "half of a surrogate pair stands alone"},
		{"half a pair in a name", in(`"\ud83d":1`), "half of a surrogate pair stands alone"},
		{"a form feed between values", in("\f"), `a member's name belongs here, not '\f'`},
		{"a no-break space between values", in("\u00a0"), `a member's name belongs here, not '\u00a0'`},
		{"65 levels", in(`"a":` + strings.Repeat("[", 62) + strings.Repeat("]", 62)), "nest deeper than 64 levels"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := scanJSON([]byte(row.src), jsonOptions{literals: literalsSafe})
			refused(t, err, ErrMalformed, row.want)
		})
	}
}

func TestWhatIsNoInvoiceIsRefused(t *testing.T) {
	for _, row := range []struct{ name, src, want string }{
		{"an empty object", "{}", "no member Invoice"},
		{"another name", `{"invoice":[{}]}`, "no member Invoice"},
		{"Invoice further down", `{"a":{"Invoice":[{}]}}`, "no member Invoice"},
		{"an object", `{"Invoice":{}}`, "the member Invoice is not an array"},
		{"null", `{"Invoice":null}`, "the member Invoice is not an array"},
		{"an empty array", `{"Invoice":[ ]}`, "the array Invoice is empty"},
		{"two invoices", `{"Invoice":[{"ID":[]},{"ID":[]}]}`, "line 1, column 23: the array Invoice has a second element"},
		{"an invoice and a number", `{"Invoice":[{},1]}`, "the array Invoice has a second element"},
		{"an array in the array", `{"Invoice":[[{}]]}`, "the element Invoice[0] is not an object"},
		{"a number in the array", `{"Invoice":[1]}`, "the element Invoice[0] is not an object"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := scanJSON([]byte(row.src), jsonOptions{})
			refused(t, err, ErrMalformed, row.want)
		})
	}
}

func TestAMemberThatOccursTwiceIsRefusedByItsPath(t *testing.T) {
	many := &strings.Builder{}
	for i := range 5000 {
		fmt.Fprintf(many, `"m%d":0,`, i)
	}
	for _, row := range []struct{ name, src, want string }{
		{"at the top", `{"_D":"a","_D":"a"}`, "line 1, column 11: the member _D occurs twice"},
		{"Invoice itself", `{"Invoice":[{}],"Invoice":[{}]}`, "the member Invoice occurs twice"},
		{"deep down", in(`"TaxTotal":[{"a":[{}],"TaxSubtotal":[{}],"TaxSubtotal":[{}]}]`), "the member Invoice[0].TaxTotal[0].TaxSubtotal occurs twice"},
		{"in a later element", in(`"L":[{"a":1},{"a":1,"b":{"a":1},"a":2}]`), "the member Invoice[0].L[1].a occurs twice"},
		{"one of them escaped", in(`"ab":1,"\u0061b":1`), "the member Invoice[0].ab occurs twice"},
		{"escaped in two ways", in(`"\/":1,"\u002f":1`), `the member Invoice[0]["/"] occurs twice`},
		{"an empty name", in(`"":1,"":1`), `the member Invoice[0][""] occurs twice`},
		{"a name with a dot", in(`"a.b":1,"a.b":1`), `the member Invoice[0]["a.b"] occurs twice`},
		{"among thousands, the first", in(many.String() + `"m0":0`), "the member Invoice[0].m0 occurs twice"},
		{"among thousands, the last", in(many.String() + `"m4999":0`), "the member Invoice[0].m4999 occurs twice"},
		{"in what is taken out", in(`"UBLExtensions":[{"x":1,"x":2}]`), "the member Invoice[0].UBLExtensions[0].x occurs twice"},
		{"two signatures", in(`"Signature":[],"a":1,"Signature":[]`), "the member Invoice[0].Signature occurs twice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := scanJSON([]byte(row.src), jsonOptions{})
			refused(t, err, ErrMalformed, row.want)
		})
	}
	scanned(t, in(`"a":{"a":{"A":1}},"A":[{"a":1},{"a":1}],"`+strings.Repeat("x", 3000)+`":1`), jsonOptions{})
}

func refused(t *testing.T, err, kind error, want string) {
	t.Helper()
	switch {
	case !errors.Is(err, kind):
		t.Fatalf("got the error %v, want one that is %q", err, kind)
	case !strings.Contains(err.Error(), want):
		t.Errorf("got the error %q, want one that says %q", err, want)
	case strings.Count(err.Error(), "\n") > 0:
		t.Errorf("got more than one line: %q", err)
	}
}

func TestTheCanonicalTextIsTheSourceMinifiedWithoutItsSignature(t *testing.T) {
	deep := in(`"a":` + strings.Repeat("[", 61) + strings.Repeat("]", 61))
	for _, row := range []struct{ name, src, want string }{
		{"blanks between all tokens", "\ufeff {\r\n\t\"Invoice\" : [ { \"a\" : [ 1 , true ,\n null ] , \"b\" : { } , \"c\" : [ ] } ] } \n", in(`"a":[1,true,null],"b":{},"c":[]`)},
		{"blanks inside strings stay", in(`"a":"  b \t c  "`), in(`"a":"  b \t c  "`)},
		{"literals stay", in(`"a":[85.00,1e2,-0,1E+400,"\u0041\/","é<&>",false]`), in(`"a":[85.00,1e2,-0,1E+400,"\u0041\/","é<&>",false]`)},
		{"the order stays", `{"z":1,"Invoice":[{"b":1,"a":2}],"_D":"x"}`, `{"z":1,"Invoice":[{"b":1,"a":2}],"_D":"x"}`},
		{"the block is last", in(`"a":1,"UBLExtensions":[{}],"Signature":[{}]`), in(`"a":1`)},
		{"the block is first", in(`"UBLExtensions":[{}],"Signature":[{}],"a":1`), in(`"a":1`)},
		{"the block is in between", in(`"a":1,"UBLExtensions":[{}],"b":2,"Signature":[{}],"c":3`), in(`"a":1,"b":2,"c":3`)},
		{"the block stands around", in(`"Signature":[{}],"a":1,"UBLExtensions":[{}]`), in(`"a":1`)},
		{"the block alone", in(` "Signature" : 1 , "UBLExtensions" : 2 `), in(``)},
		{"one half of the block alone", in(`"Signature":null`), in(``)},
		{"its names in escapes", in(`"a":1,"\u0053ignature":[],"UBLExtension\u0073":[]`), in(`"a":1`)},
		{"names like it elsewhere stay", `{"Signature":1,"Invoice":[{"a":[{"Signature":2,"UBLExtensions":3}],"signature":4}],"UBLExtensions":5}`,
			`{"Signature":1,"Invoice":[{"a":[{"Signature":2,"UBLExtensions":3}],"signature":4}],"UBLExtensions":5}`},
		{"64 levels", deep, deep},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := scanned(t, row.src, jsonOptions{})
			if got := string(d.canonical); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
			if got, want := d.spliceAt, strings.LastIndex(row.want[:strings.LastIndexByte(row.want, ']')], "}"); got != want {
				t.Errorf("splice at %d, want %d", got, want)
			}
			if want := strings.Contains(row.want, "[{}]}") && row.want == in(""); d.empty != want {
				t.Errorf("empty %v, want %v", d.empty, want)
			}
		})
	}
}

func TestWhatIsTakenOutIsHandedOnMinified(t *testing.T) {
	d := scanned(t, in(`"UBLExtensions" : [ { "a" : 1.00 } ] , "x" : 1, "Signature" : "\/\u0041"`), jsonOptions{literals: literalsSafe})
	if got, want := string(d.extensions), `[{"a":1.00}]`; got != want {
		t.Errorf("extensions %s, want %s", got, want)
	}
	if got, want := string(d.signature), `"\/\u0041"`; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if d := scanned(t, in(""), jsonOptions{}); d.extensions != nil || d.signature != nil {
		t.Errorf("got %q and %q of a document that has neither", d.extensions, d.signature)
	}
}

func TestTheVersionIsSetInPlaceOrAddedLast(t *testing.T) {
	code := func(s string) string { return in(`"InvoiceTypeCode":[{` + s + `}],"a":1`) }
	for _, row := range []struct{ name, src, want string }{
		{"in place", code(`"listVersionID" : "1.0" , "_":"01"`), code(`"listVersionID":"1.1","_":"01"`)},
		{"a number", code(`"_":"01","listVersionID":1.0`), code(`"_":"01","listVersionID":"1.1"`)},
		{"a literal that could not be written", code(`"listVersionID":1e99`), code(`"listVersionID":"1.1"`)},
		{"an object", code(`"listVersionID":{"a":[1]}`), code(`"listVersionID":"1.1"`)},
		{"missing", code(`"_":"01" `), code(`"_":"01","listVersionID":"1.1"`)},
		{"nothing there", code(` `), code(`"listVersionID":"1.1"`)},
		{"only in the first element", in(`"InvoiceTypeCode":[{"listVersionID":"1.0"},{"listVersionID":"1.0"}]`), in(`"InvoiceTypeCode":[{"listVersionID":"1.1"},{"listVersionID":"1.0"}]`)},
		{"an escaped name", code(`"list\u0056ersionID":"1.0"`), code(`"listVersionID":"1.1"`)},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := scanned(t, row.src, jsonOptions{literals: literalsSafe, setVersion: "1.1"})
			if got, want := string(d.canonical), strings.Replace(row.want, `"a":1}`, `"a":1.0}`, 1); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if d.header.version != "1.1" {
				t.Errorf("the header says version %q, want 1.1", d.header.version)
			}
		})
	}
	for _, src := range []string{in(""), in(`"InvoiceTypeCode":{}`), in(`"InvoiceTypeCode":[]`), in(`"InvoiceTypeCode":["01"]`)} {
		_, err := scanJSON([]byte(src), jsonOptions{setVersion: "1.1"})
		refused(t, err, ErrUnsignable, "no Invoice[0].InvoiceTypeCode[0]")
	}
}

func TestFactsComeFromFixedPathsOnly(t *testing.T) {
	id := func(scheme, text string) string { return fmt.Sprintf(`{"ID":[{"_":%s,"schemeID":%q}]}`, text, scheme) }
	party := func(ids ...string) string {
		return `[{"Party":[{"PartyIdentification":[` + strings.Join(ids, ",") + `]}]}]`
	}
	for _, row := range []struct {
		name, members string
		want          header
	}{
		{"nothing", ``, header{}},
		{"the simple ones, trimmed of JSON's blanks",
			`"ID":[{"_":" \tA\u002d1\r\n"}],"IssueDate":[{"_":"2026-10-02"}],"IssueTime":[{"_":"03:15:09Z"}],"InvoiceTypeCode":[{"listVersionID":"1.1","_":"11"}]`,
			header{number: "A-1", issueDate: "2026-10-02", issueTime: "03:15:09Z", typeCode: "11", version: "1.1"}},
		{"other blanks are not trimmed", `"ID":[{"_":"\u00a0A\u0085"}]`, header{number: "\u00a0A\u0085"}},
		{"numbers by their text", `"ID":[{"_":1.50e2}],"InvoiceTypeCode":[{"_":11,"listVersionID":1.1}]`, header{number: "1.50e2", typeCode: "11", version: "1.1"}},
		{"null, true and objects say nothing", `"ID":[{"_":null}],"IssueDate":[{"_":true}],"IssueTime":[{"_":{"_":"x"}}]`, header{}},
		{"second elements say nothing", `"ID":[{},{"_":"B"}],"AccountingSupplierParty":[{},{"Party":[{"PartyIdentification":[` + id("TIN", `"C1"`) + `]}]}]`, header{}},
		{"objects where arrays belong say nothing", `"ID":{"_":"B"},"IssueDate":[[{"_":"x"}]],"IssueTime":"y"`, header{}},
		{"a party's identifications all count", `"AccountingSupplierParty":` + party(id("SST", `"NA"`), id("TIN", `" C1 "`), id("BRN", `"B1"`), id("TIN", `"C2"`)),
			header{supplier: party2("C1", "B1", 2, 1)}},
		{"the scheme first", `"AccountingCustomerParty":` + party(`{"ID":[{"schemeID":"TIN","_":"C3"}]}`, `{"ID":[{"schemeID":"BRN","_":202001}]}`),
			header{customer: party2("C3", "202001", 1, 1)}},
		{"several IDs in one identification", `"AccountingCustomerParty":` + party(`{"ID":[{"schemeID":"TIN","_":"C3"},{"_":"x"},{"_":"C4","schemeID":"TIN"}]}`),
			header{customer: party2("C3", "", 2, 0)}},
		{"other parties have TINs too", `"Delivery":[{"DeliveryParty":[{"PartyIdentification":[` + id("TIN", `"C9"`) + `]}]}],"AccountingSupplierParty":[{"SellerContact":[{"Party":[{"PartyIdentification":[` + id("TIN", `"C8"`) + `]}]}]}]`, header{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, rule := range []literalRule{literalsAsIs, literalsSafe, literalsKept} {
				if got := scanned(t, in(row.members), jsonOptions{literals: rule}).header; got != row.want {
					t.Errorf("rule %d: got %+v, want %+v", rule, got, row.want)
				}
			}
		})
	}
}

func party2(tin, brn string, tins, brns int) party {
	return party{tin: tin, brn: brn, tins: tins, brns: brns}
}

func TestOwnInvoicesAreReadWhole(t *testing.T) {
	seri := Facts{TIN: "C20880050010", BRN: "201901054321"}
	for name, want := range map[string]Facts{
		"invoice-1.0.json":     {Number: "SM-2026-00398", Type: "01", Version: "1.0", TIN: seri.TIN, BRN: seri.BRN, IssueDate: "2026-09-18", IssueTime: "16:40:00Z"},
		"invoice-1.1.json":     {Number: "SM-2026-00417", Type: "01", Version: "1.1", TIN: seri.TIN, BRN: seri.BRN, IssueDate: "2026-10-02", IssueTime: "03:15:09Z"},
		"self-billed-1.1.json": {Number: "SB-2026-0009", Type: "11", Version: "1.1", TIN: seri.TIN, BRN: seri.BRN, IssueDate: "2026-10-05", IssueTime: "00:05:00Z", SelfBilled: true},
	} {
		src := read(t, "testdata/json", name)
		d := scanned(t, string(src), jsonOptions{})
		if got := d.header.facts(); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, src); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.canonical, compact.Bytes()) {
			t.Errorf("%s: the canonical text is not what encoding/json compacts it to", name)
		}
		scanned(t, string(src), jsonOptions{literals: literalsSafe})
	}
}

func TestCuttingADocumentAnywhereIsAnErrorNotAPanic(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/json/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents in testdata/json (%v)", err)
	}
	for _, file := range files {
		src := bytes.TrimSpace(read(t, file))
		for n := 0; n < len(src); n += 1 + len(src)/1000 {
			if _, err := scanJSON(src[:n], jsonOptions{literals: literalsSafe}); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s cut to %d bytes: got %v, want an error that is %q", file, n, err, ErrMalformed)
			}
		}
	}
}

// Each of these would take minutes if it cost the square of its size.
func TestHostileShapesTakeLinearTime(t *testing.T) {
	names := &strings.Builder{}
	for i := range 100_000 {
		fmt.Fprintf(names, `"n%06d":0,`, i)
	}
	for name, src := range map[string]string{
		"an object of very many members":  in(names.String() + `"last":0`),
		"very many escaped names":         in(strings.ReplaceAll(names.String(), `"n`, `"\u006e`) + `"last":0`),
		"a long string of escapes":        in(`"a":"` + strings.Repeat(`\u0041`, 100_000) + `"`),
		"a long number":                   in(`"a":` + "0." + strings.Repeat("0", 1_000_000) + "1e1000001"),
		"very many kept literals":         in(`"a":[` + strings.Repeat("1,", 200_000) + `1]`),
		"very many empty objects":         in(`"a":[` + strings.Repeat("{},", 200_000) + `1]`),
		"brackets that never close":       `{"Invoice":` + strings.Repeat("[", 1_000_000),
		"blanks all over":                 strings.Repeat(" ", 1_000_000) + in(""),
		"a signature of very many blocks": in(`"UBLExtensions":[` + strings.Repeat("{},", 200_000) + `{}]`),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			for _, rule := range []literalRule{literalsAsIs, literalsSafe, literalsKept} {
				_, err := scanJSON([]byte(src), jsonOptions{literals: rule})
				if err != nil && !errors.Is(err, ErrMalformed) {
					t.Error(err)
				}
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A reader that ignores case takes one of two members, or a member for the
// signature's.
func TestMembersThatDifferInCaseOnlyAreNoted(t *testing.T) {
	many := ""
	for i := range 2 * manyNames {
		many += fmt.Sprintf(`"m%d":1,`, i)
	}
	for _, row := range []struct {
		members, twins, strays string
		inBlock                bool
	}{
		{`"a":1,"b":2,"c":{"a":1}`, "", "", false},
		{`"a":1,"A":2`, "Invoice[0].A", "", false},
		{`"x":[{"_":"1","unitCode":"a","UnitCode":"b"}]`, "Invoice[0].x[0].UnitCode", "", false},
		{`"x":[{"\u0061":1,"A":1}]`, "Invoice[0].x[0].A", "", false},
		{`"[a":1,"{a":2,"é":1,"É":2`, "", "", false},
		{many + `"M3":1`, "Invoice[0].M3", "", false},
		{`"m3":1,"M3":1,` + strings.Replace(many, `"m3":1,`, "", 1) + `"z":1`, "Invoice[0].M3", "", false},
		{many + `"\u0000m3":1`, "", "", false},
		{`"UBLExtensions":[{"a":1,"A":2}]`, "Invoice[0].UBLExtensions[0].A", "", true},
		{`"Signature":[],"signature":[]`, "Invoice[0].signature", "Invoice[0].signature", false},
		{`"ublextensions":1`, "", "Invoice[0].ublextensions", false},
		{`"\u017fignature":1`, "", `Invoice[0]["ſignature"]`, false},
		{`"x":[{"signature":1}]`, "", "", false},
	} {
		d, err := scanJSON([]byte(in(row.members)), jsonOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if twins, strays := strings.Join(d.twins, " "), strings.Join(d.strays, " "); twins != row.twins || strays != row.strays || d.blockTwin != row.inBlock {
			t.Errorf("%.60s: got the twins %q (in the block: %v) and the strays %q, want %q (%v) and %q", row.members, twins, d.blockTwin, strays, row.twins, row.inBlock, row.strays)
		}
	}
	if _, err := scanJSON([]byte(in(many+`"M3":1,"M3":2`)), jsonOptions{}); err == nil {
		t.Error("a member that occurs twice, after one that differs in case, is not refused")
	}
}
