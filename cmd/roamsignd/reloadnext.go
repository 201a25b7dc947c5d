package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/roamsign/roamsign/signer"
)

// lookTimeout bounds how long the reading of files waits for tokens to look for the
// next key. They go on without it.
const lookTimeout = 2 * time.Second

// contentOfNext tells what the configuration names as the next certificate, and what
// is in its file.
func (r *reloader) contentOfNext() [32]byte {
	if r.named.Certificate == "" {
		return [32]byte{}
	}
	file := contentOf([]string{r.named.Certificate})
	return sha256.Sum256(fmt.Appendf(file[:], "%q", r.named))
}

// takeNext has the certificate follow that the configuration names, or none. It fits
// only with the others' files: it is the intermediary's of the policy, and its issuer
// has a revocation list where there are any.
func (r *reloader) takeNext() ([]string, error) {
	with := *r.setup
	with.Signing.Next = r.named
	next, err := with.Signing.loadNext(with.chain)
	if err != nil {
		return nil, err
	}
	if next.same(r.setup.next) {
		r.setup = &with
		if next != nil {
			r.log.Info("signing.next is as before", "certificate", next.fingerprint(), "from", stamp(next.from))
		}
		return nil, nil
	}
	with.next = next
	if err := with.holders(with.policy); err != nil {
		return nil, err
	}
	if with.crls, err = with.loadCRLs(); err != nil {
		return nil, prefixed("signing.crl", err)
	}
	switch err := r.server.SetNext(r.setup.next, next); {
	case errors.Is(err, signer.ErrInForce):
		return []string{"signing.next"}, nil
	case err != nil:
		return nil, err
	}
	r.server.SetRevocations(with.crls)
	r.setup, r.reminded = &with, time.Time{}
	if next == nil {
		r.log.Warn("no signing certificate is to follow any more")
	} else {
		r.log.Info("a signing certificate is to follow", "certificate", next.fingerprint(), "from", stamp(next.from))
	}
	r.warnOf(with.policy)
	return nil, nil
}

// fingerprint is how the log names the certificate.
func (n *successor) fingerprint() string {
	sum := sha256.Sum256(n.chain[0].Raw)
	return hex.EncodeToString(sum[:])
}

// same tells whether two certificates that follow are one and the same, with the
// same key, at the same time.
func (n *successor) same(as *successor) bool {
	if n == nil || as == nil {
		return n == as
	}
	return n.from.Equal(as.from) && n.KeyLabel == as.KeyLabel && n.KeyID == as.KeyID &&
		slices.EqualFunc(n.chain, as.chain, (*x509.Certificate).Equal)
}

// SetNext is that of the server, and has the tokens look for the key. Meanwhile
// nothing follows, so that nobody signs with a key that is being exchanged. Where no
// token could have the key, what was to follow before does.
func (w watched) SetNext(before, next *successor) error {
	if err := w.Server.SetNext(nil); err != nil {
		return err
	}
	var refused error
	if next != nil && next.own {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		defer cancel()
		if refused = w.tokens.SetNext(ctx, next.KeyLabel, next.KeyID, next.chain[0]); refused != nil {
			next = before
		}
	}
	return errors.Join(refused, w.Server.SetNext(next.part(w.metrics, w.tokens)))
}
