package hsm

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// The limits of what a [Config] may say.
const (
	maxLabel    = 32   // bytes of a token's label, PKCS#11 section 3.2, CK_TOKEN_INFO
	maxSerial   = 16   // bytes of a token's serial number, same
	maxSessions = 1024 // each one in a call is a thread of this process
)

// Config names a token, the key in it, and how to reach them. The zero Config
// is refused. Paths are taken as they stand: whoever read the file resolves them.
type Config struct {
	// Module is the path of the vendor's PKCS#11 library. No default. A path
	// that is no loadable library is refused at opening, with [ErrModule].
	Module string `yaml:"module"`

	// Environment is set in the process before C_Initialize, since vendors'
	// libraries are configured that way (SOFTHSM2_CONF, ChrystokiConfigurationPath).
	// Default none. For SoftHSM the file and its token folder are checked first,
	// because SoftHSM itself gives no more than CKR_GENERAL_ERROR. Two tokens of
	// one module must name the same environment. No PIN belongs here.
	Environment map[string]string `yaml:"environment"`

	// TokenLabel and TokenSerial name the token: at least one is needed, and
	// both must fit when both are given. Slot numbers are not accepted, since
	// they change. No token, or several: an error that lists what is there.
	TokenLabel  string `yaml:"label"`
	TokenSerial string `yaml:"serial"`

	// PINFile is the path of the file that holds the user PIN and nothing else
	// (one trailing newline is dropped). No default. It must be a regular file
	// that neither group nor others can read. It is read at each login and not
	// kept. "$CREDENTIALS_DIRECTORY/NAME" is the credential NAME that systemd gives
	// the service.
	PINFile string `yaml:"pin_file"`

	pin PIN // in place of PINFile, see [Config.WithPIN]

	next *nextKey // see [Config.WithNext]; nil: none

	// KeyLabel and KeyID (hexadecimal) name the private key by CKA_LABEL and
	// CKA_ID: at least one is needed, and both must fit when both are given. No
	// key: an error that lists what is there. Several: serving takes the one whose
	// modulus is the certificate's; the ceremony, which has none, refuses.
	KeyLabel string `yaml:"key_label"`
	KeyID    string `yaml:"key_id"`

	// Sessions is how many signatures are made at once, 1 to 1024. Default (0):
	// 2 for each core, which is right for a token in software; a
	// network HSM wants what its vendor advises. Never more than the token allows
	// less one, which is held for life. Too many make long tails, too few leave
	// the token idle.
	Sessions int `yaml:"sessions"`
}

// Validate reports all that is wrong with the values, joined, each beginning
// with the yaml key that it is about. It touches nothing.
func (c Config) Validate() error {
	var faults []error
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	add(c.Module == "", "module: missing: give the path of the PKCS#11 library")
	for name := range c.Environment {
		add(name == "" || strings.ContainsAny(name, "=\x00"), "environment: %q is no name of a variable", name)
	}
	add(c.TokenLabel == "" && c.TokenSerial == "", "label: missing: give the token's label or its serial")
	add(len(c.TokenLabel) > maxLabel, "label: %d bytes, at most %d", len(c.TokenLabel), maxLabel)
	add(len(c.TokenSerial) > maxSerial, "serial: %d bytes, at most %d", len(c.TokenSerial), maxSerial)
	add(c.PINFile == "" && c.pin.empty(), "pin_file: missing: give the path of the file that holds the user PIN")
	add(c.KeyLabel == "" && c.KeyID == "", "key_label: missing: give the key's label or its ID (key_id)")
	_, err := hex.DecodeString(c.KeyID)
	add(err != nil, "key_id: %q is not hexadecimal", c.KeyID)
	add(c.Sessions < 0 || c.Sessions > maxSessions, "sessions: %d, want 1 to %d, or 0 for the default", c.Sessions, maxSessions)
	return errors.Join(faults...)
}

// Check reports all that [Config.Validate] does and, beside it, what is wrong
// with the files that the Config names: the module, SoftHSM's configuration and
// the PIN file. It loads no module and touches no token.
func (c Config) Check() error {
	faults := []error{c.Validate()}
	if c.Module != "" {
		faults = append(faults, c.checkModule())
	}
	if c.PINFile != "" && c.pin.empty() {
		file, err := openPIN(c.PINFile)
		if err == nil {
			err = file.Close()
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("pin_file: %w", err))
		}
	}
	return errors.Join(faults...)
}

// checkModule looks at the files that a module is loaded and initialised from.
func (c Config) checkModule() error {
	info, err := os.Stat(c.Module)
	switch {
	case err != nil:
		return fmt.Errorf("module: %w: %w", ErrModule, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("module: %w: %s is not a regular file", ErrModule, c.Module)
	}
	conf, given := c.Environment[softHSMVariable]
	if !given && isSoftHSM(c.Module) {
		conf, given = os.LookupEnv(softHSMVariable)
	}
	if !given {
		return nil
	}
	if err := checkSoftHSM(conf); err != nil {
		return fmt.Errorf("environment: %w: %s: %w", ErrModule, softHSMVariable, err)
	}
	return nil
}

const softHSMVariable = "SOFTHSM2_CONF"

func isSoftHSM(module string) bool { return strings.Contains(filepath.Base(module), "softhsm") }

// checkSoftHSM reads SoftHSM's configuration as far as its token folder.
func checkSoftHSM(conf string) error {
	file, err := os.Open(conf)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if strings.TrimSpace(key) != "directories.tokendir" {
			continue
		}
		if _, err := os.ReadDir(strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("%s: directories.tokendir: %w", conf, err)
		}
		return nil
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading %s: %w", conf, err)
	}
	return fmt.Errorf("%s: no directories.tokendir in it", conf)
}

// keyID returns KeyID's bytes; nil when it is empty. Validate has been called.
func (c Config) keyID() []byte {
	id, _ := hex.DecodeString(c.KeyID)
	return id
}

// sessions returns how many sessions to work with on a token that allows limit
// at once. Zero and all ones mean no limit known (PKCS#11 section 3.2,
// CK_EFFECTIVELY_INFINITE and CK_UNAVAILABLE_INFORMATION).
func (c Config) sessions(limit uint) (int, error) {
	n := c.Sessions
	if n == 0 {
		n = 2 * runtime.GOMAXPROCS(0)
	}
	if limit == 0 || limit > maxSessions {
		return n, nil
	}
	if limit < 2 {
		return 0, fmt.Errorf("the token allows %d session, two are needed: one to hold the login and one to sign", limit)
	}
	return min(n, int(limit)-1), nil
}
