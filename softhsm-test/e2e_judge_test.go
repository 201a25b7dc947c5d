package softhsmtest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Nothing in this file is the project's own reading of documents: signed ones
// are taken apart with encoding/xml and encoding/json, made canonical by xmllint
// or by LHDN's own regular expression, and judged by openssl.

// parts are what a verifier needs of a signed document.
type parts struct {
	digest      string // base64, as stored
	signature   []byte
	certificate []byte // DER
	rest        []byte // the document without the signature's two blocks
}

// judge fails the test unless openssl alone finds the signed document right, and
// its digest to be that of the unsigned one at that version.
func judge(t *testing.T, name string, unsigned, signed []byte, version, roots string) parts {
	t.Helper()
	take, canonical, prepare := xmlParts, xmlCanonical, xmlPrepare
	if isJSON(signed) {
		take, canonical, prepare = jsonParts, minified, jsonPrepare
	}
	p := take(t, signed)
	files := t.TempDir()
	document := write(t, filepath.Join(files, "document"), canonical(t, p.rest))
	if got := openssl(t, "dgst", "-sha256", "-binary", document); base64.StdEncoding.EncodeToString(got) != p.digest {
		t.Errorf("%s: openssl's digest of the signed document is %x, want the stored one, %s", name, got, p.digest)
	}
	source := write(t, filepath.Join(files, "source"), canonical(t, prepare(t, unsigned, version)))
	if !bytes.Equal(read(t, source), read(t, document)) {
		t.Errorf("%s: what was signed:\n%s\nis not what was given:\n%s", name, read(t, document), read(t, source))
	}
	certificate := write(t, filepath.Join(files, "certificate"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.certificate}))
	key := write(t, filepath.Join(files, "key"), openssl(t, "x509", "-in", certificate, "-noout", "-pubkey"))
	signature := write(t, filepath.Join(files, "signature"), p.signature)
	openssl(t, "dgst", "-sha256", "-verify", key, "-signature", signature, document)
	openssl(t, "verify", "-CAfile", roots, certificate)
	return p
}

// openssl runs it, and fails the test if it fails.
func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	return tool(t, "openssl", args...)
}

func tool(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	got := ran(t, exec.CommandContext(t.Context(), name, args...))
	if got.code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", name, strings.Join(args, " "), got.code, got.out, got.errs)
	}
	return []byte(got.out)
}

func isJSON(document []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(document), []byte("{")) }

const (
	extensionNS = "urn:oasis:names:specification:ubl:schema:xsd:CommonExtensionComponents-2"
	aggregateNS = "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
)

// xmlParts takes a signed XML document apart.
func xmlParts(t *testing.T, signed []byte) (p parts) {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(signed))
	var open []xml.StartElement
	var text strings.Builder
	var from, kept int64
	for {
		before := decoder.InputOffset()
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			if len(open) == 1 && isBlock(token.Name) {
				from = before
			}
			open = append(open, token.Copy())
			text.Reset()
		case xml.CharData:
			text.Write(token)
		case xml.EndElement:
			p.note(t, open, text.String())
			open = open[:len(open)-1]
			if len(open) == 1 && isBlock(token.Name) {
				p.rest = append(p.rest, signed[kept:from]...)
				kept = decoder.InputOffset()
			}
		}
	}
	p.rest = append(p.rest, signed[kept:]...)
	return p
}

func isBlock(name xml.Name) bool {
	return name == xml.Name{Space: extensionNS, Local: "UBLExtensions"} || name == xml.Name{Space: aggregateNS, Local: "Signature"}
}

// note keeps an element's text if it is one of the parts.
func (p *parts) note(t *testing.T, open []xml.StartElement, text string) {
	t.Helper()
	switch open[len(open)-1].Name.Local {
	case "SignatureValue":
		p.signature = unbase64(t, text)
	case "X509Certificate":
		p.certificate = unbase64(t, text)
	case "DigestValue":
		reference := open[len(open)-2]
		document := slices.Contains(reference.Attr, xml.Attr{Name: xml.Name{Local: "URI"}, Value: ""})
		if reference.Name.Local == "Reference" && document {
			p.digest = text
		}
	}
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	check(t, err)
	return b
}

// xmlCanonical is the document's inclusive C14N 1.1, by libxml2.
func xmlCanonical(t *testing.T, document []byte) []byte {
	t.Helper()
	return tool(t, "xmllint", "--nonet", "--c14n11", write(t, filepath.Join(t.TempDir(), "document.xml"), document))
}

var (
	comment    = regexp.MustCompile(`(?s)<!--.*?-->`)
	blank      = regexp.MustCompile(`>[ \t\r\n]+<`)
	xmlVersion = regexp.MustCompile(`listVersionID="[0-9.]*"`)
)

// xmlPrepare drops what is not signed of an unsigned document, and sets its
// version.
func xmlPrepare(_ *testing.T, unsigned []byte, version string) []byte {
	unsigned = comment.ReplaceAll(unsigned, nil)
	return xmlVersion.ReplaceAll(blank.ReplaceAll(unsigned, []byte("><")), []byte(`listVersionID="`+version+`"`))
}

// jsonParts takes a signed JSON document apart.
func jsonParts(t *testing.T, signed []byte) (p parts) {
	t.Helper()
	type value []struct {
		Text string `json:"_"`
	}
	var document struct {
		Invoice []struct {
			UBLExtensions []struct {
				UBLExtension []struct {
					ExtensionContent []struct {
						UBLDocumentSignatures []struct {
							SignatureInformation []struct {
								Signature []struct {
									SignatureValue value
									KeyInfo        []struct {
										X509Data []struct{ X509Certificate value }
									}
									SignedInfo []struct {
										Reference []struct {
											URI         string
											DigestValue value
										}
									}
								}
							}
						}
					}
				}
			}
		}
	}
	check(t, json.Unmarshal(signed, &document))
	signature := document.Invoice[0].UBLExtensions[0].UBLExtension[0].ExtensionContent[0].
		UBLDocumentSignatures[0].SignatureInformation[0].Signature[0]
	p.signature = unbase64(t, signature.SignatureValue[0].Text)
	p.certificate = unbase64(t, signature.KeyInfo[0].X509Data[0].X509Certificate[0].Text)
	for _, reference := range signature.SignedInfo[0].Reference {
		if reference.URI == "" {
			p.digest = reference.DigestValue[0].Text
		}
	}
	p.rest = withoutMembers(t, signed, "UBLExtensions", "Signature")
	return p
}

// withoutMembers takes members out of Invoice[0], wherever in it they stand.
func withoutMembers(t *testing.T, document []byte, names ...string) []byte {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(document))
	next := func() json.Token {
		token, err := decoder.Token()
		check(t, err)
		return token
	}
	for next() != "Invoice" { // the members before it are texts
		if decoder.InputOffset() == int64(len(document)) {
			t.Fatal("there is no Invoice")
		}
	}
	next() // [
	next() // {
	var kept []byte
	start := decoder.InputOffset()
	last := start
	for decoder.More() {
		name := next()
		var value json.RawMessage
		check(t, decoder.Decode(&value))
		if !slices.ContainsFunc(names, func(n string) bool { return n == name }) {
			kept = append(kept, document[last:decoder.InputOffset()]...)
		}
		last = decoder.InputOffset()
	}
	kept = bytes.TrimPrefix(kept, []byte(","))
	return slices.Concat(document[:start], kept, document[last:])
}

// jsonBlank is LHDN's own, from its page on JSON signatures.
var jsonBlank = regexp.MustCompile(`("(?:\\.|[^"\\])*")|\s+`)

func minified(_ *testing.T, document []byte) []byte {
	return jsonBlank.ReplaceAll(document, []byte("$1"))
}

var (
	jsonVersion = regexp.MustCompile(`("listVersionID"\s*:\s*)"[0-9.]*"`)
	jsonLiteral = regexp.MustCompile(`"(?:\\.|[^"\\])*"|-?[0-9][0-9.eE+-]*`)
)

// jsonPrepare sets an unsigned document's version, and writes its literals in
// the form that survives a server's reading and writing them.
func jsonPrepare(t *testing.T, unsigned []byte, version string) []byte {
	t.Helper()
	unsigned = jsonVersion.ReplaceAll(unsigned, []byte(`$1"`+version+`"`))
	return jsonLiteral.ReplaceAllFunc(unsigned, func(literal []byte) []byte {
		if literal[0] == '"' {
			return plainText(t, literal)
		}
		number, err := strconv.ParseFloat(string(literal), 64)
		check(t, err)
		text := strconv.FormatFloat(number, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return []byte(text)
	})
}

// plainText writes a string with no escapes but those that JSON needs.
func plainText(t *testing.T, literal []byte) []byte {
	t.Helper()
	var text string
	check(t, json.Unmarshal(literal, &text))
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	check(t, encoder.Encode(text))
	return bytes.ReplaceAll(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\u0085"), []byte(`\u0085`))
}
