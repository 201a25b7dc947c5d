package softhsmtest_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// own is the taxpayer that dev mode's client signs for by default.
const own = "C20880050010"

func TestEverySampleIsSignedAndOpensslAgrees(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	signed, refused := 0, 0
	for folder, inputs := range corpus(t) {
		out := filepath.Join(t.TempDir(), "out")
		got := d.sign(t, append([]string{"--set-version", "1.1", "--tin", own, "--allow-mismatch", "--out", out}, inputs...)...)
		var outputs []string
		for _, input := range inputs {
			extension := filepath.Ext(input)
			output := filepath.Join(out, strings.TrimSuffix(filepath.Base(input), extension)+".signed"+extension)
			unsigned := read(t, input)
			if isJSON(unsigned) && twice(t, unsigned) != "" {
				refused++
				if !regexp.MustCompile(`(?m)^roamsign: ` + regexp.QuoteMeta(input) + `: .*` + regexp.QuoteMeta(twice(t, unsigned))).MatchString(got.errs) {
					t.Errorf("%s: got %q, want a line that names %s", input, got.errs, twice(t, unsigned))
				}
				if _, err := os.Stat(output); !os.IsNotExist(err) {
					t.Errorf("%s was refused and written", output)
				}
				continue
			}
			signed++
			outputs = append(outputs, output)
			p := judge(t, input, unsigned, read(t, output), "1.1", d.file("roots.pem"))
			agrees(t, input, output, p.digest)
		}
		if want := min(refused, 1); got.code != want || strings.Count(got.out, " -> ") != len(outputs) {
			t.Errorf("%s: got code %d, want %d, and\n%s%s\nwant a line for each of %d", folder, got.code, want, got.out, got.errs, len(outputs))
		}
		verifies(t, d, outputs...)
	}
	if vectors := os.Getenv("ROAMSIGN_VECTORS"); vectors != "" && (signed != 9 || refused != 1) {
		t.Errorf("of LHDN's samples %d were signed and %d refused, want 9 and 1", signed, refused)
	}
}

// agrees fails the test unless digest says the same of the signed document as it
// stands and of the unsigned one as it would be signed.
func agrees(t *testing.T, input, output, digest string) {
	t.Helper()
	for _, row := range []struct {
		args []string
		name string
	}{
		{[]string{"digest", output}, output},
		{[]string{"digest", "--as-signed", "--set-version", "1.1", input}, input},
	} {
		got := roamsign(t, row.args...)
		if want := (result{0, digest + "  " + row.name + "\n", ""}); got != want {
			t.Errorf("roamsign %s: got %+v, want %+v", strings.Join(row.args, " "), got, want)
		}
	}
}

// verifies fails the test unless roamsign finds all documents valid, chain
// included.
func verifies(t *testing.T, d *daemon, outputs ...string) {
	t.Helper()
	got := roamsign(t, append([]string{"verify", "--roots", d.file("roots.pem")}, outputs...)...)
	if got.code != 0 || got.errs != "" {
		t.Errorf("verify: got code %d and %q, want 0 and no error:\n%s", got.code, got.errs, got.out)
	}
	for _, output := range outputs {
		if !strings.Contains(got.out, output+": valid\n") {
			t.Errorf("verify does not call %s valid:\n%s", output, got.out)
		}
	}
}

// timed are the parts of a signed document that change with SigningTime: itself,
// and the digest of the properties that it stands in.
var timed = []*regexp.Regexp{
	regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`),
	regexp.MustCompile(`(#id-xades-signed-props"[^~]*?DigestValue(?:>|":\[\{"_":"))[A-Za-z0-9+/=]+`),
}

func timeless(document []byte) string {
	document = timed[0].ReplaceAll(document, []byte("TIME"))
	return string(timed[1].ReplaceAll(document, []byte("${1}DIGEST")))
}

func TestTheSignerBuildsTheSameDocumentAsTheClient(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	for _, format := range []string{"xml", "json"} {
		input := write(t, filepath.Join(t.TempDir(), "invoice."+format), invoice(t, format, "E2E-1"))
		var documents []string
		for _, via := range []string{"digest", "document"} {
			out := filepath.Join(t.TempDir(), via)
			if got := d.sign(t, "--via", via, "--out", out, input); got.code != 0 || got.errs != "" {
				t.Fatalf("--via %s: got %+v", via, got)
			}
			output := filepath.Join(out, "invoice.signed."+format)
			verifies(t, d, output)
			judge(t, via, read(t, input), read(t, output), "1.1", d.file("roots.pem"))
			documents = append(documents, timeless(read(t, output)))
		}
		if !strings.Contains(documents[0], "DIGEST") || !strings.Contains(documents[0], "TIME") {
			t.Fatalf("the document has no SigningTime or no digest of its properties:\n%s", documents[0])
		}
		if diff := cmp.Diff(documents[0], documents[1]); diff != "" {
			t.Errorf("%s: by the client and by the signer (-client +signer):\n%s", format, diff)
		}
	}
}

func TestWhatIsNotGrantedIsRefusedInOneLine(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	input := write(t, filepath.Join(t.TempDir(), "invoice.xml"), invoice(t, "xml", "E2E-2"))
	foreign := write(t, filepath.Join(t.TempDir(), "foreign.xml"), bytes.ReplaceAll(invoice(t, "xml", "E2E-3"), []byte(own), []byte("C31450097020")))
	for _, row := range []struct {
		name string
		args []string
		want []string
	}{
		{"a taxpayer that the policy lacks", []string{"--tin", "C31450097020", "--allow-mismatch", input}, []string{input, "C31450097020", "NOT_ALLOWED"}},
		{"a document of a taxpayer that the policy lacks", []string{foreign}, []string{foreign, "C31450097020", "NOT_ALLOWED"}},
		{"the same by the signer", []string{"--via", "document", foreign}, []string{foreign, "C31450097020", "NOT_ALLOWED"}},
		{"another taxpayer than the document's", []string{"--tin", "C20880050020", input}, []string{input, own, "C20880050020"}},
		{"the same by the signer", []string{"--via", "document", "--tin", "C20880050020", input}, []string{input, own, "C20880050020"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			got := d.sign(t, append([]string{"--out", out}, row.args...)...)
			if got.code != 1 || got.out != "" || strings.Count(got.errs, "\n") != 1 {
				t.Errorf("got code %d, output %q and\n%s\nwant 1, none and one line", got.code, got.out, got.errs)
			}
			for _, part := range row.want {
				if !strings.Contains(got.errs, part) {
					t.Errorf("got %q, want %q in it", got.errs, part)
				}
			}
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Errorf("%s was made", out)
			}
		})
	}
}

func TestBadInputIsToldInOneLineAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	whole := map[string][]byte{"xml": invoice(t, "xml", "E2E-4"), "json": invoice(t, "json", "E2E-4")}
	huge := bytes.Replace(whole["xml"], []byte("30 days net"), bytes.Repeat([]byte("long "), 2<<20), 1)
	if len(huge) < 10<<20 {
		t.Fatalf("the large document has %d bytes, want 10 MB", len(huge))
	}
	folder := t.TempDir()
	for name, content := range map[string][]byte{
		"empty.xml":      {},
		"truncated.xml":  whole["xml"][:len(whole["xml"])*2/3],
		"truncated.json": whole["json"][:len(whole["json"])*2/3],
		"scan.pdf":       []byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"),
		"huge.xml":       huge,
		"huge.json":      append(whole["json"], bytes.Repeat([]byte(" "), 10<<20)...),
		"doctype.xml":    bytes.Replace(whole["xml"], []byte("<Invoice"), []byte("<!DOCTYPE Invoice [<!ENTITY e \"x\">]>\n<Invoice"), 1),
		"zeros.xml":      make([]byte, 4096),
		"version.xml":    bytes.Replace(whole["xml"], []byte(`listVersionID="1.1"`), []byte(`listVersionID="1.0"`), 1),
		"text.json":      []byte(`"an invoice"`),
		"other.xml":      []byte("<html><body>404</body></html>"),
	} {
		write(t, filepath.Join(folder, name), content)
	}
	signed := filepath.Join(t.TempDir(), "signed.xml")
	write(t, signed, []byte(piped(t, whole["xml"], "--config", d.file("client.yaml"), "sign", "-").out))
	write(t, filepath.Join(folder, "signed.xml"), read(t, signed))
	d.await(t, "publish that signature", func() bool { return bytes.Contains(read(t, d.file("audit/checkpoint")), []byte("\n1\n")) })

	before := map[string]map[string]string{folder: snapshot(t, folder), d.dir: snapshot(t, d.dir)}
	for name := range before[folder] {
		for _, via := range []string{"digest", "document"} {
			got := d.sign(t, "--via", via, filepath.Join(folder, name))
			if got.code == 0 || got.out != "" || strings.Count(got.errs, "\n") != 1 || !strings.HasPrefix(got.errs, "roamsign: "+filepath.Join(folder, name)+": ") {
				t.Errorf("%s via %s: got code %d, output %q and\n%s\nwant another code than 0, no output and one line that names it", name, via, got.code, got.out, got.errs)
			}
			if len(got.errs) > 1000 {
				t.Errorf("%s via %s: the line has %d characters", name, via, len(got.errs))
			}
		}
	}
	for folder, was := range before {
		if diff := cmp.Diff(was, snapshot(t, folder)); diff != "" {
			t.Errorf("%s has changed (-before +after):\n%s", folder, diff)
		}
	}
}

// snapshot tells the names, modes and contents of a folder's files, but for those
// in which the log notes every five seconds how far it has swept.
func snapshot(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	check(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), "gcState") {
			return err
		}
		info, err := entry.Info()
		check(t, err)
		name, err := filepath.Rel(folder, path)
		check(t, err)
		all[name] = fmt.Sprintf("%v %x", info.Mode(), read(t, path)[:min(info.Size(), 1<<16)])
		return nil
	}))
	return all
}

func TestAHyphenIsStandardInputAndOutput(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	for _, format := range []string{"xml", "json"} {
		unsigned := invoice(t, format, "E2E-5")
		for _, via := range []string{"digest", "document"} {
			signed := piped(t, unsigned, "--config", d.file("client.yaml"), "sign", "--via", via, "-")
			if signed.code != 0 || signed.errs != "" {
				t.Fatalf("%s via %s: got %+v", format, via, signed)
			}
			p := judge(t, "-", unsigned, []byte(signed.out), "1.1", d.file("roots.pem"))
			if got := piped(t, []byte(signed.out), "verify", "--roots", d.file("roots.pem"), "-"); got.code != 0 || !strings.HasPrefix(got.out, "-: valid\n") {
				t.Errorf("%s via %s: verify -: got %+v, want that it is valid", format, via, got)
			}
			if got := piped(t, []byte(signed.out), "digest", "-"); got.out != p.digest+"  -\n" {
				t.Errorf("%s via %s: digest -: got %+v, want %s", format, via, got, p.digest)
			}
		}
	}
}

// invoices writes many invoices, of both formats.
func invoices(t *testing.T, n int) (paths []string) {
	t.Helper()
	folder := t.TempDir()
	for i := range n {
		format := []string{"xml", "json"}[i%2]
		number := fmt.Sprintf("E2E-MANY-%04d", i)
		paths = append(paths, write(t, filepath.Join(folder, number+"."+format), invoice(t, format, number)))
	}
	return paths
}

func TestManyDocumentsAreSignedInOneRun(t *testing.T) {
	t.Parallel()
	const many = 300
	d := fresh(t)
	out := filepath.Join(t.TempDir(), "out")
	got := d.sign(t, append([]string{"--out", out}, invoices(t, many)...)...)
	if got.code != 0 || got.errs != "" || strings.Count(got.out, " -> ") != many {
		t.Fatalf("got code %d, %q and %d lines, want 0, no error and %d", got.code, got.errs, strings.Count(got.out, " -> "), many)
	}
	outputs, err := filepath.Glob(filepath.Join(out, "*"))
	check(t, err)
	if len(outputs) != many {
		t.Errorf("got %d files, want %d", len(outputs), many)
	}
	verifies(t, d, outputs...)
	digests := map[string]bool{}
	for line := range strings.Lines(roamsign(t, append([]string{"digest"}, outputs...)...).out) {
		digest, _, _ := strings.Cut(line, "  ")
		if b, err := base64.StdEncoding.DecodeString(digest); err != nil || len(b) != 32 {
			t.Errorf("got %q, want the base64 of 32 bytes", line)
		}
		digests[digest] = true
	}
	if len(digests) != many {
		t.Errorf("got %d different digests of %d different documents", len(digests), many)
	}
}

func TestOneChangedByteIsFound(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	for _, format := range []string{"xml", "json"} {
		signed := piped(t, invoice(t, format, "E2E-6"), "--config", d.file("client.yaml"), "sign", "-").out
		for _, row := range []struct{ old, with, code string }{
			{"E2E-6", "E2E-7", "DS322"},
			{"Kuala Lumpur", "Kuala Lompur", "DS322"},
		} {
			changed := strings.Replace(signed, row.old, row.with, 1)
			if changed == signed {
				t.Fatalf("the %s document has no %q", format, row.old)
			}
			got := piped(t, []byte(changed), "verify", "-")
			if got.code != 1 || !strings.Contains(got.out, row.code) {
				t.Errorf("%s with %q: got code %d, want 1 and %s:\n%s", format, row.with, got.code, row.code, got.out)
			}
		}
	}
}
