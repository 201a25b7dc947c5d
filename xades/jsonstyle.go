package xades

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Ways in which JSON libraries write what a document says, to recognise by its
// digest a document that was rewritten after hashing.

// numberStyle writes a number otherwise.
type numberStyle struct {
	happened string
	write    func(literal []byte) []byte
}

var jsonNumberStyles = []numberStyle{
	{"", func(literal []byte) []byte { return literal }},
	{"numbers were hashed without trailing zeros (1.5 for 1.50, 10.0 for 10.00)", func(l []byte) []byte { return trimZeros(l, ".0") }},
	{"numbers were hashed without trailing zeros and decimal points (10 for 10.00)", func(l []byte) []byte { return trimZeros(l, "") }},
	{"numbers were hashed with two decimals (1.50 for 1.5)", twoDecimals},
}

func trimZeros(literal []byte, whole string) []byte {
	if bytes.IndexByte(literal, '.') < 0 || bytes.ContainsAny(literal, "eE") {
		return literal
	}
	short := bytes.TrimRight(literal, "0")
	if short[len(short)-1] == '.' {
		return append(bytes.Clone(short[:len(short)-1]), whole...)
	}
	return short
}

func twoDecimals(literal []byte) []byte {
	point := bytes.IndexByte(literal, '.')
	if point < 0 || bytes.ContainsAny(literal, "eE") {
		return literal
	}
	if missing := 3 - (len(literal) - point); missing > 0 {
		return append(bytes.Clone(literal), strings.Repeat("0", missing)...)
	}
	return literal
}

// stringStyle escapes a character otherwise than canonical JSON; "" leaves it.
type stringStyle struct {
	happened string
	escape   func(r rune) string
}

var jsonStringStyles = []stringStyle{
	{"", nil},
	{`slashes were hashed as \/ (as PHP writes them)`, slashed},
	{`characters beyond ASCII were hashed as \uXXXX (as Python writes them)`, ascii},
	{`slashes were hashed as \/ and characters beyond ASCII as \uXXXX (as PHP writes them)`, func(r rune) string { return slashed(r) + ascii(r) }},
	{`the characters & < > were hashed as \u0026 and the like (as Go writes them)`, func(r rune) string { return among(r, "&<>", "%04x") }},
	{`the characters & ' + < > and those beyond ASCII were hashed as \uXXXX (as System.Text.Json writes them)`, func(r rune) string {
		return among(r, "\"&'+<>`", "%04X") + strings.ToUpper(ascii(r))
	}},
	{"strings were hashed without any escapes but those JSON needs", func(rune) string { return "" }},
}

func slashed(r rune) string {
	if r == '/' {
		return `\/`
	}
	return ""
}

func among(r rune, set, format string) string {
	if strings.ContainsRune(set, r) {
		return fmt.Sprintf(`\u`+format, r)
	}
	return ""
}

func ascii(r rune) string {
	switch {
	case r < utf8.RuneSelf:
		return ""
	case r > 0xFFFF:
		r -= 0x10000
		return fmt.Sprintf(`\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// restyle writes canonical JSON in a library's style. It decodes and encodes
// each string, and leaves the structure alone.
func restyle(canonical []byte, numbers numberStyle, strings stringStyle) []byte {
	out := make([]byte, 0, len(canonical)+len(canonical)/8)
	var decoded []byte
	for i := 0; i < len(canonical); {
		c := canonical[i]
		switch {
		case c == '"':
			end := i + 1 + closingQuote(canonical[i+1:])
			if strings.escape == nil {
				out = append(out, canonical[i:end+1]...)
			} else {
				decoded = appendDecoded(decoded[:0], canonical[i+1:end])
				out = append(appendStyled(append(out, '"'), decoded, strings.escape), '"')
			}
			i = end + 1
		case c == '-' || c >= '0' && c <= '9':
			end := i + 1
			for end < len(canonical) && bytes.IndexByte([]byte("+-.eE0123456789"), canonical[end]) >= 0 {
				end++
			}
			out = append(out, numbers.write(canonical[i:end])...)
			i = end
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// closingQuote finds the quote that ends a string whose content text begins.
func closingQuote(text []byte) int {
	for i := 0; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
}

func appendStyled(out, text []byte, escape func(rune) string) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if escaped := escape(r); escaped != "" {
			out = append(out, escaped...)
		} else if r < 0x20 || r == '"' || r == '\\' {
			out = appendEscaped(out, text[:size])
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}
