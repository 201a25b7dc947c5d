package xades

import (
	"strings"
	"unicode/utf8"
)

// Classes of bytes, so that the scanner's inner loops are one look-up a byte.
const (
	inText  = 1 << iota // may stand in character data as it is, and in its canonical form
	inValue             // may stand in an attribute value as it is, and in its canonical form
	inBlank             // space, tab, CR, LF (XML 1.0, production 3)
	inName              // ASCII NameChar but ':' (productions 4a and 5)
	atStart             // ASCII NameStartChar but ':'
)

var xmlClass = makeXMLClass()

func makeXMLClass() (class [256]uint8) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		class[c] = inText | inValue
	}
	for _, c := range "&<>" {
		class[c] &^= inText
	}
	for _, c := range `&<"` {
		class[c] &^= inValue
	}
	class['\t'] |= inText
	class['\n'] |= inText
	for _, c := range " \t\r\n" {
		class[c] |= inBlank
	}
	for c := 'a'; c <= 'z'; c++ {
		class[c] |= inName | atStart
		class[c-'a'+'A'] |= inName | atStart
	}
	class['_'] |= inName | atStart
	for _, c := range "-.0123456789" {
		class[c] |= inName
	}
	return class
}

func blank(c byte) bool { return xmlClass[c]&inBlank != 0 }

// xmlChar tells whether r is a Char of XML 1.0 (production 2).
func xmlChar(r rune) bool {
	switch {
	case r < 0x20:
		return r == '\t' || r == '\n' || r == '\r'
	case r <= 0xD7FF:
		return true
	}
	return r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
}

// xmlText tells whether text can stand in a document.
func xmlText(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !xmlChar(r) })
}

// nameRanges are the non-ASCII NameStartChars (production 4).
var nameRanges = [...][2]rune{
	{0xC0, 0xD6}, {0xD8, 0xF6}, {0xF8, 0x2FF}, {0x370, 0x37D}, {0x37F, 0x1FFF},
	{0x200C, 0x200D}, {0x2070, 0x218F}, {0x2C00, 0x2FEF}, {0x3001, 0xD7FF},
	{0xF900, 0xFDCF}, {0xFDF0, 0xFFFD}, {0x10000, 0xEFFFF},
}

// nameStart tells whether a non-ASCII r may begin a name, nameChar whether it
// may stand in one (productions 4 and 4a).
func nameStart(r rune) bool {
	for _, span := range nameRanges {
		if r >= span[0] && r <= span[1] {
			return true
		}
	}
	return false
}

func nameChar(r rune) bool {
	return r == 0xB7 || r >= 0x300 && r <= 0x36F || r >= 0x203F && r <= 0x2040 || nameStart(r)
}
