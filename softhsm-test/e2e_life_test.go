package softhsmtest_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/roamsign/roamsign/ca"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

func TestWhatIsInFlightIsFinishedWhenItIsToldToStop(t *testing.T) {
	t.Parallel()
	const many = 1000
	dir := copied(t)
	config := filepath.Join(dir, "roamsignd.yaml")
	write(t, config, append(read(t, config), "limits: {drain: 1m}\n"...))
	d := serve(t, dir, "--listen", "127.0.0.1:0")
	conn := dial(t, d, d.tls(t))
	api := roamsignv1.NewSignerServiceClient(conn)
	current, err := api.GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
	check(t, err)
	fingerprint := sha256.Sum256(current.GetCertificate())
	request := &roamsignv1.SignDigestsRequest{}
	for i := range many {
		digest := make([]byte, 32)
		_, _ = rand.Read(digest) // never fails
		request.Items = append(request.Items, &roamsignv1.SignDigestRequest{
			Tin: own, DocumentDigest: digest, CertificateSha256: fingerprint[:], RequestId: fmt.Sprint("drain-", i),
		})
	}
	type answer struct {
		response *roamsignv1.SignDigestsResponse
		err      error
	}
	answered := make(chan answer, 1)
	sent := make(chan struct{})
	go func() {
		response, err := api.SignDigests(whenSent(t.Context(), sent), request)
		answered <- answer{response, err}
	}()
	<-sent
	d.signal(t, syscall.SIGTERM)
	select {
	case <-answered:
		t.Fatal("answered before it was told to stop, which proves nothing: ask for more signatures")
	default:
	}
	got := <-answered
	check(t, got.err)
	for i, result := range got.response.GetResults() {
		if len(result.GetSignature()) != 256 {
			t.Fatalf("signature %d: got %v, want 256 bytes", i, result)
		}
	}
	if n := len(got.response.GetResults()); n != many {
		t.Errorf("got %d results, want %d", n, many)
	}
	d.wait(t)
	if d.code != 0 {
		t.Errorf("told to stop: got exit code %d, want 0", d.code)
	}
	log := d.errs.String()
	for _, part := range []string{fmt.Sprintf("items=%d signed=%d", many, many), "msg=stopped"} {
		if !strings.Contains(log, part) {
			t.Errorf("the log lacks %q:\n%s", part, log)
		}
	}
	if found, _ := filepath.Glob(d.file("ready")); len(found) > 0 {
		t.Error("it has stopped and ready is still there")
	}
}

func TestASignerThatIsGoneIsToldAndOneThatIsBackIsTheSame(t *testing.T) {
	t.Parallel()
	d := fresh(t, "--listen", freeAddress(t))
	input := write(t, filepath.Join(t.TempDir(), "invoice.xml"), invoice(t, "xml", "E2E-8"))
	before, err := ca.LoadCertificates(d.file("signing.pem"))
	check(t, err)
	first := d.sign(t, "--out", "-", input)
	d.signal(t, syscall.SIGKILL)
	d.wait(t)

	out := filepath.Join(t.TempDir(), "out")
	got := d.sign(t, "--out", out, input)
	if got.code != 1 || got.out != "" || strings.Count(got.errs, "\n") != 1 || !strings.Contains(got.errs, "see that the signer runs") {
		t.Errorf("signing with a signer that was killed: got %+v, want code 1 and one line that says what to look at", got)
	}
	if found, _ := filepath.Glob(out + "*"); len(found) > 0 {
		t.Errorf("%s was made", found)
	}

	again := serve(t, d.dir)
	after, err := ca.LoadCertificates(again.file("signing.pem"))
	check(t, err)
	if !after[0].Equal(before[0]) {
		t.Error("the certificate is another one")
	}
	second := again.sign(t, "--out", "-", input)
	if second.code != 0 || signatureOf(t, first.out) != signatureOf(t, second.out) {
		t.Errorf("signing again: got %+v, want the same signature as before:\n%s", second, first.out)
	}
	again.stop(t)
}

// signatureOf is the signature's value in an XML document.
func signatureOf(t *testing.T, document string) string {
	t.Helper()
	return string(xmlParts(t, []byte(document)).signature)
}

func TestAKilledSignerLeavesEachDocumentWholeOrAbsent(t *testing.T) {
	t.Parallel()
	const many = 600
	d := fresh(t, "--listen", freeAddress(t))
	out := filepath.Join(t.TempDir(), "out")
	command := exec.CommandContext(t.Context(), filepath.Join(scratch, "roamsign"),
		append([]string{"--config", d.file("client.yaml"), "sign", "--out", out}, invoices(t, many)...)...)
	errs := &output{}
	command.Stderr = errs
	stdout, err := command.StdoutPipe()
	check(t, err)
	check(t, command.Start())
	lines := bufio.NewScanner(stdout)
	reported := 0
	for lines.Scan() {
		if reported++; reported == 1 {
			d.signal(t, syscall.SIGKILL)
		}
	}
	check(t, lines.Err())
	_ = command.Wait() // how it ended is told by its code
	code := command.ProcessState.ExitCode()
	if (code == 0) != (reported == many) || (code == 0) != (errs.String() == "") {
		t.Errorf("got code %d with %d of %d documents signed and:\n%s", code, reported, many, errs)
	}
	if code != 0 && (strings.Count(errs.String(), "\n") != 2 || !strings.Contains(errs.String(), "see that the signer runs")) {
		t.Errorf("got\n%s\nwant a line on what to look at and one that counts", errs)
	}
	outputs, err := filepath.Glob(filepath.Join(out, "*"))
	check(t, err)
	hidden, err := filepath.Glob(filepath.Join(out, ".*"))
	check(t, err)
	if len(outputs) != reported || len(hidden) > 0 {
		t.Errorf("%d documents were reported as signed and %d are there, and %v", reported, len(outputs), hidden)
	}
	verifies(t, d, outputs...)
}

func TestAFirstStartThatIsKilledIsTakenUpByTheNext(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dev")
	d := launch(t, dir, "--listen", "127.0.0.1:0")
	d.await(t, "make the token", func() bool { return strings.Contains(d.out.String(), "a SoftHSM2 token") })
	d.signal(t, syscall.SIGKILL)
	d.wait(t)
	again := serve(t, dir, "--listen", "127.0.0.1:0")
	signed := piped(t, invoice(t, "json", "E2E-9"), "--config", again.file("client.yaml"), "sign", "-")
	if signed.code != 0 {
		t.Fatalf("signing: got %+v", signed)
	}
	judge(t, "-", invoice(t, "json", "E2E-9"), []byte(signed.out), "1.1", again.file("roots.pem"))
	again.stop(t)
}

func TestFurtherTaxpayersAreSignedFor(t *testing.T) {
	t.Parallel()
	d := fresh(t, "--taxpayer", "C31450097020")
	document := strings.ReplaceAll(string(invoice(t, "xml", "E2E-10")), own, "C31450097020")
	for _, via := range []string{"digest", "document"} {
		if got := piped(t, []byte(document), "--config", d.file("client.yaml"), "sign", "--via", via, "-"); got.code != 0 {
			t.Errorf("via %s: got code %d and %q, want 0", via, got.code, got.errs)
		}
	}
}

// whenSent returns a context whose RPC closes sent once its request is on its
// way.
func whenSent(ctx context.Context, sent chan struct{}) context.Context {
	return context.WithValue(ctx, sentKey{}, sent)
}

type sentKey struct{}
