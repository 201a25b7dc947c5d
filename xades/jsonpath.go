package xades

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// jsonStep is where the scanner stands in one open object or array. Neither it
// nor a name holds a pointer: they change with every member, and the garbage
// collector would want to know of each.
type jsonStep struct {
	name  jsonName // of the current member; in an array, the zero one
	index int      // of the current element; in an object, -1
}

// jsonName is a member's name, by its offsets in the source; or, if it has
// escapes, by those in the scanner's decoded names, counted on from the
// source's end.
type jsonName struct{ from, to int }

func (s *jsonScanner) nameText(n jsonName) []byte {
	if end := len(s.src); n.from >= end {
		return s.decoded[n.from-end : n.to-end]
	}
	return s.src[n.from:n.to]
}

// where writes the path of the value being read, as in
// Invoice[0].TaxTotal[0].TaxSubtotal. Only errors and warnings need it.
func (s *jsonScanner) where() string {
	var path []byte
	for _, step := range s.path[:s.depth] {
		name := s.nameText(step.name)
		switch {
		case step.index >= 0:
			path = fmt.Appendf(path, "[%d]", step.index)
		case !plainName(name):
			path = fmt.Appendf(path, "[%q]", shorten(name))
		case len(path) > 0:
			path = append(append(path, '.'), name...)
		default:
			path = append(path, name...)
		}
	}
	return string(path)
}

// plainName tells whether name can stand in a path as it is.
func plainName(name []byte) bool {
	for _, c := range name {
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return len(name) > 0 && len(name) <= maxShown
}

// maxShown is how many bytes of a name or literal an error shows.
const maxShown = 48

func shorten(text []byte) string {
	if len(text) <= maxShown {
		return string(text)
	}
	end := maxShown
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return string(text[:end]) + "..."
}

// fault makes an error about the source at the given offset.
func (s *jsonScanner) fault(at int, format string, args ...any) error {
	before := s.src[:at]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[1+bytes.LastIndexByte(before, '\n'):])
	return fmt.Errorf("%w: line %d, column %d: %s", ErrMalformed, line, column, fmt.Sprintf(format, args...))
}

// misplaced makes the error of finding something else than what belongs here.
func (s *jsonScanner) misplaced(what string) error {
	if s.at == len(s.src) {
		return s.fault(s.at, "the document ends where %s belongs; it has been cut short", what)
	}
	switch s.src[s.at] {
	case '/', '#':
		return s.fault(s.at, "%s belongs here, not %s; JSON has no comments, so take them out", what, s.found())
	case '\'':
		return s.fault(s.at, "%s belongs here, not %s; names and texts stand in double quotes", what, s.found())
	case '+', '.':
		return s.fault(s.at, "%s belongs here, not %s; a number starts with a digit or a minus", what, s.found())
	}
	return s.fault(s.at, "%s belongs here, not %s", what, s.found())
}

// found names the character at the current offset.
func (s *jsonScanner) found() string {
	r, _ := utf8.DecodeRune(s.src[s.at:])
	if r == '\'' {
		return "a single quote"
	}
	return strconv.QuoteRune(r)
}

// memberNames is the set of the names that one object has shown so far. Up to
// a handful they are compared one by one; beyond, a map keeps an object of very
// many members from costing the square of their number.
type memberNames struct {
	first int    // where the object's names start in the scanner's stack
	seen  uint64 // a bit for each hash of a name in the set
	many  map[string]jsonName
}

const manyNames = 24

// newName adds a name, which reads text, to the set, and tells whether it is new.
func (s *jsonScanner) newName(set *memberNames, name jsonName, text []byte) bool {
	own := s.names[set.first:]
	if len(own) >= manyNames {
		return s.newAmongMany(set, name, text)
	}
	bit := nameBit(text)
	if set.seen&bit != 0 {
		twin := false
		for _, n := range own {
			other := s.nameText(n)
			if bytes.Equal(other, text) {
				return false
			}
			twin = twin || sameButForCase(other, text)
		}
		if twin {
			s.twin()
		}
	}
	set.seen |= bit
	s.names = append(s.names, name)
	return true
}

func (s *jsonScanner) newAmongMany(set *memberNames, name jsonName, text []byte) bool {
	if set.many == nil {
		if set.many, s.spare = s.spare, nil; set.many == nil {
			set.many = make(map[string]jsonName, 4*manyNames)
		}
		for _, n := range s.names[set.first:] {
			s.addToMany(set, n, s.nameText(n))
		}
	}
	isNew, twin := s.addToMany(set, name, text)
	if twin {
		s.twin()
	}
	return isNew
}

// forget is called when the object of a set has ended. A map that did not grow is
// used again.
func (s *jsonScanner) forget(set *memberNames) {
	s.names = s.names[:set.first]
	if n := len(set.many); n > 0 && n <= 4*manyNames {
		clear(set.many)
		s.spare = set.many
	}
}

// addToMany adds a name in lower case; if that is taken by another, as it is and
// after a byte that no name has in it.
func (s *jsonScanner) addToMany(set *memberNames, name jsonName, text []byte) (isNew, twin bool) {
	s.scratch = append(append(s.scratch[:0], 0xFF), text...)
	lower := s.scratch[1:]
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c | 0x20
		}
	}
	first, taken := set.many[string(lower)]
	if !taken {
		set.many[string(lower)] = name
		return true, false
	}
	copy(lower, text)
	if _, taken = set.many[string(s.scratch)]; taken || bytes.Equal(s.nameText(first), text) {
		return false, false
	}
	set.many[string(s.scratch)] = name
	return true, true
}

// twin notes that the member being read differs in case only from one before it
// in its object.
func (s *jsonScanner) twin() {
	if len(s.doc.twins) < maxNamed {
		s.doc.twins = append(s.doc.twins, s.where())
	}
	s.doc.blockTwin = s.doc.blockTwin || s.cutting
}

// sameButForCase tells of two names, which differ, whether they do so in the case
// of ASCII letters only.
func sameButForCase(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if c != b[i] && (!letter || c^b[i] != 0x20) {
			return false
		}
	}
	return true
}

// nameBit hashes a name, whatever its case, to one of 64 bits, to spare most
// comparisons.
func nameBit(name []byte) uint64 {
	n := len(name)
	if n == 0 {
		return 1
	}
	return 1 << ((uint(n)*7 + uint(name[0]|0x20)*5 + uint(name[n/2]|0x20)*3 + uint(name[n-1]|0x20)) % 64)
}
