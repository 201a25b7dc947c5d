package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/internal/strict"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/signer"
)

// lookEvery is how often the files are looked at. A change is taken over when
// two looks find the same, so that a file that is being written is not.
const lookEvery = 500 * time.Millisecond

// changeable is the server, as far as files change it.
type changeable interface {
	SetPolicy(*policy.Policy)
	SetCredentials(signer.Credentials) error
	SetStopped(map[[32]byte]bool)
	SetRevocations(*ca.CRLs)
	ReportFiles(error)
}

// reloader keeps a server going by what stands in its files. It looks at their
// content, again and again, rather than have itself told of changes: that works
// for every way in which editors, certificate tools and Kubernetes replace files.
// It belongs to one goroutine.
type reloader struct {
	setup       *setup // as the service was started with
	server      changeable
	log         *slog.Logger
	now         func() time.Time
	credentials signer.Credentials // in force
	sources     []*source
	overdue     bool      // a revocation list is, and the log says so
	stopped     stopList  // in force
	crls        *ca.CRLs  // likewise
	reminded    time.Time // when the log last told of a certificate that ends
}

// source is files that are read together.
type source struct {
	name  string
	files []string
	// take reads them and puts in force what has no fault, but for what waits for
	// a restart, which it names.
	take  func() (waits []string, err error)
	whole bool     // it is replaced as a whole, and so never half written
	known bool     // they were read before
	seen  [32]byte // their content when they were read
	last  [32]byte // their content at the last look
	fault error    // of what was read

	refused atomic.Bool // it has a fault, for whoever asks
}

func newReloader(s *setup, server changeable, log *slog.Logger) *reloader {
	r := &reloader{setup: s, server: server, log: log, now: time.Now, credentials: s.credentials, stopped: s.stopped, crls: s.crls}
	r.sources = []*source{
		{name: "policy", files: []string{s.Policy}, take: r.takePolicy},
		{name: "tls", files: s.Signer.TLS.Files(), take: r.takeCredentials},
		{name: "signing.certificate", files: s.Signing.files(), take: r.compareSigning},
		{name: "configuration", files: []string{s.path}, take: r.compareConfig},
	}
	if s.Signing.CRL != "" {
		r.sources = append(r.sources, &source{name: "signing.crl", files: []string{s.Signing.CRL}, take: r.takeCRLs})
	}
	stopped := &source{name: "stopped", files: []string{s.stoppedFile()}, take: r.takeStopped, whole: true}
	r.sources = slices.Insert(r.sources, 0, stopped)
	return r
}

// start looks after the files until ctx ends. The function it returns waits for
// that.
func (r *reloader) start(ctx context.Context, hangups <-chan os.Signal) (wait func()) {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				r.readAll()
			case <-ticker.C:
				r.look()
			}
		}
	})
	return func() { cancel(); looking.Wait() }
}

// look reads what has changed and is at rest.
func (r *reloader) look() {
	for _, s := range r.sources {
		content := contentOf(s.files)
		rests := content == s.last || s.whole
		s.last = content
		if rests && (!s.known || content != s.seen) {
			r.read(s, content)
		}
	}
	r.report()
}

// readAll reads everything, since somebody says that it is ready.
func (r *reloader) readAll() {
	for _, s := range r.sources {
		s.known = true // so that it is told
		s.last = contentOf(s.files)
		r.read(s, s.last)
	}
	r.report()
}

// read takes a source over. It says so, but for the first time: then what was
// read when the service was started is read again, lest a change between the two
// go unseen.
func (r *reloader) read(s *source, content [32]byte) {
	first := !s.known
	s.known, s.seen = true, content
	var waits []string
	waits, s.fault = s.take()
	s.refused.Store(s.fault != nil)
	switch {
	case s.fault != nil:
		r.log.Warn("not taken over: what was before stays in force", "what", s.name, "error", s.fault.Error())
	case len(waits) > 0:
		r.log.Warn("changed, and wants a restart", "what", strings.Join(waits, ", "))
	case !first:
		r.log.Info("in force", "what", s.name)
	}
}

// report tells health of all faults, and the log of a revocation list that
// should have been renewed. Such a list stays in force: its authority's being
// late is no reason to let in those it names, nor to refuse everybody else.
func (r *reloader) report() {
	var faults []error
	for _, s := range r.sources {
		faults = append(faults, prefixed(s.name, s.fault))
	}
	err := errors.Join(r.credentials.Overdue(r.now()), overdue(r.crls, r.now()))
	r.remind(r.now())
	switch {
	case err != nil && !r.overdue:
		r.log.Warn("a revocation list is overdue: it stays in force", "error", err.Error())
	case err == nil && r.overdue:
		r.log.Info("the revocation lists are up to date again")
	}
	r.overdue = err != nil
	r.server.ReportFiles(errors.Join(append(faults, err)...))
}

// remind tells the log, once a day, of a signing certificate that ends soon.
func (r *reloader) remind(now time.Time) {
	if since := now.Sub(r.reminded); since >= 0 && since < 24*time.Hour {
		return
	}
	if err := r.setup.ending(now); err != nil {
		r.reminded = now
		r.log.Warn("the signing certificate wants to be renewed", "error", err.Error())
	}
}

// takeStopped takes over under which certificates nothing is signed.
func (r *reloader) takeStopped() ([]string, error) {
	next, err := loadStopped(r.setup.stoppedFile())
	if err != nil {
		return nil, err
	}
	r.server.SetStopped(next)
	for _, name := range next.without(r.stopped) {
		r.log.Warn("signing under a certificate is stopped", "certificate", name)
	}
	for _, name := range r.stopped.without(next) {
		r.log.Warn("signing under a certificate is resumed", "certificate", name)
	}
	r.stopped = next
	return nil, nil
}

func (r *reloader) takeCRLs() ([]string, error) {
	lists, err := r.setup.loadCRLs()
	if err != nil {
		return nil, err
	}
	r.server.SetRevocations(lists)
	r.crls = lists
	return nil, nil
}

func (r *reloader) takePolicy() ([]string, error) {
	rules, err := loadPolicy(r.setup.Policy)
	if err != nil {
		return nil, errors.Join(faultsOf(r.setup.Policy, err)...)
	}
	if err := r.setup.holders(rules); err != nil {
		return nil, err
	}
	r.server.SetPolicy(rules)
	r.warnOf(rules)
	return nil, nil
}

// warnOf tells the log what "roamsignd check" would warn of, in one line, however
// much it is.
func (r *reloader) warnOf(rules *policy.Policy) {
	if warnings := r.setup.warnings(rules, r.now()); len(warnings) > 0 {
		r.log.Warn("the policy denies more than it seems to: roamsignd check tells all",
			"file", r.setup.Policy, "warnings", len(warnings), "first", warnings[0].Error())
	}
}

// takeCredentials takes over what has no fault, even if some has.
func (r *reloader) takeCredentials() ([]string, error) {
	next, err := r.setup.Signer.TLS.Reload(r.credentials)
	if refused := r.server.SetCredentials(next); refused != nil {
		return nil, errors.Join(err, refused)
	}
	if gone := r.credentials.Revoked.Len() - next.Revoked.Len(); gone > 0 {
		r.log.Warn("the list of revocations is shorter: whom it named may connect again", "file", r.setup.Signer.TLS.Revoked, "gone", gone)
	}
	r.credentials = next
	return nil, err
}

// compareSigning finds another signing certificate, or one that would prevent a
// restart.
func (r *reloader) compareSigning() ([]string, error) {
	chain, err := r.setup.Signing.load()
	if err != nil {
		return nil, err
	}
	follows, err := r.setup.Signing.loadNext(chain)
	if err != nil {
		return nil, err
	}
	var waits []string
	if !slices.EqualFunc(chain, r.setup.chain, (*x509.Certificate).Equal) {
		waits = append(waits, "signing.certificate")
	}
	if follows != nil && !slices.EqualFunc(follows.chain, r.setup.next.chain, (*x509.Certificate).Equal) {
		waits = append(waits, "signing.next.certificate")
	}
	if len(waits) == 0 {
		return nil, nil
	}
	next := &setup{config: r.setup.config, chain: chain, next: follows}
	if rules, err := loadPolicy(next.Policy); err == nil { // else that is told of the policy
		if err := next.holders(rules); err != nil {
			return nil, err
		}
	}
	return waits, nil
}

// compareConfig finds the keys of the configuration that were changed. Which
// files there are, what they are read for and all else is settled at the start.
func (r *reloader) compareConfig() ([]string, error) {
	next, document, err := decode(r.setup.path)
	if err != nil {
		return nil, err
	}
	if err := document.Err(); err != nil {
		return nil, errors.Join(faultsOf(r.setup.path, err)...)
	}
	return differing(reflect.ValueOf(r.setup.config), reflect.ValueOf(next.config)), nil
}

// differing returns the keys under which two configurations are not the same.
func differing(a, b reflect.Value) (keys []string) {
	for i := range a.NumField() {
		key, flags, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		if flags == "inline" {
			keys = append(keys, differing(a.Field(i), b.Field(i))...)
		} else if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			keys = append(keys, key)
		}
	}
	return keys
}

// contentOf tells whether files are what they were. A file that cannot be read
// has a content, too: why it cannot.
func contentOf(files []string) (sum [32]byte) {
	hash := sha256.New()
	for _, path := range files {
		if err := digest(hash, path); err != nil {
			fmt.Fprintf(hash, "\x00%v\x00", err)
		}
		fmt.Fprint(hash, "\x00", path, "\x00")
	}
	return [32]byte(hash.Sum(nil))
}

// digest adds a file's mode and content, as far as one is read at all: a mode may
// be a fault, too.
func digest(to io.Writer, path string) error {
	file, err := strict.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	fmt.Fprint(to, info.Mode())
	_, err = io.Copy(to, io.LimitReader(file, strict.MaxFile+1))
	return err
}
