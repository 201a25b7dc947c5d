package softhsmtest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/myinvois/sandbox"
)

// The people whom dev mode's policy knows.
const (
	devAgent  = "C20880050090"
	devSeller = "C20880050010"
	devShop   = "C20880050020"
)

// standIn is a sandbox that accepts what a daemon signs, over HTTPS, until the test
// ends, without the platform's limits by the minute, which would take minutes.
func standIn(t *testing.T, d *daemon) (platform *sandbox.Platform, config string) {
	t.Helper()
	now := time.Now()
	represented := []sandbox.Representation{{By: devAgent, From: now.AddDate(0, -1, 0), To: now.AddDate(1, 0, 0), Rights: sandbox.Rights()}}
	roots, err := ca.LoadPool(d.file("roots.pem"))
	check(t, err)
	unlimited := map[sandbox.Endpoint]int{}
	for _, e := range []sandbox.Endpoint{sandbox.Login, sandbox.Submit, sandbox.Submission, sandbox.Details, sandbox.Recent} {
		unlimited[e] = 0
	}
	platform, err = sandbox.New(sandbox.Config{
		Clients: []sandbox.Client{{ID: "erp", Secrets: []string{"secret-of-the-erp"}, TIN: devAgent}},
		Taxpayers: []sandbox.Taxpayer{
			{TIN: devAgent, BRN: "202001234590", Name: "Contoh Perantara Sdn. Bhd."},
			{TIN: devSeller, Name: "Kopi Kampung Baru Sdn. Bhd.", Represented: represented},
			{TIN: devShop, Name: "Contoh Kedai Sdn. Bhd.", Represented: represented},
		},
		Validation: 200 * time.Millisecond, Limits: unlimited, Roots: roots,
	})
	check(t, err)
	authority, err := ca.New("Test Platform", ca.ECDSA, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	check(t, err)
	pair, err := authority.Server([]string{"127.0.0.1"}, ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	check(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- platform.Serve(ctx, listener, tls.Certificate{Certificate: [][]byte{pair.Certificate.Raw}, PrivateKey: pair.Key})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the sandbox: %v", err)
		}
	})
	folder := t.TempDir()
	check(t, ca.WriteCertificates(filepath.Join(folder, "ca.pem"), authority.Certificate()))
	write(t, filepath.Join(folder, "credentials.yaml"), []byte("clients:\n  - client_id: erp\n    secrets:\n      - secret: secret-of-the-erp\n        expires: 2099-12-31\n"))
	return platform, write(t, filepath.Join(folder, "myinvois.yaml"), fmt.Appendf(nil,
		"api: https://%s\nca: ca.pem\ncredentials: credentials.yaml\nroots: %s\npoll_interval: 100ms\nshare: 1000\n", listener.Addr(), d.file("roots.pem")))
}

// places are where a document says when it was issued, and its type.
var places = map[string]struct{ date, clock, kind *regexp.Regexp }{
	"xml": {
		regexp.MustCompile(`(<cbc:IssueDate>)[^<]*`), regexp.MustCompile(`(<cbc:IssueTime>)[^<]*`), regexp.MustCompile(`(<cbc:InvoiceTypeCode[^>]*>)[^<]*`),
	},
	"json": {
		regexp.MustCompile(`("IssueDate"[^"]*"_"[^"]*")[^"]*`), regexp.MustCompile(`("IssueTime"[^"]*"_"[^"]*")[^"]*`), regexp.MustCompile(`("InvoiceTypeCode"[^"]*"_"[^"]*")[^"]*`),
	},
}

// mixed writes the n documents of a round into a folder: every type in both formats, for both
// taxpayers, all issued an hour ago. It returns their files by their numbers.
func mixed(t *testing.T, round, n int) map[string]string {
	t.Helper()
	types := []string{"01", "02", "03", "04", "11", "12", "13", "14"}
	issued := time.Now().UTC().Add(-time.Hour)
	folder := t.TempDir()
	files := map[string]string{}
	for i := range n {
		kind, format := types[i%8], []string{"xml", "json"}[i/8%2]
		sample := map[byte]string{'0': "credit-note-1.1.", '1': "self-billed-1.1."}[kind[0]]
		if kind == "01" {
			sample = "invoice-1.1."
		}
		number := fmt.Sprintf("MIX-%d-%s-%04d", round, kind, i)
		content := read(t, "../client/testdata/"+sample+format)
		content = numbers[format].ReplaceAll(content, []byte("${1}"+number))
		p := places[format]
		content = p.date.ReplaceAll(content, []byte("${1}"+issued.Format(time.DateOnly)))
		content = p.clock.ReplaceAll(content, []byte("${1}"+issued.Format("15:04:05Z")))
		content = p.kind.ReplaceAll(content, []byte("${1}"+kind))
		if i/16%2 == 1 {
			content = bytes.ReplaceAll(content, []byte(devSeller), []byte(devShop))
		}
		files[number] = write(t, filepath.Join(folder, number+"."+format), content)
	}
	return files
}

// troubles are faults of each kind, each often enough to be met and seldom enough
// for a run to get through.
func troubles(t *testing.T, platform *sandbox.Platform) {
	t.Helper()
	for _, text := range []string{
		"submit:cut-applied/2*6", "submit:half/3*4", "submit:cut/5*3", "submit:fail/4*3", "submit:fail-applied/7*3",
		"submit:too-many/6*3", "submit:expire/9*2", "login:fail/3*2", "login:too-many/5*2",
		"submission:cut/5*6", "submission:fail/7*4", "submission:slow/9*1", "submission:expire/11*3", "submission:half/13*3",
		"recent:fail/2*2", "recent:cut/3*2",
	} {
		fault, err := sandbox.ParseFault(text)
		check(t, err)
		fault.Delay = time.Second
		check(t, platform.Inject(fault))
	}
}

// submits runs "roamsign submit" on files, and kills it after a while, if it still
// runs; a negative while is for ever.
func submits(t *testing.T, d *daemon, config string, files []string, while time.Duration) result {
	t.Helper()
	check(t, programs())
	command := exec.CommandContext(t.Context(), filepath.Join(scratch, "roamsign"),
		append([]string{"--config", d.file("client.yaml"), "submit", "--wait", "2m", "--platform", config}, files...)...)
	var out, errs output
	command.Stdout, command.Stderr = &out, &errs
	check(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	var kill <-chan time.Time
	if while >= 0 {
		timer := time.NewTimer(while)
		defer timer.Stop()
		kill = timer.C
	}
	var err error
	select {
	case err = <-ended:
	case <-kill:
		if err := command.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		err = <-ended
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return result{command.ProcessState.ExitCode(), out.String(), errs.String()}
}

func TestDrillEachOf250DocumentsIsAcceptedOnceThroughFaultsAndKills(t *testing.T) {
	const many, kills = 250, 8
	rounds := 1
	if full() {
		rounds = 12
	}
	d := fresh(t)
	platform, config := standIn(t, d)
	killed := 0
	for round := range rounds {
		files := mixed(t, round, many)
		names := slices.Sorted(maps.Values(files))
		troubles(t, platform)
		for range kills {
			if got := submits(t, d, config, names, rand.N(3*time.Second)); got.code < 0 {
				killed++
			}
		}
		submits(t, d, config, []string{"--resume"}, -1) // what is written down already; troubles may leave some
		last := result{code: -1}
		for n := 1; last.code != 0; n++ {
			if last = submits(t, d, config, names, -1); n == 20 && last.code != 0 {
				t.Fatalf("run again for the %dth time: got exit code %d, want 0:\n%s", n, last.code, last.errs)
			}
		}
		acceptedOnce(t, platform, files)
		if got := strings.Count(last.out, "  Valid"); got != many {
			t.Errorf("got %d lines of valid documents, want %d", got, many)
		}
	}
	if killed == 0 {
		t.Errorf("got no run of %d killed", rounds*kills)
	}
	status := roamsign(t, "--config", d.file("client.yaml"), "status", "--platform", config)
	if got := strings.Count(status.out, "  Valid  for "); got != rounds*many || status.code != 0 {
		t.Errorf("status: got %d valid, exit code %d, want %d: %s", got, status.code, rounds*many, status.errs)
	}
}

// acceptedOnce fails the test unless the platform has each document once, valid.
func acceptedOnce(t *testing.T, platform *sandbox.Platform, files map[string]string) {
	t.Helper()
	accepted := map[string]int{}
	for _, document := range platform.Documents() {
		accepted[document.Number]++
		if document.Status != "Valid" {
			t.Errorf("%s: got %s, want Valid", document.Number, document.Status)
		}
	}
	for number := range files {
		if accepted[number] != 1 {
			t.Errorf("%s: got accepted %d times, want once", number, accepted[number])
		}
	}
}
