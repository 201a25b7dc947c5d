package pkcs1_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"sync"
	"testing"

	"github.com/roamsign/roamsign/internal/pkcs1"
)

// key returns a key of so many bits, the same each time.
func key(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	keysMu.Lock()
	defer keysMu.Unlock()
	if keys[bits] == nil {
		made, err := rsa.GenerateKey(rand.Reader, bits)
		check(t, err)
		keys[bits] = made
	}
	return keys[bits]
}

var (
	keysMu sync.Mutex
	keys   = map[int]*rsa.PrivateKey{}
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func verifier(t testing.TB, key *rsa.PublicKey) *pkcs1.Verifier {
	t.Helper()
	v, err := pkcs1.New(key)
	check(t, err)
	return v
}

// encoded is what a signature over the digest holds (RFC 8017, section 9.2),
// written here once more.
func encoded(size int, digest [sha256.Size]byte) []byte {
	info := append([]byte{
		0x30, 49, // SEQUENCE
		0x30, 13, 0x06, 9, 0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1, 0x05, 0, // SEQUENCE of 2.16.840.1.101.3.4.2.1 and NULL
		0x04, sha256.Size, // OCTET STRING
	}, digest[:]...)
	message := []byte{0, 1}
	for len(message) < size-len(info)-1 {
		message = append(message, 0xff)
	}
	return append(append(message, 0), info...)
}

// force makes the signature that holds a message, with the private key's power.
func force(key *rsa.PrivateKey, message []byte) []byte {
	return new(big.Int).Exp(new(big.Int).SetBytes(message), key.D, key.N).FillBytes(make([]byte, key.Size()))
}

func TestItJudgesAsCryptoRSADoes(t *testing.T) {
	digest := sha256.Sum256([]byte("a document"))
	for _, bits := range []int{2048, 2049, 3072, 4096} {
		k := key(t, bits)
		v := verifier(t, &k.PublicKey)
		size := k.Size()
		message := encoded(size, digest)
		changed := func(at int, to byte) []byte {
			m := append([]byte(nil), message...)
			m[at] = to
			return force(k, m)
		}
		signature, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
		check(t, err)
		above := new(big.Int).Add(new(big.Int).SetBytes(signature), k.N)
		rows := map[string]struct {
			signature []byte
			good      bool
		}{
			"right":                        {signature, true},
			"right, by force":              {force(k, message), true},
			"none":                         {nil, false},
			"one byte short":               {signature[1:], false},
			"one byte long":                {append([]byte{0}, signature...), false},
			"zero":                         {make([]byte, size), false},
			"one":                          {new(big.Int).SetInt64(1).FillBytes(make([]byte, size)), false},
			"the modulus":                  {k.N.FillBytes(make([]byte, size)), false},
			"one below the modulus":        {new(big.Int).Sub(k.N, big.NewInt(1)).FillBytes(make([]byte, size)), false},
			"type 0":                       {changed(1, 0), false},
			"type 2":                       {changed(1, 2), false},
			"the first byte":               {changed(0, 1), false},
			"padding with a hole":          {changed(9, 0), false},
			"padding's last byte":          {changed(size-52-1, 0xfe), false},
			"the separator":                {changed(size-52, 0xff), false},
			"the hash's name":              {changed(size-34-3, 2), false},
			"another length of the digest": {changed(size-33, 31), false},
			"the digest's first bit":       {changed(size-32, digest[0]^0x80), false},
			"the digest's last bit":        {changed(size-1, digest[31]^1), false},
			"of another digest":            {force(k, encoded(size, sha256.Sum256(nil))), false},
			"of the digest alone":          {force(k, digest[:]), false},
			"short padding, then rubbish":  {force(k, append(append([]byte{0, 1, 255, 255, 255, 255, 255, 255, 255, 255}, encoded(size, digest)[size-52:]...), make([]byte, size-62)...)), false},
			"without the NULL of SHA-256":  {force(k, withoutNull(size, digest)), false},
			"the digest's length in BER":   {force(k, longForm(size, digest)), false},
		}
		if len(above.Bytes()) == size { // the same number, modulo the modulus
			rows["above the modulus"] = struct {
				signature []byte
				good      bool
			}{above.FillBytes(make([]byte, size)), false}
		}
		for name, row := range rows {
			err := v.Verify(digest, row.signature)
			if row.good != (err == nil) || err != nil && !errors.Is(err, pkcs1.ErrSignature) {
				t.Errorf("%d bits, %s: got %v, want good: %t", bits, name, err, row.good)
			}
			if other := rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest[:], row.signature); (other == nil) != row.good {
				t.Errorf("%d bits, %s: crypto/rsa says %v, want good: %t", bits, name, other, row.good)
			}
		}
		if v.Verify(sha256.Sum256(nil), signature) == nil {
			t.Errorf("%d bits: verified for another digest", bits)
		}
	}
}

// withoutNull leaves out the parameters of the hash, which some take.
func withoutNull(size int, digest [sha256.Size]byte) []byte {
	info := append([]byte{0x30, 47, 0x30, 11, 0x06, 9, 0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1, 0x04, sha256.Size}, digest[:]...)
	return padded(size, info)
}

// longForm writes a length as BER may, and DER must not.
func longForm(size int, digest [sha256.Size]byte) []byte {
	info := append([]byte{0x30, 50, 0x30, 13, 0x06, 9, 0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1, 0x05, 0, 0x04, 0x81, sha256.Size}, digest[:]...)
	return padded(size, info)
}

func padded(size int, info []byte) []byte {
	message := []byte{0, 1}
	for len(message) < size-len(info)-1 {
		message = append(message, 0xff)
	}
	return append(append(message, 0), info...)
}

func TestKeysThatAreNone(t *testing.T) {
	good := key(t, 2048).PublicKey
	even := new(big.Int).Lsh(big.NewInt(1), 2047)
	for name, k := range map[string]*rsa.PublicKey{
		"no modulus":                {E: 65537},
		"a short modulus":           {N: new(big.Int).Rsh(good.N, 1), E: 65537},
		"a modulus of 262,144 bits": {N: new(big.Int).SetBit(new(big.Int), 262_143, 1), E: 65537},
		"an even modulus":           {N: even, E: 65537},
		"exponent 1":                {N: good.N, E: 1},
		"an even exponent":          {N: good.N, E: 65536},
		"a negative exponent":       {N: good.N, E: -3},
	} {
		if v, err := pkcs1.New(k); err == nil || v != nil {
			t.Errorf("%s: got a verifier", name)
		}
	}
}

// TestAVerifierIsShared: with the race detector.
func TestAVerifierIsShared(t *testing.T) {
	k := key(t, 2048)
	v := verifier(t, &k.PublicKey)
	digest := sha256.Sum256([]byte("shared"))
	signature, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
	check(t, err)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if err := v.Verify(digest, signature); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// FuzzVerify holds that nothing is accepted that crypto/rsa refuses, nor refused
// that it accepts.
func FuzzVerify(f *testing.F) {
	k := key(f, 2048)
	v := verifier(f, &k.PublicKey)
	digest := sha256.Sum256([]byte("fuzz"))
	good := encoded(k.Size(), digest)
	f.Add(good, true)
	f.Add(good[1:], true)
	f.Add(force(k, good), false)
	f.Fuzz(func(t *testing.T, bytes []byte, hold bool) {
		signature := bytes
		if hold { // a signature that holds the bytes
			signature = force(k, bytes)
		}
		got, want := v.Verify(digest, signature), rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest[:], signature)
		if (got == nil) != (want == nil) {
			t.Errorf("%x: got %v, and crypto/rsa says %v", signature, got, want)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	k := key(b, 2048)
	v := verifier(b, &k.PublicKey)
	digest := sha256.Sum256([]byte("fast"))
	signature, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
	check(b, err)
	b.Run("pkcs1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			check(b, v.Verify(digest, signature))
		}
	})
	b.Run("crypto/rsa", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			check(b, rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest[:], signature))
		}
	})
}
