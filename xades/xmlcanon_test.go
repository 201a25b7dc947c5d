package xades

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// generated is how many documents each of the comparisons takes. Their seed is
// fixed, so that they are the same each time.
const generated = 2000

func TestTheCanonicalFormIsLibxml2s(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2026))}
	documents := make([]string, 0, generated)
	for i := range generated {
		document := g.source(g.document())
		if i%4 == 0 { // with many namespaces in scope
			document = strings.Replace(document, " xmlns", numbered(fewNamespaces, ` xmlns:n%d="urn:n"`)+" xmlns", 1)
		}
		documents = append(documents, document)
	}
	for name, document := range ownInvoices(t, "testdata/xml/*.xml") {
		if !strings.Contains(name, "crlf") { // has comments, which xmllint keeps
			documents = append(documents, oneLine(string(document)))
		}
	}
	compareWithXmllint(t, documents)
	dir, ok := vectors(t)
	if !ok {
		return
	}
	var samples []string
	for _, file := range vectorFiles(t, dir, "unsigned", "*.xml") {
		samples = append(samples, oneLine(string(read(t, file))))
	}
	compareWithXmllint(t, samples)
}

// compareWithXmllint compares canonical forms, many in each run of xmllint,
// which writes them one after the other.
func compareWithXmllint(t *testing.T, documents []string) {
	t.Helper()
	dir := t.TempDir()
	const batch = 500
	for from := 0; from < len(documents); from += batch {
		arguments, want := []string{"--c14n11"}, strings.Builder{}
		for i, document := range documents[from:min(from+batch, len(documents))] {
			d, err := scanXML([]byte(document), xmlOptions{})
			if err != nil {
				t.Fatalf("document %d: %v\n%q", from+i, err, document)
			}
			want.Write(d.canonical)
			file := filepath.Join(dir, fmt.Sprintf("%d.xml", from+i))
			if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
				t.Fatal(err)
			}
			arguments = append(arguments, file)
		}
		if got := program(t, "xmllint", arguments...); got != want.String() {
			nameTheOne(t, dir, documents[from:min(from+batch, len(documents))])
			return
		}
	}
}

// nameTheOne finds the document of a batch that differs.
func nameTheOne(t *testing.T, dir string, documents []string) {
	t.Helper()
	for i, document := range documents {
		file := filepath.Join(dir, "one.xml")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		got := scannedXML(t, []byte(document)).canonical
		if want := program(t, "xmllint", "--c14n11", file); string(got) != want {
			t.Errorf("document %d of the batch is %q", i, document)
			sameBytes(t, "the canonical form", got, []byte(want))
			return
		}
	}
	t.Error("the batch differs from xmllint's and none of its documents does")
}

func TestBlankTextIsDroppedByTheRule(t *testing.T) {
	t.Parallel()
	g := &generator{Rand: rand.New(rand.NewPCG(2, 2026)), blanks: true, comments: true, blocks: true}
	left, dropped := 0, 0
	for i := range generated {
		nodes := g.document()
		document := g.source(nodes)
		d, err := scanXML([]byte(document), xmlOptions{})
		if err != nil {
			t.Fatalf("document %d: %v\n%q", i, err, document)
		}
		want := slowCanonical(nodes)
		if string(d.canonical) != want {
			t.Errorf("document %d is %q", i, document)
			sameBytes(t, "the canonical form", d.canonical, []byte(want))
			return
		}
		sameBytes(t, "the canonical form of the canonical form", scannedXML(t, d.canonical).canonical, d.canonical)
		left += len(d.blocks)
		if len(want) < len(document)/2 {
			dropped++
		}
	}
	if left == 0 || dropped == 0 {
		t.Errorf("of %d documents, %d blocks were left out and %d shrank: the generator shows too little", generated, left, dropped)
	}
}

func TestTheCanonicalFormByExample(t *testing.T) {
	const open, end = `<Invoice xmlns="` + nsInvoice + `">`, `</Invoice>`
	for _, row := range []struct{ name, source, want string }{
		{"empty elements have two tags", open + `<a/><b />` + end, open + `<a></a><b></b>` + end},
		{"attributes by namespace, then name", open + `<a xmlns:x="urn:2" xmlns:y="urn:1" x:a="1" y:b="2" c="3" y:a="4" b="5"/>` + end,
			open + `<a xmlns:x="urn:2" xmlns:y="urn:1" b="5" c="3" y:a="4" y:b="2" x:a="1"></a>` + end},
		{"declarations by prefix", open + `<a xmlns:z="urn:z" xmlns="urn:d" xmlns:b="urn:b"/>` + end, open + `<a xmlns="urn:d" xmlns:b="urn:b" xmlns:z="urn:z"></a>` + end},
		{"a declaration said before goes", open + `<a xmlns="` + nsInvoice + `"><b xmlns="urn:b"><c xmlns="urn:b"/></b></a>` + end, open + `<a><b xmlns="urn:b"><c></c></b></a>` + end},
		{"a declaration that is not used stays", open + `<a xmlns:z="urn:z"/>` + end, open + `<a xmlns:z="urn:z"></a>` + end},
		{"the default namespace undeclared", open + `<a xmlns=""><b xmlns=""/></a>` + end, open + `<a xmlns=""><b></b></a>` + end},
		{"undeclared where there is none", `<i:Invoice xmlns:i="` + nsInvoice + `"><a xmlns=""/></i:Invoice>`, `<i:Invoice xmlns:i="` + nsInvoice + `"><a></a></i:Invoice>`},
		{"xml declared", open + `<a xmlns:xml="` + nsXML + `" xml:lang="ms"/>` + end, open + `<a xml:lang="ms"></a>` + end},
		{"a prefix that means something else below", open + `<a:x xmlns:a="urn:1"><a:x xmlns:a="urn:2"><a:x xmlns:a="urn:1"/></a:x></a:x>` + end,
			open + `<a:x xmlns:a="urn:1"><a:x xmlns:a="urn:2"><a:x xmlns:a="urn:1"></a:x></a:x></a:x>` + end},
		{"quotes and > in attributes", open + `<a b='"&gt;&lt;&amp;&apos;>'/>` + end, open + `<a b="&quot;>&lt;&amp;'>"></a>` + end},
		{"blanks in attributes", open + "<a b=' \t\r\n\n\rx&#9;&#xA;&#13; '/>" + end, open + `<a b="     x&#x9;&#xA;&#xD; "></a>` + end},
		{"escapes in text", open + "<a>&quot;'&#34;&gt;>&lt;&amp;&#xd;\r\n\r</a>" + end, open + "<a>\"'\"&gt;&gt;&lt;&amp;&#xD;\n\n</a>" + end},
		{"CDATA", open + `<a>x<![CDATA[<&>]]]]><![CDATA[>]]></a>` + end, open + `<a>x&lt;&amp;&gt;]]&gt;</a>` + end},
		{"CDATA of blanks beside ink", open + `<a>x<![CDATA[ ]]>y</a>` + end, open + `<a>x y</a>` + end},
		{"CDATA of blanks alone", open + `<a><![CDATA[ ]]></a>` + end, open + `<a></a>` + end},
		{"empty CDATA", open + `<a><![CDATA[]]></a>` + end, open + `<a></a>` + end},
		{"literal blanks beside CDATA", open + `<a> <![CDATA[x]]> </a>` + end, open + `<a>x</a>` + end},
		{"blanks by reference beside ink", open + `<a>x&#32;</a>` + end, open + `<a>x </a>` + end},
		{"blanks by reference alone", open + `<a>&#32; &#xA;</a>` + end, open + `<a></a>` + end},
		{"blanks by reference before a CDATA section", open + `<a>&#32;<![CDATA[x]]></a>` + end, open + `<a> x</a>` + end},
		{"blanks of other kinds are ink", open + "<a>\u00a0</a><b>\u0085</b><c>\u2003</c>" + end, open + "<a>\u00a0</a><b>\u0085</b><c>\u2003</c>" + end},
		{"blanks between comments", open + `<a>x<!-- 1 --> <!-- 2 -->y</a>` + end, open + `<a>xy</a>` + end},
		{"blanks beside ink", open + "<a> x\n</a>" + end, open + "<a> x\n</a>" + end},
		{"blanks in a leaf", open + "<a>\n</a>" + end, open + "<a></a>" + end},
		{"xml:space", open + `<a xml:space="preserve"> </a>` + end, open + `<a xml:space="preserve"></a>` + end},
		{"comments", "<!-- 1 -->" + open + "<!-- 2 --><a/><!----></Invoice><!-- 3 -->", open + `<a></a>` + end},
		{"instructions", "<?a?>\n<?b  c ?>" + open + "<?d\te\r\n?></Invoice>\n<?f?>", "<?a?>\n<?b c ?>\n" + open + "<?d e\n?>" + end + "\n<?f?>"},
		{"the declaration and the mark", "\ufeff<?xml version='1.0' encoding='utf-8' standalone='yes' ?>\r\n" + open + end, open + end},
		{"blanks in tags", "<Invoice\txmlns\n=\r\n'" + nsInvoice + "' ><a  b = 'c'\n/ ></Invoice >", ""},
		{"blanks in tags, rightly", "<Invoice\txmlns\n=\r\n'" + nsInvoice + "' ><a  b = 'c'\n/></Invoice >", open + `<a b="c"></a>` + end},
		{"the blocks", open + `x<UBLExtensions xmlns="` + nsExt + `"><a/></UBLExtensions> <Signature xmlns="` + nsCAC + `"/>y` + end, open + `xy` + end},
		{"what is called so elsewhere", open + `<Signature/><UBLExtensions/>` + end, open + `<Signature></Signature><UBLExtensions></UBLExtensions>` + end},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, err := scanXML([]byte(row.source), xmlOptions{})
			if err != nil {
				if row.want != "" {
					t.Fatal(err)
				}
				return
			}
			if string(d.canonical) != row.want {
				t.Fatalf("got  %s\nwant %s", d.canonical, row.want)
			}
			sameBytes(t, "again", scannedXML(t, d.canonical).canonical, d.canonical)
		})
	}
}
