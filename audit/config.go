package audit

import (
	"errors"
	"fmt"
	"os"

	"github.com/transparency-dev/tessera"
)

// Config says where the log is and who signs it.
type Config struct {
	// Dir is the log's directory, on a local disk. No default. The log is made in
	// it by [Create], once. It grows by some 500 bytes a signature.
	Dir string `yaml:"dir"`

	// KeyFiles are the files of the keys that sign checkpoints, each made by
	// [NewKey], readable by nobody else. At least one; no default. To change a key,
	// name the new one beside the old, give the new verifier key to everybody who
	// verifies, then take the old one away. All have the same name.
	KeyFiles []string `yaml:"key_files"`

	// WitnessFile is the file of a witness policy (https://c2sp.org/tlog-policy).
	// Default "": no witnesses. With one, no checkpoint is published, and so no
	// receipt made, that the policy's quorum has not cosigned; signing goes on.
	WitnessFile string `yaml:"witness_file"`
}

// Validate reports all that is wrong with the values, joined, each beginning with
// the yaml key that it is about. It touches nothing.
func (c Config) Validate() error {
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("dir: missing: the directory of the audit log"))
	}
	if len(c.KeyFiles) == 0 {
		faults = append(faults, errors.New("key_files: missing: the file of the key that signs the audit log"))
	}
	for i, path := range c.KeyFiles {
		if path == "" {
			faults = append(faults, fmt.Errorf("key_files: number %d is empty", i+1))
		}
	}
	return errors.Join(faults...)
}

// keys reads the key files.
func (c Config) keys() ([]Key, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	keys := make([]Key, len(c.KeyFiles))
	for i, path := range c.KeyFiles {
		k, err := ReadKey(path)
		if err != nil {
			return nil, err
		}
		if keys[i] = k; k.Name() != keys[0].Name() {
			return nil, fmt.Errorf("log key %s: of log %q, the first one is of log %q", path, k.Name(), keys[0].Name())
		}
	}
	return keys, nil
}

// maxWitnessFile bounds the witness policy.
const maxWitnessFile = 64 << 10

// witnesses reads the witness policy; none asks nobody.
func (c Config) witnesses() (tessera.WitnessGroup, error) {
	if c.WitnessFile == "" {
		return tessera.WitnessGroup{}, nil
	}
	text, err := os.ReadFile(c.WitnessFile)
	if err != nil {
		return tessera.WitnessGroup{}, fmt.Errorf("reading the witness policy: %w", err)
	}
	if len(text) > maxWitnessFile {
		return tessera.WitnessGroup{}, fmt.Errorf("witness policy %s: more than %d bytes", c.WitnessFile, maxWitnessFile)
	}
	group, err := tessera.NewWitnessGroupFromPolicy(text)
	if err != nil {
		return tessera.WitnessGroup{}, fmt.Errorf("witness policy %s: %w", c.WitnessFile, err)
	}
	return group, nil
}
