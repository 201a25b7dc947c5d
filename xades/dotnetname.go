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
type rdnSET []nameElement

type nameElement struct {
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

// parseName reads a Name: a SEQUENCE of SETs of SEQUENCEs of a type and a value
// (X.501). It goes step by step, which is faster than to have encoding/asn1 do
// it, and ends at the bound.
func parseName(der []byte) ([]rdnSET, error) {
	sets, rest, err := constructed(der, asn1.TagSequence)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading a distinguished name: %w", err)
	case len(rest) > 0:
		return nil, errors.New("reading a distinguished name: data after it")
	}
	var rdns []rdnSET
	for elements := 0; len(sets) > 0; {
		var set []byte
		if set, sets, err = constructed(sets, asn1.TagSet); err != nil {
			return nil, fmt.Errorf("reading an element of a distinguished name: %w", err)
		}
		var rdn rdnSET
		for len(set) > 0 {
			if elements++; elements > maxNameElements {
				return nil, fmt.Errorf("a distinguished name of over %d elements", maxNameElements)
			}
			var a nameElement
			if a, set, err = parseElement(set); err != nil {
				return nil, fmt.Errorf("reading an element of a distinguished name: %w", err)
			}
			rdn = append(rdn, a)
		}
		rdns = append(rdns, rdn)
	}
	return rdns, nil
}

func parseElement(der []byte) (a nameElement, rest []byte, err error) {
	content, rest, err := constructed(der, asn1.TagSequence)
	if err != nil {
		return a, nil, err
	}
	if content, err = asn1.Unmarshal(content, &a.Type); err != nil {
		return a, nil, err
	}
	content, err = asn1.Unmarshal(content, &a.Value)
	if err == nil && len(content) > 0 {
		err = errors.New("data after the value")
	}
	return a, rest, err
}

// constructed reads a DER value of a tag that holds others, and gives these and
// what follows it.
func constructed(der []byte, tag int) (content, rest []byte, err error) {
	var v asn1.RawValue
	if rest, err = asn1.Unmarshal(der, &v); err != nil {
		return nil, nil, err
	}
	if v.Class != asn1.ClassUniversal || v.Tag != tag || !v.IsCompound {
		return nil, nil, fmt.Errorf("tag %d where %d is expected", v.Tag, tag)
	}
	return v.Bytes, rest, nil
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
				text, _ := directoryString(a.Value) // unreadable is as good as empty
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
