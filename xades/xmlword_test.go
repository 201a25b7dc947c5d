package xades

import (
	"bytes"
	"testing"
)

// Eight bytes at a time must tell what one at a time does: of every byte, at every
// place in a word, beside every other.
func TestWordsAreReadAsTheirBytes(t *testing.T) {
	for _, row := range []struct {
		name  string
		read  func([]byte, int) int
		good  string
		among func(byte) bool
	}{
		{"letters", letters, "azAZmM", func(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }},
		{"spaces", spaces, "  ", func(c byte) bool { return c == ' ' }},
		{"plain text", plainText, " ~]%'=?;A\x7f", func(c byte) bool {
			return c >= 0x20 && c < 0x80 && c != '&' && c != '<' && c != '>'
		}},
	} {
		for _, good := range []byte(row.good) {
			for at := range 24 {
				for c := range 256 {
					text := bytes.Repeat([]byte{good}, 24)
					text[at] = byte(c)
					good := row.among(byte(c))
					for _, from := range []int{0, at} {
						got := row.read(text, from)
						switch {
						case !good && at+8 <= len(text) && got != at,
							good && got <= len(text)-8,
							got > len(text):
							t.Fatalf("%s of %q from %d: got %d", row.name, text, from, got)
						}
					}
				}
			}
		}
		for size := range 8 {
			if got := row.read(bytes.Repeat([]byte{row.good[0]}, size), 0); got != 0 {
				t.Errorf("%s of %d bytes: got %d, want 0, for somebody to look closer", row.name, size, got)
			}
		}
	}
}
