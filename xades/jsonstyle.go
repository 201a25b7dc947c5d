package xades

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Ways in which JSON libraries write what a document says, to recognise by its
// digest a document that was rewritten after hashing.

// numberStyle writes a number otherwise.
type numberStyle struct {
	happened string
	write    func(out, literal []byte) []byte
}

var jsonNumberStyles = []numberStyle{
	{"", func(out, l []byte) []byte { return append(out, l...) }},
	{"numbers were hashed without trailing zeros (1.5 for 1.50, 10.0 for 10.00)", func(out, l []byte) []byte { return trimZeros(out, l, ".0") }},
	{"numbers were hashed without trailing zeros and decimal points (10 for 10.00)", func(out, l []byte) []byte { return trimZeros(out, l, "") }},
	{"numbers were hashed with two decimals (1.50 for 1.5)", twoDecimals},
}

// decimals gives where the point of a number stands, or -1 of one that has none
// or an exponent.
func decimals(literal []byte) (point int) {
	point = bytes.IndexByte(literal, '.')
	if point >= 0 && bytes.ContainsAny(literal[point:], "eE") {
		return -1
	}
	return point
}

func trimZeros(out, literal []byte, whole string) []byte {
	point := decimals(literal)
	if point < 0 {
		return append(out, literal...)
	}
	end := len(literal)
	for literal[end-1] == '0' {
		end--
	}
	if end == point+1 {
		return append(append(out, literal[:point]...), whole...)
	}
	return append(out, literal[:end]...)
}

func twoDecimals(out, literal []byte) []byte {
	out = append(out, literal...)
	if point := decimals(literal); point >= 0 {
		for missing := 3 - (len(literal) - point); missing > 0; missing-- {
			out = append(out, '0')
		}
	}
	return out
}

// stringStyle escapes characters otherwise than canonical JSON does.
type stringStyle struct {
	happened string
	slashes  slashRule
	rewrites bool   // else strings stay as they are, but for slashes
	escaped  string // beyond what JSON needs, in ASCII: / as \/, all others as \uXXXX
	beyond   bool   // all beyond ASCII, as \uXXXX
	digits   string // of \uXXXX
}

// slashRule is what becomes of slashes in strings that otherwise stay.
type slashRule uint8

const (
	slashesStay slashRule = iota
	slashesEscaped
	slashesBare
)

const (
	lowerHex = "0123456789abcdef"
	upperHex = "0123456789ABCDEF"
)

var jsonStringStyles = []stringStyle{
	{},
	{happened: `slashes were hashed as \/ (as PHP writes them)`, slashes: slashesEscaped},
	{happened: `slashes were hashed as / and stand in the file as \/ (as PHP writes them)`, slashes: slashesBare},
	{happened: `characters beyond ASCII were hashed as \uXXXX (as Python writes them)`, rewrites: true, beyond: true, digits: lowerHex},
	{happened: `slashes were hashed as \/ and characters beyond ASCII as \uXXXX (as PHP writes them)`, rewrites: true, escaped: "/", beyond: true, digits: lowerHex},
	{happened: `the characters & < > were hashed as \u0026 and the like (as Go writes them)`, rewrites: true, escaped: "&<>", digits: lowerHex},
	{happened: `the characters & ' + < > and those beyond ASCII were hashed as \uXXXX (as System.Text.Json writes them)`, rewrites: true, escaped: "\"&'+<>`", beyond: true, digits: upperHex},
	{happened: "strings were hashed without any escapes but those JSON needs", rewrites: true},
}

// restyle writes canonical JSON in a library's style. It decodes and encodes
// each string, and leaves the structure alone. A style that changes nothing is
// no form of the document.
func (a *attempts) restyle(canonical []byte, numbers numberStyle, texts stringStyle) [][]byte {
	out, special := a.scratch[:0], texts.special()
	var decoded []byte
	for i := 0; i < len(canonical); {
		start := i
		switch c := canonical[i]; {
		case c == '"':
			text := canonical[i+1 : i+1+closingQuote(canonical[i+1:])]
			i += len(text) + 2
			if !texts.rewrites {
				out = texts.slashes.append(out, canonical[start:i])
				continue
			}
			if bytes.IndexByte(text, '\\') >= 0 {
				decoded = appendDecoded(decoded[:0], text)
				text = decoded
			}
			out = append(texts.append(append(out, '"'), text, special), '"')
		case c == '-' || isDigit(c):
			for i < len(canonical) && inNumber(canonical[i]) {
				i++
			}
			out = numbers.write(out, canonical[start:i])
		default:
			out = append(out, c)
			i++
		}
	}
	a.scratch = out
	if bytes.Equal(out, canonical) {
		return nil
	}
	return [][]byte{out}
}

func inNumber(c byte) bool {
	return isDigit(c) || c == '.' || c == '-' || c == '+' || c|0x20 == 'e'
}

// closingQuote finds the quote that ends a string whose content text begins.
func closingQuote(text []byte) int {
	for i := 0; ; i++ {
		if i = skipPlain(text, i); text[i] == '"' {
			return i
		}
		if text[i] == '\\' {
			i++
		}
	}
}

// append appends a string as it stands, but for slashes.
func (rule slashRule) append(out, text []byte) []byte {
	if rule == slashesStay || bytes.IndexByte(text, '/') < 0 {
		return append(out, text...)
	}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && text[i+1] == '/' && rule == slashesBare:
			continue
		case text[i] == '\\':
			out = append(out, '\\')
			i++
		case text[i] == '/' && rule == slashesEscaped:
			out = append(out, '\\')
		}
		out = append(out, text[i])
	}
	return out
}

// special tells of each byte whether a string with it is not written as it is.
func (style *stringStyle) special() *[256]bool {
	var special [256]bool
	for c := range 0x20 {
		special[c] = true
	}
	for _, c := range []byte("\"\\" + style.escaped) {
		special[c] = true
	}
	for c := utf8.RuneSelf; c < len(special); c++ {
		special[c] = style.beyond
	}
	return &special
}

// append appends text as it stands between the quotes in this style.
func (style *stringStyle) append(out, text []byte, special *[256]bool) []byte {
	for i := 0; i < len(text); {
		from := i
		for i < len(text) && !special[text[i]] {
			i++
		}
		if out = append(out, text[from:i]...); i == len(text) {
			break
		}
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == '/':
			out = append(out, `\/`...)
		case r >= utf8.RuneSelf || strings.IndexByte(style.escaped, text[i]) >= 0:
			out = appendUnits(out, r, style.digits)
		default:
			out = appendEscaped(out, text[i:i+size])
		}
		i += size
	}
	return out
}

// appendUnits appends the \uXXXX of a character, or the two of its surrogates.
func appendUnits(out []byte, r rune, digits string) []byte {
	if r > 0xFFFF {
		r -= 0x10000
		out, r = appendUnits(out, 0xD800+r>>10, digits), 0xDC00+r&0x3FF
	}
	return append(out, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
