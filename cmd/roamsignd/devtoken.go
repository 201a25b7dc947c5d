package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// library finds SoftHSM2's library: the one named, else the one of the last
// run, else wherever there is one.
func (d *dev) library(before recorded) (string, error) {
	const install = "apt-get install softhsm2, or name its library with --module PATH"
	named := cmp.Or(d.module, before.Token.Module)
	if named == "" {
		for _, pattern := range softHSMLibraries {
			if found, _ := filepath.Glob(pattern); len(found) > 0 {
				return found[0], nil
			}
		}
		return "", errors.New("SoftHSM2 is missing: " + install)
	}
	info, err := os.Stat(named)
	if err != nil {
		return "", fmt.Errorf("SoftHSM2 is missing: %w: %s", err, install)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("SoftHSM2's library: %s is no regular file: %s", named, install)
	}
	return filepath.Abs(named)
}

// make makes what DIR lacks, in an order in which each step needs only those
// before it, so that a run that was killed is taken up where it ended.
func (d *dev) make(ctx context.Context, out io.Writer, module string) error {
	if err := d.once(devPolicy, policyText(), 0o600); err != nil {
		return err
	}
	if err := d.addTaxpayers(); err != nil {
		return err
	}
	if err := d.token(ctx, out, module); err != nil {
		return err
	}
	public, err := hsm.PublicKey(ctx, d.tokenConfig(module, devSoftHSM))
	if err != nil {
		return fmt.Errorf("%w; to begin anew, remove the folder and start again", err)
	}
	if err := d.certificates(out, public); err != nil {
		return err
	}
	return d.log(ctx, out)
}

func (d *dev) tokenConfig(module, conf string) hsm.Config {
	return hsm.Config{
		Module: module, Environment: map[string]string{softHSMVariable: d.path(conf)},
		TokenLabel: devToken, PINFile: d.path(devPIN), KeyLabel: devKeyLabel, KeyID: devKeyID,
	}
}

// token makes the token with its PINs and the key in it, or finds them. They
// are made aside and moved into place once they are complete: a run that was
// killed leaves all of it or nothing.
func (d *dev) token(ctx context.Context, out io.Writer, module string) error {
	_, err := os.Stat(d.path(devTokens))
	switch {
	case err == nil:
		fmt.Fprintf(out, "Found  the token %s and its key %s\n", devToken, devKeyLabel)
		return d.pointSoftHSM(devSoftHSM, devTokens)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	const aside, asideConf = devTokens + ".new", devSoftHSM + ".new"
	if err := os.RemoveAll(d.path(aside)); err != nil {
		return err
	}
	if err := os.Mkdir(d.path(aside), 0o700); err != nil {
		return err
	}
	if err := d.once(devPIN, secret()+"\n", 0o600); err != nil {
		return err
	}
	if err := d.pointSoftHSM(asideConf, aside); err != nil {
		return err
	}
	if err := d.fill(ctx, out, d.tokenConfig(module, asideConf)); err != nil {
		return err
	}
	return errors.Join(
		d.pointSoftHSM(devSoftHSM, devTokens),
		os.Rename(d.path(aside), d.path(devTokens)),
		os.Remove(d.path(asideConf)),
	)
}

// fill makes a token and a key in it.
func (d *dev) fill(ctx context.Context, out io.Writer, config hsm.Config) error {
	pin, err := hsm.ReadPIN(config.PINFile)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	officer := hsm.NewPIN([]byte(secret())) // nobody needs it again
	defer officer.Wipe()
	serial, err := hsm.InitToken(ctx, config, officer, pin)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Made   a SoftHSM2 token, label %s, serial %s\n", devToken, serial)
	if _, err := hsm.GenerateKey(ctx, config, devKeyBits); err != nil {
		return err
	}
	fmt.Fprintf(out, "Made   an RSA-%d key inside it, label %s, ID %s: sensitive, not extractable, for signing only\n", devKeyBits, devKeyLabel, devKeyID)
	return nil
}

// pointSoftHSM has a configuration of SoftHSM's name a folder of tokens, which
// it does not do any more if DIR was moved.
func (d *dev) pointSoftHSM(conf, tokens string) error {
	text, err := os.ReadFile(d.path(conf))
	if err == nil && strings.Contains(string(text), "tokendir = "+d.path(tokens)+"\n") {
		return nil
	}
	return writeFile(d.path(conf), softHSMText(d.path(tokens)), 0o600)
}

// secret is a PIN nobody has to remember.
func secret() string {
	var bytes [8]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return hex.EncodeToString(bytes[:])
}

// certificates makes those that are missing. The key of the signing
// certificate's authority is thrown away once it has issued: nothing more can come
// from it.
func (d *dev) certificates(out io.Writer, public *rsa.PublicKey) error {
	now := time.Now().UTC().Truncate(time.Second)
	validity := ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(devValidity)}
	if _, err := os.Stat(d.path("client.pem")); errors.Is(err, os.ErrNotExist) {
		if err := d.tls(validity); err != nil {
			return err
		}
		fmt.Fprintf(out, "Made   a server certificate for loopback, and a client certificate for %s\n", devCaller)
	}
	switch _, err := os.Stat(d.path(devSigning)); {
	case err == nil:
		return d.certifies(public)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	authority, err := ca.New("roamsign dev CA NOT FOR SUBMISSION", ca.RSA, validity)
	if err != nil {
		return err
	}
	self := devIntermediary
	certificate, err := authority.Signing(ca.Organization{
		Country: "MY", Name: self.name, TIN: self.tin, Unit: "NOT FOR SUBMISSION", CommonName: self.name, BRN: self.brn,
	}, public, validity)
	if err != nil {
		return err
	}
	if err := ca.WriteCertificates(d.path(devRoots), authority.Certificate()); err != nil {
		return err
	}
	if err := ca.WriteCertificates(d.path(devSigning), certificate, authority.Certificate()); err != nil {
		return err
	}
	fmt.Fprintf(out, "Made   a signing certificate of LHDN's profile for %s, TIN %s, under an authority NOT FOR SUBMISSION\n", self.name, self.tin)
	return nil
}

// certifies refuses a signing certificate that was made for another key.
func (d *dev) certifies(public *rsa.PublicKey) error {
	chain, err := ca.LoadCertificates(d.path(devSigning))
	if err != nil {
		return err
	}
	if !public.Equal(chain[0].PublicKey) {
		return fmt.Errorf("%s is for another key than the token's: remove it and start again, and it is made anew", d.path(devSigning))
	}
	return nil
}

// tls makes the server's and the client's certificates and their authority, which
// roamsignd client uses, too. The client's is the last to be written: where it
// is, all are.
func (d *dev) tls(validity ca.Validity) error {
	for _, name := range []string{"server.key", "client.key"} { // of a run that was killed
		if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	register, err := d.register(validity)
	if err != nil {
		return err
	}
	validity = register.Within(validity)
	server, err := register.Server([]string{"localhost", "127.0.0.1", "::1"}, validity)
	if err != nil {
		return err
	}
	client, err := register.Client(devCaller, validity)
	if err != nil {
		return err
	}
	return errors.Join(
		ca.WriteCertificates(d.path("tls-ca.pem"), register.Certificate()),
		server.Save(d.path("server.pem"), d.path("server.key")),
		client.Save(d.path("client.pem"), d.path("client.key")),
	)
}

// register makes the authority for TLS, or finds the one of a run that was
// killed.
func (d *dev) register(validity ca.Validity) (*ca.Register, error) {
	folder := d.path(devClients)
	register, err := ca.OpenRegister(folder)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.RemoveAll(folder); err != nil {
			return nil, err
		}
		register, err = ca.NewRegister(folder, "roamsign dev TLS CA", validity)
	}
	if err != nil {
		return nil, err
	}
	return register, makeSerials(d.path(devRevoked))
}
