package xades

// The texts of the block in JSON, in the official samples' order, between the
// values that go into it (LHDN SDK, "Signature Creation - JSON").
const (
	jsonDigestMethod = `"DigestMethod":[{"_":"","Algorithm":"` + algDigest + `"}],"DigestValue":[{"_":"`
	jsonTypeProps    = "http://uri.etsi.org/01903/v1.3.2#SignedProperties"
)

// jsonWriter appends fixed text and escaped values.
type jsonWriter []byte

// put appends fixed, then value as it stands inside a string.
func (w *jsonWriter) put(fixed, value string) {
	*w = appendEscaped(append(*w, fixed...), value)
}

// jsonProps returns the object whose SHA-256 is PropsDigest: exactly the bytes
// that [jsonBlock] embeds.
func jsonProps(v values) []byte {
	const usual = 800
	w := make(jsonWriter, 0, usual)
	w.put(`{"Target":"signature","SignedProperties":[{"Id":"`+idProps+
		`","SignedSignatureProperties":[{"SigningTime":[{"_":"`, v.signingTime)
	w.put(`"}],"SigningCertificate":[{"Cert":[{"CertDigest":[{`+jsonDigestMethod, v.certDigest)
	w.put(`"}]}],"IssuerSerial":[{"X509IssuerName":[{"_":"`, v.issuer)
	w.put(`"}],"X509SerialNumber":[{"_":"`, v.serial)
	return append(w, `"}]}]}]}]}]}]}`...)
}

// jsonBlock returns the two members that are spliced in before the brace that
// closes Invoice[0], without a leading comma.
func jsonBlock(v values) []byte {
	const fixed = 4000 // and what is longer than usual in the names
	w := make(jsonWriter, 0, fixed+len(v.certificate)+len(v.signature))
	w.put(`"UBLExtensions":[{"UBLExtension":[{"ExtensionURI":[{"_":"`+uriEnveloped+
		`"}],"ExtensionContent":[{"UBLDocumentSignatures":[{"SignatureInformation":[{"ID":[{"_":"`+idSigInfo+
		`"}],"ReferencedSignatureID":[{"_":"`+idSignature+
		`"}],"Signature":[{"Id":"signature","Object":[{"QualifyingProperties":[`, "")
	w = append(w, jsonProps(v)...)
	w.put(`]}],"KeyInfo":[{"X509Data":[{"X509Certificate":[{"_":"`, v.certificate)
	w.put(`"}],"X509SubjectName":[{"_":"`, v.subject)
	w.put(`"}],"X509IssuerSerial":[{"X509IssuerName":[{"_":"`, v.issuer)
	w.put(`"}],"X509SerialNumber":[{"_":"`, v.serial)
	w.put(`"}]}]}]}],"SignatureValue":[{"_":"`, v.signature)
	w.put(`"}],"SignedInfo":[{"SignatureMethod":[{"_":"","Algorithm":"`+algSignature+
		`"}],"Reference":[{"Type":"`+jsonTypeProps+`","URI":"#`+idProps+`",`+jsonDigestMethod, v.propsDigest)
	w.put(`"}]},{"Type":"","URI":"",`+jsonDigestMethod, v.docDigest)
	w.put(`"}]}]}]}]}]}]}]}]}],"Signature":[{"ID":[{"_":"`+idSignature+
		`"}],"SignatureMethod":[{"_":"`+uriEnveloped+`"}]}]`, "")
	return w
}

// assemble returns the signed document: the canonical bytes, untouched, with
// the block spliced in.
func (d *jsonDocument) assemble(block []byte) []byte {
	signed := make([]byte, 0, len(d.canonical)+len(block)+1)
	signed = append(signed, d.canonical[:d.spliceAt]...)
	if !d.empty {
		signed = append(signed, ',')
	}
	signed = append(signed, block...)
	return append(signed, d.canonical[d.spliceAt:]...)
}
