package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/internal/strict"
	"github.com/roamsign/roamsign/myinvois/sandbox"
	"github.com/roamsign/roamsign/policy"
)

// standLife is how long what the sandbox gives out is valid: as long as a client ID
// of LHDN's lives at most.
const standLife = 3 * 365 * 24 * time.Hour

// world reads who exists, or makes it at the first start, and adds what the flags
// say.
func (s *stand) world(now time.Time) (sandbox.Config, error) {
	var config sandbox.Config
	if err := s.trust(); err != nil {
		return config, err
	}
	first, err := s.missing(standWorld)
	if err == nil && first {
		err = s.put(standWorld, worldText(now))
	}
	if err != nil {
		return config, fmt.Errorf("setting up %s: %w", s.dir, err)
	}
	text, err := strict.ReadFile(s.path(standWorld), strict.MaxFile)
	if err != nil {
		return config, err
	}
	file := strict.Decode(text, &config)
	file.Locate("", config.Validate())
	if faults, wrong := errors.AsType[strict.Faults](file.Err()); wrong {
		each := make([]error, len(faults))
		for i, fault := range faults {
			each[i] = fmt.Errorf("%s: %w", s.path(standWorld), fault)
		}
		return config, errors.Join(each...)
	}
	if config.Roots, err = ca.LoadPool(s.path(standRoots)); err != nil {
		return config, err
	}
	if s.validation > 0 {
		config.Validation = s.validation
	}
	return config, s.add(&config, now)
}

// trust takes over the roots that --roots names.
func (s *stand) trust() error {
	if s.roots == "" {
		missing, err := s.missing(standRoots)
		if missing {
			err = command.Usagef("name the authorities of the signing certificates with --roots FILE, such as the roots.pem of roamsignd dev")
		}
		return err
	}
	certificates, err := ca.LoadAuthorities(s.roots)
	if err != nil {
		return fmt.Errorf("reading --roots: %w", err)
	}
	return ca.WriteCertificates(s.path(standRoots), certificates...)
}

// add adds the taxpayers and the faults of the flags. The first client of the file
// represents the taxpayers.
func (s *stand) add(config *sandbox.Config, now time.Time) error {
	for _, given := range s.taxpayers {
		tin, brn, _ := strings.Cut(given, ":")
		if _, err := policy.ParseTIN(tin); err != nil {
			return command.Usagef("--taxpayer: %v", err)
		}
		if slices.ContainsFunc(config.Taxpayers, func(t sandbox.Taxpayer) bool { return t.TIN == tin }) {
			continue
		}
		config.Taxpayers = append(config.Taxpayers, sandbox.Taxpayer{TIN: tin, BRN: brn, Name: tin, Represented: []sandbox.Representation{{
			By: config.Clients[0].TIN, From: now.AddDate(0, -1, 0), To: now.Add(standLife), Rights: sandbox.Rights(),
		}}})
	}
	for _, given := range s.faults {
		fault, err := sandbox.ParseFault(given)
		if err != nil {
			return command.Usagef("--fault: %v", err)
		}
		config.Faults = append(config.Faults, fault)
	}
	return nil
}

// worldText is sandbox.yaml of a first start. The people are those of roamsignd dev.
func worldText(now time.Time) string {
	from, to := now.AddDate(0, -1, 0).Format(time.DateOnly), now.Add(standLife).Format(time.DateOnly)
	represented := fmt.Sprintf("    represented:\n      - {by: C20880050090, from: %s, to: %s, rights: [submit, cancel, reject]}\n", from, to)
	return fmt.Sprintf(`# Written by "roamsign sandbox", which is not LHDN. Who exists there, and who may log
# in. The people are made up; change what you like, and start it again.
clients:
  - id: %q # the intermediary's: credentials.yaml has it
    secrets: [%q, %q]
    tin: C20880050090
    expires: %s
  - id: %q # the first taxpayer's own
    secrets: [%q]
    tin: C20880050010
    expires: %[4]s
taxpayers:
  - tin: C20880050090
    brn: "202001234590"
    name: Contoh Perantara Sdn. Bhd.
  - tin: C20880050010
    brn: "201901054321"
    name: Kopi Kampung Baru Sdn. Bhd.
%[7]s  - tin: C20880050020
    brn: "202001234568"
    name: Contoh Kedai Sdn. Bhd.
%[7]s`, uuid.NewString(), rand.Text(), rand.Text(), to, uuid.NewString(), rand.Text(), represented)
}

// certify makes the server's certificate and its authority, or finds them still
// valid. The authority's key is thrown away once it has issued.
func (s *stand) certify(now time.Time) error {
	chain, err := ca.LoadCertificates(s.path(standServer))
	if err == nil && now.Add(24*time.Hour).Before(chain[0].NotAfter) {
		if _, err := ca.LoadPair(s.path(standServer), s.path(standKey)); err == nil {
			return nil
		}
	}
	validity := ca.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}
	authority, err := ca.New("roamsign sandbox CA, NOT LHDN", ca.ECDSA, validity)
	if err != nil {
		return err
	}
	server, err := authority.Server([]string{"localhost", "127.0.0.1", "::1"}, validity)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(standKey)); err != nil { // of a run that was killed, or of what has ended
		return err
	}
	return errors.Join(ca.WriteCertificates(s.path(standCA), authority.Certificate()), server.Save(s.path(standServer), s.path(standKey), authority.Certificate()))
}

// tell writes what clients need, unless it says already what is so.
func (s *stand) tell(address string, config sandbox.Config) error {
	first := config.Clients[0]
	expires := first.Expires
	if expires.IsZero() {
		expires = time.Now().Add(standLife)
	}
	var secrets strings.Builder
	for _, secret := range first.Secrets {
		fmt.Fprintf(&secrets, "      - {secret: %q, expires: %s}\n", secret, expires.Format(time.DateOnly))
	}
	credentials := fmt.Sprintf("# Written by \"roamsign sandbox\" from sandbox.yaml, at each start. They open nothing of LHDN's.\nclients:\n  - client_id: %q\n    as: intermediary\n    secrets:\n%s", first.ID, secrets.String())
	if err := s.put(standCredentials, credentials); err != nil {
		return err
	}
	if s.lastAddress() == address {
		return nil
	}
	return s.put(standPlatform, fmt.Sprintf(`# Written by "roamsign sandbox", which is not LHDN. Paths are relative to this file.
api: "https://%s"
ca: %s
credentials: %s
roots: %s
poll_interval: 500ms
`, address, standCA, standCredentials, standRoots))
}
