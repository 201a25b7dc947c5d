package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/policy"
	"go.yaml.in/yaml/v3"
)

// devTaxpayers are made up. The first is the client's default.
var devTaxpayers = []devParty{
	{"C20880050010", "201901054321", "Kopi Kampung Baru Sdn. Bhd."},
	{"C20880050020", "202001234568", "Contoh Kedai Sdn. Bhd."},
}

// devIntermediary holds the signing certificate: as with a roaming certificate,
// it is not the taxpayer.
var devIntermediary = devParty{"C20880050090", "202001234590", "Contoh Perantara Sdn. Bhd."}

type devParty struct{ tin, brn, name string }

// softHSMVariable tells SoftHSM2 where its configuration is.
const softHSMVariable = "SOFTHSM2_CONF"

// devLogName is the audit log's name.
const devLogName = "dev.roamsign.test/log"

// devCaller is the client certificate's name.
const devCaller = "spiffe://dev.roamsign.test/client"

// writeFile writes a file in one step: readers see nothing, or all of it.
func writeFile(path, text string, mode os.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return os.Rename(file.Name(), path)
}

// once writes a file unless it is there.
func (d *dev) once(name, text string, mode os.FileMode) error {
	if _, err := os.Stat(d.path(name)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return writeFile(d.path(name), text, mode)
}

// configText is roamsignd.yaml.
func (d *dev) configText(module, address string) string {
	return fmt.Sprintf(`# Written by "roamsignd dev". Paths are relative to this file.
listen: %q
tls:
  certificate: server.pem
  key: server.key
  client_ca: %s/ca.pem
  revoked: %s
clients: %s
policy: %s
signing:
  certificate: %s
audit:
  dir: %s
  key_files: [%s]
state: %s
token:
  module: %q
  environment:
    %s: %q
  label: %s
  pin_file: %s
  key_label: %s
  key_id: %q
`, address, devClients, devRevoked, devClients, devPolicy, devSigning, devAudit, devLogKey, devState, module, softHSMVariable, d.path(devSoftHSM), devToken, devPIN, devKeyLabel, devKeyID)
}

// softHSMText is softhsm2.conf, for tokens in a folder.
func softHSMText(tokens string) string {
	return fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
}

// log makes the audit log and its key, or finds them. The key gets its name last: a
// run that was killed before leaves a log that nothing was ever released by.
func (d *dev) log(ctx context.Context, out io.Writer) error {
	key, err := audit.ReadKey(d.path(devLogKey))
	if errors.Is(err, os.ErrNotExist) {
		key, err = d.newLog(ctx)
		fmt.Fprintln(out, "Made   an audit log, which every signature is put down in before it is released")
	}
	if err != nil {
		return err
	}
	return d.once(devLogPub, key.Verifier()+"\n", 0o600)
}

func (d *dev) newLog(ctx context.Context) (audit.Key, error) {
	const aside = devLogKey + ".new"
	for _, left := range []string{aside, devAudit} {
		if err := os.RemoveAll(d.path(left)); err != nil {
			return audit.Key{}, err
		}
	}
	key, err := audit.NewKey(devLogName)
	if err != nil {
		return key, err
	}
	if err := key.Write(d.path(aside)); err != nil {
		return key, err
	}
	if err := audit.Create(ctx, audit.Config{Dir: d.path(devAudit), KeyFiles: []string{d.path(aside)}}); err != nil {
		return key, err
	}
	return key, os.Rename(d.path(aside), d.path(devLogKey))
}

// policyText is policy.yaml.
func policyText() string {
	var b strings.Builder
	b.WriteString("# Written by \"roamsignd dev\". The taxpayers are made up.\ntaxpayers:\n")
	for _, t := range devTaxpayers {
		fmt.Fprintf(&b, "  - tin: %s\n    brn: %q\n    name: %s\n", t.tin, t.brn, t.name)
	}
	fmt.Fprintf(&b, "callers:\n  - name: %s\n    taxpayers: all\n    methods:\n", devCaller)
	for _, method := range policy.Methods() {
		fmt.Fprintf(&b, "      - %s\n", method)
	}
	b.WriteString("    auditor: true\n")
	return b.String()
}

// clientText is client.yaml.
func clientText(address string) string {
	return fmt.Sprintf(`# Written by "roamsignd dev". Paths are relative to this file.
servers: [%q]
ca: tls-ca.pem
certificate: client.pem
key: client.key
tin: %s
`, address, devTaxpayers[0].tin)
}

// addTaxpayers appends those to the policy that it lacks, and leaves the rest of
// it as it is.
func (d *dev) addTaxpayers() error {
	if len(d.taxpayers) == 0 {
		return nil
	}
	text, err := os.ReadFile(d.path(devPolicy))
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("%s: %w", devPolicy, err)
	}
	list := valueOf(&document, "taxpayers")
	if list == nil || list.Kind != yaml.SequenceNode {
		return fmt.Errorf("%s: no list of taxpayers to add to", devPolicy)
	}
	added := false
	for _, tin := range d.taxpayers {
		if slices.ContainsFunc(list.Content, func(t *yaml.Node) bool { v := valueOf(t, "tin"); return v != nil && v.Value == tin }) {
			continue
		}
		added = true
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
			{Kind: yaml.ScalarNode, Value: "tin"}, {Kind: yaml.ScalarNode, Value: tin},
		}})
	}
	if !added {
		return nil
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return fmt.Errorf("%s: %w", devPolicy, err)
	}
	return writeFile(d.path(devPolicy), out.String(), 0o600)
}

// valueOf finds the value of a key in a mapping, or in a document that is one.
func valueOf(node *yaml.Node, key string) *yaml.Node {
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

// recorded is what an earlier run wrote into roamsignd.yaml, or its user since,
// and the next one goes by. The zero value stands for no earlier run.
type recorded struct {
	Listen string         `yaml:"listen"`
	Audit  map[string]any `yaml:"audit"`
	Token  struct {
		Module      string            `yaml:"module"`
		Environment map[string]string `yaml:"environment"`
	} `yaml:"token"`
}

// recorded reads what an earlier run left. What cannot be read counts as none:
// it is written anew.
func (d *dev) recorded() recorded {
	var r recorded
	text, err := os.ReadFile(d.path(devConfig))
	if err != nil || yaml.Unmarshal(text, &r) != nil {
		return recorded{}
	}
	return r
}

// configure writes the two configurations, unless they say already where the
// service, the module and the folder are.
func (d *dev) configure(before recorded, module, address string) error {
	same := before.Listen == address && before.Audit != nil && before.Token.Module == module &&
		before.Token.Environment[softHSMVariable] == d.path(devSoftHSM)
	if !same {
		if err := writeFile(d.path(devConfig), d.configText(module, address), 0o600); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(d.path(devClient))
	if err == nil && strings.Contains(string(text), fmt.Sprintf("%q", address)) {
		return nil
	}
	return writeFile(d.path(devClient), clientText(address), 0o600)
}
