package xades

import (
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
)

// serialHint explains a serial number that is not the certificate's in decimal,
// as the end of a sentence; or gives "".
func (v *verification) serialHint() string {
	const longest = 200 // bytes; the longest serial number has 20, in hex with colons 59
	if v.Certificate == nil || len(v.parts.serial) > longest {
		return ""
	}
	want := v.Certificate.SerialNumber
	text := strings.NewReplacer(":", "", " ", "").Replace(strings.ToLower(v.parts.serial))
	text = strings.TrimPrefix(text, "0x")
	if n, ok := new(big.Int).SetString(text, 16); ok && n.Cmp(want) == 0 {
		return ": it is in hex, and must be decimal: " + want.String()
	}
	if raw, err := hex.DecodeString(text); err == nil {
		slices.Reverse(raw)
		if new(big.Int).SetBytes(raw).Cmp(want) == 0 {
			return ": it is in hex with its bytes reversed, and must be decimal: " + want.String()
		}
	}
	if f, _, err := big.ParseFloat(v.parts.serial, 10, 256, big.ToNearestEven); err == nil && rounded(f, want) {
		return ": its last digits are lost, as in a floating-point number; it must be " + want.String()
	}
	return ""
}

// rounded tells whether f is n as a double would be written, to 15 digits.
func rounded(f *big.Float, n *big.Int) bool {
	const digits = 15
	if f.MantExp(nil) != n.BitLen() { // before the digits of 1e999999999 are asked for
		return false
	}
	return n.BitLen() > 53 && f.IsInt() && f.Text('e', digits-2) == new(big.Float).SetPrec(256).SetInt(n).Text('e', digits-2)
}
