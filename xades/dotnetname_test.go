package xades

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestNamesAreWrittenAsDotNETDoes(t *testing.T) {
	posDigicert := []nameValue{{"2.5.4.6", "MY"}, {"2.5.4.10", "LHDNM"}, {"2.5.4.11", "Terms of use at http://www.posdigicert.com.my"}, {"2.5.4.3", "LHDNM Sub CA G3"}}
	for _, row := range []struct {
		name     string
		elements []nameValue
		want     string
	}{
		{"Pos Digicert: C, O, OU, CN", posDigicert, "CN=LHDNM Sub CA G3, OU=Terms of use at http://www.posdigicert.com.my, O=LHDNM, C=MY"},
		{"Raffcomm: CN, OU, O, C", []nameValue{{"2.5.4.3", "CypherSign Pro Max"}, {"2.5.4.11", "1000449-W"}, {"2.5.4.10", "Raffcomm Technologies Sdn Bhd"}, {"2.5.4.6", "MY"}},
			"C=MY, O=Raffcomm Technologies Sdn Bhd, OU=1000449-W, CN=CypherSign Pro Max"},
		{"every known type", []nameValue{
			{"2.5.4.3", "1"}, {"2.5.4.4", "2"}, {"2.5.4.5", "3"}, {"2.5.4.6", "4"}, {"2.5.4.7", "5"}, {"2.5.4.8", "6"}, {"2.5.4.9", "7"},
			{"2.5.4.10", "8"}, {"2.5.4.11", "9"}, {"2.5.4.12", "10"}, {"2.5.4.42", "11"}, {"0.9.2342.19200300.100.1.25", "12"}, {"1.2.840.113549.1.9.1", "a@b"},
		}, "E=a@b, DC=12, G=11, T=10, OU=9, O=8, STREET=7, S=6, L=5, C=4, SERIALNUMBER=3, SN=2, CN=1"},
		{"organizationIdentifier", []nameValue{{"2.5.4.97", "C20880050010"}}, "OID.2.5.4.97=C20880050010"},
		{"an unknown type", []nameValue{{"1.2.3.4", "x"}}, "OID.1.2.3.4=x"},
		{"the same type twice", []nameValue{{"2.5.4.11", "a"}, {"2.5.4.11", "b"}}, "OU=b, OU=a"},
		{"nothing", nil, ""},
		{"an empty value", []nameValue{{"2.5.4.3", ""}}, `CN=""`},
		{"a comma", []nameValue{{"2.5.4.10", "Melur, Sdn. Bhd."}}, `O="Melur, Sdn. Bhd."`},
		{"a plus", []nameValue{{"2.5.4.10", "a+b"}}, `O="a+b"`},
		{"an equals sign", []nameValue{{"2.5.4.10", "a=b"}}, `O="a=b"`},
		{"quotes", []nameValue{{"2.5.4.10", `"Melur" Bhd`}}, `O="""Melur"" Bhd"`},
		{"angle brackets", []nameValue{{"2.5.4.10", "<a>"}}, `O="<a>"`},
		{"a hash", []nameValue{{"2.5.4.10", "No #1"}}, `O="No #1"`},
		{"a semicolon", []nameValue{{"2.5.4.10", "a;b"}}, `O="a;b"`},
		{"a line feed", []nameValue{{"2.5.4.10", "a\nb"}}, "O=\"a\nb\""},
		{"blanks first", []nameValue{{"2.5.4.10", " a"}}, `O=" a"`},
		{"blanks last", []nameValue{{"2.5.4.10", "a\t"}}, "O=\"a\t\""},
		{"blanks within", []nameValue{{"2.5.4.10", "a  b"}}, "O=a  b"},
		{"a no-break space last", []nameValue{{"2.5.4.10", "a\u00a0"}}, "O=a\u00a0"},
		{"what needs no quotes", []nameValue{{"2.5.4.10", `& ' \ / : ? * ( ) é 公司`}}, `O=& ' \ / : ? * ( ) é 公司`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Name(distinguishedName(t, row.elements...))
			if err != nil || got != row.want {
				t.Errorf("got %q (%v), want %q", got, err, row.want)
			}
		})
	}
	got, err := Name(multiValued(t, nameValue{"2.5.4.3", "Ali"}, nameValue{"2.5.4.5", "8"}, nameValue{"2.5.4.10", "a+b"}))
	if want := `CN=Ali + SERIALNUMBER=8 + O="a+b"`; err != nil || got != want {
		t.Errorf("an element of several values: got %q (%v), want %q", got, err, want)
	}
}

func TestNamesOfEveryStringTypeAreRead(t *testing.T) {
	utf16BE := func(text string) []byte {
		var out []byte
		for _, unit := range utf16.Encode([]rune(text)) {
			out = append(out, byte(unit>>8), byte(unit))
		}
		return out
	}
	for _, row := range []struct {
		name  string
		tag   int
		value []byte
		want  string
	}{
		{"UTF8String", asn1.TagUTF8String, []byte("Syarikat é 𝟜"), "CN=Syarikat é 𝟜"},
		{"PrintableString", asn1.TagPrintableString, []byte("MY"), "CN=MY"},
		{"IA5String", asn1.TagIA5String, []byte("a@b.example"), "CN=a@b.example"},
		{"NumericString", asn1.TagNumericString, []byte("12 3"), "CN=12 3"},
		{"T61String", asn1.TagT61String, []byte("caf\xe9"), "CN=café"},
		{"BMPString", asn1.TagBMPString, utf16BE("Syarikat é"), "CN=Syarikat é"},
		{"BMPString with a pair", asn1.TagBMPString, utf16BE("𝟜"), "CN=𝟜"},
		{"a BMPString of odd length", asn1.TagBMPString, []byte{0, 'a', 0}, ""},
		{"an INTEGER", asn1.TagInteger, []byte{7}, "CN=\"#020107\""},
	} {
		t.Run(row.name, func(t *testing.T) {
			attribute := slicesOf(t, asn1.TagSequence, marshalled(t, objectIdentifier(t, "2.5.4.3")), marshalled(t, asn1.RawValue{Tag: row.tag, Bytes: row.value}))
			got, err := Name(slicesOf(t, asn1.TagSequence, slicesOf(t, asn1.TagSet, attribute)))
			if row.want == "" {
				if err == nil {
					t.Errorf("got %q, want an error", got)
				}
				return
			}
			if err != nil || got != row.want {
				t.Errorf("got %q (%v), want %q", got, err, row.want)
			}
		})
	}
}

func marshalled(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// slicesOf puts DER values into one constructed value.
func slicesOf(t *testing.T, tag int, parts ...[]byte) []byte {
	t.Helper()
	var all []byte
	for _, part := range parts {
		all = append(all, part...)
	}
	return marshalled(t, asn1.RawValue{Tag: tag, IsCompound: true, Bytes: all})
}

func TestNamesThatAreNoneAreRefused(t *testing.T) {
	whole := testSubject(t)
	for name, der := range map[string][]byte{
		"nothing": {}, "a string": marshalled(t, "MY"), "cut short": whole[:len(whole)-1], "with more after it": append(whole[:len(whole):len(whole)], 5, 0),
		"an element that is no set": slicesOf(t, asn1.TagSequence, whole),
		"33 elements":               distinguishedName(t, make33(nameValue{"2.5.4.11", "x"})...),
		"33 values in one element":  multiValued(t, make33(nameValue{"2.5.4.11", "x"})...),
	} {
		if got, err := Name(der); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %v", name, err)
		}
	}
}

// The issuers of certificates in the wild, against the names that their own
// holders' software wrote for them.
func TestIssuersInTheWild(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	for file, want := range map[string]string{
		"bytes/1.1-Invoice-Sample.xml.cert.der":  "CN=Trial LHDNM Sub CA V1, OU=Terms of use at http://www.posdigicert.com.my, O=LHDNM, C=MY",
		"bytes/1.1-Invoice-Sample.json.cert.der": "C=MY, O=Raffcomm Technologies Sdn Bhd, OU=1000449-W, CN=CypherSign Pro Max",
		"peers/leaf-cert.pem":                    "CN=Throwaway Sub CA V1, OU=Peer cross-check only, O=Throwaway Test CA, C=MY",
	} {
		der := read(t, dir, file)
		if block, _ := pem.Decode(der); block != nil {
			der = block.Bytes
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Name(cert.RawIssuer); err != nil || got != want {
			t.Errorf("%s: got %q (%v), want %q", file, got, err, want)
		}
	}
}

// The types of the table are found by their DER: each must be what its dotted form
// says.
func TestKnownTypesStandUnderTheirDER(t *testing.T) {
	for der, known := range attributeTypes {
		encoded, err := asn1.Marshal(objectIdentifier(t, known.oid))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(encoded[2:]); got != der {
			t.Errorf("%s (%s) stands under % x, want % x", known.oid, known.name, der, got)
		}
	}
}

// What is read without encoding/asn1 must be read as it does.
func TestDERIsReadAsTheLibraryDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(31, 2026))
	names := [][]byte{testSubject(t), testIssuer(t), multiValued(t, nameValue{"2.5.4.3", "a"}, nameValue{"2.5.4.97", "b"})}
	var read, refused int
	for i := range 30_000 {
		name := names[i%len(names)]
		der := append([]byte(nil), name[random.IntN(len(name)):]...)
		der[random.IntN(min(3, len(der)))] = byte(random.IntN(256))
		var want asn1.RawValue
		got, rest, err := parseDER(der)
		wantRest, wantErr := asn1.Unmarshal(der, &want)
		if (err == nil) != (wantErr == nil) || string(rest) != string(wantRest) {
			t.Fatalf("% x: got %v and the rest % x, want %v and % x", der, err, rest, wantErr, wantRest)
		}
		if err != nil {
			refused++
			continue
		}
		read++
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("% x: got %+v, want %+v", der, got, want)
		}
	}
	if read == 0 || refused == 0 {
		t.Errorf("%d were read, %d refused", read, refused)
	}
}
