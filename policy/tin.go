package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// TIN is a Malaysian tax identification number in the form that [ParseTIN]
// accepts. The zero TIN is nobody's.
type TIN string

// prefixes of tax identification numbers: companies, co-operatives,
// partnerships, employers, associations, public entertainers, limited
// liability partnerships, the kinds of trust, Hindu joint families, Labuan
// entities, individuals (IG, formerly SG and OG).
// Source: LHDN, "Tax Identification Number (TIN)", table of file types; those in
// use on MyInvois, by the SDK's FAQ, are these without E, SG and OG.
var prefixes = []string{
	"C", "CS", "D", "E", "F", "FA", "PT", "TA", "TC", "TN", "TR", "TP", "J", "LE", "IG", "SG", "OG",
}

// Bounds of the parts. Published TINs have 8 to 12 digits, but LHDN states no
// length, only that the field holds at most 14 characters; one digit fewer than
// any seen is still let through, a number cut in half is not.
const (
	minTINDigits, maxTINDigits = 7, 12
	maxTIN                     = 14
	minROB, maxROB             = 5, 20
)

// ParseTIN checks the form of a TIN: one of LHDN's prefixes in capitals, then 7
// to 12 digits, 14 characters at most, nothing else around or between. A sole
// proprietor's business is its owner's TIN, a colon and the business
// registration number ("IG12345678912:201901234567"), as MyInvois writes it in
// onbehalfof; the number is 5 to 20 capitals, digits and hyphens, and only IG
// TINs have one.
//
// LHDN's general TINs (EI00000000010 to EI00000000040: the general public,
// foreign buyers, foreign suppliers, government) name nobody who could be
// represented, and are refused.
func ParseTIN(s string) (TIN, error) {
	number, rob, business := strings.Cut(s, ":")
	if err := checkNumber(number); err != nil {
		return "", fmt.Errorf("%s is not a TIN: %w", quoted(s), err)
	}
	if business {
		if err := checkROB(number, rob); err != nil {
			return "", fmt.Errorf("%s is not a TIN: %w", quoted(s), err)
		}
	}
	return TIN(s), nil
}

func checkNumber(number string) error {
	if number == "" {
		return errors.New("it is empty")
	}
	prefix := strings.TrimRight(number, "0123456789")
	digits := len(number) - len(prefix)
	switch {
	case prefix == "EI":
		return errors.New("it is one of LHDN's general TINs, which stand for no taxpayer")
	case !slices.Contains(prefixes, prefix):
		return fmt.Errorf("it must be a prefix (%s) and digits, such as C20880050010", strings.Join(prefixes, ", "))
	case digits < minTINDigits, digits > maxTINDigits, len(number) > maxTIN:
		return fmt.Errorf("it has %d digits, not %d to %d (and %d characters at most)", digits, minTINDigits, maxTINDigits, maxTIN)
	}
	return nil
}

func checkROB(number, rob string) error {
	if !strings.HasPrefix(number, "IG") {
		return errors.New("only an individual's (IG) has a business registration number after a colon")
	}
	if len(rob) < minROB || len(rob) > maxROB || strings.Trim(rob, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
		return fmt.Errorf("the business registration number after the colon must be %d to %d digits, capitals and hyphens", minROB, maxROB)
	}
	return nil
}

// doubt tells why LHDN would hardly know a TIN of that form, or "". The rules
// are those of the SDK's FAQ ("How to retrieve and validate the accuracy of my
// TIN?"). They are no reason to refuse: its own samples break them.
func (t TIN) doubt() string {
	number := t.Number()
	prefix := strings.TrimRight(number, "0123456789")
	digits := number[len(prefix):]
	switch {
	case prefix == "SG", prefix == "OG":
		return "individuals have the prefix IG now, before the same digits"
	case prefix == "IG":
		return ""
	case prefix == "E":
		return "an employer's number (E) issues no invoices; it has a TIN of its own kind"
	case strings.HasPrefix(digits, "0"):
		return "LHDN leaves out zeros after the prefix"
	case !strings.HasSuffix(digits, "0"):
		return "all TINs but individuals' end with a zero"
	}
	return ""
}

// quoted shows what was given, whatever its length.
func quoted(s string) string {
	const most = 40
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// Number returns the TIN without a sole proprietor's registration number: what
// documents carry as the party's TIN.
func (t TIN) Number() string {
	number, _, _ := strings.Cut(string(t), ":")
	return number
}

// ROB returns a sole proprietor's business registration number, or "".
func (t TIN) ROB() string {
	_, rob, _ := strings.Cut(string(t), ":")
	return rob
}
