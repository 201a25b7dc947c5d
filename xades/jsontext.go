package xades

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Classes of bytes inside a string.
const (
	classPlain     = iota // stays as it is
	classQuote            // ends the string
	classEscape           // starts an escape
	classSeparator        // may start U+0085, U+2028 or U+2029 in UTF-8
	classControl          // not allowed
)

var textClass = func() (class [256]uint8) {
	for c := range 0x20 {
		class[c] = classControl
	}
	class['"'] = classQuote
	class['\\'] = classEscape
	class[0xC2] = classSeparator
	class[0xE2] = classSeparator
	return class
}()

// name reads a member's name into step, and returns it decoded.
func (s *jsonScanner) name(step *jsonStep) ([]byte, error) {
	start := s.at
	raw, special, err := s.text()
	if err != nil {
		return nil, err
	}
	if !special {
		step.name = jsonName{start + 1, s.at - 1}
		return raw, nil
	}
	from := len(s.src) + len(s.decoded)
	s.decoded = appendDecoded(s.decoded, raw)
	step.name = jsonName{from, len(s.src) + len(s.decoded)}
	name := s.nameText(step.name)
	return name, s.judgeText(start, raw, name)
}

// textValue reads a string that is a value.
func (s *jsonScanner) textValue(p place) error {
	start := s.at
	raw, special, err := s.text()
	if err != nil {
		return err
	}
	decoded := raw
	if special {
		s.scratch = appendDecoded(s.scratch[:0], raw)
		decoded = s.scratch
	}
	if p >= textNumber && p&asList == 0 {
		s.fact(p, decoded)
	}
	if s.literals == literalsAsIs {
		return nil
	}
	if becomesDate(decoded) {
		return s.judgeDate(start)
	}
	if special {
		return s.judgeText(start, raw, decoded)
	}
	return nil
}

// text moves past a string and returns what stands between its quotes. Without
// special, that is the text itself, and the form that every server writes too.
func (s *jsonScanner) text() (raw []byte, special bool, err error) {
	src, start := s.src, s.at+1
	for i := start; ; {
		if i = skipPlain(src, i); i == len(src) {
			s.at = i
			return nil, false, s.misplaced("the closing quote of a string")
		}
		switch textClass[src[i]] {
		case classQuote:
			s.at = i + 1
			return src[start:i], special, nil
		case classEscape:
			n, fault := escapeLength(src[i:])
			if n == 0 {
				return nil, false, s.fault(i, "%s", fault)
			}
			special = true
			i += n
		case classSeparator:
			special = special || separator(src[i:]) != ""
			i++
		case classControl:
			return nil, false, s.fault(i, `the control character U+%04X stands bare in a string; write it as \u%04x or take it out`, src[i], src[i])
		}
	}
}

// skipPlain returns the offset of the first byte from i on that is not plain:
// eight at a time as long as they are plain ASCII, then one by one.
func skipPlain(src []byte, i int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	for i+8 <= len(src) {
		x := binary.LittleEndian.Uint64(src[i:])
		// The high bit of a byte is set if it is not ASCII, or below a blank, or
		// a quote, or a backslash. A borrow can set it wrongly only above the
		// first byte that has it rightly.
		special := (x | (x - ' '*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones)) & highs
		if special != 0 {
			i += bits.TrailingZeros64(special) / 8
			break
		}
		i += 8
	}
	for i < len(src) && textClass[src[i]] == classPlain {
		i++
	}
	return i
}

// escapeLength returns the length of the escape that b starts with, a pair of
// surrogates counting as one; or 0 and what is wrong with it.
func escapeLength(b []byte) (n int, fault string) {
	if len(b) < 2 {
		return 0, "the document ends in an escape; it has been cut short"
	}
	if b[1] != 'u' {
		if unescaped(b[1]) == 0 {
			return 0, `a backslash stands before a character that has no escape; write the backslash itself as \\`
		}
		return 2, ""
	}
	switch unit := hex4(b); {
	case unit < 0:
		return 0, `\u takes four hexadecimal digits`
	case unit < 0xD800 || unit > 0xDFFF:
		return 6, ""
	case unit >= 0xDC00 || !isLowSurrogate(hex4(b[6:])):
		return 0, "half of a surrogate pair stands alone, which is no character; write both halves or take it out"
	}
	return 12, ""
}

func isLowSurrogate(unit rune) bool { return unit >= 0xDC00 && unit <= 0xDFFF }

// hex4 returns the value of the \uXXXX that b starts with, or -1.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var unit rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		unit = unit<<4 | rune(c)
	}
	return unit
}

// unescaped returns the character that a backslash before c stands for, or 0.
func unescaped(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

// appendDecoded appends the text that raw, which text has judged, stands for.
func appendDecoded(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...)
		}
		dst, raw = append(dst, raw[:i]...), raw[i:]
		if raw[1] != 'u' {
			dst, raw = append(dst, unescaped(raw[1])), raw[2:]
			continue
		}
		r, n := hex4(raw), 6
		if r >= 0xD800 && r <= 0xDFFF {
			r, n = 0x10000+(r-0xD800)<<10+(hex4(raw[6:])-0xDC00), 12
		}
		dst, raw = utf8.AppendRune(dst, r), raw[n:]
	}
}

// appendEscaped appends text as it stands between the quotes of a canonical
// string: with the escapes that JSON needs and those three that .NET writes
// beyond, and no others. The text is valid UTF-8.
func appendEscaped[T []byte | string](dst []byte, text T) []byte {
	from := 0
	for i := 0; i < len(text); i++ {
		escape, size := "", 1
		switch c := text[i]; textClass[c] {
		case classPlain:
			continue
		case classSeparator:
			if escape = separator([]byte(text[i:min(i+3, len(text))])); escape == "" {
				continue
			}
			if size = 3; c == 0xC2 {
				size = 2
			}
		case classControl:
			escape = controlEscapes[c]
		case classQuote:
			escape = `\"`
		case classEscape:
			escape = `\\`
		}
		dst = append(append(dst, text[from:i]...), escape...)
		from = i + size
		i = from - 1
	}
	return append(dst, text[from:]...)
}

// separator returns the escape of the U+0085, U+2028 or U+2029 that b starts
// with, or "".
func separator(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte("\u0085")):
		return `\u0085`
	case bytes.HasPrefix(b, []byte("\u2028")):
		return `\u2028`
	case bytes.HasPrefix(b, []byte("\u2029")):
		return `\u2029`
	}
	return ""
}

var controlEscapes = func() (escapes [0x20]string) {
	const hex = "0123456789abcdef"
	for c := range escapes {
		escapes[c] = `\u00` + string([]byte{hex[c>>4], hex[c&15]})
	}
	for c, short := range map[byte]string{'\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`} {
		escapes[c] = short
	}
	return escapes
}()
