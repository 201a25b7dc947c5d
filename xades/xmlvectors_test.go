package xades

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOfficialXMLGivesTheOfficialBytes(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	files := vectorFiles(t, dir, "bytes", "*.xml.doc.bin")
	if len(files) == 0 {
		t.Fatal("no bytes of XML documents among the vectors")
	}
	for _, file := range files {
		base := strings.TrimSuffix(file, ".doc.bin")
		name := filepath.Base(base)
		d := scannedXML(t, read(t, dir, "official", name))
		p, err := d.parts()
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, name+": the document", d.canonical, read(t, base+".doc.bin"))
		sameBytes(t, name+": the properties", p.props, read(t, base+".props.bin"))
		sameBytes(t, name+": the certificate", decoded(t, p.certificate), read(t, base+".cert.der"))
		sameBytes(t, name+": the signature", decoded(t, p.signatureValue), read(t, base+".sig.bin"))
	}
}

func scannedXML(t testing.TB, document []byte) *xmlDocument {
	t.Helper()
	d, err := scanXML(document, xmlOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The official blocks are indented; without that they are what is built from
// their own values, and so are the properties.
func TestAnOfficialXMLBlockIsRebuiltFromItsOwnValues(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	files := vectorFiles(t, dir, "official", "*.xml")
	if len(files) == 0 {
		t.Fatal("no official XML documents among the vectors")
	}
	for _, file := range files {
		name := filepath.Base(file)
		source := read(t, file)
		d := scannedXML(t, source)
		p, err := d.parts()
		if err != nil {
			t.Fatal(err)
		}
		v := &values{
			docDigest: p.docDigest, propsDigest: p.propsDigest, certDigest: p.certDigest,
			signingTime: p.signingTime, issuer: p.issuer, serial: p.serial,
			certificate: p.certificate, signature: p.signatureValue,
		}
		sameBytes(t, name+": the properties", xmlProps(v), p.props)
		pieces, readsBack := d.assemble(v)
		if !readsBack {
			t.Errorf("%s: the blocks are not read back", name)
		}
		rebuilt := slices.Concat(pieces...)
		for _, element := range []string{"UBLExtensions", "cac:Signature"} {
			got, _ := cutElement(t, string(rebuilt), element)
			want, _ := cutElement(t, string(source), element)
			sameBytes(t, name+": <"+element+">", []byte(got), []byte(oneLine(want)))
		}
		if next := `</cac:Signature><cac:AccountingSupplierParty>`; !strings.Contains(string(rebuilt), next) || !strings.Contains(oneLine(string(source)), next) {
			t.Errorf("%s: cac:Signature does not stand before cac:AccountingSupplierParty", name)
		}
	}
}

// cutElement cuts an element out of a source text, by its tags alone.
func cutElement(t testing.TB, source, name string) (element, rest string) {
	t.Helper()
	from, end := strings.Index(source, "<"+name), "</"+name+">"
	to := strings.Index(source, end) + len(end)
	if from < 0 || to < from || strings.Count(source, end) != 1 {
		t.Fatalf("not exactly one <%s> in the document", name)
	}
	return source[from:to], source[:from] + source[to:]
}

var (
	betweenTags = regexp.MustCompile(`>[ \t\r\n]+<`)
	insideTag   = regexp.MustCompile(`<[^>]*>`)
	someBlanks  = regexp.MustCompile(`[ \t\r\n]+`)
	aroundAll   = regexp.MustCompile(`^[ \t\r\n]+|[ \t\r\n]+$`)
)

// oneLine removes text of blanks only, and makes blanks inside tags one.
func oneLine(source string) string {
	source = betweenTags.ReplaceAllString(source, "><")
	source = insideTag.ReplaceAllStringFunc(source, func(tag string) string { return someBlanks.ReplaceAllString(tag, " ") })
	return aroundAll.ReplaceAllString(source, "")
}

// Each row of the vectors' README, by LHDN's codes.
func TestSignedXMLAndJSONAreJudgedAsKnown(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	edited := strings.NewReplacer(`listVersionID="1.3"`, `listVersionID="1.1"`, `"listVersionID": "1.3"`, `"listVersionID": "1.1"`)
	timed := strings.NewReplacer("2024-07-23T00:30:05Z", "2025-07-30T06:34:28Z")
	rows := []struct {
		file, want string
		change     *strings.Replacer // puts back what was edited after signing
	}{
		{"official/1.1-Invoice-Sample.xml", "", nil},
		{"official/1.1-Invoice-Sample.json", "", nil},
		{"official/1.1-Invoice-MultiLineItem-Sample.json", "", nil},
		{"official/1.1-Invoice-Consolidated-Sample.xml", "DS304", nil},
		{"official/1.1-Invoice-ForeignCurrency-Sample.xml", "DS304 DS320", nil},
		{"official/1.1-Invoice-ForeignCurrency-Sample.xml", "", timed},
		{"official/1.3-Invoice-Sample.xml", "DS322", nil},
		{"official/1.3-Invoice-Sample.json", "DS322", nil},
		{"official/1.3-Invoice-Sample.xml", "", edited},
		{"official/1.3-Invoice-Sample.json", "", edited},
		{"peers/klsheng-01-signed.xml", "", nil},
		{"peers/klsheng-01-signed.json", "", nil},
		{"peers/klsheng-01-serial160-signed.xml", "DS327", nil},
		{"peers/klsheng-01-serial160-signed.json", "DS327", nil},
		{"peers/klsheng-01-unsigned.xml", "DS301", nil},
		{"peers/klsheng-01-unsigned.json", "DS301", nil},
		{"peers/danieyal-Invoice-Sample-signed.xml", "DS304 DS327", nil},
		{"peers/danieyal-Invoice-Sample-signed.json", "DS304 DS327", nil},
		{"peers/changsheng-Invoice-Sample-signed.json", "", nil},
		{"peers/maesse-Invoice-Sample-signed.xml", "", nil},
		{"peers/erpgulf-Invoice-Sample-signed.xml", "", nil},
		{"peers/erpgulf-Invoice-Consolidated-Sample-signed.xml", "DS322", nil},
		{"peers/osikh-EdgeChars-signed.json", "DS322 DS326", nil},
	}
	told := map[string]bool{}
	for _, row := range rows {
		told[row.file] = true
		document := read(t, dir, row.file)
		name := row.file
		if row.change != nil {
			name += " put back"
			changed := row.change.Replace(string(document))
			if changed == string(document) {
				t.Fatalf("%s: nothing to put back", row.file)
			}
			document = []byte(changed)
		}
		t.Run(name, func(t *testing.T) { judged(t, document, row.want) })
	}
	for _, sub := range []string{"official", "peers"} {
		for _, pattern := range []string{"*.xml", "*.json"} {
			for _, file := range vectorFiles(t, dir, sub, pattern) {
				if name := sub + "/" + filepath.Base(file); !told[name] {
					t.Errorf("%s: what is expected of it?", name)
				}
			}
		}
	}
}

func TestPeersChainToTheirRootAndToNoOther(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	pool := func(file string) *x509.CertPool {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(read(t, dir, "peers", file)) {
			t.Fatalf("no certificate in %s", file)
		}
		return pool
	}
	for _, row := range []struct{ roots, want string }{
		{"ca-cert.pem", ""},
		{"leaf-cert-serial160.pem", "DS329"},
	} {
		r := Verify(read(t, dir, "peers/klsheng-01-signed.xml"), VerifyOptions{Roots: pool(row.roots)})
		if got := errorCodes(r); got != row.want {
			t.Errorf("%s: got the codes %q, want %q", row.roots, got, row.want)
		}
	}
}

func TestWhatAPeerHashedIsTheCanonicalForm(t *testing.T) {
	dir, ok := vectors(t)
	if !ok {
		return
	}
	unsigned := read(t, dir, "peers/klsheng-01-unsigned.xml")
	digest, err := DigestAsSigned(unsigned, Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := scannedXML(t, read(t, dir, "peers/klsheng-01-signed.xml"))
	p, err := file.parts()
	if err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "the unsigned file", unsigned, file.canonical)
	sameBytes(t, "what is to be signed of it", digest[:], decoded(t, p.docDigest))
}

// A foreign judge decides: xmllint makes the canonical form and openssl
// verifies the signature; only the cutting is done here, by the tags alone.
func TestSignedXMLVerifiesWithXmllintAndOpenssl(t *testing.T) {
	for name, document := range ownInvoices(t, "testdata/xml/*.xml") {
		t.Run(name, func(t *testing.T) { foreignJudge(t, document) })
	}
	dir, ok := vectors(t)
	if !ok {
		return
	}
	files := vectorFiles(t, dir, "unsigned", "*.xml")
	if len(files) == 0 {
		t.Fatal("no unsigned XML documents among the vectors")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { foreignJudge(t, read(t, file)) })
	}
}

func foreignJudge(t *testing.T, document []byte) {
	t.Helper()
	facts, err := Inspect(document)
	if err != nil {
		t.Fatal(err)
	}
	var options Options
	if facts.Version == "1.0" {
		options.SetVersion = "1.1"
	}
	draft, err := Prepare(document, testCertificate(t), signingTime, options)
	if err != nil {
		t.Fatal(err)
	}
	out := completed(t, draft)
	judged(t, out, "")

	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	extensions, rest := cutElement(t, string(out), "UBLExtensions")
	_, rest = cutElement(t, rest, "cac:Signature")
	canonical := program(t, "xmllint", "--c14n11", write("cut.xml", []byte(rest)))
	sameBytes(t, "the canonical form", []byte(canonical), draft.Canonical())

	between := func(from, to string) string {
		_, after, _ := strings.Cut(extensions, from)
		text, _, found := strings.Cut(after, to)
		if !found {
			t.Fatalf("no %s...%s in the block", from, to)
		}
		return text
	}
	der := decoded(t, between("<ds:X509Certificate>", "</ds:X509Certificate>"))
	public := program(t, "openssl", "x509", "-pubkey", "-noout", "-in",
		write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	signature := decoded(t, between("<ds:SignatureValue>", "</ds:SignatureValue>"))
	program(t, "openssl", "dgst", "-sha256", "-verify", write("key.pem", []byte(public)),
		"-signature", write("signature", signature), write("canonical.xml", []byte(canonical)))
	if stored := between("<ds:DigestValue>", "</ds:DigestValue>"); stored != digest64([]byte(canonical)) {
		t.Errorf("the first DigestValue is %s, of what xmllint wrote it is %s", stored, digest64([]byte(canonical)))
	}
}

// program runs a program and returns what it writes. One that is missing fails
// the test.
func program(t testing.TB, name string, arguments ...string) string {
	t.Helper()
	var complaints strings.Builder
	cmd := exec.Command(name, arguments...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, complaints.String())
	}
	return string(out)
}
