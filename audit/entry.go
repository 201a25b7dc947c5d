// Package audit is the record of what was signed: an append-only transparency
// log (C2SP tlog-tiles), in which every signature's entry is durable before the
// signature is released, and from which nothing can be taken, or changed, unseen.
//
// [Log] appends; [Log.Receipt] and [VerifyReceipt] prove one entry to whoever
// holds the log's verifier key; [Check] proves a whole log; [Index] finds entries
// and is never believed, since what it finds is read from the log. docs/FORMATS.md
// specifies what is written.
//
// It refuses to guess: where an entry cannot be shown to be on disk, [Log.Append]
// errs, and the one idea is that whoever appends then releases nothing. No
// document, and no name beyond the fields of [Entry], is ever recorded.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Digest is a SHA-256. The zero Digest is none.
type Digest [sha256.Size]byte

// Entry is what the log says of one signature: that it was authorised and about
// to be made. docs/FORMATS.md specifies its one form in bytes.
type Entry struct {
	// Time is when the signature was authorised. It is kept in UTC, to the
	// nanosecond; years 1970 to 2200.
	Time time.Time
	// Signer names the instance of the service, in up to 255 bytes.
	Signer string
	// Caller is the identity that asked for the signature, in up to 2,048 bytes.
	Caller string
	// TIN is the taxpayer signed for, in up to 64 bytes.
	TIN string
	// TINChecked says that the signer read the TIN in the document (SignDocument),
	// rather than being told it by the caller (SignDigest).
	TINChecked bool
	// Method is the call of the API, in up to 64 bytes.
	Method string
	// Certificate is the SHA-256 fingerprint of the signing certificate.
	Certificate Digest
	// Document is the digest of the document, the DocDigest of MyInvois.
	Document Digest
	// SignedProperties is the digest of the signed properties; zero if the caller
	// did not tell it.
	SignedProperties Digest
	// Number is the document's own number, in up to 200 bytes, "" if not told.
	Number string
	// RequestID is the caller's name of the request, in up to 64 bytes, "" if none:
	// retries carry the same one.
	RequestID string
	// Nonce is random, so that the hash of an entry tells nothing of it to those
	// who may not read it. [Log.Append] draws it.
	Nonce [16]byte
}

// MaxEntry is the length of the longest entry, in bytes.
const MaxEntry = 16 << 10

// Years of entries: their nanoseconds since 1970 fit in 63 bits.
const firstYear, lastYear = 1970, 2200

// formatVersion is the version of an entry's form.
const formatVersion = "1"

// timeForm has nine digits after the point, always.
const timeForm = "2006-01-02T15:04:05.000000000Z"

// Errors of [ParseEntry], beside those of fields.
var (
	// ErrVersion is the error of an entry of a version that is not known here.
	ErrVersion = errors.New("an entry of an unknown format version")
	// ErrNotCanonical is the error of an entry written otherwise than we would.
	ErrNotCanonical = errors.New("not an entry in its one form")
)

// Encode returns the entry in its one form: a line of JSON, without the newline.
// Errors name the field that cannot be written.
func (e *Entry) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	line := e.append(make([]byte, 0, 640))
	if len(line) > MaxEntry { // many controls, which take six bytes each
		return nil, fmt.Errorf("entry: must have at most %d bytes, not %d", MaxEntry, len(line))
	}
	return line, nil
}

// check refuses what has no form.
func (e *Entry) check() error {
	if year := e.Time.UTC().Year(); year < firstYear || year > lastYear {
		return fmt.Errorf("time: the year must be %d to %d, not %d", firstYear, lastYear, year)
	}
	if e.Certificate == (Digest{}) {
		return errors.New("certificate: none")
	}
	if e.Document == (Digest{}) {
		return errors.New("document: none")
	}
	for _, text := range []struct {
		name, value string
		least, most int
	}{
		{"signer", e.Signer, 1, 255},
		{"caller", e.Caller, 1, 2048},
		{"tin", e.TIN, 1, 64},
		{"method", e.Method, 1, 64},
		{"number", e.Number, 0, 200},
		{"request", e.RequestID, 0, 64},
	} {
		if n := len(text.value); n < text.least || n > text.most {
			return fmt.Errorf("%s: must have %d to %d bytes, not %d", text.name, text.least, text.most, n)
		}
		if !utf8.ValidString(text.value) {
			return fmt.Errorf("%s: not UTF-8", text.name)
		}
	}
	return nil
}

// append writes the entry.
func (e *Entry) append(b []byte) []byte {
	b = append(b, `{"v":`+formatVersion+`,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, timeForm)
	b = appendText(append(b, `","signer":`...), e.Signer)
	b = appendText(append(b, `,"caller":`...), e.Caller)
	b = appendText(append(b, `,"tin":`...), e.TIN)
	b = append(b, `,"tin_checked":`...)
	if e.TINChecked {
		b = append(b, `true`...)
	} else {
		b = append(b, `false`...)
	}
	b = appendText(append(b, `,"method":`...), e.Method)
	b = hex.AppendEncode(append(b, `,"certificate":"`...), e.Certificate[:])
	b = base64.StdEncoding.AppendEncode(append(b, `","document":"`...), e.Document[:])
	b = append(b, `","properties":"`...)
	if e.SignedProperties != (Digest{}) {
		b = base64.StdEncoding.AppendEncode(b, e.SignedProperties[:])
	}
	b = appendText(append(b, `","number":`...), e.Number)
	b = appendText(append(b, `,"request":`...), e.RequestID)
	b = hex.AppendEncode(append(b, `,"nonce":"`...), e.Nonce[:])
	return append(b, `"}`...)
}

// appendText writes a text as a JSON string with as few escapes as JSON allows.
func appendText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// ParseEntry reads an entry. Only the one form is accepted that [Entry.Encode]
// writes: the errors are [ErrVersion], [ErrNotCanonical], or name a field.
func ParseEntry(line []byte) (Entry, error) {
	if len(line) > MaxEntry {
		return Entry{}, fmt.Errorf("an entry of %d bytes, the most is %d: %w", len(line), MaxEntry, ErrNotCanonical)
	}
	version, found := bytes.CutPrefix(line, []byte(`{"v":`))
	if !found {
		return Entry{}, ErrNotCanonical
	}
	if rest, known := bytes.CutPrefix(version, []byte(formatVersion+`,"time":"`)); known {
		return parseFields(line, reader{rest: rest})
	}
	number, _, _ := bytes.Cut(version, []byte(","))
	if len(number) > 0 && len(bytes.Trim(number, "0123456789")) == 0 && string(number) != formatVersion {
		return Entry{}, ErrVersion
	}
	return Entry{}, ErrNotCanonical
}

// parseFields reads what comes after the version, beginning with the time.
func parseFields(line []byte, r reader) (e Entry, err error) {
	e.Time, err = time.Parse(timeForm, string(r.until('"')))
	if err != nil {
		return Entry{}, ErrNotCanonical
	}
	e.Signer = r.text(`,"signer":`)
	e.Caller = r.text(`,"caller":`)
	e.TIN = r.text(`,"tin":`)
	r.literal(`,"tin_checked":`)
	e.TINChecked = bytes.HasPrefix(r.rest, []byte("true"))
	r.until('e')
	e.Method = r.text(`,"method":`)
	r.bytes(`,"certificate":"`, e.Certificate[:], hex.DecodedLen, hex.Decode)
	r.bytes(`,"document":"`, e.Document[:], base64.StdEncoding.DecodedLen, base64.StdEncoding.Strict().Decode)
	r.bytes(`,"properties":"`, e.SignedProperties[:], base64.StdEncoding.DecodedLen, base64.StdEncoding.Strict().Decode)
	e.Number = r.text(`,"number":`)
	e.RequestID = r.text(`,"request":`)
	r.bytes(`,"nonce":"`, e.Nonce[:], hex.DecodedLen, hex.Decode)
	r.literal(`}`)
	if r.wrong {
		return Entry{}, ErrNotCanonical
	}
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	// What was read must be what we would write, to the last byte: there is no
	// second way to say the same.
	if !bytes.Equal(e.append(make([]byte, 0, len(line))), line) {
		return Entry{}, ErrNotCanonical
	}
	return e, nil
}

// reader takes an entry apart from its front. Once wrong it stays wrong.
type reader struct {
	rest  []byte
	wrong bool
}

func (r *reader) literal(s string) {
	rest, found := bytes.CutPrefix(r.rest, []byte(s))
	r.rest, r.wrong = rest, r.wrong || !found
}

// until takes what stands before a byte, and the byte.
func (r *reader) until(end byte) []byte {
	before, after, found := bytes.Cut(r.rest, []byte{end})
	r.rest, r.wrong = after, r.wrong || !found
	return before
}

// text takes a JSON string after a key.
func (r *reader) text(key string) string {
	r.literal(key + `"`)
	var s []byte
	for i := 0; i < len(r.rest); i++ {
		switch c := r.rest[i]; c {
		case '"':
			r.rest = r.rest[i+1:]
			return string(s)
		case '\\':
			c, length := unescape(r.rest[i:])
			if length == 0 {
				r.wrong = true
				return ""
			}
			s = append(s, c)
			i += length - 1
		default:
			s = append(s, c)
		}
	}
	r.wrong = true
	return ""
}

// unescape reads the escapes that appendText writes; length 0 says that it is
// none of them.
func unescape(s []byte) (c byte, length int) {
	switch {
	case len(s) >= 2 && (s[1] == '"' || s[1] == '\\'):
		return s[1], 2
	case len(s) >= 6 && bytes.HasPrefix(s, []byte(`\u00`)):
		var b [1]byte
		if _, err := hex.Decode(b[:], s[4:6]); err == nil {
			return b[0], 6
		}
	}
	return 0, 0
}

// bytes takes a text that stands for as many bytes as into has, or for none.
func (r *reader) bytes(key string, into []byte, length func(int) int, decode func(dst, src []byte) (int, error)) {
	r.literal(key)
	text := r.until('"')
	if len(text) == 0 || r.wrong {
		return
	}
	decoded := make([]byte, length(len(text)))
	n, err := decode(decoded, text)
	if err != nil || n != len(into) {
		r.wrong = true
		return
	}
	copy(into, decoded[:n])
}
