package xades

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/internal/pkcs1"
)

// Options say how a document is prepared. The zero Options take a document of
// version 1.1 or 1.3 without a signature, and write JSON literals in the form
// that every server leaves alone.
type Options struct {
	// SetVersion, "1.1" or "1.3", is what listVersionID becomes before hashing.
	// Empty leaves it.
	SetVersion string
	// ReplaceSignature drops the signature blocks that a document carries. Such
	// a document is otherwise refused.
	ReplaceSignature bool
	// KeepLiterals, for JSON, leaves numbers and escapes as they are, and warns
	// of each that a server which re-serialises would write otherwise (DS322).
	KeepLiterals bool
}

func (o Options) check() error {
	if o.SetVersion != "" && !signedVersion(o.SetVersion) {
		return fmt.Errorf("%w: it cannot be set to %q; 1.1 and 1.3 are the signed versions", ErrVersion, o.SetVersion)
	}
	return nil
}

func signedVersion(version string) bool { return version == "1.1" || version == "1.3" }

// Draft is a signed document of which every byte is decided but those of the
// signature value. It is immutable and safe for concurrent use.
type Draft struct {
	format      Format
	facts       Facts
	verifier    *pkcs1.Verifier
	canonical   []byte
	props       []byte
	docDigest   [sha256.Size]byte
	propsDigest [sha256.Size]byte
	pieces      [][]byte // the signed document, with as many letters in place of the signature
	signatureAt int      // where in all of them the base64 of the signature begins
	warnings    []string
}

// Format returns the document's format.
func (d *Draft) Format() Format { return d.format }

// Facts returns what the document says of itself.
func (d *Draft) Facts() Facts { return d.facts }

// DocDigest returns the SHA-256 of the canonical document: the 32 bytes that
// the key signs with RSASSA-PKCS1-v1_5.
func (d *Draft) DocDigest() [32]byte { return d.docDigest }

// PropsDigest returns the SHA-256 of the signed properties. It stands in the
// signature block; no key signs it.
func (d *Draft) PropsDigest() [32]byte { return d.propsDigest }

// Canonical returns the bytes DocDigest is taken over. They are not to be
// changed.
func (d *Draft) Canonical() []byte { return d.canonical }

// SignedProperties returns the bytes PropsDigest is taken over. They are not to
// be changed.
func (d *Draft) SignedProperties() []byte { return d.props }

// Warnings returns, a sentence each, what is signed all the same but may be
// refused by LHDN.
func (d *Draft) Warnings() []string { return d.warnings }

// unsigned is a document of either format, read and found fit to be signed.
type unsigned struct {
	format    Format
	canonical []byte
	header    *header
	warnings  []string
	blockAt   int    // where in the first piece of the assembled document the signature block begins
	opens     string // what stands before the signature value there
	props     func(*values) []byte
	// assemble gives the pieces of the signed document, and whether the block is
	// read there as it was written.
	assemble func(*values) (pieces [][]byte, readsBack bool)
}

// Prepare reads an unsigned UBL 2.1 document, XML or JSON, and decides every
// byte of the signed one but the signature value. SigningTime is written in
// UTC to the second and must lie in the certificate's validity.
//
// The errors wrap [ErrMalformed], [ErrTooLarge], [ErrSigned], [ErrVersion],
// [ErrUnsignable], [ErrLiteral] or [ErrCertificate].
func Prepare(document []byte, cert *x509.Certificate, signingTime time.Time, options Options) (*Draft, error) {
	return NewLeaf(cert).Prepare(document, signingTime, options)
}

// Prepare does what the function [Prepare] does.
func (l *Leaf) Prepare(document []byte, signingTime time.Time, options Options) (*Draft, error) {
	signingTime = signingTime.UTC().Truncate(time.Second)
	key, err := checkCertificate(l.cert, signingTime)
	if err != nil {
		return nil, err
	}
	verifier, err := l.verifier()
	if err != nil {
		return nil, err
	}
	doc, err := readUnsigned(document, options)
	if err != nil {
		return nil, err
	}
	said := l.inXML
	if doc.format == JSON {
		said = l.inJSON
	}
	own, err := said()
	if err != nil {
		return nil, err
	}
	v := &own
	v.signingTime = signingTime.Format(timeLayout)
	d := &Draft{format: doc.format, facts: doc.header.facts(), verifier: verifier, canonical: doc.canonical, warnings: doc.warnings}
	d.docDigest = sha256.Sum256(doc.canonical)
	d.props = doc.props(v)
	d.propsDigest = sha256.Sum256(d.props)
	v.docDigest = base64.StdEncoding.EncodeToString(d.docDigest[:])
	v.propsDigest = base64.StdEncoding.EncodeToString(d.propsDigest[:])
	v.signature = strings.Repeat("A", base64.StdEncoding.EncodedLen(key.Size()))
	pieces, readsBack := doc.assemble(v)
	d.pieces = pieces
	d.signatureAt = doc.blockAt + bytes.Index(pieces[0][doc.blockAt:], []byte(doc.opens)) + len(doc.opens)
	if err := d.checkSize(); err != nil {
		return nil, err
	}
	if d.format == XML && len(v.serial) > maxSerialDigits {
		d.warnings = append(d.warnings, fmt.Sprintf("the certificate's serial number has %d digits; LHDN's XML validation may fail over %d (send JSON instead)",
			len(v.serial), maxSerialDigits))
	}
	if !readsBack {
		return nil, fmt.Errorf("%w: the signature block cannot stand in it; declare fewer namespaces at the root", ErrUnsignable)
	}
	return d, nil
}

func (d *Draft) checkSize() error {
	size := 0
	for _, piece := range d.pieces {
		size += len(piece)
	}
	switch {
	case size > MaxSigned:
		return fmt.Errorf("%w: %d bytes once signed; LHDN takes %d (300 KB), so split the document", ErrTooLarge, size, MaxSigned)
	case size > MaxSurely:
		d.warnings = append(d.warnings, fmt.Sprintf("%d bytes once signed is near LHDN's limit of 300 KB, which may mean 300,000", size))
	}
	return nil
}

// Complete puts in the signature, which is as long as the key's modulus, and
// returns the signed document: the exact bytes to submit. A signature that does
// not verify under the certificate is refused with [ErrSignature].
func (d *Draft) Complete(signature []byte) ([]byte, error) {
	if err := d.verifier.Verify(d.docDigest, signature); err != nil {
		return nil, fmt.Errorf("%w under the certificate: it was made with another key or over another digest", ErrSignature)
	}
	signed := slices.Concat(d.pieces...)
	base64.StdEncoding.Encode(signed[d.signatureAt:], signature)
	return signed, nil
}

// readUnsigned reads a document that is to be signed.
func readUnsigned(document []byte, options Options) (*unsigned, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	format, err := Detect(document)
	if err != nil {
		return nil, err
	}
	read := readUnsignedXML
	if format == JSON {
		read = readUnsignedJSON
	}
	doc, err := read(document, options)
	if err != nil {
		return nil, err
	}
	return doc, doc.header.check()
}

func readUnsignedXML(document []byte, options Options) (*unsigned, error) {
	doc, err := scanXML(document, xmlOptions{setVersion: options.SetVersion})
	if err != nil {
		return nil, err
	}
	switch {
	case doc.pis > 0:
		return nil, fmt.Errorf("%w: it has a processing instruction; remove it", ErrUnsignable)
	case len(doc.strays) > 0:
		return nil, fmt.Errorf("%w: its element <%s> is in no UBL namespace, and LHDN drops what is called so; rename or remove it", ErrUnsignable, doc.strays[0])
	case len(doc.blocks) > 0 && !options.ReplaceSignature:
		return nil, signedAlready("UBLExtensions or cac:Signature")
	case doc.repeated != "":
		return nil, fmt.Errorf("%w: it has <%s> more than once", ErrUnsignable, doc.repeated)
	case doc.supplierAt < 0:
		return nil, fmt.Errorf("%w: it has no cac:AccountingSupplierParty, before which the signature goes", ErrUnsignable)
	}
	var warnings []string
	if doc.differs&emptyXML != 0 {
		warnings = append(warnings, "an attribute of the prefix xml is empty, as in xml:lang=\"\": LHDN may compute another digest (DS322), so give it a value or leave it out")
	}
	return &unsigned{
		format: XML, canonical: doc.canonical, header: &doc.header, warnings: warnings,
		blockAt: doc.rootEnd, opens: "<ds:SignatureValue>",
		props: xmlProps, assemble: doc.assemble,
	}, nil
}

func readUnsignedJSON(document []byte, options Options) (*unsigned, error) {
	how := jsonOptions{literals: literalsSafe, setVersion: options.SetVersion}
	if options.KeepLiterals {
		how.literals = literalsKept
	}
	doc, err := scanJSON(document, how)
	if err != nil {
		return nil, err
	}
	switch {
	case len(doc.strays) > 0:
		return nil, fmt.Errorf("%w: its member %s is a signature's but for its case, and LHDN may drop it; rename or remove it", ErrUnsignable, doc.strays[0])
	case (doc.extensions != nil || doc.signature != nil) && !options.ReplaceSignature:
		return nil, signedAlready("UBLExtensions or Signature")
	}
	warnings := doc.warnings
	if len(doc.twins) > 0 && !doc.blockTwin {
		warnings = append(warnings, "differing only in case from a member beside it, of which LHDN may read the other: "+strings.Join(doc.twins, ", "))
	}
	return &unsigned{
		format: JSON, canonical: doc.canonical, header: &doc.header, warnings: warnings,
		blockAt: doc.spliceAt, opens: `"SignatureValue":[{"_":"`,
		props: func(v *values) []byte { return jsonProps(*v) },
		assemble: func(v *values) ([][]byte, bool) {
			block := jsonBlock(*v)
			return [][]byte{doc.assemble(block)}, jsonReadsBack(block)
		},
	}, nil
}

// jsonReadsBack tells whether the block is read as it was written, in a document
// of nothing else.
func jsonReadsBack(block []byte) bool {
	const open, end = `{"Invoice":[{`, `}]}`
	bare := &jsonDocument{canonical: []byte(open + end), spliceAt: len(open), empty: true}
	doc, err := scanJSON(bare.assemble(block), jsonOptions{literals: literalsAsIs})
	return err == nil && bytes.Equal(doc.canonical, bare.canonical) && doc.extensions != nil && doc.signature != nil
}

func signedAlready(what string) error {
	return fmt.Errorf("%w: it has %s; sign the document it was made from, or ask to replace the signature", ErrSigned, what)
}

// check refuses what LHDN would not take as a signed document.
func (h *header) check() error {
	switch {
	case h.typeCode == "":
		return fmt.Errorf("%w: it has no InvoiceTypeCode", ErrUnsignable)
	case !knownType(h.typeCode):
		return fmt.Errorf("%w: its InvoiceTypeCode %q is none of 01 to 04 and 11 to 14", ErrUnsignable, h.typeCode)
	case h.version == "":
		return fmt.Errorf("%w: its InvoiceTypeCode has no listVersionID; set it to 1.1 before signing", ErrVersion)
	case h.version == "1.0" || h.version == "1.2":
		to := strings.NewReplacer("0", "1", "2", "3").Replace(h.version[2:])
		return fmt.Errorf("%w: version %s is the unsigned kind; set it to 1.%s before signing", ErrVersion, h.version, to)
	case !signedVersion(h.version):
		return fmt.Errorf("%w: %q is no version LHDN knows; 1.1 and 1.3 are signed", ErrVersion, h.version)
	case h.taxpayer().tins > 1:
		return fmt.Errorf("%w: its taxpayer has %d TINs; a party has one", ErrUnsignable, h.taxpayer().tins)
	}
	return nil
}
