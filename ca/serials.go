package ca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/roamsign/roamsign/internal/strict"
)

// Serials is a list of revoked certificates by their serial numbers, whoever
// issued them. The nil Serials revokes nothing. It does not change, and is safe
// for concurrent use.
type Serials struct {
	revoked map[string]struct{} // by big-endian bytes
}

// Revokes reports whether a certificate's serial number is in the list. It takes
// the same time however long the list is.
func (s *Serials) Revokes(c *x509.Certificate) bool {
	return s != nil && c.SerialNumber != nil && s.has(c.SerialNumber)
}

func (s *Serials) has(serial *big.Int) bool {
	_, revoked := s.revoked[string(serial.Bytes())]
	return revoked
}

// Len returns how many serial numbers are in the list.
func (s *Serials) Len() int {
	if s == nil {
		return 0
	}
	return len(s.revoked)
}

// LoadSerials reads a list of serial numbers; see [ParseSerials].
func LoadSerials(path string) (*Serials, error) {
	text, err := strict.ReadFile(path, maxList)
	if err != nil {
		return nil, err
	}
	serials, err := ParseSerials(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return serials, nil
}

// ParseSerials reads a list of serial numbers, one a line, each as
// [ParseSerial] takes it; # begins a comment. An empty list revokes nothing. The
// error is of [strict.Faults], all at once: a line that cannot be read revokes
// somebody, so the whole list is refused.
func ParseSerials(text []byte) (*Serials, error) {
	list := &Serials{revoked: map[string]struct{}{}}
	var faults strict.Faults
	number := 0
	for line := range bytes.Lines(text) {
		number++
		entry, _, _ := strings.Cut(string(line), "#")
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		serial, err := ParseSerial(entry)
		if err != nil {
			faults = append(faults, strict.Fault{Line: number, Message: err.Error()})
			continue
		}
		list.revoked[string(serial.Bytes())] = struct{}{}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return list, nil
}

// The spellings of a serial number, all of which openssl prints: plain
// hexadecimal, "serial=" before it; bytes with colons between them; and, from
// "openssl x509 -text", decimal with hexadecimal in parentheses.
var (
	plainSerial = regexp.MustCompile(`^(?:serial=)?(?:0x)?([0-9a-f]+)$`)
	colonSerial = regexp.MustCompile(`^[0-9a-f]{2}(?::[0-9a-f]{2})+$`)
	bothSerial  = regexp.MustCompile(`^(?:serial number: *)?([0-9]+) \(0x([0-9a-f]+)\)$`)
)

// maxSerial is the longest serial number, in bytes (RFC 5280, section 4.1.2.2).
const maxSerial = 20

// ParseSerial reads a serial number. It is hexadecimal, in capitals or not, as
// "openssl x509 -noout -serial" prints it, with or without "serial=", 0x, or a
// colon after each byte. Decimal alone is not told from hexadecimal, and so is
// read as that; what openssl -text prints, decimal and then hexadecimal in
// parentheses, is taken if both are the same number.
func ParseSerial(text string) (*big.Int, error) {
	lower := strings.ToLower(strings.TrimSpace(text))
	var digits, decimal string
	if found := plainSerial.FindStringSubmatch(lower); found != nil {
		digits = found[1]
	} else if colonSerial.MatchString(lower) {
		digits = strings.ReplaceAll(lower, ":", "")
	} else if found := bothSerial.FindStringSubmatch(lower); found != nil {
		decimal, digits = found[1], found[2]
	} else {
		return nil, fmt.Errorf("%q is not a serial number: write it in hexadecimal, as \"openssl x509 -noout -serial\" prints it", clip(text))
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" || len(digits) > 2*maxSerial {
		return nil, fmt.Errorf("%q is not a serial number: 1 to %d bytes, not all zero", clip(text), maxSerial)
	}
	serial, _ := new(big.Int).SetString(digits, 16)
	if decimal != "" && serial.String() != strings.TrimLeft(decimal, "0") {
		return nil, fmt.Errorf("%q is not a serial number: the decimal and the hexadecimal one differ", clip(text))
	}
	return serial, nil
}

// clip keeps what is quoted in an error short.
func clip(text string) string {
	const most = 60
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// FormatSerial writes a serial number as [ParseSerial] reads it and openssl
// prints it: hexadecimal capitals, two for each byte.
func FormatSerial(serial *big.Int) string { return fmt.Sprintf("%X", serial.Bytes()) }
