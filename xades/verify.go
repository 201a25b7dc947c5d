package xades

import (
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Severity says whether a finding makes a document invalid.
type Severity string

// The two severities. Only an error makes a document invalid.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Finding is one thing that is wrong with a signed document. Code is LHDN's
// (DS300 to DS338), or empty where LHDN has none.
type Finding struct {
	Code     string
	Severity Severity
	Message  string
}

// Report is what [Verify] found. Fields that the document did not yield are
// zero. SigningTime, like all in the signature block, is not covered by the
// signature: anybody can change it.
type Report struct {
	Format      Format
	Facts       Facts
	Digest      [32]byte // DocDigest as recomputed; zero if the document is malformed
	PropsDigest [32]byte // likewise; zero if there are no signed properties
	SigningTime time.Time
	Certificate *x509.Certificate
	Findings    []Finding
}

// Valid tells whether there is no finding of severity error.
func (r *Report) Valid() bool {
	for _, f := range r.Findings {
		if f.Severity == SeverityError {
			return false
		}
	}
	return true
}

func (r *Report) fail(code, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{code, SeverityError, fmt.Sprintf(format, clipped(args)...)})
}

func (r *Report) warn(code, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{code, SeverityWarning, fmt.Sprintf(format, clipped(args)...)})
}

// clipped bounds the texts of a message, which may be the document's own.
func clipped(args []any) []any {
	const most = 1000 // bytes; a sentence of ours is shorter
	for i, arg := range args {
		if text, ok := arg.(string); ok && len(text) > most {
			args[i] = strings.ToValidUTF8(text[:most], "") + "..."
		}
	}
	return args
}

// Verify judges a signed document as LHDN's validator does, offline, and
// reports all that is wrong by LHDN's codes. It never fails: a document that
// cannot be read is reported with DS300.
func Verify(document []byte, options VerifyOptions) *Report {
	r := &Report{}
	doc, err := parse(document)
	if err != nil {
		r.Format, _ = Detect(document)
		r.fail("DS300", "%v", err)
		return r
	}
	r.Format, r.Facts, r.Digest = doc.format, doc.header.facts(), sha256.Sum256(doc.canonical)
	if len(document) > MaxSigned {
		r.fail("", "the document has %d bytes; LHDN takes %d (300 KB)", len(document), MaxSigned)
	}
	r.version(doc.header)
	for _, d := range differences {
		if doc.differs&d.of != 0 {
			r.warn("DS322", "%s; LHDN may compute another one", d.says)
		}
	}
	for _, name := range doc.hidden {
		r.fail("", "%s may hide content: LHDN's digest leaves out what is named so wherever it stands, and this is no part of the signature", name)
	}
	r.twins(doc.json)
	p, err := doc.parts()
	if err != nil {
		r.fail("DS300", "%v", err)
		return r
	}
	if p.signatures != 1 {
		r.count(p)
		return r
	}
	r.place(p)
	v := &verification{Report: r, doc: doc, parts: p, options: options}
	v.algorithms()
	v.signingTime()
	v.certificate()
	v.signedProperties()
	v.documentDigest()
	v.signature()
	v.warn("", "SigningTime, issuer, serial number and all else in the signature block are not authenticated: the signature covers the document alone")
	return r
}

// place reports a signature that another reader may look for elsewhere, or whose
// properties it may find elsewhere.
func (r *Report) place(p *parts) {
	if p.misplaced {
		r.warn("", "ds:Signature does not stand in ExtensionContent, UBLDocumentSignatures and SignatureInformation, each in its namespace, where LHDN may look for it")
	}
	if p.twice {
		r.fail("", "the Id %q, by which the signed properties are referred to, occurs more than once in the signature block, and readers disagree on which one counts", p.propsID)
	}
}

// twins reports members that differ in case only, of which a reader that ignores
// case takes one: in the signature block, which nothing protects, that is an error.
func (r *Report) twins(doc *jsonDocument) {
	if doc == nil || len(doc.twins) == 0 {
		return
	}
	const says = "these members differ only in case from others beside them, and readers that ignore case take one of the two: %s"
	if doc.blockTwin {
		r.fail("", says, strings.Join(doc.twins, ", "))
		return
	}
	r.warn("", says, strings.Join(doc.twins, ", "))
}

func (r *Report) version(h *header) {
	if !signedVersion(h.version) {
		r.fail("", "listVersionID is %q; signed documents are of version 1.1 or 1.3", h.version)
	}
}

func (r *Report) count(p *parts) {
	if p.signatures == 0 {
		r.fail("DS301", "there is no signature; sign the document first")
		return
	}
	r.fail("DS302", "there are %d signatures; LHDN takes exactly one", p.signatures)
}

// verification is the state of one Verify.
type verification struct {
	*Report
	doc     *reading
	parts   *parts
	options VerifyOptions
	key     *rsa.PublicKey // nil if the certificate is unusable
}

func (v *verification) algorithms() {
	p := v.parts
	for _, where := range []struct{ name, value string }{
		{"ExtensionURI", p.extensionURI}, {"the Signature element's SignatureMethod", p.signatureMethod},
	} {
		if where.value != uriEnveloped {
			v.fail("DS323", "%s is %q; expected %q", where.name, where.value, uriEnveloped)
		}
	}
	for _, method := range []struct{ code, name, value, want string }{
		{"DS316", "SignatureMethod", p.signatureAlgorithm, algSignature},
		{"DS313", "the certificate's DigestMethod", p.certDigestMethod, algDigest},
		{"DS314", "the document's DigestMethod", p.docDigestMethod, algDigest},
		{"DS315", "the signed properties' DigestMethod", p.propsDigestMethod, algDigest},
	} {
		if method.value != method.want {
			v.fail(method.code, "%s is %q; expected %q", method.name, method.value, method.want)
		}
	}
}

func (v *verification) signingTime() {
	if v.parts.signingTime == "" {
		v.fail("DS303", "there is no SigningTime")
		return
	}
	at, err := time.Parse(timeLayout, v.parts.signingTime)
	if err != nil || at.Format(timeLayout) != v.parts.signingTime { // Parse takes fractions that the layout has not
		v.fail("DS336", "SigningTime is %q; expected UTC to the second, as 2024-07-23T16:31:06Z", v.parts.signingTime)
		return
	}
	v.SigningTime = at
}

// signedProperties judges what the signature block says of the certificate, and
// the digest over that.
func (v *verification) signedProperties() {
	p := v.parts
	v.issuer()
	v.serial()
	if p.propsDigest != "" && p.props != nil && (p.propsURI != "#"+idProps || p.propsID != idProps) {
		v.warn("", "the Reference to the signed properties has the URI %q, and these have the Id %q; in all samples they are %q and %q, and LHDN may look for those",
			p.propsURI, p.propsID, "#"+idProps, idProps)
	}
	switch {
	case p.propsDigest == "":
		v.fail("DS319", "there is no digest of the signed properties")
	case p.props == nil:
		v.fail("DS320", "there are no signed properties, or more than one, to take the digest of")
	default:
		v.PropsDigest = sha256.Sum256(p.props)
		if got := digestText(p.props); got != p.propsDigest {
			v.fail("DS320", "the digest of the signed properties is %s; the document says %q: %s", got, p.propsDigest,
				cmp.Or(v.propsSlip(), "they were changed after it was taken, or it was taken over another form of them"))
		}
	}
}

func (v *verification) issuer() {
	p := v.parts
	switch {
	case p.issuer == "":
		v.fail("DS324", "there is no X509IssuerName")
		return
	case v.Certificate == nil:
		return
	}
	want, err := Name(v.Certificate.RawIssuer)
	if err != nil {
		v.fail("DS305", "the certificate's issuer: %v", err)
		return
	}
	if p.issuer != want {
		v.fail("DS326", "X509IssuerName is %q; LHDN wants %q: %s", p.issuer, want,
			cmp.Or(issuerSlip(v.Certificate, p.issuer), "that is the certificate's issuer, its elements in the reverse of their order there"))
	}
}

func (v *verification) serial() {
	p := v.parts
	if p.serial == "" {
		v.fail("DS325", "there is no X509SerialNumber")
		return
	}
	got, ok := decimalSerial(p.serial)
	if !ok {
		v.fail("DS327", "X509SerialNumber %q is no decimal number%s", p.serial, v.serialHint())
		return
	}
	if digits := len(got.String()); v.Format == XML && digits > maxSerialDigits {
		v.warn("", "X509SerialNumber has %d digits; LHDN's XML validation may fail over %d (JSON documents are not affected)", digits, maxSerialDigits)
	}
	if v.Certificate == nil {
		return
	}
	if got.Cmp(v.Certificate.SerialNumber) != 0 {
		v.fail("DS328", "X509SerialNumber is %q; the certificate's serial number is %s%s", p.serial, v.Certificate.SerialNumber, v.serialHint())
	}
}

// decimalSerial reads an unsigned decimal number of a serial number's size.
func decimalSerial(text string) (*big.Int, bool) {
	if len(text) > maxSerialBits/3 { // a digit has over three bits
		return nil, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return nil, false
		}
	}
	return new(big.Int).SetString(text, 10)
}

func (v *verification) documentDigest() {
	got := base64.StdEncoding.EncodeToString(v.Digest[:])
	switch v.parts.docDigest {
	case "":
		v.fail("DS321", "there is no digest of the document")
	case got:
	default:
		v.fail("DS322", "the digest of the document is %s; the document says %q: %s", got, v.parts.docDigest,
			cmp.Or(v.documentSlip(v.parts.docDigest), "it was changed after it was signed, or the digest was taken over another form of it"))
	}
}

// signature judges the signature value over the digest in the file, as LHDN
// does; that the digest is the document's is DS322's matter.
func (v *verification) signature() {
	p := v.parts
	if p.signatureValue == "" {
		v.fail("DS332", "there is no SignatureValue")
		return
	}
	if v.key == nil || p.docDigest == "" {
		return
	}
	if err := v.checkSignature(); err != nil {
		v.fail("DS333", "the signature does not verify under the certificate: %v", err)
	}
}

func (v *verification) checkSignature() error {
	text := v.unwrapped("SignatureValue", v.parts.signatureValue)
	if len(text) > 2*maxModulus/8 {
		return errors.New("SignatureValue is too long")
	}
	if raw, err := hex.DecodeString(text); err == nil && len(raw) == v.key.Size() {
		return errors.New("SignatureValue is in hex; it must be base64")
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return errors.New("SignatureValue is not base64")
	}
	if len(signature) != v.key.Size() {
		return fmt.Errorf("it has %d bytes; a key of %d bits gives %d%s", len(signature), v.key.N.BitLen(), v.key.Size(), strangeLength(len(signature), v.key.Size()))
	}
	digest, err := base64.StdEncoding.DecodeString(v.parts.docDigest)
	if err != nil || len(digest) != sha256.Size {
		return errors.New("the document's DigestValue is not the base64 of 32 bytes")
	}
	if rsa.VerifyPKCS1v15(v.key, crypto.SHA256, digest, signature) != nil {
		return errors.New(cmp.Or(v.signatureSlip(signature, digest), "it was made with another key, or over another digest"))
	}
	return nil
}

// strangeLength says what a signature of another length than the key's may be.
func strangeLength(size, want int) string {
	switch {
	case size == 2*want:
		return ": it is the base64 of hex text"
	case size >= 64 && size <= 72:
		return ": it may be an ECDSA signature, and LHDN takes RSA only"
	case size == base64.StdEncoding.EncodedLen(want):
		return ": it may have been encoded in base64 twice"
	}
	return ": it was made with another key"
}

func digestText(data []byte) string {
	digest := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(digest[:])
}
