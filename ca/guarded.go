package ca

import (
	"fmt"
	"os"
	"path/filepath"
)

// Guarded refuses a key file that others than its owner have access to, as a PIN
// file would be refused. A systemd credential, which lies in the folder that
// CREDENTIALS_DIRECTORY names, may be readable by its group: that is how systemd
// gives it to the service.
func Guarded(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	forbidden := os.FileMode(0o077)
	folder := os.Getenv("CREDENTIALS_DIRECTORY") //nolint:forbidigo // systemd speaks to its services through their environment
	if folder != "" && filepath.Dir(path) == filepath.Clean(folder) {
		forbidden = 0o037
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return fmt.Errorf("key file %s: not a regular file", path)
	case mode.Perm()&forbidden != 0:
		return fmt.Errorf("key file %s: its mode is %#o, so others than its owner have access: run chmod 600 on it", path, mode.Perm())
	}
	return nil
}
