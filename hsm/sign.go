package hsm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// sha256Prefix is the DER of a DigestInfo up to the digest (RFC 8017, section 9.2, note 1).
const sha256Prefix = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"

// digestInfo returns what CKM_RSA_PKCS pads and signs (PKCS#11 Mechanisms, section 2.1.6).
func digestInfo(digest [sha256.Size]byte) (input [len(sha256Prefix) + sha256.Size]byte) {
	copy(input[:], sha256Prefix)
	copy(input[len(sha256Prefix):], digest[:])
	return input
}

// rsaPKCS is CKM_RSA_PKCS in the wrapper's form, which it only reads.
var rsaPKCS = []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}

// sign signs in one session.
func sign(p11 cryptoki, handle pkcs11.SessionHandle, key pkcs11.ObjectHandle, input []byte) ([]byte, error) {
	if err := p11.SignInit(handle, rsaPKCS, key); err != nil {
		return nil, called("C_SignInit", err)
	}
	signature, err := p11.Sign(handle, input)
	if err != nil {
		return nil, called("C_Sign", err)
	}
	return signature, nil
}

// request is one digest on its way to a worker and back.
type request struct {
	ctx     context.Context // of the caller; the worker asks it before each further call
	digest  [sha256.Size]byte
	by      which
	settled atomic.Bool  // by whoever comes first: the worker with an outcome, or the caller leaving
	done    chan outcome // takes one without blocking
}

type outcome struct {
	signature []byte
	err       error
}

// SignDigest returns the RSASSA-PKCS1-v1_5 signature over a SHA-256 digest, as
// long as the key's modulus. It does not verify it: who releases it does.
//
// It fails at once when the token is not ready. Else it waits for a free session,
// then for the token, and gives up when ctx ends: a call that the token is then
// still busy with is abandoned (see [Token.Abandoned]). It is safe for concurrent
// use, and safe to repeat, since the same digest gives the same signature.
//
// When a session or the login is lost, the request is repeated once on a new
// one. Errors have a kind of package fault: Canceled, DeadlineExceeded,
// TokenUnavailable (with a time to retry after, unless only people can help),
// SignatureWrong for a signature of the wrong length, or Internal.
func (t *Token) SignDigest(ctx context.Context, digest [sha256.Size]byte) ([]byte, error) {
	return t.signBy(ctx, digest, firstKey)
}

// signBy is SignDigest by one of the token's keys.
func (t *Token) signBy(ctx context.Context, digest [sha256.Size]byte, by which) ([]byte, error) {
	t.inFlight.Add(1)
	defer t.inFlight.Add(-1)
	if err := ctx.Err(); err != nil {
		return nil, t.signing(by, err)
	}
	r := &request{ctx: ctx, digest: digest, by: by, done: make(chan outcome, 1)}
	if err := t.submit(r); err != nil {
		return nil, t.signing(by, err)
	}
	o := t.await(r)
	if o.err != nil {
		return nil, t.signing(by, o.err)
	}
	return o.signature, nil
}

// submit hands a request to a worker. Nobody waits for a token that is lost.
func (t *Token) submit(r *request) error {
	for {
		now := t.state.Load()
		if err := t.Ready(); err != nil {
			return err
		}
		select {
		case t.requests <- r:
			return nil
		case <-r.ctx.Done():
			return fmt.Errorf("waiting for a session: %w", r.ctx.Err())
		case <-now.over:
		case <-t.life.Done():
			return ErrClosed
		}
	}
}

// await waits for the worker's answer, as long as the caller does.
func (t *Token) await(r *request) outcome {
	select {
	case o := <-r.done:
		return o
	case <-r.ctx.Done():
	}
	t.abandoned.Add(1) // first, so that the worker, which takes it back, never makes it negative
	if r.settled.CompareAndSwap(false, true) {
		t.outlived.Add(1)
		return outcome{err: fmt.Errorf("waiting for the token: %w", r.ctx.Err())}
	}
	t.abandoned.Add(-1)
	return <-r.done
}

func (t *Token) signing(by which, err error) error {
	config := t.keeper.config
	if next := t.keeper.next.Load(); by == nextOne && next != nil {
		config = config.of(next)
	}
	return withKind(fmt.Errorf("signing with key %s: %w", config.keyName(), err))
}
