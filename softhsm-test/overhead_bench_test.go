package softhsmtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/roamsign/roamsign/hsm"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// BenchmarkOverheadOfPackageHSM compares SignDigest with bare C_Sign in a loop, one
// goroutine for each of as many sessions, in rounds that alternate. What it
// reports are medians of the rounds' ratios: of-bare, signatures in the same time,
// and cpu-of-bare, what one costs; 1 is no overhead.
func BenchmarkOverheadOfPackageHSM(b *testing.B) {
	const round = 128 // signatures
	token := softhsmtest.New(b)
	token.Config.Sessions = 3
	bare := loops(b, softhsmtest.Twin(b, token))
	open, err := hsm.Open(b.Context(), token.Config, token.Certificate)
	check(b, err)
	b.Cleanup(func() { check(b, open.Close(context.Background())) })
	for _, callers := range []int{4, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var speeds, costs []float64
			for i := 0; b.Loop(); i++ {
				rounds := []func() cost{
					func() cost { return inParallel(b, round, len(bare), func(caller int) error { return bare[caller]() }) },
					func() cost {
						return inParallel(b, round, callers, func(int) error {
							_, err := open.SignDigest(b.Context(), randomDigest())
							return err
						})
					},
				}
				var costly [2]cost
				for _, which := range [][2]int{{0, 1}, {1, 0}}[i%2] { // neither is always the first
					costly[which] = rounds[which]()
				}
				speeds = append(speeds, float64(costly[0].time)/float64(costly[1].time))
				costs = append(costs, float64(costly[1].cpu)/float64(costly[0].cpu))
			}
			b.ReportMetric(median(speeds), "of-bare")
			b.ReportMetric(median(costs), "cpu-of-bare")
		})
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// cost is what some signatures took, on the wall and of the processors.
type cost struct{ time, cpu time.Duration }

// inParallel makes n calls from so many callers.
func inParallel(b *testing.B, n, callers int, call func(caller int) error) cost {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan error, callers)
	began, before := time.Now(), processorTime(b)
	for caller := range callers {
		go func() {
			var err error
			for err == nil && left.Add(-1) >= 0 {
				err = call(caller)
			}
			done <- err
		}()
	}
	for range callers {
		check(b, <-done)
	}
	return cost{time.Since(began), processorTime(b) - before}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// loops opens a token without package hsm, and returns for each of its sessions
// what makes a signature in it.
func loops(b *testing.B, token *softhsmtest.Token) (sign []func() error) {
	b.Helper()
	for name, value := range token.Config.Environment {
		b.Setenv(name, value)
	}
	p11 := pkcs11.New(token.Config.Module)
	check(b, p11.Initialize())
	b.Cleanup(func() { check(b, p11.Finalize()) })
	slots, err := p11.GetSlotList(true)
	check(b, err)
	var key pkcs11.ObjectHandle
	for i := range token.Config.Sessions {
		session, err := p11.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION)
		check(b, err)
		if i == 0 {
			check(b, p11.Login(session, pkcs11.CKU_USER, strings.TrimSpace(string(read(b, token.Config.PINFile)))))
			check(b, p11.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}))
			keys, _, err := p11.FindObjects(session, 1)
			check(b, err)
			check(b, p11.FindObjectsFinal(session))
			key = keys[0]
		}
		sign = append(sign, func() error {
			if err := p11.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}, key); err != nil {
				return err
			}
			digest := randomDigest()
			_, err := p11.Sign(session, append([]byte(sha256DigestInfo), digest[:]...))
			return err
		})
	}
	return sign
}

// sha256DigestInfo is what stands before a SHA-256 digest that is signed (RFC 8017, section 9.2).
const sha256DigestInfo = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
