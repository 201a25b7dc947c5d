package xades

// values is what goes into a signature block: every byte of the block follows
// from them and from the format.
type values struct {
	docDigest, propsDigest, certDigest string // base64 of 32 bytes
	signingTime                        string // 2006-01-02T15:04:05Z
	issuer, subject, serial            string // .NET names; decimal
	certificate                        string // base64 of the leaf's DER, one line
	signature                          string // base64
}

// parts is what a signature block says, as text and whatever its format. An
// empty text means that the part is missing, or empty, which LHDN's codes do
// not tell apart.
type parts struct {
	signatures         int    // signature blocks found
	misplaced          bool   // XML: the one that is judged does not stand where UBL has it
	twice              bool   // another element has the Id of the signed properties
	extensionURI       string // UBLExtension/ExtensionURI
	signatureMethod    string // cac:Signature/cbc:SignatureMethod
	signatureAlgorithm string // SignedInfo/SignatureMethod@Algorithm
	signatureValue     string
	certificate        string // KeyInfo/X509Data/X509Certificate

	docDigest, docDigestMethod     string // Reference to the document
	propsDigest, propsDigestMethod string // Reference to the signed properties
	propsURI, propsID              string // what that refers to, and what there is
	certDigest, certDigestMethod   string
	signingTime                    string
	issuer, serial                 string

	props      []byte // exactly the bytes that PropsDigest is taken over; nil if there are none
	signedInfo []byte // JSON: SignedInfo, to name the slip of signing it
}

// The algorithms and names of the official samples (LHDN SDK, signature page).
const (
	algDigest    = "http://www.w3.org/2001/04/xmlenc#sha256"
	algSignature = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	// algDeclaredC14N is what the samples declare. What is done is inclusive
	// canonicalization, without blank text.
	algDeclaredC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
	uriEnveloped    = "urn:oasis:names:specification:ubl:dsig:enveloped:xades"
	idSignature     = "urn:oasis:names:specification:ubl:signature:Invoice"
	idSigInfo       = "urn:oasis:names:specification:ubl:signature:1"
	idProps         = "id-xades-signed-props"
)
