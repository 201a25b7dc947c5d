package signer

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/roamsign/roamsign/ca"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
)

// renewal has callers sign, whichever certificate is in force, and holds every
// answer against the certificate that it is said to be under.
type renewal struct {
	*rig
	document []byte
	over     atomic.Bool // the next certificate is in force for whatever begins now
	rotated  atomic.Int64
	first    atomic.Int64 // signatures under the first certificate
	second   atomic.Int64
}

// count takes down a signature under a certificate, and refuses one under the first
// for what began after the change.
func (r *renewal) count(under *x509.Certificate, began bool) error {
	switch {
	case under.Equal(r.material.next):
		r.second.Add(1)
	case began:
		return errors.New("signed under the first certificate, though it began after the change")
	default:
		r.first.Add(1)
	}
	return nil
}

// recorded holds a signature's entry against its certificate.
func (r *renewal) recorded(index uint64, under *x509.Certificate) error {
	if entry := r.record.all()[index]; entry.Certificate != sha256.Sum256(under.Raw) {
		return fmt.Errorf("entry %d: got certificate %x, want that of the signature", index, entry.Certificate[:8])
	}
	return nil
}

// digests signs digests as clients do: for the certificate that they know, and for
// the next one once they are told.
func (r *renewal) digests(client roamsignv1.SignerServiceClient, name string, batch bool) error {
	known := r.material.leaf
	for i := 0; r.second.Load() < 60; i++ {
		fingerprint := sha256.Sum256(known.Raw)
		in := &roamsignv1.SignDigestRequest{
			Tin: ownTIN, DocumentDigest: digestOf(byte(i)), CertificateSha256: fingerprint[:], RequestId: fmt.Sprint(name, i),
		}
		began := r.over.Load()
		var signature []byte
		var index uint64
		var err error
		if batch {
			var out *roamsignv1.SignDigestsResponse
			if out, err = client.SignDigests(r.t.Context(), &roamsignv1.SignDigestsRequest{Items: []*roamsignv1.SignDigestRequest{in}}); err == nil {
				result := out.GetResults()[0]
				signature, index, err = result.GetSignature(), result.GetLogIndex(), itemError(result.GetError())
			}
		} else {
			var out *roamsignv1.SignDigestResponse
			out, err = client.SignDigest(r.t.Context(), in)
			signature, index = out.GetSignature(), out.GetLogIndex()
		}
		if err != nil {
			if !strings.Contains(fmt.Sprint(err), "built for another certificate") || known.Equal(r.material.next) {
				return err
			}
			r.rotated.Add(1)
			out, err := client.GetCertificate(r.t.Context(), &roamsignv1.GetCertificateRequest{})
			if err != nil {
				return err
			}
			if known, err = x509.ParseCertificate(out.GetCertificate()); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(
			rsa.VerifyPKCS1v15(known.PublicKey.(*rsa.PublicKey), crypto.SHA256, in.GetDocumentDigest(), signature),
			r.recorded(index, known), r.count(known, began)); err != nil {
			return err
		}
	}
	return nil
}

// documents has whole documents signed, which name no certificate.
func (r *renewal) documents(client roamsignv1.SignerServiceClient, name string) error {
	for i := 0; r.second.Load() < 60; i++ {
		began := r.over.Load()
		out, err := client.SignDocument(r.t.Context(), &roamsignv1.SignDocumentRequest{Tin: ownTIN, RequestId: fmt.Sprint(name, i), Document: r.document})
		if err != nil {
			return err
		}
		report := xades.Verify(out.GetDocument(), xades.VerifyOptions{})
		if !report.Valid() {
			return fmt.Errorf("the document is not valid: %+v", report.Findings)
		}
		if err := errors.Join(r.recorded(out.GetLogIndex(), report.Certificate), r.count(report.Certificate, began)); err != nil {
			return err
		}
	}
	return nil
}

// TestACertificateIsFollowedByTheNextUnderLoad: every signature and every document,
// before, across and after the change, is whole under one certificate.
func TestACertificateIsFollowedByTheNextUnderLoad(t *testing.T) {
	r := &renewal{rig: start(t, setting{follows: time.Hour}), document: invoice(t, "xml/invoice-1.1.xml")}
	var callers sync.WaitGroup
	for i := range 6 {
		client := r.as(erp)
		callers.Go(func() {
			var err error
			switch name := fmt.Sprintf("%d-", i); i % 3 {
			case 0:
				err = r.digests(client, name, false)
			case 1:
				err = r.digests(client, name, true)
			default:
				err = r.documents(client, name)
			}
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	callers.Go(func() { // the change comes in the middle
		for r.first.Load() < 40 && !t.Failed() {
			<-r.key.entered
		}
		r.advance(2 * time.Hour)
		r.over.Store(true)
	})
	callers.Wait()
	if r.first.Load() < 40 || r.second.Load() < 60 || r.rotated.Load() == 0 {
		t.Errorf("got %d signatures under the first certificate, %d under the next, and %d refusals; want some of each", r.first.Load(), r.second.Load(), r.rotated.Load())
	}
	if n := strings.Count(r.journal.all(), "the next signing certificate is in force"); n != 1 {
		t.Errorf("the log tells of %d changes, want one", n)
	}
	r.advance(-2 * time.Hour)
	if s := r.server.Standings(); len(s) != 1 || !s[0].Certificate.Equal(r.material.next) || !s[0].InForce || s[0].Err != nil {
		t.Errorf("with the clock put back: got %+v, want the next certificate alone", s)
	}
}

func TestWhatBeganUnderACertificateIsFinishedUnderIt(t *testing.T) {
	r := &renewal{rig: start(t, setting{follows: time.Hour, sessions: 3})}
	client, gate := r.as(erp), make(chan struct{})
	r.key.behave(gated(gate))
	var all sync.WaitGroup
	all.Go(func() {
		out, err := client.SignDigest(t.Context(), r.request())
		if err != nil || !r.verifies(digestOf(1), out.GetSignature()) {
			t.Errorf("SignDigest: got %v, want a signature under the certificate that it was built for", err)
		}
	})
	all.Go(func() {
		out, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{Tin: ownTIN, RequestId: "d", Document: invoice(t, "xml/invoice-1.1.xml")})
		report := xades.Verify(out.GetDocument(), xades.VerifyOptions{})
		if err != nil || !report.Valid() || !report.Certificate.Equal(r.material.leaf) {
			t.Errorf("SignDocument: got %v, %+v, want a document under the certificate that it began with", err, report.Findings)
		}
	})
	for range 2 {
		<-r.key.entered
	}
	all.Go(func() {
		request := &roamsignv1.SignDigestsRequest{}
		for i := range 8 { // more than there are sessions
			in := r.request()
			in.DocumentDigest = digestOf(byte(10 + i))
			request.Items = append(request.Items, in)
		}
		out, err := client.SignDigests(t.Context(), request)
		for i, result := range out.GetResults() {
			if !r.verifies(digestOf(byte(10+i)), result.GetSignature()) {
				t.Errorf("SignDigests, item %d: got %v, want a signature under the certificate that it was built for", i, result)
			}
		}
		if err != nil {
			t.Errorf("SignDigests: %v", err)
		}
	})
	<-r.key.entered
	r.advance(2 * time.Hour)
	in := r.request()
	checkRefused(t, "a new one", ask(t.Context(), client, "SignDigest", in), codes.FailedPrecondition, "CERTIFICATE_ROTATED")
	close(gate)
	all.Wait()
	if n := r.nextKey.used(); n != 0 {
		t.Errorf("the next key was used %d times, want never", n)
	}
}

// awaitRequests waits until so many requests are in flight, and some of them wait
// for a session.
func (r *rig) awaitRequests(n int) {
	r.t.Helper()
	ticks, late := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer ticks.Stop()
	for {
		stats := r.server.Stats()
		if stats.Requests >= n && len(stats.Waiting) > 0 {
			return
		}
		select {
		case <-ticks.C:
		case <-late:
			r.t.Fatalf("got %+v, want %d requests in flight", stats, n)
		}
	}
}

func TestANextCertificateThatCannotSignDoesNotTakeOver(t *testing.T) {
	r := start(t, setting{follows: time.Hour})
	client, files := r.as(erp), watched(t, r, FilesService)
	if got := files(); got != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("at the start: got %v", got)
	}
	for _, row := range []struct {
		name       string
		spoil, fix func()
		tells      string
	}{
		{"its key is not there", func() { r.nextKey.goDown(errors.New("no such key")) }, func() { r.nextKey.goDown(nil) }, "no such key"},
		{"it is stopped", func() { r.server.SetStopped(map[[32]byte]bool{sha256.Sum256(r.material.next.Raw): true}) }, func() { r.server.SetStopped(nil) }, "was stopped"},
	} {
		row.spoil()
		if got := files(); got != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("%s: got %v of the files, want that it shows", row.name, got)
		}
		r.journal.await(t, func(line map[string]any) bool {
			text, _ := line["error"].(string)
			return line["msg"] == "the next signing certificate could not take over: the one before stays in force" && strings.Contains(text, row.tells)
		})
		row.fix()
		if got := files(); got != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%s, and put right: got %v of the files", row.name, got)
		}
	}
	r.nextKey.goDown(errors.New("no such key"))
	r.advance(2 * time.Hour)
	if err := ask(t.Context(), client, "SignDigest", r.request()); err != nil {
		t.Errorf("after the time: got %v, want a signature under the certificate before", err)
	}
	if s := r.server.Standings(); len(s) != 2 || s[0].Err != nil || !s[0].Certificate.Equal(r.material.leaf) || s[1].Err == nil {
		t.Errorf("got %+v, want the first in force and the next with its fault", s)
	}
	r.nextKey.goDown(nil)
	checkRefused(t, "once it can sign", ask(t.Context(), client, "SignDigest", r.request()), codes.FailedPrecondition, "CERTIFICATE_ROTATED")
}

// ended are the ways in which a certificate comes to be signed under no more.
var ended = []struct {
	name, reason string
	end, undo    func(r *rig)
}{
	{
		"stopped", "CERTIFICATE_STOPPED",
		func(r *rig) { r.server.SetStopped(map[[32]byte]bool{sha256.Sum256(r.material.leaf.Raw): true}) },
		func(r *rig) { r.server.SetStopped(nil) },
	},
	{
		"revoked", "CERTIFICATE_REVOKED",
		func(r *rig) { r.server.SetRevocations(r.revoking(r.material.leaf.SerialNumber)) },
		func(r *rig) { r.server.SetRevocations(r.revoking(big.NewInt(1))) },
	},
	{
		"its issuer revoked", "CERTIFICATE_REVOKED",
		func(r *rig) { r.server.SetRevocations(r.revoking(r.material.root.SerialNumber)) },
		func(r *rig) { r.server.SetRevocations(nil) },
	},
	{
		"expired", "CERTIFICATE_EXPIRED",
		func(r *rig) { r.advance(20 * 24 * time.Hour) },
		func(r *rig) { r.advance(-20 * 24 * time.Hour) },
	},
}

// revoking is a list of the signing certificate's issuer.
func (r *rig) revoking(serial *big.Int) *ca.CRLs {
	r.t.Helper()
	folder := r.t.TempDir()
	certificate, key := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key")
	must(r.t, r.material.authority.Save(certificate, key))
	pair, err := ca.LoadPair(certificate, key)
	must(r.t, err)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: serial, RevocationTime: time.Now().Add(-time.Minute)}},
	}, pair.Leaf, pair.PrivateKey.(crypto.Signer))
	must(r.t, err)
	lists, err := ca.ParseCRLs(der, []*x509.Certificate{r.material.root})
	must(r.t, err)
	return lists
}

// TestNothingIsReleasedUnderACertificateThatHasEnded wherever a request is by then:
// at the key, in the queue, or with a signature that waits for its entry.
func TestNothingIsReleasedUnderACertificateThatHasEnded(t *testing.T) {
	for _, row := range ended {
		t.Run(row.name, func(t *testing.T) {
			r := start(t, setting{sessions: 2})
			client, health := r.as(erp), watched(t, r, "")
			if got := health(); got != healthv1.HealthCheckResponse_SERVING {
				t.Fatalf("at the start: got %v", got)
			}
			keyGate, recordGate := make(chan struct{}), make(chan struct{})
			r.record.behave(slow(recordGate))
			answers := make(chan error, 5)
			go func() { answers <- ask(t.Context(), client, "SignDigest", r.request()) }()
			<-r.record.entered
			<-r.key.entered
			r.key.behave(gated(keyGate))
			for _, method := range []string{"SignDigest", "SignDigests", "SignDigest"} { // two at the key, one in the queue
				go func() { answers <- ask(t.Context(), client, method, r.request()) }()
			}
			go func() {
				_, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{Tin: ownTIN, RequestId: "d", Document: invoice(t, "xml/invoice-1.1.xml")})
				answers <- err
			}()
			<-r.key.entered
			<-r.key.entered
			r.awaitRequests(5)
			row.end(r)
			close(keyGate)
			close(recordGate)
			for range cap(answers) {
				checkRefused(t, "in flight", <-answers, codes.FailedPrecondition, row.reason)
			}
			if n := r.key.used(); n != 3 {
				t.Errorf("the key was used %d times, want for the first three alone", n)
			}
			checkRefused(t, "a new one", ask(t.Context(), client, "SignDigest", r.request()), codes.FailedPrecondition, row.reason)
			if got := health(); got != healthv1.HealthCheckResponse_NOT_SERVING {
				t.Errorf("health: got %v", got)
			}
			r.journal.await(t, func(line map[string]any) bool {
				return line["msg"] == "nothing is signed: the certificate may not be signed under" && line["level"] == "ERROR"
			})
			row.undo(r)
			if got := health(); got != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("health, once that is undone: got %v", got)
			}
			if err := ask(t.Context(), client, "SignDigest", r.request()); err != nil {
				t.Errorf("once that is undone: %v", err)
			}
		})
	}
}

// TestABatchIsTakenBackAsAWhole: items that have their signatures wait for the last
// one, and nobody has them before.
func TestABatchIsTakenBackAsAWhole(t *testing.T) {
	r := start(t, setting{})
	gate := make(chan struct{})
	r.key.behave(digestsStarting(9, gated(gate)))
	request := &roamsignv1.SignDigestsRequest{}
	for _, first := range []byte{1, 2, 9} {
		in := r.request()
		in.DocumentDigest = digestOf(first)
		request.Items = append(request.Items, in)
	}
	answer := make(chan *roamsignv1.SignDigestsResponse, 1)
	go func() {
		out, err := r.as(erp).SignDigests(t.Context(), request)
		if err != nil {
			t.Errorf("SignDigests: %v", err)
		}
		answer <- out
	}()
	for range 3 {
		<-r.key.entered
	}
	r.server.SetStopped(map[[32]byte]bool{sha256.Sum256(r.material.leaf.Raw): true})
	close(gate)
	out := <-answer
	for i, result := range out.GetResults() {
		if result.GetSignature() != nil || result.GetError().GetReason() != "CERTIFICATE_STOPPED" {
			t.Errorf("item %d: got %v, want nothing but why", i, result)
		}
	}
	if len(out.GetResults()) != 3 {
		t.Errorf("got %d results", len(out.GetResults()))
	}
}
