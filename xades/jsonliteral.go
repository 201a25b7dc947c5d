package xades

import (
	"bytes"
	"fmt"
)

// maxWarnings is how many literals are warned of in words.
const maxWarnings = 10

// judgeNumber treats the number src[start:s.at] as the rule for literals says.
func (s *jsonScanner) judgeNumber(start int, literal []byte) error {
	var buffer [maxDigits + 4]byte
	safe, ok := safeNumber(buffer[:0], literal)
	switch {
	case !ok:
		return s.refuse(literal, "it is not 0, nor from 0.0001 to below 1e15 with at most 15 significant digits; round it")
	case bytes.Equal(safe, literal):
		return nil
	case s.literals == literalsKept:
		s.warn(literal, safe)
		return nil
	}
	s.replace(start, safe)
	return nil
}

// judgeText does the same for the string src[start:s.at].
func (s *jsonScanner) judgeText(start int, raw, decoded []byte) error {
	if s.literals == literalsAsIs {
		return nil
	}
	safe := append(appendEscaped([]byte{'"'}, decoded), '"')
	switch {
	case bytes.Equal(safe[1:len(safe)-1], raw):
		return nil
	case s.literals == literalsKept:
		s.warn(s.src[start:s.at], safe)
		return nil
	}
	s.replace(start, safe)
	return nil
}

// judgeDate does the same for a string that some servers read as a date.
func (s *jsonScanner) judgeDate(start int) error {
	return s.refuse(s.src[start:s.at], "servers read it as a date and write it in another form; write the time in UTC, to the second, with a Z")
}

// refuse is for a literal that has no safe form: an error, or a warning where
// literals are kept.
func (s *jsonScanner) refuse(literal []byte, why string) error {
	if s.literals != literalsKept {
		return fmt.Errorf("%w: %s: %s: %s, or keep the literals as they are", ErrLiteral, s.where(), shorten(literal), why)
	}
	if s.warned++; s.warned <= maxWarnings {
		s.doc.warnings = append(s.doc.warnings, fmt.Sprintf("%s: kept %s, which may not survive: %s", s.where(), shorten(literal), why))
	}
	return nil
}

// warn records a literal that is kept although a server that re-serialises
// would write it as safe.
func (s *jsonScanner) warn(literal, safe []byte) {
	if s.warned++; s.warned <= maxWarnings {
		s.doc.warnings = append(s.doc.warnings, fmt.Sprintf("%s: kept %s, which a server may rewrite as %s", s.where(), shorten(literal), shorten(safe)))
	}
}

func (s *jsonScanner) closeWarnings() {
	switch more := s.warned - maxWarnings; {
	case more == 1:
		s.doc.warnings = append(s.doc.warnings, "and 1 more literal like these")
	case more > 1:
		s.doc.warnings = append(s.doc.warnings, fmt.Sprintf("and %d more literals like these", more))
	}
}

// becomesDate tells whether Newtonsoft's reader takes the text for a date and
// time, and its writer would write another text than this: with the fraction's
// zeros dropped, the offset turned into the server's own, hour 24 as the next
// day's 0, and so on. What it keeps, yyyy-MM-ddTHH:mm:ss with or without Z, is
// no such text. A fraction or a /Date(...)/ is always one, although a few of
// them come back unchanged: what decides it differs between its versions.
func becomesDate(text []byte) bool {
	if len(text) == 0 {
		return false
	}
	if text[0] == '/' {
		return bytes.HasPrefix(text, []byte("/Date(")) && bytes.HasSuffix(text, []byte(")/"))
	}
	if len(text) < 19 || len(text) > 40 || text[10] != 'T' {
		return false
	}
	hour, ok := dateTime(text[:19])
	if !ok {
		return false
	}
	zone := text[19:]
	if len(zone) > 0 && zone[0] == '.' {
		n := 1
		for n < len(zone) && n <= 7 && isDigit(zone[n]) {
			n++
		}
		if n == 1 {
			return false
		}
		return endsDate(zone[n:])
	}
	if !endsDate(zone) {
		return false
	}
	return hour == 24 || len(zone) > 0 && string(zone) != "Z"
}

// dateTime reads yyyy-MM-ddTHH:mm:ss.
func dateTime(t []byte) (hour int, ok bool) {
	for i, c := range []byte("0000-00-00T00:00:00") {
		if c == '0' && !isDigit(t[i]) || c != '0' && t[i] != c {
			return 0, false
		}
	}
	two := func(at int) int { return int(t[at]-'0')*10 + int(t[at+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	hour, minute, second := two(11), two(14), two(17)
	switch {
	case year < 1 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month):
		return 0, false
	case hour > 24 || minute > 59 || second > 59 || hour == 24 && minute+second > 0:
		return 0, false
	}
	return hour, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// endsDate tells whether zone is one that Newtonsoft accepts. It follows that
// parser's steps, which also let through an hour or minutes without a sign.
func endsDate(zone []byte) bool {
	if len(zone) == 0 {
		return true
	}
	if zone[0] == 'Z' || zone[0] == 'z' {
		return len(zone) == 1
	}
	digits := func(at int) bool {
		return at+1 < len(zone) && isDigit(zone[at]) && isDigit(zone[at+1])
	}
	if digits(1) && (zone[0] == '+' || zone[0] == '-') {
		zone = zone[3:]
	}
	if len(zone) > 0 && zone[0] == ':' {
		zone = zone[1:]
	}
	if digits(0) {
		zone = zone[2:]
	}
	return len(zone) == 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
