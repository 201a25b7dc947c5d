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
	oid   string // "2.5.4.97"
	name  string // what .NET writes for it
	value asn1.RawValue
}

// attributeType is a type of attribute, and the name that .NET has for it.
type attributeType struct{ oid, name string }

// attributeTypes are those that .NET writes by name, and LHDN's own, by the
// content of their DER. All others are written OID.1.2.3 and so on.
var attributeTypes = map[string]attributeType{
	"\x55\x04\x03": {"2.5.4.3", "CN"},
	"\x55\x04\x04": {"2.5.4.4", "SN"},
	"\x55\x04\x05": {oidSerialNumber, "SERIALNUMBER"},
	"\x55\x04\x06": {"2.5.4.6", "C"},
	"\x55\x04\x07": {"2.5.4.7", "L"},
	"\x55\x04\x08": {"2.5.4.8", "S"},
	"\x55\x04\x09": {"2.5.4.9", "STREET"},
	"\x55\x04\x0a": {"2.5.4.10", "O"},
	"\x55\x04\x0b": {"2.5.4.11", "OU"},
	"\x55\x04\x0c": {"2.5.4.12", "T"},
	"\x55\x04\x0d": {"2.5.4.13", "Description"},
	"\x55\x04\x11": {"2.5.4.17", "PostalCode"},
	"\x55\x04\x12": {"2.5.4.18", "POBox"},
	"\x55\x04\x14": {"2.5.4.20", "Phone"},
	"\x55\x04\x18": {"2.5.4.24", "X21Address"},
	"\x55\x04\x2a": {"2.5.4.42", "G"},
	"\x55\x04\x2b": {"2.5.4.43", "I"},
	"\x55\x04\x2e": {"2.5.4.46", "dnQualifier"},
	"\x55\x04\x61": {oidOrganizationIdentifier, "OID." + oidOrganizationIdentifier},

	"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19": {"0.9.2342.19200300.100.1.25", "DC"},
	"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01":     {"1.2.840.113549.1.9.1", "E"},
}

// Name writes a DER-encoded distinguished name as .NET's
// X500DistinguishedName.Name does, which is the form of X509IssuerName in MyInvois
// documents: the elements in reverse of their DER order, ", " between them.
func Name(der []byte) (string, error) {
	rdns, err := parseName(der)
	if err != nil {
		return "", err
	}
	out := make([]byte, 0, len(der)+16*len(rdns))
	for i := len(rdns) - 1; i >= 0; i-- {
		for j, a := range rdns[i] {
			text, err := directoryString(a.value)
			if err != nil {
				return "", fmt.Errorf("%s: %w", a.name, err)
			}
			if j > 0 {
				out = append(out, " + "...)
			}
			out = append(append(append(out, a.name...), '='), quoteRDN(text)...)
		}
		if i > 0 {
			out = append(out, ", "...)
		}
	}
	return string(out), nil
}

// parseName reads a Name: a SEQUENCE of SETs of SEQUENCEs of a type and a value
// (X.501). It goes step by step, which is faster than to have encoding/asn1 do
// it, and ends at the bound.
func parseName(der []byte) ([]rdnSET, error) {
	const usual = 8
	sets, rest, err := constructed(der, asn1.TagSequence)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading a distinguished name: %w", err)
	case len(rest) > 0:
		return nil, errors.New("reading a distinguished name: data after it")
	}
	rdns, elements := make([]rdnSET, 0, usual), make([]nameElement, 0, usual)
	for len(sets) > 0 {
		var set []byte
		if set, sets, err = constructed(sets, asn1.TagSet); err != nil {
			return nil, fmt.Errorf("reading an element of a distinguished name: %w", err)
		}
		first := len(elements)
		for len(set) > 0 {
			if len(elements) == maxNameElements {
				return nil, fmt.Errorf("a distinguished name of over %d elements", maxNameElements)
			}
			var a nameElement
			if a, set, err = parseElement(set); err != nil {
				return nil, fmt.Errorf("reading an element of a distinguished name: %w", err)
			}
			elements = append(elements, a)
		}
		rdns = append(rdns, rdnSET(elements[first:]))
	}
	return rdns, nil
}

func parseElement(der []byte) (a nameElement, rest []byte, err error) {
	content, rest, err := constructed(der, asn1.TagSequence)
	if err != nil {
		return a, nil, err
	}
	if content, err = a.parseType(content); err != nil {
		return a, nil, err
	}
	a.value, content, err = parseDER(content)
	if err == nil && len(content) > 0 {
		err = errors.New("data after the value")
	}
	return a, rest, err
}

// parseType reads the attribute's type and gives what follows it.
func (a *nameElement) parseType(der []byte) (rest []byte, err error) {
	v, rest, err := parseDER(der)
	if err == nil && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOID && !v.IsCompound {
		if known, ok := attributeTypes[string(v.Bytes)]; ok {
			a.oid, a.name = known.oid, known.name
			return rest, nil
		}
	}
	var oid asn1.ObjectIdentifier
	rest, err = asn1.Unmarshal(der, &oid)
	a.oid = oid.String()
	a.name = "OID." + a.oid
	return rest, err
}

// constructed reads a DER value of a tag that holds others, and gives these and
// what follows it.
func constructed(der []byte, tag int) (content, rest []byte, err error) {
	v, rest, err := parseDER(der)
	if err != nil {
		return nil, nil, err
	}
	if v.Class != asn1.ClassUniversal || v.Tag != tag || !v.IsCompound {
		return nil, nil, fmt.Errorf("tag %d where %d is expected", v.Tag, tag)
	}
	return v.Bytes, rest, nil
}

// parseDER reads one value and gives what follows it. What has a tag and a length
// of one byte each needs no library.
func parseDER(der []byte) (v asn1.RawValue, rest []byte, err error) {
	const tagBits, compound, longTag, longLength = 0x1f, 0x20, 0x1f, 0x80
	if len(der) < 2 || der[0]&tagBits == longTag || der[1] >= longLength || len(der)-2 < int(der[1]) {
		return parseAnyDER(der)
	}
	end := 2 + int(der[1])
	v.Class, v.Tag, v.IsCompound = int(der[0]>>6), int(der[0]&tagBits), der[0]&compound != 0
	v.Bytes, v.FullBytes = der[2:end], der[:end]
	return v, der[end:], nil
}

func parseAnyDER(der []byte) (v asn1.RawValue, rest []byte, err error) {
	rest, err = asn1.Unmarshal(der, &v)
	return v, rest, err
}

// nameAttribute finds the first attribute of a type ("2.5.4.97") in a Name.
func nameAttribute(der []byte, oid string) string {
	rdns, err := parseName(der)
	if err != nil {
		return ""
	}
	for _, set := range rdns {
		for _, a := range set {
			if a.oid == oid {
				text, _ := directoryString(a.value) // unreadable is as good as empty
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
