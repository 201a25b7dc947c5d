package hsm_test

import (
	"crypto/rsa"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// named is a key under a label and an ID.
type named struct {
	key   *rsa.PrivateKey
	label string
	id    []byte
}

// vault is a token whose keys somebody changes behind the service's back, through a
// module of his own.
type vault struct {
	*softhsmtest.Token
	others *softhsmtest.Token // the same token, through another module
	own    named              // the certificate's
	other  *rsa.PrivateKey
	liar   *rsa.PrivateKey // other, with the modulus of own
}

var (
	ownID   = []byte{0x0a}
	otherID = []byte{0x0b}
)

// newVault makes a token with a key that can be taken out and put back.
func newVault(t *testing.T) *vault {
	t.Helper()
	token := softhsmtest.Empty(t)
	initialise(t, token)
	token.Config.KeyLabel, token.Config.KeyID, token.Config.Sessions = "own", "0a", 2
	v := &vault{Token: token, own: named{newRSA(t, 2048), "own", ownID}, other: newRSA(t, 2048)}
	liar := *v.other
	v.liar, liar.N = &liar, v.own.key.N
	v.Public, v.Certificate = &v.own.key.PublicKey, softhsmtest.Certificate(t, &v.own.key.PublicKey)
	others := *token
	others.Config.Module = filepath.Join(token.Dir, "others.so")
	if err := os.WriteFile(others.Config.Module, []byte(readFile(t, token.Config.Module)), 0o600); err != nil {
		t.Fatal(err)
	}
	v.others = &others
	return v
}

// hold leaves the token with these private keys and no others.
func (v *vault) hold(t *testing.T, keys ...named) {
	t.Helper()
	raw(t, v.others, func(p11 *pkcs11.Ctx, slot uint) {
		session := loggedIn(t, p11, slot, v.others)
		if err := p11.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}); err != nil {
			t.Fatal(err)
		}
		there, _, err := p11.FindObjects(session, 16)
		if err != nil {
			t.Fatal(err)
		}
		if err := p11.FindObjectsFinal(session); err != nil {
			t.Fatal(err)
		}
		for _, handle := range there {
			if err := p11.DestroyObject(session, handle); err != nil {
				t.Fatal(err)
			}
		}
		for _, one := range keys {
			createKey(t, p11, session, one.key, one.label, one.id)
		}
	})
}

// TestAnotherKeyUnderOurNames: whoever can write to the token can give any key
// the names that the configuration looks for.
func TestAnotherKeyUnderOurNames(t *testing.T) {
	v := newVault(t)
	t.Run("in the place of ours", v.inItsPlace)
	t.Run("beside ours", v.beside)
	t.Run("in one of two tokens", v.inOneOfTwo)
}

// inItsPlace: the token comes back from an outage with another key. It signs
// nothing and says why, until the right one is back.
func (v *vault) inItsPlace(t *testing.T) {
	other, liar, small := v.other, v.liar, newRSA(t, 1024)
	for _, row := range []struct {
		name      string
		label, id string // of the configuration
		keys      []named
		want      error
		words     string
		probes    bool // the token is asked for signatures, which do not verify
	}{
		{"both names are another's", "own", "0a", []named{{other, "own", ownID}}, hsm.ErrKeyMismatch, "another modulus", false},
		{"the label is another's", "own", "", []named{{other, "own", otherID}}, hsm.ErrKeyMismatch, "another modulus", false},
		{"the ID is another's", "", "0a", []named{{other, "other", ownID}}, hsm.ErrKeyMismatch, "another modulus", false},
		{"both names are two others'", "own", "0a", []named{{other, "own", ownID}, {small, "own", ownID}}, hsm.ErrKeyMismatch, "none of the 2 keys", false},
		{"it is a shorter one", "own", "0a", []named{{small, "own", ownID}}, hsm.ErrKeyMismatch, "1024 bits", false},
		{"it claims the modulus", "own", "0a", []named{{liar, "own", ownID}}, hsm.ErrKeyMismatch, "probe", true},
		{"the label is another's, and the ID is gone", "own", "0a", []named{{other, "own", otherID}}, hsm.ErrNoKey, `ID "0b"`, false},
		{"the ID is another's, and the label is gone", "own", "0a", []named{{other, "other", ownID}}, hsm.ErrNoKey, `label "other"`, false},
		{"no key is left", "own", "0a", nil, hsm.ErrNoKey, "no RSA private key", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			v.Config.KeyLabel, v.Config.KeyID = row.label, row.id
			v.hold(t, v.own)
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, v.Token)
				f.takesAway(pkcs11.CKR_DEVICE_ERROR)
				failAtOnce(t, open, pkcs11.CKR_DEVICE_ERROR)
				v.hold(t, row.keys...)
				f.givesBack()
				f.set("Sign", nil)
				time.Sleep(time.Second)
				for range 4 {
					_, err := open.SignDigest(t.Context(), randomDigest())
					wantError(t, err, row.want, fault.TokenUnavailable, row.words)
					if retry := retryAfter(err); retry != 0 {
						t.Errorf("got retry after %v, want none: only people can help", retry)
					}
					time.Sleep(3 * time.Second)
				}
				wantError(t, open.Ready(), row.want, fault.TokenUnavailable, row.words)
				if got := f.count("Sign"); (got > 0) != row.probes {
					t.Errorf("got %d signatures of another key, want probes of it %v", got, row.probes)
				}
				v.hold(t, v.own)
				time.Sleep(6 * time.Second) // it is not asked often
				wantWhole(t, f, open, v.Token)
				closeToken(t, open)
			})
		})
	}
}

// beside: names that fit several keys are told apart by ID, by modulus, and by a
// signature, at the start and after an outage.
func (v *vault) beside(t *testing.T) {
	other, liar := v.other, v.liar
	for _, row := range []struct {
		name      string
		label, id string // of the configuration
		beside    named
	}{
		{"the label, and the ID tells", "own", "0a", named{other, "own", otherID}},
		{"the ID, and the label tells", "own", "0a", named{other, "other", ownID}},
		{"the label, and the modulus tells", "own", "", named{other, "own", otherID}},
		{"the ID, and the modulus tells", "", "0a", named{other, "other", ownID}},
		{"both names, and the modulus tells", "own", "0a", named{other, "own", ownID}},
		{"both names and the modulus, and a signature tells", "own", "0a", named{liar, "own", ownID}},
		{"all of it is ours twice", "own", "0a", v.own},
	} {
		t.Run(row.name, func(t *testing.T) {
			v.Config.KeyLabel, v.Config.KeyID = row.label, row.id
			v.hold(t, v.own)
			synctest.Test(t, func(t *testing.T) {
				f, open := faultyToken(t, v.Token)
				f.takesAway(pkcs11.CKR_DEVICE_ERROR)
				failAtOnce(t, open, pkcs11.CKR_DEVICE_ERROR)
				v.hold(t, row.beside, v.own)
				f.givesBack()
				time.Sleep(time.Second)
				wantWhole(t, f, open, v.Token)
				closeToken(t, open)
				f, open = faultyToken(t, v.Token)
				wantWhole(t, f, open, v.Token)
				closeToken(t, open)
			})
		})
	}
}

// inOneOfTwo: the other token serves, and no caller notices.
func (v *vault) inOneOfTwo(t *testing.T) {
	v.Config.KeyLabel, v.Config.KeyID = "own", "0a"
	v.hold(t, v.own)
	p := &pair{tokens: [2]*softhsmtest.Token{v.Token, softhsmtest.Twin(t, v.Token)}}
	other := named{v.other, "own", ownID}
	p.inBubble(t, "swapped in an outage", func(t *testing.T) {
		p.faulty[0].takesAway(pkcs11.CKR_DEVICE_ERROR)
		p.signs(t, 8)
		v.hold(t, other)
		p.faulty[0].givesBack()
		for range 4 {
			time.Sleep(3 * time.Second)
			p.signs(t, 2)
		}
		wantError(t, p.group.Health()[0].Err, hsm.ErrKeyMismatch, fault.TokenUnavailable, "another modulus")
		if got, want := p.ready(), [2]bool{false, true}; got != want {
			t.Errorf("got ready %v, want %v", got, want)
		}
		v.hold(t, v.own)
		time.Sleep(6 * time.Second)
		if got, want := p.ready(), [2]bool{true, true}; got != want {
			t.Errorf("got ready %v, want %v: %v", got, want, p.group.Health()[0].Err)
		}
		p.signs(t, 8)
	})
	p.inBubble(t, "swapped while it serves", func(t *testing.T) {
		v.hold(t, other)
		p.signs(t, 8)
		wantError(t, p.group.Health()[0].Err, hsm.ErrKeyMismatch, fault.TokenUnavailable, "another modulus")
		v.hold(t, v.own)
		time.Sleep(6 * time.Second)
		p.signs(t, 8)
		if got, want := p.ready(), [2]bool{true, true}; got != want {
			t.Errorf("got ready %v, want %v: %v", got, want, p.group.Health()[0].Err)
		}
	})
}
