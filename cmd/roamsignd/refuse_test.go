package main

import (
	"crypto/rand"
	"crypto/rsa"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/roamsign/roamsign/ca"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

func TestWrongUsageIsToldAndMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"no folder", []string{"dev"}, "--dir DIR"},
		{"an argument", []string{"dev", "--dir", dir, "now"}, `unexpected argument "now"`},
		{"a folder that SoftHSM cannot name", []string{"dev", "--dir", dir + "#1"}, "# or a line break"},
		{"every address", []string{"dev", "--dir", dir, "--listen", "0.0.0.0:7443"}, "not a loopback address"},
		{"no host", []string{"dev", "--dir", dir, "--listen", ":7443"}, "not a loopback address"},
		{"another machine", []string{"dev", "--dir", dir, "--listen", "192.0.2.7:7443"}, "not a loopback address"},
		{"every address of IPv6", []string{"dev", "--dir", dir, "--listen", "[::]:7443"}, "not a loopback address"},
		{"a name", []string{"dev", "--dir", dir, "--listen", "signer.example.com:7443"}, "not a loopback address"},
		{"no port", []string{"dev", "--dir", dir, "--listen", "127.0.0.1"}, "is not HOST:PORT"},
		{"no TIN", []string{"dev", "--dir", dir, "--taxpayer", "20880050010"}, "--taxpayer"},
		{"a general TIN", []string{"dev", "--dir", dir, "--taxpayer", "EI00000000010"}, "general TINs"},
		{"an unknown flag", []string{"dev", "--dir", dir, "--pin", "1234"}, "unknown flag --pin"},
		{"serve without a configuration", []string{"serve"}, "--config FILE"},
		{"serve with an argument", []string{"serve", "--config", "x", "y"}, `unexpected argument "y"`},
		{"check without a configuration", []string{"check"}, "--config FILE"},
	} {
		t.Run(row.name, func(t *testing.T) {
			code, out, errs := ends(t, row.args...)
			if code != 2 || out != "" || !strings.Contains(errs, row.want) || !strings.Contains(errs, "Try: roamsignd "+row.args[0]+" --help") {
				t.Errorf("got code %d, output %q and\n%s\nwant code 2, no output, %q and a hint at --help", code, out, errs, row.want)
			}
			if made, _ := filepath.Glob(dir + "*"); len(made) > 0 {
				t.Errorf("%s was made", made)
			}
		})
	}
}

func TestLoopbackIsTakenInEveryForm(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "127.0.0.1:7443", "127.1.2.3:7443", "[::1]:7443", "localhost:7443"} {
		if err := loopback(address); err != nil {
			t.Errorf("%s: got %v, want that it is taken", address, err)
		}
	}
}

func TestAFolderOfSomebodyElseIsLeftAlone(t *testing.T) {
	for _, name := range []string{"diary.txt", "lock", ".hidden", "pin", "roamsignd.yaml"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.Chmod(dir, 0o755))
			write(t, filepath.Join(dir, name), "mine")
			before := snapshot(t, dir)
			code, out, errs := ends(t, "dev", "--dir", dir)
			if want := "roamsignd: " + dir + " holds something else (" + name + "): name a folder of its own\n"; code != 1 || out != "" || errs != want {
				t.Errorf("got code %d, output %q and %q, want 1, none and %q", code, out, errs, want)
			}
			unchanged(t, dir, before)
		})
	}
}

func TestWithoutTheModuleNothingIsMade(t *testing.T) {
	parent := t.TempDir()
	before := snapshot(t, parent)
	for name, module := range map[string]string{"none there": filepath.Join(parent, "libsofthsm2.so"), "a folder": parent} {
		code, out, errs := ends(t, "dev", "--dir", filepath.Join(parent, "dev"), "--module", module)
		if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "apt-get install softhsm2") || !strings.Contains(errs, module) {
			t.Errorf("%s: got code %d, output %q and %q, want 1, none and a line that names %s and says what to install", name, code, out, errs, module)
		}
	}
	unchanged(t, parent, before)
}

// stranger is a key that no token has.
var stranger = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// certifyStranger puts a certificate for another key in the place of the
// signing certificate.
func certifyStranger(t *testing.T, dir string) {
	t.Helper()
	key, err := stranger()
	check(t, err)
	check(t, ca.WriteCertificates(filepath.Join(dir, devSigning), softhsmtest.Certificate(t, &key.PublicKey)))
}

// failing is a start that fails, in as many ways as there are to start.
type failing struct {
	name  string
	spoil func(t *testing.T, dir string)
	ways  []string // serve, check, login (check --login) and dev
	code  int
	want  []string // parts of the line
}

var failures = []failing{
	{"a wrong PIN", func(t *testing.T, dir string) { write(t, filepath.Join(dir, devPIN), "13572468\n") },
		[]string{"serve", "login", "dev"}, 77,
		[]string{"tried once and will not be tried again", "first wrong try since the last login", "CKR_PIN_INCORRECT", devPIN}},
	{"a PIN that others may read", func(t *testing.T, dir string) { check(t, os.Chmod(filepath.Join(dir, devPIN), 0o640)) },
		[]string{"serve", "check", "login", "dev"}, 1, []string{"pin_file", "0640", "chmod 600"}},
	{"no PIN file", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, devPIN))) },
		[]string{"serve", "check", "login", "dev"}, 1, []string{"pin_file", "no such file"}},
	{"an empty PIN file", func(t *testing.T, dir string) { write(t, filepath.Join(dir, devPIN), "\n") },
		[]string{"serve", "login", "dev"}, 1, []string{"PIN file", "1 to 255 bytes"}},
	{"a certificate of another key", certifyStranger,
		[]string{"serve", "login"}, 1, []string{"another modulus than the certificate"}},
	{"a certificate of another key, to dev", certifyStranger,
		[]string{"dev"}, 1, []string{devSigning, "another key", "remove"}},
	{"no configuration of SoftHSM", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, devSoftHSM))) },
		[]string{"serve", "check", "login"}, 1, []string{"token.environment", "SOFTHSM2_CONF", devSoftHSM, "no such file"}},
	{"no token folder", func(t *testing.T, dir string) { check(t, os.RemoveAll(filepath.Join(dir, devTokens))) },
		[]string{"serve", "check", "login"}, 1, []string{"token.environment", "directories.tokendir", "no such file"}},
	{"no module", func(t *testing.T, dir string) {
		replaceLine(t, filepath.Join(dir, devConfig), "module:", "  module: /nonexistent/libsofthsm2.so")
	}, []string{"serve", "check", "login", "dev"}, 1, []string{"/nonexistent/libsofthsm2.so", "no such file"}},
	{"a module that is no library", func(t *testing.T, dir string) {
		replaceLine(t, filepath.Join(dir, devConfig), "module:", "  module: policy.yaml")
	}, []string{"serve", "login"}, 1, []string{"policy.yaml", "not a library"}},
	{"a token of another label", func(t *testing.T, dir string) {
		replaceLine(t, filepath.Join(dir, devConfig), "label:", "  label: production")
	}, []string{"serve", "login"}, 1, []string{`label "production"`, `the module has label "roamsign-dev"`}},
	{"a key of another label", func(t *testing.T, dir string) {
		replaceLine(t, filepath.Join(dir, devConfig), "key_label:", "  key_label: sealing")
	}, []string{"serve", "login"}, 1, []string{`label "sealing"`, `label "signing" ID "01"`}},
	{"no policy", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, devPolicy))) },
		[]string{"serve", "check", "login"}, 1, []string{"policy", devPolicy, "no such file"}},
	{"a policy that is not understood", func(t *testing.T, dir string) {
		replace(t, filepath.Join(dir, devPolicy), "taxpayers: all", "taxpayers: most")
	}, []string{"serve", "check", "login", "dev"}, 1, []string{devPolicy + ": line 11: ", "must be a list"}},
	{"a certificate of another than the policy's intermediary", func(t *testing.T, dir string) {
		replace(t, filepath.Join(dir, devPolicy), "taxpayers:\n", "taxpayers:\n  - {tin: C20880050080, brn: \"202001234590\", intermediary: true}\n")
	}, []string{"serve", "check", "login", "dev"}, 1, []string{
		devPolicy + ": line 3: the intermediary is C20880050080", `the signing certificate is that of "C20880050090"`, "correct the intermediary there, or"}},
	{"a key of the configuration that nobody knows", func(t *testing.T, dir string) {
		replace(t, filepath.Join(dir, devConfig), "policy: policy.yaml", "policy: policy.yaml\npolice: policy.yaml")
	}, []string{"serve", "check", "login", "dev"}, 1, []string{devConfig + ": line 10: police is not a key"}},
	{"no configuration", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, devConfig))) },
		[]string{"serve", "check", "login"}, 1, []string{"reading the configuration", devConfig, "no such file"}},
}

func TestAStartThatFailsSaysWhyAndChangesNothing(t *testing.T) {
	for _, row := range failures {
		for _, way := range row.ways {
			t.Run(way+" with "+row.name, func(t *testing.T) {
				dir := folder(t)
				config := filepath.Join(dir, devConfig)
				args := map[string][]string{
					"serve": {"serve", "--config", config},
					"check": {"check", "--config", config},
					"login": {"check", "--config", config, "--login"},
					"dev":   {"dev", "--dir", dir},
				}[way]
				pin := strings.TrimSpace(read(t, filepath.Join(dir, devPIN)))
				row.spoil(t, dir)
				before := snapshot(t, dir)
				code, out, errs := ends(t, args...)
				errs = regexp.MustCompile(`(?m)^roamsignd: warning: .* ends in 0 days.*\n`).ReplaceAllString(errs, "") // a test's certificate does
				if code != row.code || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "roamsignd: ") {
					t.Errorf("got code %d and\n%s\nwant %d and one line", code, errs, row.code)
				}
				for _, part := range row.want {
					if !strings.Contains(errs, part) {
						t.Errorf("got %q, want %q in it", errs, part)
					}
				}
				if strings.Contains(out+errs, pin) || strings.Contains(out+errs, "13572468") {
					t.Errorf("a PIN is shown:\n%s%s", out, errs)
				}
				unchanged(t, dir, before)
			})
		}
	}
}

func TestAnAddressInUseIsTold(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	dir := folder(t)
	replaceLine(t, filepath.Join(dir, devConfig), "listen:", "listen: "+taken.Addr().String())
	before := snapshot(t, dir)
	for _, args := range [][]string{
		{"serve", "--config", filepath.Join(dir, devConfig)},
		{"dev", "--dir", dir, "--listen", taken.Addr().String()},
	} {
		code, _, errs := ends(t, args...)
		if code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, taken.Addr().String()) || !strings.Contains(errs, "address already in use") {
			t.Errorf("%s: got code %d and %q, want 1 and a line that says that %s is in use", args[0], code, errs, taken.Addr())
		}
		unchanged(t, dir, before)
	}
}
