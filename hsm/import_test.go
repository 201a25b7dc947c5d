package hsm_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	"github.com/roamsign/roamsign/internal/fault"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// softFile makes a .p12 file of a fresh key of LHDN's profile, with openssl.
func softFile(t *testing.T, bits int, options ...string) (file []byte, key *rsa.PrivateKey) {
	t.Helper()
	key = newRSA(t, bits)
	dir := t.TempDir()
	cert, private := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(ca.WriteCertificates(cert, softhsmtest.Certificate(t, &key.PublicKey)), ca.WriteKey(private, key)); err != nil {
		t.Fatal(err)
	}
	return export(t, cert, private, options...), key
}

// export has openssl put a certificate and its key into a .p12 file.
func export(t *testing.T, cert, private string, options ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "soft.p12")
	openssl(t, append([]string{"pkcs12", "-export", "-in", cert, "-inkey", private, "-out", out, "-passout", "pass:throwaway"}, options...)...)
	return []byte(readFile(t, out))
}

func openssl(t testing.TB, args ...string) {
	t.Helper()
	if text, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, text)
	}
}

func parseP12(t *testing.T, file []byte) *hsm.SoftKey {
	t.Helper()
	soft, err := hsm.ParseP12(file, hsm.NewPIN([]byte("throwaway")))
	if err != nil {
		t.Fatal(err)
	}
	return soft
}

// TestASoftKeyMovesIntoTheToken: by both ways, of every size, from files as old
// and new programs write them; and signs there what it signed outside.
func TestASoftKeyMovesIntoTheToken(t *testing.T) {
	token := softhsmtest.Shared(t)
	for i, row := range []struct {
		name    string
		bits    int
		options []string
		want    hsm.Way
		way     hsm.Way
	}{
		{"AES, by the best way", 2048, nil, hsm.BestWay, hsm.Wrapped},
		{"RC2 and 3DES, unwrapped", 2048, []string{"-legacy"}, hsm.Wrapped, hsm.Wrapped},
		{"AES, in the clear", 2048, nil, hsm.InTheClear, hsm.InTheClear},
		{"3072 bits", 3072, nil, hsm.BestWay, hsm.Wrapped},
		{"4096 bits", 4096, nil, hsm.BestWay, hsm.Wrapped},
	} {
		t.Run(row.name, func(t *testing.T) {
			file, key := softFile(t, row.bits, row.options...)
			config := token.Config
			config.KeyLabel, config.KeyID = "soft "+row.name, hex.EncodeToString([]byte{7, byte(i)})
			soft := parseP12(t, file)
			defer soft.Wipe()
			way, err := hsm.ImportKey(t.Context(), config, soft, row.want)
			if err != nil || way != row.way {
				t.Fatalf("got way %q and %v, want %q", way, err, row.way)
			}
			keys, err := hsm.Keys(t.Context(), config)
			if err != nil || len(keys) != 1 {
				t.Fatalf("got %d keys (%v), want 1", len(keys), err)
			}
			if !keys[0].Verifying || !key.PublicKey.Equal(keys[0].Public) || keys[0].BornInside() {
				t.Errorf("got %+v, want both halves of a key from outside", keys[0])
			}
			if faults := keys[0].Faults(); len(faults) > 0 {
				t.Errorf("the token's attributes: %q", faults)
			}
			digest := sha256.Sum256([]byte(row.name))
			want, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			open, err := hsm.Open(t.Context(), config, soft.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			got, err := open.SignDigest(t.Context(), digest)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got another signature (%v) than the key makes outside", err)
			}
			closeToken(t, open)
			_, err = hsm.ImportKey(t.Context(), config, soft, row.want)
			wantError(t, err, hsm.ErrKeyExists, fault.TokenUnavailable, config.KeyLabel)
		})
	}
}

// TestAnImportedKeyIsSensitive: what OpenSC's tool says of it.
func TestAnImportedKeyIsSensitive(t *testing.T) {
	token := softhsmtest.Shared(t)
	file, _ := softFile(t, 2048)
	config := token.Config
	config.KeyLabel, config.KeyID = "soft", "0707"
	soft := parseP12(t, file)
	defer soft.Wipe()
	if _, err := hsm.ImportKey(t.Context(), config, soft, hsm.BestWay); err != nil {
		t.Fatal(err)
	}
	if err := hsm.ImportCertificate(t.Context(), config, soft.Certificate); err != nil {
		t.Fatal(err)
	}
	out := pkcs11Tool(t, token, "--list-objects")
	_, private, found := strings.Cut(out, "label:      soft\n")
	if !found || strings.Count(out, "label:      soft\n") != 3 || strings.Count(out, "ID:         0707\n") != 3 {
		t.Fatalf("got %s, want two halves and a certificate", out)
	}
	for _, want := range []string{"Usage:      sign\n", "Access:     sensitive\n"} {
		if !strings.Contains(private, want) {
			t.Errorf("got %s, want it to say %q", out, want)
		}
	}
	der := pkcs11Tool(t, token, "--read-object", "--type", "cert", "--id", "0707")
	if der != string(soft.Certificate.Raw) {
		t.Errorf("got %d bytes of certificate, want the %d imported", len(der), len(soft.Certificate.Raw))
	}
}

// pkcs11Tool runs OpenSC's tool, logged in to a token.
func pkcs11Tool(t *testing.T, token *softhsmtest.Token, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "pkcs11-tool", append([]string{"--module", token.Config.Module,
		"--token-label", token.Config.TokenLabel, "--login", "--pin", "env:TEST_PIN"}, args...)...)
	command.Env = []string{"TEST_PIN=" + strings.TrimSpace(readFile(t, token.Config.PINFile)),
		"SOFTHSM2_CONF=" + token.Config.Environment["SOFTHSM2_CONF"]}
	var errs strings.Builder
	command.Stderr = &errs
	out, err := command.Output()
	if err != nil {
		t.Fatalf("pkcs11-tool %s (of Debian's opensc): %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// TestPeersP12FilesAreRead: files that other MyInvois projects sign with.
func TestPeersP12FilesAreRead(t *testing.T) {
	vectors := os.Getenv("ROAMSIGN_VECTORS")
	if vectors == "" {
		t.Log("ROAMSIGN_VECTORS is not set: TestASoftKeyMovesIntoTheToken makes files of both sorts")
		return
	}
	if !filepath.IsAbs(vectors) { // it counts from the repository's root
		vectors = filepath.Join("..", vectors)
	}
	token := softhsmtest.Shared(t)
	for i, name := range []string{"leaf.p12", "leaf-legacy.p12"} {
		soft := parseP12(t, []byte(readFile(t, filepath.Join(vectors, "peers", name))))
		config := token.Config
		config.KeyLabel, config.KeyID = name, hex.EncodeToString([]byte{8, byte(i)})
		if way, err := hsm.ImportKey(t.Context(), config, soft, hsm.BestWay); err != nil || way != hsm.Wrapped {
			t.Errorf("%s: got way %q and %v", name, way, err)
		}
		soft.Wipe()
	}
}

func TestWhatIsNoSoftKeyIsRefused(t *testing.T) {
	file, _ := softFile(t, 2048)
	of := func(kind string) []byte {
		cert, private := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
		openssl(t, "req", "-x509", "-newkey", kind, "-nodes", "-subj", "/CN=soft", "-out", cert, "-keyout", private)
		return export(t, cert, private)
	}
	for _, row := range []struct {
		name, password string
		file           []byte
		sentinel       error
		words          string
	}{
		{"a wrong password", "guess", file, hsm.ErrPassword, "exported with"},
		{"a small key", "throwaway", of("rsa:1024"), nil, "1024 bits"},
		{"another kind of key", "throwaway", of("ed25519"), nil, "MyInvois takes RSA only"},
		{"half a file", "throwaway", file[:len(file)/2], nil, "reading the .p12 file"},
		{"no file", "throwaway", nil, nil, "reading the .p12 file"},
	} {
		_, err := hsm.ParseP12(row.file, hsm.NewPIN([]byte(row.password)))
		if err == nil || row.sentinel != nil && !errors.Is(err, row.sentinel) || !strings.Contains(err.Error(), row.words) {
			t.Errorf("%s: got error %v, want one that says %q", row.name, err, row.words)
		}
	}
}

func TestACertificateOfAnotherKeyIsRefused(t *testing.T) {
	token := softhsmtest.Shared(t)
	_, other := softFile(t, 2048)
	err := hsm.ImportCertificate(t.Context(), token.Config, softhsmtest.Certificate(t, &other.PublicKey))
	wantError(t, err, hsm.ErrKeyMismatch, fault.TokenUnavailable, "the token's is")
	for range 2 { // the second time it is there already
		if err := hsm.ImportCertificate(t.Context(), token.Config, token.Certificate); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := hsm.Keys(t.Context(), token.Config)
	if err != nil || len(keys) != 1 || len(keys[0].Certificates) != 1 || !keys[0].Certificates[0].Equal(token.Certificate) {
		t.Errorf("got %+v (%v), want one key with one certificate", keys, err)
	}
}

// TestDeletingTakesTheOneKeyNamed with all that belongs to it, and nothing else.
func TestDeletingTakesTheOneKeyNamed(t *testing.T) {
	token := softhsmtest.Shared(t)
	if err := hsm.ImportCertificate(t.Context(), token.Config, token.Certificate); err != nil {
		t.Fatal(err)
	}
	doomed := token.Config
	doomed.KeyLabel, doomed.KeyID = "doomed", "0909"
	if _, err := hsm.GenerateKey(t.Context(), doomed, 2048); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, label, id, words string }{
		{"no ID", "doomed", "", "give both"},
		{"no label", "", "0909", "give both"},
		{"another's ID", "doomed", token.Config.KeyID, "the token has label"},
		{"an unknown one", "none", "0101", "the token has label"},
	} {
		config := token.Config
		config.KeyLabel, config.KeyID = row.label, row.id
		if _, err := hsm.DeleteKey(t.Context(), config); err == nil || !strings.Contains(err.Error(), row.words) {
			t.Errorf("%s: got error %v, want one that says %q", row.name, err, row.words)
		}
	}
	was, err := hsm.DeleteKey(t.Context(), doomed)
	if err != nil || was.Label != "doomed" || was.ID != "0909" || !was.BornInside() {
		t.Errorf("got %+v and %v", was, err)
	}
	all := token.Config
	all.KeyLabel, all.KeyID = "", ""
	left, err := hsm.Keys(t.Context(), all)
	if err != nil || len(left) != 1 || !token.Public.Equal(left[0].Public) || len(left[0].Certificates) != 1 || len(left[0].Faults()) > 0 {
		t.Errorf("got %+v (%v), want the other key as it was", left, err)
	}
	if _, err := hsm.DeleteKey(t.Context(), token.Config); err != nil {
		t.Fatal(err)
	}
	if out := pkcs11Tool(t, token, "--list-objects"); strings.Contains(out, "Object") {
		t.Errorf("got %s, want an empty token", out)
	}
}

// TestTheTokenSignsRequests: a crypto.Signer for SHA-256 and PKCS#1 v1.5 alone.
func TestTheTokenSignsRequests(t *testing.T) {
	token := softhsmtest.Shared(t)
	var kept crypto.Signer
	err := hsm.WithSigner(t.Context(), token.Config, func(signer crypto.Signer) error {
		kept = signer
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: x509.SHA256WithRSA}, signer)
		if err != nil {
			return err
		}
		request, err := x509.ParseCertificateRequest(der)
		if err != nil || request.CheckSignature() != nil || !token.Public.Equal(request.PublicKey) {
			t.Errorf("got a request that is not the key's: %v", err)
		}
		for _, options := range []crypto.SignerOpts{crypto.SHA512, crypto.Hash(0), &rsa.PSSOptions{Hash: crypto.SHA256}, nil} {
			if _, err := signer.Sign(nil, make([]byte, 32), options); err == nil {
				t.Errorf("signs with options %v", options)
			}
		}
		if _, err := signer.Sign(nil, make([]byte, 31), crypto.SHA256); err == nil {
			t.Error("signs 31 bytes")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("after the visit: got %v, want %v", err, hsm.ErrClosed)
	}
}

// TestEachMechanismBringsTheKeyIn: of every length modulo a block, too, since the
// one without padding has the key's PKCS#8 form lengthened.
func TestEachMechanismBringsTheKeyIn(t *testing.T) {
	token := softhsmtest.Shared(t)
	lengths := map[int]bool{}
	for i := range 3 {
		file, key := softFile(t, 2048)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		lengths[len(der)%8] = true
		for j, mechanism := range []string{"CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP"} {
			config := token.Config
			config.KeyLabel, config.KeyID = mechanism, hex.EncodeToString([]byte{9, byte(i), byte(j)})
			soft := parseP12(t, file)
			if err := hsm.UnwrapBy(t.Context(), config, soft, mechanism); err != nil {
				t.Errorf("%s, %d bytes: %v", mechanism, len(der), err)
			}
			soft.Wipe()
		}
	}
	t.Logf("lengths modulo 8: %v", lengths)
}
