package xades

import (
	"encoding/binary"
	"math/bits"
)

// Eight bytes are looked at in one go. Each of these functions gives how many
// bytes from i on are surely of a kind; at the first that may not be, or near the
// end, somebody has to look closer.

const (
	everyByte = 0x0101010101010101
	everyTop  = 0x8080808080808080
)

// firstTop gives the number of the first byte whose top bit is set.
func firstTop(tops uint64) int { return bits.TrailingZeros64(tops) >> 3 }

// letters gives the offset of the first byte from i on that is no ASCII letter.
func letters(src []byte, i int) int {
	for i >= 0 && i <= len(src)-8 {
		word := binary.LittleEndian.Uint64(src[i:])
		small := word&^everyTop | 0x20*everyByte
		fromA, overZ := small+(0x80-'a')*everyByte, small+(0x80-'z'-1)*everyByte
		if others := (word | overZ | ^fromA) & everyTop; others != 0 {
			return i + firstTop(others)
		}
		i += 8
	}
	return i
}

// spaces gives the offset of the first byte from i on that is no space.
func spaces(src []byte, i int) int {
	for i >= 0 && i <= len(src)-8 {
		if others := binary.LittleEndian.Uint64(src[i:]) ^ 0x20*everyByte; others != 0 {
			return i + bits.TrailingZeros64(others)>>3
		}
		i += 8
	}
	return i
}

// plainText gives the offset of the first byte from i on that is not ASCII, is a
// control character, or means something in text: & < >.
func plainText(src []byte, i int) int {
	for i >= 0 && i <= len(src)-8 {
		word := binary.LittleEndian.Uint64(src[i:])
		low := word &^ everyTop
		// Adding carries into a byte's top bit, and no further: for a control
		// character there is none, for a sign that was made zero, neither.
		control := low + 0x60*everyByte
		angle := (low | 0x02*everyByte) ^ '>'*everyByte + 0x7f*everyByte
		and := low ^ '&'*everyByte + 0x7f*everyByte
		if others := (word | ^(control & angle & and)) & everyTop; others != 0 {
			return i + firstTop(others)
		}
		i += 8
	}
	return i
}
