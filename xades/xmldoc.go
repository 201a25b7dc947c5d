package xades

import (
	"fmt"
	"slices"
)

const (
	// maxBlocks is how many bytes the elements that the digest leaves out may
	// have together, in canonical form: a signature has some 6 KB. Each of them
	// is written out with every namespace in scope, and read into a tree.
	maxBlocks   = 64 << 10
	usualBlocks = 6 << 10
	usualDepth  = 24
	// maxNamed is how many names of a kind are kept for people to read.
	maxNamed = 8
)

// xmlOptions says how to read an XML document.
type xmlOptions struct {
	setVersion string // what InvoiceTypeCode's listVersionID is written as; "" leaves it

	keepBlanks bool // drop no blanks: wrong, to recognise those who did not
	room       int  // how long the canonical form will be, if that is known
}

// xmlDocument is what one pass over an XML document yields.
type xmlDocument struct {
	canonical  []byte // canonical form without the blocks
	rootEnd    int    // offset in canonical after the root's start tag
	supplierAt int    // offset in canonical of the root's AccountingSupplierParty; -1 if there is none
	typeCodeAt int    // offset in canonical of the first InvoiceTypeCode; -1 if there is none
	bindsCAC   bool   // the root binds the prefix cac as UBL does
	bindsCBC   bool   // and cbc
	blocks     []xmlBlock
	props      [][]byte // OuterXml of each xades:SignedProperties within the blocks
	strays     []string // names of elements called UBLExtensions or Signature that are no blocks, each once
	nested     []string // names of blocks within blocks, each once
	repeated   string   // an element that must be one and is more
	pis        int      // processing instructions
	steps      int      // what it took to read
	differs    difference
	header     header
}

// xmlBlock is an element that the digest rule leaves out, with all below it.
type xmlBlock struct {
	extensions bool // ext:UBLExtensions, else cac:Signature
	atRoot     bool // a child of the root
	at         int  // offset in the canonical form of the document that it is left out of
	canonical  []byte
}

// xmlReader drives the scanner over a document and writes its two outputs: the
// kept canonical form, and the blocks left out.
type xmlReader struct {
	scanner xmlScanner
	options xmlOptions
	doc     xmlDocument

	kept    canon
	block   canon
	outer   outerXML
	blockAt int // depth of the block being read; 0 where none is
	begunAt int // where it begins in the output of all blocks
	propsAt int // depth of the SignedProperties being read; 0 where none is

	roles   []role // of the open elements
	valueAt int    // where the content of the innermost element with a role began
	scheme  string // schemeID of the party identification being read
	found   [roleSupplierID]int
}

// scanXML reads a whole document. Every error wraps [ErrMalformed].
func scanXML(document []byte, options xmlOptions) (*xmlDocument, error) {
	source, err := plainUTF8(document)
	if err != nil {
		return nil, err
	}
	r := &xmlReader{scanner: xmlScanner{src: source, passBlanks: !options.keepBlanks}, options: options}
	r.doc.supplierAt, r.doc.typeCodeAt = -1, -1
	r.kept.keepBlanks = options.keepBlanks
	r.kept.out = make([]byte, 0, max(options.room, len(source))+len(source)/16)
	r.scanner.expect(usualDepth)
	r.roles = make([]role, 0, usualDepth)
	for {
		if err := r.scanner.next(); err != nil {
			return nil, err
		}
		if r.scanner.kind == tokEOF {
			break
		}
		if err := r.token(); err != nil {
			return nil, err
		}
		if r.block.size()+len(r.outer.out) > maxBlocks {
			return nil, r.scanner.fault(r.scanner.pos, "UBLExtensions and cac:Signature of over %d bytes; a signature has some 6,000", maxBlocks)
		}
	}
	r.kept.boundary()
	r.kept.flush(&r.scanner)
	r.doc.canonical, r.doc.differs, r.doc.steps = r.kept.out, r.kept.differs, r.scanner.steps
	return &r.doc, nil
}

// current is the output that the scanner's position belongs to.
func (r *xmlReader) current() *canon {
	if r.blockAt > 0 {
		return &r.block
	}
	return &r.kept
}

func (r *xmlReader) token() error {
	c, s := r.current(), &r.scanner
	c.literalGone = c.literalGone || s.passed
	switch s.kind {
	case tokText:
		if len(s.open) > 0 {
			c.text(s)
			r.outer.text(s, r.propsAt > 0)
		}
		return nil
	case tokCDATA:
		c.cdata(s)
		r.outer.text(s, r.propsAt > 0)
		return nil
	}
	c.boundary()
	switch s.kind {
	case tokPI:
		r.doc.pis++
		r.valueAt = -1
		c.instruction(s)
		r.outer.instruction(s, r.propsAt > 0)
	case tokComment:
		r.outer.comment(s, r.propsAt > 0)
	case tokStart:
		if err := r.start(); err != nil {
			return err
		}
	case tokEnd:
		r.end()
	}
	r.current().begin()
	return nil
}

func (r *xmlReader) start() error {
	s := &r.scanner
	depth := len(s.open)
	if depth == 1 {
		if err := r.root(); err != nil {
			return err
		}
	}
	size := s.name.to - s.name.from
	if r.blockAt == 0 && size >= int32(len("Signature")) && r.opensBlock() {
		r.blockAt = depth
		r.begunAt = r.block.size()
		if r.block.out == nil {
			r.block.out = make([]byte, 0, min(usualBlocks, len(s.src)))
		}
		r.block.start(s, true, "")
		r.roles = append(r.roles, roleNone)
		return nil
	}
	if r.blockAt > 0 {
		if size >= int32(len("Signature")) {
			r.within()
		}
		r.block.start(s, false, "")
		if r.propsAt == 0 && s.ns.known(s.space) == xadesVocabulary && string(s.local(s.name)) == "SignedProperties" {
			r.propsAt = depth
			s.passBlanks = false // they may be preserved there
			r.outer.begin(len(s.src))
		}
		r.outer.start(s, r.propsAt > 0)
		r.roles = append(r.roles, roleNone)
		return nil
	}
	is, version := roleNone, ""
	if depth == 1 || r.roles[depth-2] != roleNone {
		is = r.role()
		version = r.noted(is)
	}
	switch {
	case is == roleSupplier && r.doc.supplierAt < 0:
		r.doc.supplierAt = r.kept.size()
	case is == roleTypeCode && r.doc.typeCodeAt < 0:
		r.doc.typeCodeAt = r.kept.size()
	}
	r.kept.start(s, false, version)
	if depth == 1 {
		r.doc.rootEnd = r.kept.size()
	}
	if s.leaf() {
		if is != roleNone {
			r.value(is, s.text(s.raw))
		}
		r.kept.leaf(s)
		r.valueAt = -1 // its parent has an element in it: no value
		return nil
	}
	r.roles = append(r.roles, is)
	r.valueAt = r.kept.size()
	return nil
}

// root refuses what is no MyInvois document, which always has the root Invoice.
func (r *xmlReader) root() error {
	s := &r.scanner
	if string(s.local(s.name)) != "Invoice" || s.ns.known(s.space) != invoiceVocabulary {
		return fmt.Errorf("%w: its root is <%s> in namespace %q; MyInvois documents of every type have the root Invoice in %s",
			ErrMalformed, s.text(s.name.span), s.ns.uri(s.space), nsInvoice)
	}
	cac, _ := s.ns.lookup([]byte("cac"))
	cbc, _ := s.ns.lookup([]byte("cbc"))
	r.doc.bindsCAC, r.doc.bindsCBC = s.ns.known(cac) == cacVocabulary, s.ns.known(cbc) == cbcVocabulary
	return nil
}

// opensBlock tells whether the element that starts is left out of the digest:
// ext:UBLExtensions and cac:Signature, wherever they stand (LHDN SDK,
// signature-creation, step 2, which removes by name at any depth).
func (r *xmlReader) opensBlock() bool {
	s := &r.scanner
	local, extensions := s.local(s.name), false
	switch string(local) {
	case "UBLExtensions":
		extensions = true
		if s.ns.known(s.space) != extVocabulary {
			r.stray()
			return false
		}
	case "Signature":
		if s.ns.known(s.space) != cacVocabulary {
			r.stray()
			return false
		}
	default:
		return false
	}
	if len(s.open) == 1 {
		return false
	}
	r.doc.blocks = append(r.doc.blocks, xmlBlock{extensions: extensions, atRoot: len(s.open) == 2, at: r.kept.size()})
	return true
}

// within notes an element in a block that would be a block by itself.
func (r *xmlReader) within() {
	s := &r.scanner
	switch local := string(s.local(s.name)); {
	case local == "UBLExtensions", local == "Signature" && s.ns.known(s.space) == cacVocabulary:
		if name := string(s.text(s.name.span)); len(r.doc.nested) < maxNamed && !slices.Contains(r.doc.nested, name) {
			r.doc.nested = append(r.doc.nested, name)
		}
	}
}

// stray notes the name of the element that starts.
func (r *xmlReader) stray() {
	name := r.scanner.text(r.scanner.name.span)
	if len(r.doc.strays) < maxNamed && !slices.Contains(r.doc.strays, string(name)) {
		r.doc.strays = append(r.doc.strays, string(name))
	}
}

func (r *xmlReader) end() {
	s := &r.scanner
	depth := len(s.open) + 1 // of the element that ends
	is := r.roles[len(r.roles)-1]
	r.roles = r.roles[:len(r.roles)-1]
	if r.blockAt == 0 {
		var text []byte
		if r.valueAt >= 0 && is != roleNone {
			r.kept.flush(s)
			text = r.kept.out[r.valueAt:]
		}
		r.value(is, text)
		r.kept.end(s)
		r.valueAt = -1 // its parent has an element in it: no value
		return
	}
	r.block.end(s)
	r.outer.end(s, r.propsAt > 0)
	if depth == r.propsAt {
		r.propsAt, s.passBlanks = 0, !r.options.keepBlanks
		r.doc.props = append(r.doc.props, r.outer.out[r.outer.begunAt:])
	}
	if depth == r.blockAt {
		r.block.flush(s)
		r.doc.blocks[len(r.doc.blocks)-1].canonical = r.block.out[r.begunAt:]
		r.blockAt = 0
	}
}

// hidden names what the digest rule drops, or LHDN may, and a signature block
// does not account for: a second block of a kind, one that is no child of the
// root, and elements that are only called so.
func (d *xmlDocument) hidden() (names []string) {
	var extensions, signatures int
	for i := range d.blocks {
		b := &d.blocks[i]
		count, name := &signatures, "<cac:Signature>"
		if b.extensions {
			count, name = &extensions, "<ext:UBLExtensions>"
		}
		if *count++; (*count > 1 || !b.atRoot) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, stray := range slices.Concat(d.strays, d.nested) {
		names = append(names, "<"+stray+">")
	}
	return names
}
