package hsm_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// callers is how many sign at once in the benchmarks.
const callers = 16

// BenchmarkSignDigest compares SignDigest with bare C_Sign on as many sessions,
// one goroutine each, in the same run.
func BenchmarkSignDigest(b *testing.B) {
	token := softhsmtest.New(b)
	for _, sessions := range []int{3, 8} {
		token.Config.Sessions = sessions
		b.Run(fmt.Sprintf("sessions=%d/bare C_Sign", sessions), func(b *testing.B) { benchmarkBare(b, token, sessions) })
		b.Run(fmt.Sprintf("sessions=%d/SignDigest", sessions), func(b *testing.B) {
			open, err := hsm.Open(b.Context(), token.Config, token.Certificate)
			if err != nil {
				b.Fatal(err)
			}
			defer closeToken(b, open)
			inParallel(b, callers, func(int) error {
				_, err := open.SignDigest(b.Context(), randomDigest())
				return err
			})
		})
	}
}

func benchmarkBare(b *testing.B, token *softhsmtest.Token, sessions int) {
	raw(b, token, func(p11 *pkcs11.Ctx, slot uint) {
		handles := []pkcs11.SessionHandle{loggedIn(b, p11, slot, token)}
		for len(handles) < sessions {
			handle, err := p11.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
			if err != nil {
				b.Fatal(err)
			}
			handles = append(handles, handle)
		}
		if err := p11.FindObjectsInit(handles[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}); err != nil {
			b.Fatal(err)
		}
		keys, _, err := p11.FindObjects(handles[0], 1)
		if err != nil || len(keys) != 1 {
			b.Fatalf("got %d keys (%v), want 1", len(keys), err)
		}
		if err := p11.FindObjectsFinal(handles[0]); err != nil {
			b.Fatal(err)
		}
		mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}
		inParallel(b, sessions, func(i int) error {
			digest := randomDigest()
			input := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest[:]...)
			if err := p11.SignInit(handles[i], mechanism, keys[0]); err != nil {
				return err
			}
			_, err := p11.Sign(handles[i], input)
			return err
		})
	})
}

// inParallel makes b.N calls from n goroutines.
func inParallel(b *testing.B, n int, call func(goroutine int) error) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, n)
	before := cpu(b)
	b.ResetTimer()
	for i := range n {
		go func() {
			for left.Add(-1) >= 0 {
				if err := call(i); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range n {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpu is what this process has used of the processors, which a busy machine
// changes less than the time on the wall.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
