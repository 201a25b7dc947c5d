package xades

// The numbers that every server writes back as they are: those whose shortest
// decimal form is the same for a double, a decimal and a text.
const (
	maxDigits    = 15 // significant digits; beyond, a double does not hold them all
	lowestPoint  = -3 // 0.0001: below, .NET writes an exponent
	highestPoint = 15 // below 1e15: from there on, .NET writes an exponent
)

// numberValue reads a number.
func (s *jsonScanner) numberValue(p place) error {
	start := s.at
	if err := s.number(); err != nil {
		return err
	}
	literal := s.src[start:s.at]
	if p >= textNumber && p&asList == 0 {
		s.fact(p, literal)
	}
	if s.literals == literalsAsIs {
		return nil
	}
	return s.judgeNumber(start, literal)
}

// number moves past a number, by the grammar of RFC 8259, section 6.
func (s *jsonScanner) number() error {
	if s.src[s.at] == '-' {
		s.at++
	}
	first := s.at
	if err := s.digits(); err != nil {
		return err
	}
	if s.src[first] == '0' && s.at > first+1 {
		return s.fault(first, "a number has a leading zero; take it out, or put the number in quotes if it is a code")
	}
	if s.peek() == '.' {
		s.at++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		return s.digits()
	}
	return nil
}

// digits moves past one digit or more.
func (s *jsonScanner) digits() error {
	if c := s.peek(); c < '0' || c > '9' {
		return s.misplaced("a digit")
	}
	for s.at < len(s.src) && s.src[s.at] >= '0' && s.src[s.at] <= '9' {
		s.at++
	}
	return nil
}

// decimal is a number as its significant digits: 0.DIGITS × 10^point.
type decimal struct {
	negative bool
	digits   [maxDigits]byte
	count    int // of digits; 0 for zero
	point    int
}

// parseDecimal reads a valid JSON number. It is false of more significant
// digits than a decimal holds. Leading and trailing zeros do not count.
func parseDecimal(literal []byte) (d decimal, ok bool) {
	zeros, fraction := 0, false // zeros: read, but significant only if another digit follows
	for i, c := range literal {
		switch {
		case c == '-':
			d.negative = true
		case c == '.':
			fraction = true
		case c == 'e' || c == 'E':
			d.point += exponent(literal[i+1:])
			return d, true
		default:
			if d.count > 0 || c != '0' {
				if !fraction {
					d.point++
				}
			} else if fraction {
				d.point--
			}
			if c == '0' {
				if d.count > 0 {
					zeros++
				}
				continue
			}
			if d.count+zeros >= maxDigits {
				return d, false
			}
			for ; zeros > 0; zeros-- {
				d.digits[d.count] = '0'
				d.count++
			}
			d.digits[d.count] = c
			d.count++
		}
	}
	return d, true
}

// exponent reads what stands after the e. A hostile 1e999999999999 is as good
// as any that no document's zeros can bring back into range.
func exponent(text []byte) int {
	const far = 1 << 30
	negative, n := false, 0
	for _, c := range text {
		switch c {
		case '-':
			negative = true
		case '+':
		default:
			n = min(n*10+int(c-'0'), far)
		}
	}
	if negative {
		return -n
	}
	return n
}

// appendSafe appends d in the one form that re-serialising does not change, at
// least one decimal and no exponent. It is false if d has none.
func (d *decimal) appendSafe(dst []byte) ([]byte, bool) {
	if d.count == 0 {
		return append(dst, "0.0"...), true // -0 too
	}
	if d.point < lowestPoint || d.point > highestPoint {
		return dst, false
	}
	if d.negative {
		dst = append(dst, '-')
	}
	const zeros = "000000000000000"
	digits := d.digits[:d.count]
	switch {
	case d.point <= 0:
		dst = append(append(dst, "0."...), zeros[:-d.point]...)
		return append(dst, digits...), true
	case d.point >= d.count:
		dst = append(append(dst, digits...), zeros[:d.point-d.count]...)
		return append(dst, ".0"...), true
	}
	dst = append(append(dst, digits[:d.point]...), '.')
	return append(dst, digits[d.point:]...), true
}
