package xades

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// A wrong digest says nothing of why. Signers go wrong in a few known ways, each
// of which can be tried: the one that gives the stored digest is what happened.
// Nothing here makes a document valid.

// What it takes to name one slip is bounded, in bytes that are hashed; what else
// costs time is counted in as many bytes as could be hashed meanwhile. The bound is
// enough for every form of an invoice of 60 KB, and for the likely ones of any.
const (
	maxEffort    = 3 << 19
	perStep      = 40 // of an XML document that is read again
	perTag       = 8  // of canonical XML that is gone through
	perByte      = 2  // of a tag that is taken apart, or of JSON that is written again
	perCharacter = 16 // of a JSON value or escape that is written again
)

// form is a way of taking a digest that signers are known to slip into. Its text
// comes in pieces, so that what stands in the document is not copied; none mean
// that the document has no such form.
type form struct {
	happened string // in words, after "it fits if "
	text     func() [][]byte
}

// attempts tries forms until one gives the digest wanted.
type attempts struct {
	want    [sha256.Size]byte
	left    int    // of maxEffort
	scratch []byte // where forms write what does not stand in the document
}

// afford tells whether there is so much effort left, and takes it.
func (a *attempts) afford(effort int) bool {
	if effort > a.left {
		return false
	}
	a.left -= effort
	return true
}

// slip names the first of the forms, the likely ones first, whose digest is the
// stored one, or gives "".
func (a *attempts) slip(forms []form) string {
	for _, f := range forms {
		if a.fits(f.text()) {
			return f.happened
		}
	}
	return ""
}

func (a *attempts) fits(text [][]byte) bool {
	size := 0
	for _, piece := range text {
		size += len(piece)
	}
	if size == 0 || !a.afford(size) {
		return false
	}
	hash := sha256.New()
	for _, piece := range text {
		hash.Write(piece)
	}
	var sum [sha256.Size]byte
	return bytes.Equal(hash.Sum(sum[:0]), a.want[:])
}

// attempt makes attempts for a digest as it is stored, or nil if it is none.
func attempt(stored string) *attempts {
	a := &attempts{left: maxEffort}
	digest, err := base64.StdEncoding.DecodeString(stored)
	if err != nil || len(digest) != len(a.want) {
		return nil
	}
	copy(a.want[:], digest)
	return a
}

// documentSlip explains a DocDigest that is not the document's.
func (v *verification) documentSlip(stored string) string {
	if happened := encodingSlip(v.Digest, stored); happened != "" {
		return happened
	}
	a := attempt(stored)
	switch {
	case a == nil:
		return ""
	case v.Format == XML:
		return a.slip(v.doc.xmlForms(a))
	}
	return a.jsonSlip(v.doc)
}

// encodingSlip finds the right digest, written the wrong way.
func encodingSlip(digest [sha256.Size]byte, stored string) string {
	again := sha256.Sum256(digest[:])
	asHex := hex.EncodeToString(digest[:])
	if strings.Join(strings.Fields(stored), "") == base64.StdEncoding.EncodeToString(digest[:]) {
		return "the digest has blanks or line breaks in it; write it as one word"
	}
	switch stored {
	case asHex, strings.ToUpper(asHex):
		return "the digest was written in hex; it must be the base64 of its 32 bytes"
	case base64.StdEncoding.EncodeToString([]byte(asHex)), base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(asHex))):
		return "the base64 was made of the digest's hex text; it must be made of its 32 bytes"
	case base64.StdEncoding.EncodeToString(again[:]):
		return "the digest was hashed a second time"
	}
	return ""
}

func versionChanged(was string) string {
	return "listVersionID was " + was + " when the digest was taken, and was changed after that"
}

// otherVersions are those that listVersionID may have had, the likely one first:
// a version is made a signed one of the unsigned one before it.
func (d *reading) otherVersions() (others []string) {
	versions := []string{"1.0", "1.1", "1.2", "1.3"}
	if d.header.version == "1.3" {
		versions = []string{"1.2", "1.1", "1.0"}
	}
	for _, version := range versions {
		if version != d.header.version {
			others = append(others, version)
		}
	}
	return others
}

// propsSlip explains a PropsDigest that is not that of the signed properties.
func (v *verification) propsSlip() string {
	p := v.parts
	if happened := encodingSlip(sha256.Sum256(p.props), p.propsDigest); happened != "" {
		return happened
	}
	a := attempt(p.propsDigest)
	switch {
	case a == nil:
		return ""
	case v.Format == JSON:
		return a.slip(jsonPropsForms(p.props))
	}
	return a.slip(v.doc.xmlPropsForms(p.props))
}

// signatureSlip explains a signature that is not over the digest in the file.
func (v *verification) signatureSlip(signature, digest []byte) string {
	over := func(d [sha256.Size]byte) bool {
		return rsa.VerifyPKCS1v15(v.key, crypto.SHA256, d[:], signature) == nil
	}
	switch {
	case over(v.Digest):
		return "it is over the document as it stands: the DocDigest in the file is wrong"
	case over(sha256.Sum256(digest)):
		return "the digest was hashed a second time before it was signed: sign the 32 bytes themselves"
	case over(sha256.Sum256([]byte(v.parts.docDigest))):
		return "the base64 text of the digest was hashed and signed: sign the 32 bytes themselves"
	case over(sha256.Sum256([]byte(hex.EncodeToString(digest)))):
		return "the hex text of the digest was hashed and signed: sign the 32 bytes themselves"
	}
	for _, text := range v.signedInfos() {
		if text != nil && over(sha256.Sum256(text)) {
			return "SignedInfo was signed, as XMLDSig has it: LHDN wants the signature over the document's digest"
		}
	}
	return ""
}

// signedInfos are the forms of SignedInfo that signers sign.
func (v *verification) signedInfos() [][]byte {
	if v.Format == JSON {
		return [][]byte{v.parts.signedInfo}
	}
	inclusive, exclusive := v.doc.subtree("SignedInfo")
	return [][]byte{exclusive, inclusive, v.doc.asItStands("SignedInfo")}
}
