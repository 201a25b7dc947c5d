package signer

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// following is the next certificate of the rig, at another time.
func (r *rig) following(in time.Duration) *Next {
	return &Next{Key: r.nextKey, Certificate: r.material.next, Chain: []*x509.Certificate{r.material.root}, From: time.Now().Add(in)}
}

// TestTheNextCertificateMayBeChangedUntilItIsInForce: taken out, put in again for
// another time, and left alone from then on.
func TestTheNextCertificateMayBeChangedUntilItIsInForce(t *testing.T) {
	r := start(t, setting{follows: time.Hour})
	client := r.as(erp)
	if err := r.server.SetNext(nil); err != nil {
		t.Fatalf("taking it out: %v", err)
	}
	r.advance(2 * time.Hour)
	if err := ask(t.Context(), client, "SignDigest", r.request()); err != nil {
		t.Errorf("at its time, after it was taken out: got %v, want a signature under the first", err)
	}
	if s := r.server.Standings(); len(s) != 1 || !s[0].Certificate.Equal(r.material.leaf) {
		t.Errorf("got %+v, want the first alone", s)
	}
	if err := r.server.SetNext(r.following(3 * time.Hour)); err != nil {
		t.Fatalf("putting it in again: %v", err)
	}
	if s := r.server.Standings(); len(s) != 2 || !s[0].InForce || !s[1].Certificate.Equal(r.material.next) || s[1].Err != nil {
		t.Errorf("got %+v, want the first, and the next behind it", s)
	}
	lacking := r.following(0)
	lacking.Key = nil
	if err := r.server.SetNext(lacking); err == nil || errors.Is(err, ErrInForce) {
		t.Errorf("one without a key: got %v, want that it is refused", err)
	}
	r.advance(4 * time.Hour)
	checkRefused(t, "at its time", ask(t.Context(), client, "SignDigest", r.request()), codes.FailedPrecondition, "CERTIFICATE_ROTATED")
	for name, n := range map[string]*Next{"none": nil, "another time": r.following(9 * time.Hour)} {
		if err := r.server.SetNext(n); !errors.Is(err, ErrInForce) {
			t.Errorf("%s, once it is in force: got %v, want %v", name, err, ErrInForce)
		}
	}
	if s := r.server.Standings(); len(s) != 1 || !s[0].Certificate.Equal(r.material.next) {
		t.Errorf("got %+v, want the next alone", s)
	}
}

// TestANextCertificateIsEitherInForceOrTakenOut, however the two meet.
func TestANextCertificateIsEitherInForceOrTakenOut(t *testing.T) {
	m, err := shared()
	must(t, err)
	key := newFakeKey(t, m, 1)
	defer key.close()
	for range 500 {
		s := &Server{clock: time.Now, log: slog.New(slog.DiscardHandler)}
		s.current.Store(newCertificate(key, m.leaf, nil, time.Time{}))
		if err := s.SetNext(&Next{Key: key, Certificate: m.next, From: time.Now().Add(-time.Hour)}); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		var under *certificate
		var err error
		both.Go(func() { under = s.inForce() })
		both.Go(func() { err = s.SetNext(nil) })
		both.Wait()
		if tookOver := under.leaf.Equal(m.next); tookOver != errors.Is(err, ErrInForce) || s.inForce() != under {
			t.Fatalf("a request began under the next: %v, and taking it out gave %v", tookOver, err)
		}
	}
}
