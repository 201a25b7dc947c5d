package xades

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// maxJSONDepth bounds how deep objects and arrays nest. A signed document
// needs 31 levels.
const maxJSONDepth = 64

// literalRule says how the scanner treats numbers and strings.
type literalRule uint8

const (
	literalsAsIs literalRule = iota // every literal stays as it is: what digest and verify read
	literalsSafe                    // literals are written in the form that every server leaves alone
	literalsKept                    // every literal stays, with a warning where literalsSafe would differ
)

// jsonOptions says how to write the canonical text.
type jsonOptions struct {
	literals   literalRule
	setVersion string // what listVersionID becomes; empty leaves it
}

// jsonDocument is what one pass over a JSON document yields.
type jsonDocument struct {
	canonical  []byte   // minified, without UBLExtensions and Signature of Invoice[0]
	spliceAt   int      // offset in canonical of the brace that closes Invoice[0]
	empty      bool     // Invoice[0] has no member left
	versionAt  int      // offsets in canonical of listVersionID's value; or, twice, of where it would stand;
	versionTo  int      // 0 if there is nothing that could have it
	extensions []byte   // the minified UBLExtensions that was taken out; nil if there was none
	signature  []byte   // the minified Signature that was taken out; nil if there was none
	strays     []string // paths of members of Invoice[0] with the names of the blocks but for their case
	twins      []string // paths of members that differ in case only from one before them
	blockTwin  bool     // one of those stands in a block that was taken out
	header     header
	warnings   []string
}

// jsonScanner reads a document once, from its first byte to its last, and
// writes the canonical text by copying runs of the source: bytes that stay are
// not touched one by one. It is for one document and one goroutine.
type jsonScanner struct {
	src  []byte
	at   int    // the next byte to read
	kept int    // src[kept:at] is canonical as it stands, and not yet in out
	out  []byte // the canonical text so far

	literals   literalRule // literalsAsIs inside values that do not stay
	setVersion string

	path    [maxJSONDepth]jsonStep // of which the first depth are open objects and arrays
	depth   int
	names   []jsonName // of the members of all open objects, innermost last
	decoded []byte     // the names that have escapes
	spare   map[string]jsonName
	cuts    []jsonCut
	cutting bool   // a member that does not stay is being read
	party   *party // whose identification is being read
	id      partyID
	warned  int
	scratch []byte
	doc     jsonDocument
}

// jsonCut is a member of Invoice[0] that does not stay.
type jsonCut struct {
	from, value, to int // offsets in out: its name, its value, its end
	keep            *[]byte
}

// scanJSON reads src, which must be one MyInvois document in JSON and nothing
// else, by the letter of RFC 8259: readers that are lenient (comments, single
// quotes, lone surrogates, duplicate members) do not agree on what they read.
// The errors wrap [ErrMalformed] and, where opt asks for safe literals,
// [ErrLiteral]; each names a line and column or the path of the literal.
func scanJSON(src []byte, opt jsonOptions) (*jsonDocument, error) {
	src, err := decodeUTF8(src)
	if err != nil {
		return nil, err
	}
	room := len(src) + 64
	if opt.literals == literalsSafe {
		room += len(src) / 8 // 1 becomes 1.0
	}
	s := &jsonScanner{
		src:        src,
		out:        make([]byte, 0, room),
		literals:   opt.literals,
		setVersion: opt.setVersion,
		names:      make([]jsonName, 0, 128),
	}
	if err := s.document(); err != nil {
		return nil, err
	}
	s.doc.canonical = s.out
	s.closeWarnings()
	return &s.doc, nil
}

func (s *jsonScanner) document() error {
	c := s.next()
	if s.at == len(s.src) {
		return fmt.Errorf("%w: the document is empty", ErrMalformed)
	}
	if c != '{' {
		return s.fault(s.at, `a MyInvois document is an object, {"Invoice":[{...}]}, and starts with a brace, not with %s`, s.found())
	}
	if err := s.object(placeRoot); err != nil {
		return err
	}
	s.next()
	if s.at < len(s.src) {
		return s.fault(s.at, "the document has ended, but %s follows; take out what does not belong to it", s.found())
	}
	s.flush(s.at)
	switch {
	case s.doc.spliceAt == 0:
		return fmt.Errorf(`%w: no member Invoice at the top level; a MyInvois document is {"Invoice":[{...}]}`, ErrMalformed)
	case s.setVersion != "" && s.doc.versionTo == 0:
		return fmt.Errorf("%w: no Invoice[0].InvoiceTypeCode[0] that could say version %s; add it with the document's type", ErrUnsignable, s.setVersion)
	}
	return nil
}

// value reads one value, whatever it is. It starts with c, the next byte.
func (s *jsonScanner) value(p place, c byte) error {
	if p != elsewhere {
		if err := s.shape(p, c); err != nil {
			return err
		}
	}
	switch c {
	case '"':
		return s.textValue(p)
	case '{':
		return s.object(p)
	case '[':
		return s.array(p)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.numberValue(p)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.misplaced("a value")
}

func (s *jsonScanner) word(w string) error {
	if !bytes.HasPrefix(s.src[s.at:], []byte(w)) {
		return s.misplaced("a value")
	}
	s.at += len(w)
	return nil
}

func (s *jsonScanner) array(p place) error {
	step, err := s.open()
	if err != nil {
		return err
	}
	for c := s.next(); c != ']'; c = s.next() {
		if step.index++; step.index > 0 {
			if c, err = s.comma(c, ']'); err != nil {
				return err
			}
		}
		if err := s.value(p.element(step.index), c); err != nil {
			return err
		}
	}
	if p == placeInvoice|asList {
		if err := s.oneInvoice(); err != nil {
			return err
		}
	}
	s.close()
	return nil
}

func (s *jsonScanner) object(p place) error {
	step, err := s.open()
	if err != nil {
		return err
	}
	p = p.item()
	s.enter(p)
	names := memberNames{first: len(s.names)}
	for c := s.next(); c != '}'; c = s.next() {
		if len(s.names) > names.first {
			if c, err = s.comma(c, '}'); err != nil {
				return err
			}
		}
		if err := s.member(p, c, step, &names); err != nil {
			return err
		}
	}
	s.leave(p, len(s.names) > names.first)
	s.forget(&names)
	s.close()
	return nil
}

// comma moves past the comma that c has to be, to what stands behind it, which
// must not be the end.
func (s *jsonScanner) comma(c, end byte) (byte, error) {
	if c != ',' {
		return 0, s.misplaced(fmt.Sprintf("a comma or %q", end))
	}
	s.at++
	c = s.next()
	if c == end {
		return 0, s.fault(s.at, "the comma before this %q has nothing after it; take it out", end)
	}
	return c, nil
}

// member reads one name, which starts with c, and its value.
func (s *jsonScanner) member(p place, c byte, step *jsonStep, names *memberNames) error {
	start := s.at
	if p == placeInvoice {
		s.flush(start) // so that a member to take out starts at the end of out
	}
	from := len(s.out)
	if c != '"' {
		return s.misplaced("a member's name")
	}
	name, err := s.name(step)
	if err != nil {
		return err
	}
	if p == placeInvoice {
		s.stray(name)
	}
	if !s.newName(names, step.name, name) {
		return s.fault(start, "the member %s occurs twice, and readers disagree on which of the two counts; keep one", s.where())
	}
	if s.next() != ':' {
		return s.misplaced("a colon")
	}
	s.at++
	c = s.next()
	switch child := p.member(name); child {
	case placeExtensions:
		return s.cutMember(from, &s.doc.extensions)
	case placeSignature:
		return s.cutMember(from, &s.doc.signature)
	case textVersion:
		return s.version(c)
	case elsewhere:
		if s.leaf() {
			return nil
		}
		return s.value(child, c)
	default:
		return s.value(child, c)
	}
}

// open moves past the brace or bracket of an object or array and steps into it.
func (s *jsonScanner) open() (*jsonStep, error) {
	if s.depth == maxJSONDepth {
		return nil, s.fault(s.at, "objects and arrays nest deeper than %d levels, which no MyInvois document does", maxJSONDepth)
	}
	step := &s.path[s.depth]
	*step = jsonStep{index: -1}
	s.depth++
	s.at++
	return step, nil
}

func (s *jsonScanner) close() {
	s.depth--
	s.at++
}

// peek returns the next byte, or 0, which no JSON token starts with, at the end.
func (s *jsonScanner) peek() byte {
	if s.at < len(s.src) {
		return s.src[s.at]
	}
	return 0
}

// next moves past blanks, of which the canonical text has none, and peeks.
func (s *jsonScanner) next() byte {
	if c := s.peek(); c > ' ' {
		return c
	}
	return s.skipBlanks()
}

func (s *jsonScanner) skipBlanks() byte {
	src, i := s.src, s.at
	for i < len(src) && isBlank(src[i]) {
		i++
	}
	s.flush(s.at)
	s.at, s.kept = i, i
	return s.peek()
}

// flush copies the pending run up to the given offset of the source.
func (s *jsonScanner) flush(to int) {
	s.out = append(s.out, s.src[s.kept:to]...)
	s.kept = to
}

// replace writes text in the place of src[from:s.at].
func (s *jsonScanner) replace(from int, text []byte) {
	s.flush(from)
	s.out = append(s.out, text...)
	s.kept = s.at
}

func isBlank(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t'
}

// decodeUTF8 drops a byte order mark and refuses every encoding but UTF-8,
// naming the one it seems to be.
func decodeUTF8(src []byte) ([]byte, error) {
	if name := otherEncoding(src); name != "" {
		return nil, fmt.Errorf("%w: the text is encoded as %s; save it as UTF-8", ErrMalformed, name)
	}
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	if utf8.Valid(src) {
		return src, nil
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(src[at:])
		if r == utf8.RuneError && size <= 1 {
			s := jsonScanner{src: src}
			return nil, s.fault(at, "the byte 0x%02x is not part of a character in UTF-8; save the document as UTF-8", src[at])
		}
		at += size
	}
}

// otherEncoding recognises UTF-16 and UTF-32 by their marks, and without marks
// by the zero bytes that the first brace brings.
func otherEncoding(src []byte) string {
	for _, known := range []struct{ start, name string }{
		{"\xff\xfe\x00\x00", "UTF-32"}, {"\x00\x00\xfe\xff", "UTF-32"},
		{"{\x00\x00\x00", "UTF-32"}, {"\x00\x00\x00{", "UTF-32"},
		{"\xff\xfe", "UTF-16"}, {"\xfe\xff", "UTF-16"},
		{"{\x00", "UTF-16"}, {"\x00{", "UTF-16"},
	} {
		if bytes.HasPrefix(src, []byte(known.start)) {
			return known.name
		}
	}
	return ""
}
