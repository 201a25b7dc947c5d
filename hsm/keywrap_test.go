package hsm

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestKeysAreWrappedAsTheRFCsSay: the vectors of RFC 3394, section 4.6, and RFC
// 5649, section 6.
func TestKeysAreWrappedAsTheRFCsSay(t *testing.T) {
	for _, row := range []struct {
		name, under, key, want string
		wrap                   func(under, key []byte) ([]byte, error)
	}{
		{"256 bits under 256", "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
			"00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
			"28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21", wrap},
		{"20 bytes, padded", "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "c37b7e6492584340bed12207808941155068f738",
			"138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a", wrapPadded},
	} {
		got, err := row.wrap(bytesOf(t, row.under), bytesOf(t, row.key))
		if err != nil || !bytes.Equal(got, bytesOf(t, row.want)) {
			t.Errorf("%s: got %x and %v, want %s", row.name, got, err, row.want)
		}
	}
	if _, err := wrap(make([]byte, 32), make([]byte, 20)); err == nil {
		t.Error("wraps 20 bytes without padding")
	}
	if _, err := wrapPadded(make([]byte, 32), make([]byte, 8)); err == nil {
		t.Error("wraps one block, which wants a form of its own")
	}
}

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
