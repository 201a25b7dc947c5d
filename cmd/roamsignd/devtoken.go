package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
)

// The names in dev mode's token.
const (
	devToken    = "roamsign-dev"
	devKeyLabel = "signing"
	devKeyID    = "01"
	devKeyBits  = 2048
)

// devValidity is that of all certificates of dev mode.
const devValidity = 365 * 24 * time.Hour

// softHSMLibraries are where SoftHSM2's library lies.
var softHSMLibraries = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/*/softhsm/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
}

// library finds SoftHSM2's library.
func (d *dev) library() (string, error) {
	if d.module != "" {
		return filepath.Abs(d.module)
	}
	for _, pattern := range softHSMLibraries {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("SoftHSM2 is missing: apt-get install softhsm2, or name its library with --module PATH")
}

// make makes what DIR lacks, in an order in which each step needs only those
// before it, so that a run that was killed is taken up where it ended.
func (d *dev) make(ctx context.Context, out io.Writer) error {
	module, err := d.library()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.path(devTokens), 0o700); err != nil {
		return err
	}
	for _, file := range []struct{ name, text string }{
		{devSoftHSM, fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", d.path(devTokens))},
		{devPIN, secret() + "\n"},
		{devPolicy, policyText()},
	} {
		if err := d.once(file.name, file.text, 0o600); err != nil {
			return err
		}
	}
	if err := d.addTaxpayers(); err != nil {
		return err
	}
	public, err := d.key(ctx, out, module)
	if err != nil {
		return err
	}
	return d.certificates(out, public)
}

// key makes the token and the key in it, or finds them.
func (d *dev) key(ctx context.Context, out io.Writer, module string) (*rsa.PublicKey, error) {
	token := hsm.Config{
		Module: module, Environment: map[string]string{"SOFTHSM2_CONF": d.path(devSoftHSM)},
		TokenLabel: devToken, PINFile: d.path(devPIN), KeyLabel: devKeyLabel, KeyID: devKeyID,
	}
	public, err := hsm.PublicKey(ctx, token)
	if errors.Is(err, hsm.ErrNoToken) {
		pin, errPIN := hsm.ReadPIN(token.PINFile)
		if errPIN != nil {
			return nil, errPIN
		}
		defer pin.Wipe()
		officer := hsm.NewPIN([]byte(secret()))
		defer officer.Wipe()
		serial, errInit := hsm.InitToken(ctx, token, officer, pin)
		if errInit != nil {
			return nil, errInit
		}
		fmt.Fprintf(out, "Made   a SoftHSM2 token, label %s, serial %s\n", devToken, serial)
		err = hsm.ErrNoKey
	}
	if errors.Is(err, hsm.ErrNoKey) {
		if public, err = hsm.GenerateKey(ctx, token, devKeyBits); err == nil {
			fmt.Fprintf(out, "Made   an RSA-%d key inside it, label %s, ID %s: sensitive, not extractable, for signing only\n", devKeyBits, devKeyLabel, devKeyID)
		}
	} else if err == nil {
		fmt.Fprintf(out, "Found  the token %s and its key %s\n", devToken, devKeyLabel)
	}
	if errors.Is(err, hsm.ErrPINIncorrect) {
		return nil, fmt.Errorf("%w; the token was not finished by an earlier run, or the PIN file changed: remove the folder and start again", err)
	}
	return public, err
}

// secret is a PIN nobody has to remember.
func secret() string {
	var bytes [8]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return hex.EncodeToString(bytes[:])
}

// certificates makes those that are missing. An authority's key is thrown away
// once it has issued: nothing more can come from it.
func (d *dev) certificates(out io.Writer, public *rsa.PublicKey) error {
	now := time.Now().UTC().Truncate(time.Second)
	validity := ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(devValidity)}
	if _, err := os.Stat(d.path("client.pem")); errors.Is(err, os.ErrNotExist) {
		if err := d.tls(validity); err != nil {
			return err
		}
		fmt.Fprintf(out, "Made   a server certificate for loopback, and a client certificate for %s\n", devCaller)
	}
	if _, err := os.Stat(d.path("signing.pem")); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	authority, err := ca.New("roamsign dev CA NOT FOR SUBMISSION", ca.RSA, validity)
	if err != nil {
		return err
	}
	self := devTaxpayers[0]
	certificate, err := authority.Signing(ca.Organization{
		Country: "MY", Name: self.name, TIN: self.tin, Unit: "NOT FOR SUBMISSION", CommonName: self.name, BRN: self.brn,
	}, public, validity)
	if err != nil {
		return err
	}
	if err := ca.WriteCertificates(d.path(devRoots), authority.Certificate()); err != nil {
		return err
	}
	if err := ca.WriteCertificates(d.path("signing.pem"), certificate, authority.Certificate()); err != nil {
		return err
	}
	fmt.Fprintf(out, "Made   a signing certificate of LHDN's profile for %s, TIN %s, under an authority NOT FOR SUBMISSION\n", self.name, self.tin)
	return nil
}

// tls makes the server's and the client's certificates and their authority's.
// The client's is the last to be written: where it is, all are.
func (d *dev) tls(validity ca.Validity) error {
	for _, name := range []string{"server.key", "client.key"} { // of a run that was killed
		if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	authority, err := ca.New("roamsign dev TLS CA", ca.ECDSA, validity)
	if err != nil {
		return err
	}
	server, err := authority.Server([]string{"localhost", "127.0.0.1", "::1"}, validity)
	if err != nil {
		return err
	}
	client, err := authority.Client(devCaller, validity)
	if err != nil {
		return err
	}
	return errors.Join(
		ca.WriteCertificates(d.path("tls-ca.pem"), authority.Certificate()),
		server.Save(d.path("server.pem"), d.path("server.key")),
		client.Save(d.path("client.pem"), d.path("client.key")),
	)
}
