package xades

import (
	"bytes"
	"fmt"
)

// MaxInput is the most bytes a document may have on its way in. Indented
// documents shrink when they are made canonical, so it is more than MaxSigned.
const MaxInput = 2 << 20

// MaxSigned is the most bytes a signed document may have: LHDN's 300 KB, taken
// as KiB. Over MaxSurely there is a warning, in case LHDN means 1,000 bytes.
const (
	MaxSigned = 300 << 10
	MaxSurely = 300_000
)

// Format is a document's syntax. The zero Format is none.
type Format uint8

// The two formats of MyInvois documents.
const (
	XML Format = iota + 1
	JSON
)

// String returns "XML" or "JSON", as LHDN's submit API spells them.
func (f Format) String() string {
	switch f {
	case XML:
		return "XML"
	case JSON:
		return "JSON"
	}
	return "unknown"
}

// Detect tells a document's format by the first character that is no blank. It
// judges nothing else. The error wraps [ErrMalformed] or [ErrTooLarge].
func Detect(document []byte) (Format, error) {
	if len(document) > MaxInput {
		return 0, fmt.Errorf("%w: %d bytes; at most %d are read, and LHDN takes %d once signed", ErrTooLarge, len(document), MaxInput, MaxSigned)
	}
	source, err := plainUTF8(document)
	if err != nil {
		return 0, err
	}
	source = bytes.TrimLeft(source, " \t\r\n")
	switch {
	case len(source) == 0:
		return 0, fmt.Errorf("%w: it is empty", ErrMalformed)
	case source[0] == '<':
		return XML, nil
	case source[0] == '{':
		return JSON, nil
	case bytes.HasPrefix(source, []byte("%PDF-")):
		return 0, fmt.Errorf("%w: it is a PDF; MyInvois signs the UBL document in XML or JSON", ErrMalformed)
	case source[0] == '/' || source[0] == '#':
		return 0, fmt.Errorf("%w: neither XML nor JSON; a MyInvois document begins with < or {, and JSON has no comments, so take them out", ErrMalformed)
	}
	return 0, fmt.Errorf("%w: neither XML nor JSON; a MyInvois document begins with < or {", ErrMalformed)
}
