package hsm

import (
	"crypto/aes"
	"encoding/binary"
	"errors"
)

// The two ways to wrap a key under an AES key.
const (
	wrapBlock = 8 // bytes

	// wrapValue is the initial value of AES Key Wrap (RFC 3394, section 2.2.3.1).
	wrapValue = 0xA6A6A6A6A6A6A6A6
	// wrapPadValue begins that of AES Key Wrap with Padding, before the length
	// (RFC 5649, section 3).
	wrapPadValue = 0xA65959A6
)

// wrap is AES Key Wrap (RFC 3394) of at least two blocks.
func wrap(under, key []byte) ([]byte, error) {
	if len(key)%wrapBlock != 0 {
		return nil, errors.New("AES Key Wrap wants whole blocks of 8 bytes")
	}
	return wrapUnder(under, wrapValue, key)
}

// wrapPadded is AES Key Wrap with Padding (RFC 5649) of more than one block.
func wrapPadded(under, key []byte) ([]byte, error) {
	padded := make([]byte, (len(key)+wrapBlock-1)/wrapBlock*wrapBlock)
	defer clear(padded)
	copy(padded, key)
	return wrapUnder(under, wrapPadValue<<32|uint64(len(key)), padded)
}

// wrapUnder is the wrapping process of both (RFC 3394, section 2.2.1).
func wrapUnder(under []byte, value uint64, blocks []byte) ([]byte, error) {
	n := uint64(len(blocks) / wrapBlock)
	if n < 2 {
		return nil, errors.New("AES Key Wrap wants two blocks or more")
	}
	cipher, err := aes.NewCipher(under)
	if err != nil {
		return nil, err
	}
	out := make([]byte, wrapBlock+len(blocks))
	copy(out[wrapBlock:], blocks)
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:], value)
	for j := range uint64(6) {
		for i := uint64(1); i <= n; i++ {
			r := out[i*wrapBlock:][:wrapBlock]
			copy(b[wrapBlock:], r)
			cipher.Encrypt(b[:], b[:])
			copy(r, b[wrapBlock:])
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^(n*j+i))
		}
	}
	copy(out, b[:wrapBlock])
	return out, nil
}
