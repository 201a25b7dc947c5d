package xades

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// fuzzKey makes the same key in every process: the fuzzing engine's workers must
// agree on which documents were signed. It protects nothing.
func fuzzKey(f *testing.F) *rsa.PrivateKey {
	f.Helper()
	random := rand.NewChaCha8([32]byte{1: 26})
	prime := func() *big.Int {
		digits := make([]byte, 128)
		for {
			if _, err := random.Read(digits); err != nil {
				f.Fatal(err)
			}
			digits[0] |= 0xc0
			digits[127] |= 1
			if p := new(big.Int).SetBytes(digits); p.ProbablyPrime(20) {
				return p
			}
		}
	}
	one := big.NewInt(1)
	for {
		p, q := prime(), prime()
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(big.NewInt(publicExponent), phi)
		if d == nil || p.Cmp(q) == 0 {
			continue
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: publicExponent}, D: d, Primes: []*big.Int{p, q}}
		key.Precompute()
		if err := key.Validate(); err != nil {
			f.Fatal(err)
		}
		return key
	}
}

// fuzzDocuments are what mutation begins with.
func fuzzDocuments(f *testing.F) [][]byte {
	f.Helper()
	var seeds [][]byte
	for _, document := range ownInvoices(f, "testdata/[jx]*/*[0-9].[0-9]*") {
		seeds = append(seeds, document)
	}
	g := &generator{Rand: rand.New(rand.NewPCG(6, 2026)), blanks: true, comments: true, blocks: true}
	for range 20 {
		seeds = append(seeds, []byte(g.source(g.document())))
		document, _ := g.signedProperties()
		seeds = append(seeds, []byte(document))
	}
	for _, content := range []string{"", "<?a b?>", "<cbc:Note>a<![CDATA[ ]]>&#32;\r\n</cbc:Note>", `<x:Signature xmlns:x="urn:x"/>`, `<cac:X xmlns="" xml:space="preserve"> </cac:X>`} {
		seeds = append(seeds, []byte(minimal(content)))
	}
	return append(seeds, []byte(smallJSON))
}

// FuzzXML asserts, of any bytes: what is read has a canonical form that is its
// own, with the same facts; what is refused is refused as malformed.
func FuzzXML(f *testing.F) {
	for _, seed := range fuzzDocuments(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		first, err := scanXML(document, xmlOptions{})
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("the error is of no known kind: %v", err)
			}
			return
		}
		second, err := scanXML(first.canonical, xmlOptions{})
		if err != nil {
			t.Fatalf("its canonical form is refused: %v\n%q", err, first.canonical)
		}
		if !bytes.Equal(first.canonical, second.canonical) {
			t.Fatalf("got  %q\nwant %q", second.canonical, first.canonical)
		}
		if first.header != second.header || first.supplierAt != second.supplierAt || first.rootEnd != second.rootEnd {
			t.Fatalf("the header %+v became %+v", first.header, second.header)
		}
		if second.differs&^(spacePreserved|emptyXML) != 0 || len(second.blocks) > 0 {
			t.Fatalf("readers differ on its canonical form: %b, %d blocks", second.differs, len(second.blocks))
		}
		_, _ = first.parts() // may refuse, must not panic
	})
}

// FuzzPrepare asserts that what is not refused can be signed, verified and read
// back.
func FuzzPrepare(f *testing.F) {
	for _, seed := range fuzzDocuments(f) {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	cert := testCertificate(f)
	f.Fuzz(func(t *testing.T, document []byte, change bool) {
		options := Options{KeepLiterals: change}
		if change {
			options.SetVersion, options.ReplaceSignature = "1.3", true
		}
		draft, err := Prepare(document, cert, signingTime, options)
		if err != nil {
			for _, kind := range []error{ErrMalformed, ErrTooLarge, ErrSigned, ErrVersion, ErrUnsignable, ErrLiteral} {
				if errors.Is(err, kind) {
					return
				}
			}
			t.Fatalf("the error is of no known kind: %v", err)
		}
		out := completed(t, draft)
		r := Verify(out, VerifyOptions{})
		if !r.Valid() || r.Digest != draft.DocDigest() || r.Facts != draft.Facts() {
			t.Fatalf("signed, it reads as %+v; it was %+v\n%q", r, draft.Facts(), out)
		}
		if digest, err := DigestAsSigned(document, options); err != nil || digest != draft.DocDigest() {
			t.Fatalf("as signed, its digest is %x (%v), want %x", digest, err, draft.DocDigest())
		}
		again, err := Prepare(out, cert, signingTime, Options{ReplaceSignature: true, KeepLiterals: true})
		if err != nil || again.DocDigest() != draft.DocDigest() {
			t.Fatalf("signed again: %v", err)
		}
	})
}

// FuzzVerify asserts that no change to a signed document leaves it valid with
// another digest, and that nothing makes Verify panic.
func FuzzVerify(f *testing.F) {
	key := fuzzKey(f)
	rsaKeys.Store(2048, func() (*rsa.PrivateKey, error) { return key, nil })
	known := map[[32]byte]bool{}
	for name, document := range ownInvoices(f, "testdata/[jx]*/*1.[13]*") {
		for _, document := range [][]byte{document, []byte(minimal("<cbc:Note>" + name + "</cbc:Note>")), []byte(smallJSON)} {
			out := signed(f, document, Options{})
			r := Verify(out, VerifyOptions{})
			if !r.Valid() {
				f.Fatalf("%s: %s", name, errorCodes(r))
			}
			known[r.Digest] = true
			f.Add(out)
		}
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		r := Verify(document, VerifyOptions{})
		if r.Valid() && !known[r.Digest] {
			t.Fatalf("a digest that nobody signed is valid: %x", r.Digest)
		}
		if digest, err := DigestAsIs(document); err == nil && digest != r.Digest {
			t.Fatalf("its digest is %x, Verify says %x", digest, r.Digest)
		}
		_, _ = Inspect(document)
	})
}

// FuzzXMLAgainstXmllint asserts that documents which both read have one canonical
// form, and that what is read here is not refused by xmllint. Of what is known to
// differ by rule there are comments and blocks, which the digest leaves out and
// xmllint does not, and blank text, which is kept for the comparison.
func FuzzXMLAgainstXmllint(f *testing.F) {
	g := &generator{Rand: rand.New(rand.NewPCG(9, 2026)), blanks: true}
	for range 60 {
		f.Add([]byte(g.source(g.document())))
	}
	for _, content := range []string{
		"", "<?a b?>", "<cbc:Note>a<![CDATA[ ]]>&#32;\r\n</cbc:Note>", `<cac:X xmlns="" xml:space="preserve"> </cac:X>`,
		`<x:a xmlns:x="urn:\x"/>`, `<x:a xmlns:x="urn:x" x:b='"&#x9;' b="&lt;"/>`, "<cbc:Note>]]&gt;&#xD;\u0085</cbc:Note>",
	} {
		f.Add([]byte(minimal(content)))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, document []byte) {
		d, err := scanXML(document, xmlOptions{keepBlanks: true})
		if err != nil || len(d.blocks) > 0 || bytes.Contains(document, []byte("<!--")) {
			return
		}
		file := filepath.Join(dir, "document.xml")
		if err := os.WriteFile(file, document, 0o600); err != nil {
			t.Fatal(err)
		}
		// As the same program in another process of the fuzzing engine reads its own
		// folder, no other one writes this file.
		var out, complaints bytes.Buffer
		cmd := exec.Command("xmllint", "--c14n11", file)
		cmd.Stdout, cmd.Stderr = &out, &complaints
		err = cmd.Run()
		if bytes.Contains(complaints.Bytes(), []byte("parsing namespace uri")) {
			return // a namespace is any text to .NET, and a well-formed URI to libxml2's C14N
		}
		if err != nil {
			t.Fatalf("xmllint refuses what is read here: %v: %s\n%q", err, complaints.Bytes(), document)
		}
		if !bytes.Equal(out.Bytes(), d.canonical) {
			t.Fatalf("of %q\ngot  %q\nwant %q", document, d.canonical, out.Bytes())
		}
	})
}
