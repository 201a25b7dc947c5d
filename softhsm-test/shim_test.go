package softhsmtest_test

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// bench is a token behind a shim, used without hsm: one session, logged in, and
// the key's handle.
type bench struct {
	*softhsmtest.Shim
	p11     *pkcs11.Ctx
	slot    uint
	session pkcs11.SessionHandle
	key     pkcs11.ObjectHandle
}

func newBench(t *testing.T, shim *softhsmtest.Shim) *bench {
	t.Helper()
	b := &bench{Shim: shim}
	for name, value := range shim.Token.Config.Environment {
		t.Setenv(name, value)
	}
	if b.p11 = pkcs11.New(b.Token.Config.Module); b.p11 == nil {
		t.Fatal("the shim cannot be loaded")
	}
	t.Cleanup(b.p11.Destroy)
	check(t, b.p11.Initialize())
	t.Cleanup(func() { _ = b.p11.Finalize() })
	slots, err := b.p11.GetSlotList(true)
	check(t, err)
	b.slot = slots[0]
	b.enter(t)
	return b
}

// enter opens a session, logs in and finds the key.
func (b *bench) enter(t *testing.T) {
	t.Helper()
	var err error
	b.session, err = b.p11.OpenSession(b.slot, pkcs11.CKF_SERIAL_SESSION)
	check(t, err)
	check(t, b.p11.Login(b.session, pkcs11.CKU_USER, strings.TrimSpace(string(read(t, b.Token.Config.PINFile)))))
	check(t, b.p11.FindObjectsInit(b.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}))
	keys, _, err := b.p11.FindObjects(b.session, 1)
	check(t, err)
	check(t, b.p11.FindObjectsFinal(b.session))
	b.key = keys[0]
}

// sign signs a random digest, and says whether the signature is right.
func (b *bench) sign() (right bool, err error) {
	digest := randomDigest()
	if err := b.p11.SignInit(b.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}, b.key); err != nil {
		return false, err
	}
	signature, err := b.p11.Sign(b.session, digest[:])
	return err == nil && rsa.VerifyPKCS1v15(b.Token.Public, crypto.Hash(0), digest[:], signature) == nil, err
}

// wants fails the test unless the next signature is right, or gives this error.
func (b *bench) wants(t *testing.T, want uint) {
	t.Helper()
	right, err := b.sign()
	switch {
	case want == pkcs11.CKR_OK && !right:
		t.Errorf("got %v and right %v, want a right signature", err, right)
	case want != pkcs11.CKR_OK && !errors.Is(err, pkcs11.Error(want)):
		t.Errorf("got %v, want %v", err, pkcs11.Error(want))
	}
}

func TestTheShimDoesWhatItIsTold(t *testing.T) {
	token := softhsmtest.New(t)
	for name, told := range map[string]func(*testing.T, *bench){
		"nothing": func(t *testing.T, b *bench) {
			before := b.Calls("C_SignInit")
			b.wants(t, pkcs11.CKR_OK)
			if got := b.Calls("C_SignInit") - before; got != 1 || b.Sessions() != 1 {
				t.Errorf("got %d calls and %d sessions, want one each", got, b.Sessions())
			}
		},
		"fail the second call": func(t *testing.T, b *bench) {
			b.Fail("C_SignInit", pkcs11.CKR_HOST_MEMORY, 2)
			b.wants(t, pkcs11.CKR_OK)
			b.wants(t, pkcs11.CKR_HOST_MEMORY)
			b.wants(t, pkcs11.CKR_OK)
		},
		"fail after the call": func(t *testing.T, b *bench) {
			b.FailAfter("C_SignInit", pkcs11.CKR_HOST_MEMORY, 1)
			b.wants(t, pkcs11.CKR_HOST_MEMORY)
			b.wants(t, pkcs11.CKR_OPERATION_ACTIVE)
		},
		"hang": func(t *testing.T, b *bench) {
			hung, release := b.Hang("C_SignInit")
			signed := make(chan error, 1)
			go func() {
				_, err := b.sign()
				signed <- err
			}()
			<-hung
			if _, err := b.p11.GetSessionInfo(b.session); err != nil {
				t.Errorf("beside the hung call: %v", err)
			}
			select {
			case err := <-signed:
				t.Errorf("the call did not hang: %v", err)
			default:
			}
			release()
			check(t, <-signed)
		},
		"delay": func(t *testing.T, b *bench) {
			b.Delay("C_SignInit", 50*time.Millisecond)
			began := time.Now()
			b.wants(t, pkcs11.CKR_OK)
			if took := time.Since(began); took < 50*time.Millisecond {
				t.Errorf("took %v, want 50ms and more", took)
			}
		},
		"corrupt": func(t *testing.T, b *bench) {
			b.CorruptSignature(1)
			if right, err := b.sign(); err != nil || right {
				t.Errorf("got %v and right %v, want a wrong signature", err, right)
			}
			b.wants(t, pkcs11.CKR_OK)
		},
		"lose the sessions": func(t *testing.T, b *bench) {
			b.LoseSessions()
			b.wants(t, pkcs11.CKR_SESSION_HANDLE_INVALID)
			if got := b.Sessions(); got != 0 {
				t.Errorf("got %d sessions, want none", got)
			}
			b.enter(t)
			b.wants(t, pkcs11.CKR_OK)
		},
		"log out": func(t *testing.T, b *bench) {
			b.Logout()
			if right, err := b.sign(); err == nil || right || b.Sessions() != 1 {
				t.Errorf("got %v, right %v and %d sessions, want an error in a session that lives", err, right, b.Sessions())
			}
		},
		"go away": func(t *testing.T, b *bench) {
			b.Away(softhsmtest.Outage{Value: pkcs11.CKR_TOKEN_NOT_PRESENT, KeepsSessions: true})
			b.wants(t, pkcs11.CKR_TOKEN_NOT_PRESENT)
			b.Back()
			b.wants(t, pkcs11.CKR_OK)
		},
		"go away and forget": func(t *testing.T, b *bench) {
			b.Away(softhsmtest.Outage{})
			b.wants(t, pkcs11.CKR_DEVICE_ERROR)
			b.Back()
			b.wants(t, pkcs11.CKR_SESSION_HANDLE_INVALID)
		},
		"be initialised while it is away": func(t *testing.T, b *bench) {
			b.Away(softhsmtest.Outage{WantsInitialize: true})
			check(t, b.p11.Finalize())
			if err := b.p11.Initialize(); !errors.Is(err, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)) {
				t.Errorf("initialising: got %v, want %v", err, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR))
			}
			b.Back()
			check(t, b.p11.Initialize())
			b.enter(t)
			b.wants(t, pkcs11.CKR_OK)
		},
		"be back and want to be initialised": func(t *testing.T, b *bench) {
			b.Away(softhsmtest.Outage{WantsInitialize: true})
			b.Back()
			b.wants(t, pkcs11.CKR_DEVICE_ERROR)
			check(t, b.p11.Finalize())
			check(t, b.p11.Initialize())
			b.enter(t)
			b.wants(t, pkcs11.CKR_OK)
		},
	} {
		t.Run(name, func(t *testing.T) { told(t, newBench(t, softhsmtest.NewShim(t, token))) })
	}
}

// listener hears what a test is told, and keeps it to itself.
type listener struct {
	testing.TB
	heard chan string
}

func (l listener) Errorf(format string, _ ...any) { l.heard <- format }

func TestTheShimComplainsOfCallsUnderWhichTheModuleIsFinalised(t *testing.T) {
	ear := listener{t, make(chan string, 1)}
	b := newBench(t, softhsmtest.NewShim(ear, softhsmtest.New(t)))
	hung, release := b.Hang("C_GetSessionInfo")
	ended := make(chan error, 1)
	go func() {
		_, err := b.p11.GetSessionInfo(b.session)
		ended <- err
	}()
	<-hung
	if err := b.p11.Finalize(); !errors.Is(err, pkcs11.Error(pkcs11.CKR_FUNCTION_FAILED)) {
		t.Errorf("finalising: got %v, want %v", err, pkcs11.Error(pkcs11.CKR_FUNCTION_FAILED))
	}
	if got := <-ear.heard; !strings.HasPrefix(got, "C_Finalize under") {
		t.Errorf("got the complaint %q, want one about C_Finalize", got)
	}
	release()
	check(t, <-ended)
}

func TestTwinsHaveTheSameKey(t *testing.T) {
	token := softhsmtest.New(t)
	twin := softhsmtest.Twin(t, token)
	for _, each := range []*softhsmtest.Token{token, twin} {
		signs(t, opens(t, each), token)
	}
	if os.SameFile(stat(t, token.Config.Module), stat(t, twin.Config.Module)) {
		t.Error("the twins share a module")
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	check(t, err)
	return info
}
