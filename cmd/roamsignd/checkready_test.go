package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// probed is a folder of dev mode's that is served, and where; what a probe must not
// need is gone from the folder.
func probed(t *testing.T) (dir, config string) {
	t.Helper()
	dir = folder(t)
	config = filepath.Join(dir, devConfig)
	d := start(t, "serve", "--config", config)
	replace(t, config, "listen: ", "probe: client.yaml\nlisten: "+d.address(t)+" # ")
	return dir, config
}

func TestAProbeLearnsWhetherTheServiceServes(t *testing.T) {
	dir, config := probed(t)
	for _, gone := range []string{devPIN, devPolicy, devSigning, devTokens} {
		check(t, os.Rename(filepath.Join(dir, gone), filepath.Join(dir, gone+".away")))
	}
	for _, row := range []struct {
		name string
		args []string
		code int
		want string // on standard output, or on standard error
	}{
		{"as the configuration says", nil, 0, config + ": serving\n"},
		{"as somebody else", []string{"--as", filepath.Join(dir, "client.yaml")}, 0, config + ": serving\n"},
		{"of the service's files, which are faulty", []string{"--service", "roamsign.v1.SignerService/files"}, 1, "not serving"},
		{"of the API", []string{"--service", "roamsign.v1.SignerService"}, 0, config + ": serving\n"},
		{"of what is none", []string{"--service", "nobody"}, 1, `knows no service "nobody"`},
		{"as nobody", []string{"--as", filepath.Join(dir, "nobody.yaml")}, 1, "nobody.yaml"},
		{"and a login", []string{"--login"}, 2, "leave out --login"},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := append([]string{"check", "--config", config, "--ready"}, row.args...)
			code, out, errs := answered(t, args...)
			if row.name == "of the service's files, which are faulty" {
				for late := time.Now().Add(patience); code == 0 && time.Now().Before(late); { // it looks at them twice a second
					code, out, errs = answered(t, args...)
				}
			}
			if code != row.code || !strings.Contains(out+errs, row.want) || (code == 0) != (out != "") || strings.Count(out+errs, "\n") > 2 {
				t.Errorf("got code %d, %q and %q, want %d and %q", code, out, errs, row.code, row.want)
			}
		})
	}
}

// answered probes until it does not take too long: a second is, on a busy machine.
func answered(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		if code, out, errs = ends(t, args...); !strings.Contains(errs, "in time") || time.Now().After(late) {
			return code, out, errs
		}
	}
}

func TestAProbeOfAServiceThatIsGoneOrSilentEnds(t *testing.T) {
	_, config := probed(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	text := read(t, config)
	for name, row := range map[string]struct{ address, want string }{
		"silent":          {listener.Addr().String(), "in time"},
		"gone":            {goneAddress(t), "refused"},
		"at no sure port": {"127.0.0.1:0", "give it a number"},
		"at no port":      {"127.0.0.1", "must be HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			_, rest, _ := strings.Cut(text, " # ")
			write(t, config, "probe: client.yaml\nlisten: "+row.address+" # "+rest)
			began := time.Now()
			code, out, errs := ends(t, "check", "--ready", "--config", config)
			took := time.Since(began)
			if row.want != "in time" {
				code, out, errs = answered(t, "check", "--ready", "--config", config)
			}
			if code != 1 || out != "" || !strings.Contains(errs, row.want) {
				t.Errorf("got code %d, %q and %q, want 1 and %q", code, out, errs, row.want)
			}
			if took > 10*readyWithin {
				t.Errorf("it took %v, where %v is the bound", took, readyWithin)
			}
		})
	}
}

// goneAddress is a port that nobody listens on.
func goneAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", quiet)
	check(t, err)
	check(t, listener.Close())
	return listener.Addr().String()
}

func TestAProbeNeedsACertificate(t *testing.T) {
	dir := folder(t)
	config := filepath.Join(dir, devConfig)
	for _, args := range [][]string{{"--ready"}, {"--as", "client.yaml"}, {"--service", "files"}} {
		code, out, errs := ends(t, append([]string{"check", "--config", config}, args...)...)
		if code != 2 || out != "" || !strings.Contains(errs, "--help") {
			t.Errorf("check %v: got code %d, %q and %q, want 2 and a hint at --help", args, code, out, errs)
		}
	}
}

func TestAListenerIsReachedFromItsOwnMachine(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:7443": "127.0.0.1:7443", ":7443": "127.0.0.1:7443", "[::]:7443": "[::1]:7443",
		"192.0.2.1:7443": "192.0.2.1:7443", "signer.example.com:7443": "signer.example.com:7443",
	} {
		if got, err := reached(listen); err != nil || got != want {
			t.Errorf("%s: got %q and %v, want %q", listen, got, err, want)
		}
	}
}
