package xades

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

var utf8BOM = []byte("\xef\xbb\xbf")

// otherEncodings are the ways in which encodings that are refused begin
// (XML 1.0, appendix F).
var otherEncodings = []struct{ mark, name string }{
	{"\x00\x00\xfe\xff", "UTF-32"},
	{"\xff\xfe\x00\x00", "UTF-32"},
	{"\xfe\xff", "UTF-16"},
	{"\xff\xfe", "UTF-16"},
	{"\x00<", "UTF-16"},
	{"<\x00", "UTF-16"},
	{"\x00{", "UTF-16"},
	{"{\x00", "UTF-16"},
	{"\x4c\x6f\xa7\x94", "EBCDIC"},
}

// plainUTF8 drops a byte order mark and refuses other encodings by name.
func plainUTF8(document []byte) ([]byte, error) {
	for _, other := range otherEncodings {
		if bytes.HasPrefix(document, []byte(other.mark)) {
			return nil, fmt.Errorf("%w: it is in %s; save it as UTF-8", ErrMalformed, other.name)
		}
	}
	return bytes.TrimPrefix(document, utf8BOM), nil
}

// xmlDeclaration is production 23 of XML 1.0, with what stands in it.
var xmlDeclaration = regexp.MustCompile(`^<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*("1\.[0-9]+"|'1\.[0-9]+')` +
	`(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*("[A-Za-z][A-Za-z0-9._-]*"|'[A-Za-z][A-Za-z0-9._-]*'))?` +
	`(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:"(?:yes|no)"|'(?:yes|no)'))?[ \t\r\n]*\?>$`)

// instruction reads the XML declaration or a processing instruction.
func (s *xmlScanner) instruction() error {
	stop := bytes.Index(s.src[s.pos:], []byte("?>"))
	if stop < 0 {
		return s.fault(s.pos, "a processing instruction that does not end")
	}
	end := s.pos + stop + 2
	name, i, err := s.qualified(s.pos + 2)
	if err != nil {
		return err
	}
	switch {
	case string(s.text(name.span)) == "xml" && s.pos == 0:
		err = s.xmlDecl(s.src[:end])
		s.kind = tokDeclaration
	case strings.EqualFold(string(s.text(name.span)), "xml"):
		return s.fault(s.pos, "<?xml stands at the very beginning of a document or nowhere")
	case name.colon > 0:
		return s.fault(s.pos, "a processing instruction with a colon in its name")
	case i < end-2 && !blank(s.src[i]):
		return s.fault(i, "a blank is missing after the processing instruction's name")
	default:
		err = s.chars(i, end-2)
		s.kind, s.name, s.raw = tokPI, name, spanOf(s.skipBlanks(i), end-2)
	}
	s.pos = end
	return err
}

// maxXMLDeclaration bounds what is matched with the expression above.
const maxXMLDeclaration = 512

func (s *xmlScanner) xmlDecl(decl []byte) error {
	switch {
	case string(decl) == `<?xml version="1.0" encoding="UTF-8"?>`:
		return nil // the usual one, known to match
	case len(decl) > maxXMLDeclaration:
		return s.fault(0, "an XML declaration of over %d bytes", maxXMLDeclaration)
	}
	m := xmlDeclaration.FindSubmatch(decl)
	if m == nil {
		return s.fault(0, "the XML declaration is not well-formed; write <?xml version=\"1.0\" encoding=\"UTF-8\"?> or leave it out")
	}
	if version := strings.Trim(string(m[1]), `"'`); version != "1.0" {
		return s.fault(0, "XML version %s is refused; MyInvois documents are XML 1.0", version)
	}
	if encoding := strings.Trim(string(m[2]), `"'`); encoding != "" && !strings.EqualFold(encoding, "UTF-8") {
		return s.fault(0, "it declares the encoding %s; save it as UTF-8 and declare that", encoding)
	}
	return nil
}
