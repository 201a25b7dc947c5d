package xades

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// maxNameElements bounds a name; LHDN's profile has seven.
const maxNameElements = 32

// rdnSET is one relative distinguished name: a SET of attributes (X.501).
type rdnSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributeNames are the names .NET writes for attribute types; all others are
// written OID.2.5.4.97 and so on.
var attributeNames = map[string]string{
	"2.5.4.3":                    "CN",
	"2.5.4.4":                    "SN",
	"2.5.4.5":                    "SERIALNUMBER",
	"2.5.4.6":                    "C",
	"2.5.4.7":                    "L",
	"2.5.4.8":                    "S",
	"2.5.4.9":                    "STREET",
	"2.5.4.10":                   "O",
	"2.5.4.11":                   "OU",
	"2.5.4.12":                   "T",
	"2.5.4.13":                   "Description",
	"2.5.4.17":                   "PostalCode",
	"2.5.4.18":                   "POBox",
	"2.5.4.20":                   "Phone",
	"2.5.4.24":                   "X21Address",
	"2.5.4.42":                   "G",
	"2.5.4.43":                   "I",
	"2.5.4.46":                   "dnQualifier",
	"0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1":       "E",
}

// Name writes a DER-encoded distinguished name as .NET's
// X500DistinguishedName.Name does, which is the form of X509IssuerName in MyInvois
// documents: the elements in reverse of their DER order, ", " between them.
func Name(der []byte) (string, error) {
	rdns, err := parseName(der)
	if err != nil {
		return "", err
	}
	parts := make([]string, 0, len(rdns))
	for i := len(rdns) - 1; i >= 0; i-- {
		values := make([]string, 0, len(rdns[i]))
		for _, a := range rdns[i] {
			oid := a.Type.String()
			name, ok := attributeNames[oid]
			if !ok {
				name = "OID." + oid
			}
			text, err := directoryString(a.Value)
			if err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			values = append(values, name+"="+quoteRDN(text))
		}
		parts = append(parts, strings.Join(values, " + "))
	}
	return strings.Join(parts, ", "), nil
}

func parseName(der []byte) ([]rdnSET, error) {
	var rdns []rdnSET
	rest, err := asn1.Unmarshal(der, &rdns)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading a distinguished name: %w", err)
	case len(rest) > 0:
		return nil, errors.New("reading a distinguished name: data after it")
	}
	elements := 0
	for _, set := range rdns {
		elements += len(set)
	}
	if elements > maxNameElements {
		return nil, fmt.Errorf("a distinguished name of over %d elements", maxNameElements)
	}
	return rdns, nil
}

// nameAttribute finds the first attribute of a type ("2.5.4.97") in a Name.
func nameAttribute(der []byte, oid string) string {
	rdns, err := parseName(der)
	if err != nil {
		return ""
	}
	for _, set := range rdns {
		for _, a := range set {
			if a.Type.String() == oid {
				text, _ := directoryString(a.Value) //nolint:errcheck // unreadable is as good as empty
				return text
			}
		}
	}
	return ""
}

// directoryString decodes the string types a name may hold (X.520). What is no
// string is written as its DER in hex.
func directoryString(v asn1.RawValue) (string, error) {
	if v.Class != asn1.ClassUniversal {
		return "#" + strings.ToUpper(hex.EncodeToString(v.FullBytes)), nil
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		return string(v.Bytes), nil
	case asn1.TagT61String: // read as Latin-1, as everybody does
		runes := make([]rune, len(v.Bytes))
		for i, b := range v.Bytes {
			runes[i] = rune(b)
		}
		return string(runes), nil
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return "", errors.New("a BMPString of odd length")
		}
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = uint16(v.Bytes[2*i])<<8 | uint16(v.Bytes[2*i+1])
		}
		return string(utf16.Decode(units)), nil
	}
	return "#" + strings.ToUpper(hex.EncodeToString(v.FullBytes)), nil
}

// quoteRDN puts a value in quotes where .NET does: when it is empty, begins or
// ends with a blank, or has a character that means something in a name.
func quoteRDN(value string) string {
	const blanks = " \t\n\v\f\r"
	if value != "" && strings.Trim(value, blanks) == value && !strings.ContainsAny(value, ",+=\"\n<>#;") {
		return value
	}
	return `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
}
