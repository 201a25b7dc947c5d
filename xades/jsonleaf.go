package xades

import (
	"bytes"
	"encoding/binary"
)

// Most of a document is leaves of one shape, [{"_":1.5,"currencyID":"MYR"}].
// Those that are minified and need no second look are read here, at a stride;
// whatever is otherwise is left to be read, and judged, step by step.

// leafStart is how a leaf begins, as the six low bytes of a word.
var leafStart = binary.LittleEndian.Uint64([]byte("[{\"_\":\x00\x00"))

const leafMask = 1<<48 - 1

// maxLeafNames bounds the members of a leaf besides "_", which are compared with
// each other.
const maxLeafNames = 4

// leaf moves past a leaf, if one of that kind stands here.
func (s *jsonScanner) leaf() bool {
	src, value := s.src, s.at+len(`[{"_":`)
	if s.at+8 > len(src) || binary.LittleEndian.Uint64(src[s.at:])&leafMask != leafStart || s.depth+2 > maxJSONDepth {
		return false
	}
	end := s.leafValue(value)
	valueEnd := end
	var names [maxLeafNames][]byte
	for n := 0; end > 0 && end+2 < len(src) && src[end] == ','; n++ {
		from := end + 1
		end = s.leafText(from)
		if end == 0 || end >= len(src) || src[end] != ':' || n == maxLeafNames {
			return false
		}
		name := src[from+1 : end-1]
		if string(name) == "_" {
			return false
		}
		for _, other := range names[:n] {
			if bytes.Equal(name, other) || sameButForCase(name, other) {
				return false
			}
		}
		names[n] = name
		from = end + 1
		if end = s.leafValue(from); s.literals == literalsSafe && end > 0 && src[from] != '"' {
			return false
		}
	}
	if end == 0 || end+2 > len(src) || src[end] != '}' || src[end+1] != ']' {
		return false
	}
	if s.literals == literalsSafe && src[value] != '"' {
		var buffer [maxDigits + 4]byte
		safe, ok := safeNumber(buffer[:0], src[value:valueEnd])
		if !ok {
			return false
		}
		if !bytes.Equal(safe, src[value:valueEnd]) {
			s.at = valueEnd
			s.replace(value, safe)
		}
	}
	s.at = end + 2
	return true
}

// leafValue gives where the string or number at i ends, or 0.
func (s *jsonScanner) leafValue(i int) (end int) {
	if i >= len(s.src) {
		return 0
	}
	if s.src[i] != '"' {
		return s.leafNumber(i)
	}
	end = s.leafText(i)
	if end > 0 && s.literals != literalsAsIs && becomesDate(s.src[i+1:end-1]) {
		return 0
	}
	return end
}

// leafText gives where the string at i ends, if it has no escapes and, where
// literals are judged, nothing that could need one; else 0.
func (s *jsonScanner) leafText(i int) (end int) {
	src := s.src
	if src[i] != '"' {
		return 0
	}
	for i++; ; i++ {
		if i = skipPlain(src, i); i == len(src) {
			return 0
		}
		switch textClass[src[i]] {
		case classQuote:
			return i + 1
		case classSeparator:
			if s.literals == literalsAsIs {
				continue
			}
		}
		return 0
	}
}

// leafNumber gives where the number at i ends, if it has no exponent and, where
// literals are judged, is in its safe form; else 0.
func (s *jsonScanner) leafNumber(i int) (end int) {
	src, start := s.src, i
	if src[i] == '-' {
		i++
	}
	whole := i
	for i < len(src) && isDigit(src[i]) {
		i++
	}
	if i == whole || src[whole] == '0' && i > whole+1 {
		return 0
	}
	if i < len(src) && src[i] == '.' {
		point := i
		for i++; i < len(src) && isDigit(src[i]); {
			i++
		}
		if i == point+1 {
			return 0
		}
	}
	if i < len(src) && src[i]|0x20 == 'e' || s.literals == literalsKept && !plainlySafe(src[start:i]) {
		return 0
	}
	return i
}

// safeNumber gives a valid number in its safe form, appended to buffer if it is
// not in that form already. It is false of one that has none.
func safeNumber(buffer, literal []byte) ([]byte, bool) {
	if plainlySafe(literal) {
		return literal, true
	}
	d, ok := parseDecimal(literal)
	if !ok {
		return nil, false
	}
	return d.appendSafe(buffer)
}

// plainlySafe tells of a number whether it is in its safe form. It is false of
// some that are, such as those below 1.
func plainlySafe(literal []byte) bool {
	if len(literal) > maxDigits || literal[0] == '0' {
		return false
	}
	point := 0
	for i, c := range literal {
		switch {
		case c == '.':
			point = i
		case !isDigit(c):
			return false
		}
	}
	last := len(literal) - 1
	return point > 0 && (literal[last] != '0' || last == point+1)
}
