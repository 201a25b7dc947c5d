package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestARenewalIsAChangeOfFile: a service that was started with one certificate learns
// of the next and of its key, which is in the token, refuses a faulty one, and goes
// over to the good one at its time.
func TestARenewalIsAChangeOfFile(t *testing.T) {
	r := newRenewing(t)
	r.generates()
	replace(t, r.config, "tls:\n", "metrics: "+strconv.Quote(quiet)+"\ntls:\n")
	var ahead atomic.Int64
	d := r.serves(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	api := r.caller(d)
	if told := r.asks(api, r.first, "before"); told != "" {
		t.Fatalf("before: got %q", told)
	}
	next := r.follows(r.key, time.Now().Add(30*time.Minute), true)
	usable := `roamsign_certificate_usable{certificate="` + fingerprintOf(next)[:16] + `",which="next"}`
	await(t, d, usable, 1)
	good := read(t, r.file(nextFile))
	write(t, r.file(nextFile), "nonsense")
	now := await(t, d, `roamsign_files_refused{what="signing.next"}`, 1)
	if now.values[usable] != 1 {
		t.Errorf("the file is faulty: got %v of the one before, want that it still is to follow", now.values[usable])
	}
	write(t, r.file(nextFile), good)
	await(t, d, `roamsign_files_refused{what="signing.next"}`, 0)
	if told := r.asks(api, r.first, "still before"); told != "" {
		t.Errorf("before its time: got %q, want a signature under the first", told)
	}
	ahead.Store(int64(time.Hour))
	if told := r.asks(api, next, "after"); told != "" {
		t.Errorf("at its time: got %q, want a signature under the next", told)
	}
	log := d.errs.String()
	for _, line := range []string{"a signing certificate is to follow", "the next signing certificate is in force", "what=signing.next"} {
		if !strings.Contains(log, line) {
			t.Errorf("the log does not say %q:\n%s", line, log)
		}
	}
	for _, line := range []string{"could not take over", "wants a restart"} {
		if strings.Contains(log, line) {
			t.Errorf("the log says %q, though all went well:\n%s", line, log)
		}
	}
}

// TestAnotherKeyThanTheOneThatWasToFollowIsTakenUp: what follows is exchanged for a
// certificate of another key, while the service runs.
func TestAnotherKeyThanTheOneThatWasToFollowIsTakenUp(t *testing.T) {
	r := newRenewing(t)
	r.generates()
	absent, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	r.follows(&absent.PublicKey, time.Now().Add(-time.Minute), true)
	d := start(t, "serve", "--config", r.config)
	eventually(t, func() bool { return strings.Contains(d.errs.String(), "could not take over") })
	next := r.issues(nextFile, r.key, time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0))
	r.becomes(r.caller(d), next, "")
}

// TestWhatIsToFollowIsReadAgain as often as it changes, and a fault of it leaves what
// was to follow before.
func TestWhatIsToFollowIsReadAgain(t *testing.T) {
	r := newRenewing(t)
	same := r.first.PublicKey.(*rsa.PublicKey)
	d := lookoutOn(t, r.dir)
	d.reminded = time.Now() // of nothing else
	tomorrow := time.Now().AddDate(0, 0, 1).Truncate(time.Second)
	look := func() { d.look(); d.look(); d.look() }
	follows := func(name string, n int, certificate *x509.Certificate, from time.Time) {
		t.Helper()
		switch {
		case len(d.told.next) != n:
			t.Fatalf("%s: got %d changes of what follows, want %d", name, len(d.told.next), n)
		case certificate == nil && d.told.next[n-1] != nil:
			t.Errorf("%s: got %+v, want none", name, d.told.next[n-1])
		case certificate != nil && (!d.told.next[n-1].chain[0].Equal(certificate) || !d.told.next[n-1].from.Equal(from)):
			t.Errorf("%s: got another certificate or time", name)
		}
	}
	faulty := func(name, part string) {
		t.Helper()
		if d.told.report == nil || !strings.Contains(d.told.report.Error(), part) {
			t.Errorf("%s: health is told %v, want %q", name, d.told.report, part)
		}
	}
	well := func(name string) {
		t.Helper()
		if d.told.report != nil {
			t.Errorf("%s: health is told %v", name, d.told.report)
		}
	}

	named := fmt.Sprintf("  next:\n    certificate: %s\n    from: %s\n", nextFile, tomorrow.Format(time.RFC3339))
	replace(t, r.config, "signing:\n", "signing:\n"+named)
	look()
	d.expect("level=INFO|in force|what=configuration", "level=WARN|what=signing.next|no such file")
	faulty("its file is not there yet", "no such file")
	first := r.issues(nextFile, same, time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0))
	look()
	d.expect("level=INFO|is to follow|" + fingerprintOf(first) + "|" + stamp(tomorrow))
	follows("its file comes", 1, first, tomorrow)
	well("its file comes")

	second := r.issues(nextFile, same, time.Now().Add(-time.Hour), time.Now().AddDate(0, 7, 0))
	look()
	d.expect("level=INFO|is to follow|" + fingerprintOf(second))
	follows("another certificate", 2, second, tomorrow)

	write(t, r.file(nextFile), "")
	look()
	look()
	d.expect("level=WARN|stays in force|what=signing.next")
	follows("a faulty file", 2, second, tomorrow)
	faulty("a faulty file", nextFile)
	r.issues(nextFile, same, time.Now().Add(48*time.Hour), time.Now().AddDate(0, 6, 0))
	look()
	d.expect("level=WARN|what=signing.next|signing.next.from: at")
	absent, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	other := r.issues(nextFile, &absent.PublicKey, time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0))
	look()
	d.expect("level=WARN|what=signing.next|signing.next.key_label: missing")
	replace(t, r.config, "  next:\n", "  next:\n    key_label: "+nextLabel+"\n")
	look()
	d.expect("in force|what=configuration", "level=INFO|is to follow|"+fingerprintOf(other))
	follows("the name of its key", 3, other, tomorrow)
	if !d.told.next[2].own {
		t.Error("its key is not told to be another one")
	}
	well("the name of its key")

	d.readAll()
	d.expect("what=stopped", "what=policy", "what=tls", "what=signing.certificate", "what=configuration", "signing.next is as before|"+fingerprintOf(other))
	follows("told to read it, and nothing new", 3, other, tomorrow)

	replace(t, r.config, "    key_label: "+nextLabel+"\n", "")
	replace(t, r.config, named, "")
	look()
	d.expect("in force|what=configuration", "level=WARN|no signing certificate is to follow any more")
	follows("none", 4, nil, time.Time{})
	well("none")
}

// TestWhatFollowsIsNotChangedAlone with what it is to follow, nor once it is in force.
func TestWhatFollowsIsNotChangedAlone(t *testing.T) {
	r := newRenewing(t)
	same := r.first.PublicKey.(*rsa.PublicKey)
	before := read(t, r.config)
	r.follows(same, time.Now().Add(time.Hour), false)
	head, tail, _ := strings.Cut(before, "signing:\n")
	named := strings.TrimSuffix(strings.TrimPrefix(read(t, r.config), head+"signing:\n"), tail)
	d := lookoutOn(t, r.dir)
	look := func() { d.look(); d.look(); d.look() }
	d.told.inForce = true
	r.issues(nextFile, same, time.Now().Add(-time.Hour), time.Now().AddDate(0, 7, 0))
	look()
	d.expect("wants a restart|what=signing.next")
	d.told.inForce = false
	replace(t, r.config, named, "")
	replace(t, r.config, "  certificate: "+devSigning+"\n", "  certificate: "+nextFile+"\n")
	look()
	d.expect(`wants a restart|what=signing`)
	if len(d.told.next) != 0 {
		t.Errorf("got %+v, want that nothing is taken out of what belongs together", d.told.next)
	}
}

// TestFilesThatFitOnlyTogetherMayComeInAnyOrder: a next certificate of another issuer,
// and the revocation list of that.
func TestFilesThatFitOnlyTogetherMayComeInAnyOrder(t *testing.T) {
	for _, listFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("the list first: %v", listFirst), func(t *testing.T) {
			r := newRenewing(t)
			r.lists()
			replace(t, r.config, "signing:\n", "signing:\n  crl: signing.crl\n")
			d := lookoutOn(t, r.dir)
			list := func() []byte {
				return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte(read(t, r.file("signing.crl")))})
			}
			before := read(t, r.file("signing.crl"))
			lists := list()
			r.under("another authority, NOT FOR SUBMISSION")
			r.lists()
			lists = append(lists, list()...)
			write(t, r.file("signing.crl"), before)
			steps := []func(){
				func() { write(t, r.file("signing.crl"), string(lists)) },
				func() { r.follows(r.first.PublicKey.(*rsa.PublicKey), time.Now().Add(time.Hour), false) },
			}
			if !listFirst {
				steps[0], steps[1] = steps[1], steps[0]
			}
			steps[0]()
			for range 4 {
				d.look()
			}
			if d.told.report == nil || len(d.told.next) != 0 {
				t.Fatalf("with the one file: got %v and %v, want a fault and no change", d.told.report, d.told.next)
			}
			steps[1]()
			for range 4 {
				d.look()
			}
			if d.told.report != nil || len(d.told.next) != 1 || !d.told.crls[len(d.told.crls)-1].Covers(d.told.next[0].chain[0]) {
				t.Errorf("with both: got %v and %v, want the next certificate, and its issuer's list in force", d.told.report, d.told.next)
			}
		})
	}
}
