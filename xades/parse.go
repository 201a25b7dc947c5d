package xades

import "crypto/sha256"

// reading is a document of either format, read as it stands.
type reading struct {
	format    Format
	source    []byte
	canonical []byte // what DocDigest is taken over
	header    *header
	parts     func() (*parts, error) // reads the signature block
	hidden    []string               // what is called as a signature block is, and is none

	differs difference // XML: what other readers may read otherwise
	steps   int        // XML: what it took to read
	blocks  []xmlBlock // XML: what the digest leaves out

	json *jsonDocument // JSON

	typeCodeAt int          // XML: where InvoiceTypeCode stands in the canonical form, or -1
	blanks     *xmlDocument // XML: the document read with its blanks; nil if that is not done, or there are none
	blanksRead bool
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
			hidden: doc.hidden(), json: doc,
		}, nil
	}
	doc, err := scanXML(document, xmlOptions{})
	if err != nil {
		return nil, err
	}
	return &reading{
		format: XML, source: document, canonical: doc.canonical, header: &doc.header, parts: doc.parts,
		hidden: doc.hidden(), differs: doc.differs, steps: doc.steps, blocks: doc.blocks, typeCodeAt: doc.typeCodeAt,
	}, nil
}

// hidden names what the digest rule drops beside the first element of each of
// the two members, what is named so within them, and what a reader that ignores
// case may drop.
func (d *jsonDocument) hidden() (names []string) {
	for _, member := range []struct {
		name  string
		value []byte
	}{{"UBLExtensions", d.extensions}, {"Signature", d.signature}} {
		if severalElements(member.value) {
			names = append(names, member.name+"[1]")
		}
		if len(member.value) == 0 || len(member.value) > maxBlocks {
			continue
		}
		value := treeOf(member.name, member.value)
		if value.count("UBLExtensions") > 0 || member.name == "Signature" && value.count("Signature") > 0 {
			names = append(names, "a block in "+member.name)
		}
	}
	return append(names, d.strays...)
}

// severalElements tells whether value, which is minified JSON, is an array of
// more than one element.
func severalElements(value []byte) bool {
	depth := 0
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '"':
			i += 1 + closingQuote(value[i+1:])
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case ',':
			if depth == 1 {
				return value[0] == '['
			}
		}
	}
	return false
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
