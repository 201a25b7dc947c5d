// Package xades makes and judges the signature of MyInvois documents: UBL 2.1
// in XML or JSON, with the XAdES-like block that LHDN's validator wants.
//
// It holds no key and knows no clock, network or log: bytes and values go in,
// bytes and values come out. [Prepare] decides every byte of the signed
// document but the signature value; whoever holds the key signs the draft's
// DocDigest; [Draft.Complete] puts the signature in, after verifying it.
//
// The one idea: a document is read once, by one scanner of this package, which
// yields its canonical form. Only canonical bytes are digested, and the signed
// document is those same bytes with two blocks spliced in, so that readers that
// treat blanks, references or literals differently arrive at the same digest.
//
// It is not XMLDSig: the RSA signature covers the canonical document and
// nothing of the signature block (see docs/DIVERGENCES.md).
package xades
