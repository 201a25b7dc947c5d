package xades

import (
	"crypto/sha256"
	"encoding/json"
)

// reading is a document of either format, read as it stands.
type reading struct {
	format    Format
	source    []byte
	canonical []byte // what DocDigest is taken over
	header    *header
	parts     func() (*parts, error) // reads the signature block
	hidden    []string               // what is called as a signature block is, and is none

	differs difference // XML: what other readers may read otherwise
	names   int        // XML: elements and attributes
	blocks  []xmlBlock // XML: what the digest leaves out

	pointer  []byte // JSON: the member Signature, which the digest leaves out
	spliceAt int    // JSON: where the members of Invoice[0] end in canonical
}

// parse reads a document as a verifier does: nothing is normalized but what the
// digest rule says.
func parse(document []byte) (*reading, error) {
	format, err := Detect(document)
	if err != nil {
		return nil, err
	}
	if format == JSON {
		doc, err := scanJSON(document, jsonOptions{literals: literalsAsIs})
		if err != nil {
			return nil, err
		}
		return &reading{
			format: JSON, source: document, canonical: doc.canonical, header: &doc.header, parts: doc.parts,
			hidden: doc.hidden(), pointer: doc.signature, spliceAt: doc.spliceAt,
		}, nil
	}
	doc, err := scanXML(document, xmlOptions{})
	if err != nil {
		return nil, err
	}
	return &reading{
		format: XML, source: document, canonical: doc.canonical, header: &doc.header, parts: doc.parts,
		hidden: doc.hidden(), differs: doc.differs, names: doc.names, blocks: doc.blocks,
	}, nil
}

// hidden names what the digest rule drops beside the first element of each of
// the two members.
func (d *jsonDocument) hidden() (names []string) {
	for _, member := range []struct {
		name  string
		value []byte
	}{{"UBLExtensions", d.extensions}, {"Signature", d.signature}} {
		var list []json.RawMessage
		if json.Unmarshal(member.value, &list) == nil && len(list) > 1 {
			names = append(names, member.name+"[1]")
		}
	}
	return names
}

// DigestAsIs returns the DocDigest of a document as it stands, signed or not:
// what a verifier compares with the one stored in it. JSON literals are kept.
func DigestAsIs(document []byte) ([32]byte, error) {
	doc, err := parse(document)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(doc.canonical), nil
}

// DigestAsSigned returns the DocDigest that [Prepare] would have signed.
func DigestAsSigned(document []byte, options Options) ([32]byte, error) {
	doc, err := readUnsigned(document, options)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(doc.canonical), nil
}

// Inspect returns what a document, signed or not, says of itself.
func Inspect(document []byte) (Facts, error) {
	doc, err := parse(document)
	if err != nil {
		return Facts{}, err
	}
	return doc.header.facts(), nil
}
