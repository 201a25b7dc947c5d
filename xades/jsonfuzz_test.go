package xades

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzJSON asserts, of any bytes: the scanner accepts them only if encoding/json
// does; the canonical text has the same value, but for what is taken out; and
// it is its own canonical text, under each rule.
func FuzzJSON(f *testing.F) {
	files, err := filepath.Glob("testdata/json/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no documents in testdata/json (%v)", err)
	}
	for _, file := range files {
		f.Add(read(f, file))
	}
	for _, seed := range []string{
		in(`"Signature":1,"UBLExtensions":[{"UBLExtension":[{"ExtensionContent":[]}]}],"a":[-0.10e+3,"\ud83d\ude00\/\u2028",{}]`),
		in(`"InvoiceTypeCode":[{"_":"11"}],"AccountingCustomerParty":[{"Party":[{"PartyIdentification":[{"ID":[{"_":1,"schemeID":"TIN"}]}]}]}]`),
		"\ufeff" + in(``), in(`"\u0061":"2024-07-23T00:40:54.120Z","b":"/Date(1)/"`), in(`"a":1e999999999`),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		asIs, err := scanJSON(src, jsonOptions{})
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("the error is of no known kind: %v", err)
			}
			return
		}
		canonical := fuzzValue(t, asIs.canonical)
		if want := fuzzValue(t, src); !reflect.DeepEqual(canonical, want) {
			t.Fatalf("the value changed:\ngot  %v\nwant %v", canonical, want)
		}
		if got := treeValue(t, treeOf("", asIs.canonical)); !reflect.DeepEqual(got, canonical) {
			t.Fatalf("as a tree it is another value:\ngot  %v\nwant %v", got, canonical)
		}
		if _, err := asIs.parts(); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("the error of the parts is of no known kind: %v", err)
		}
		for _, opt := range []jsonOptions{{}, {literals: literalsKept}, {literals: literalsSafe}, {literals: literalsSafe, setVersion: "1.1"}} {
			fuzzAgain(t, src, opt)
		}
	})
}

// treeValue gives what encoding/json decodes, by way of a tree.
func treeValue(t *testing.T, n jsonNode) any {
	t.Helper()
	switch raw := n.raw(); raw[0] {
	case '{':
		members := map[string]any{}
		for member := range n.children() {
			members[string(member.name())] = treeValue(t, member)
		}
		return members
	case '[':
		elements := []any{}
		for element := range n.children() {
			elements = append(elements, treeValue(t, element))
		}
		return elements
	default:
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			t.Fatalf("%q is no value: %v", raw, err)
		}
		return value
	}
}

// fuzzAgain asserts that scanning what a scan wrote writes the same, and that
// the splice fits.
func fuzzAgain(t *testing.T, src []byte, opt jsonOptions) {
	t.Helper()
	first, err := scanJSON(src, opt)
	if err != nil {
		if opt.literals != literalsSafe || !errors.Is(err, ErrLiteral) && !errors.Is(err, ErrUnsignable) {
			t.Fatalf("with %+v: %v", opt, err)
		}
		return
	}
	second, err := scanJSON(first.canonical, opt)
	if err != nil {
		t.Fatalf("with %+v, again: %v", opt, err)
	}
	if !bytes.Equal(first.canonical, second.canonical) || first.spliceAt != second.spliceAt || first.empty != second.empty {
		t.Fatalf("with %+v, again: got %s\nwant %s", opt, second.canonical, first.canonical)
	}
	if opt.literals == literalsSafe && opt.setVersion == "" && first.header != second.header {
		sameButForNumbers(t, first.header, second.header)
	}
	signed, err := scanJSON(first.assemble(jsonBlock(sampleValues)), opt)
	if err != nil {
		t.Fatalf("with %+v, signed: %v", opt, err)
	}
	if !bytes.Equal(signed.canonical, first.canonical) {
		t.Fatalf("with %+v, signed: got %s\nwant %s", opt, signed.canonical, first.canonical)
	}
}

// sameButForNumbers compares the counts only: a fact that is a number reads as
// it was written, and the safe rule writes it anew.
func sameButForNumbers(t *testing.T, a, b header) {
	t.Helper()
	if a.supplier.tins != b.supplier.tins || a.customer.tins != b.customer.tins {
		t.Fatalf("the header changed: %+v, %+v", a, b)
	}
}

// fuzzValue decodes a document by other means, and takes out what the scanner
// takes out.
func fuzzValue(t *testing.T, src []byte) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(src, []byte("\ufeff"))))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("encoding/json refuses what the scanner accepted: %v", err)
	}
	invoice := value["Invoice"].([]any)[0].(map[string]any)
	delete(invoice, "UBLExtensions")
	delete(invoice, "Signature")
	return value
}
