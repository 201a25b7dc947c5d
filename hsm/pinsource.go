package hsm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// credentials begins the path of a PIN file that systemd hands to a service
// (LoadCredentialEncrypted= in the unit): "$CREDENTIALS_DIRECTORY/pin".
const (
	credentialsVariable = "CREDENTIALS_DIRECTORY"
	credentials         = "$" + credentialsVariable + "/"
)

// IsCredential reports whether the path of a PIN file names a systemd
// credential, "$CREDENTIALS_DIRECTORY/NAME", which is relative to no folder.
func IsCredential(path string) bool { return strings.HasPrefix(path, credentials) }

// locatePIN returns where a PIN file lies, and which mode bits it must not have.
// systemd gives a service its credentials by an access list, which shows as read
// permission of the group; the folder is the service's own.
func locatePIN(path string) (file string, forbidden os.FileMode, err error) {
	name, credential := strings.CutPrefix(path, credentials)
	if !credential {
		return path, 0o077, nil
	}
	folder := os.Getenv(credentialsVariable)
	switch {
	case folder == "":
		return "", 0, fmt.Errorf("PIN file %s: systemd gave this process no credentials: give the unit LoadCredentialEncrypted=%s", path, name)
	case !filepath.IsLocal(name) || strings.Contains(name, "/"):
		return "", 0, fmt.Errorf("PIN file %s: want the name of a credential after %s", path, credentials)
	}
	return filepath.Join(folder, name), 0o037, nil
}

// WithPIN returns the config with a user PIN that was asked for, which takes the
// place of PINFile. The caller wipes it, after the last use of the config.
func (c Config) WithPIN(pin PIN) Config {
	c.pin = pin
	return c
}

// readPIN returns the user PIN, for one login. The caller wipes it.
func (c Config) readPIN() (PIN, error) {
	if c.pin.empty() {
		return ReadPIN(c.PINFile)
	}
	return NewPIN(bytes.Clone(*c.pin.secret())), nil
}

// pinSource says where the PIN comes from.
func (c Config) pinSource() string {
	if c.pin.empty() {
		return "in " + c.PINFile
	}
	return "that was typed"
}
