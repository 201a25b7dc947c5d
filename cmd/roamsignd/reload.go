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
	SetNext(before, next *successor) error
	ReportFiles(error)
}

// reloader keeps a server going by what stands in its files. It looks at their
// content, again and again, rather than have itself told of changes: that works
// for every way in which editors, certificate tools and Kubernetes replace files.
// It belongs to one goroutine.
type reloader struct {
	setup       *setup // as the service goes by it; its own
	server      changeable
	log         *slog.Logger
	now         func() time.Time
	credentials signer.Credentials // in force
	sources     []*source
	overdue     bool      // a revocation list is, and the log says so
	named       upcoming  // what the configuration names as the next certificate
	stopped     stopList  // in force
	reminded    time.Time // when the log last told of a certificate that ends
}

// source is files that are read together.
type source struct {
	name    string
	content func() [32]byte // of the files
	// take reads them and puts in force what has no fault, but for what waits for
	// a restart, which it names.
	take  func() (waits []string, err error)
	whole bool     // it is replaced as a whole, and so never half written
	tells bool     // take itself tells the log what is in force
	known bool     // they were read before
	again bool     // they are to be read again, though they are the same
	seen  [32]byte // their content when they were read
	last  [32]byte // their content at the last look
	fault error    // of what was read

	refused atomic.Bool // it has a fault, for whoever asks
}

func newReloader(s *setup, server changeable, log *slog.Logger) *reloader {
	own := *s
	r := &reloader{setup: &own, server: server, log: log, now: time.Now, credentials: s.credentials, stopped: s.stopped, named: s.Signing.Next}
	r.sources = []*source{
		{name: "stopped", content: of(s.stoppedFile()), take: r.takeStopped, whole: true},
		{name: "policy", content: of(s.Policy), take: r.takePolicy},
		{name: "tls", content: of(s.Signer.TLS.Files()...), take: r.takeCredentials},
		{name: "signing.certificate", content: of(s.Signing.Certificate), take: r.compareSigning},
		{name: "configuration", content: of(s.path), take: r.compareConfig},
		{name: "signing.next", content: r.contentOfNext, take: r.takeNext, tells: true},
	}
	if s.Signing.CRL != "" {
		r.sources = append(r.sources, &source{name: "signing.crl", content: of(s.Signing.CRL), take: r.takeCRLs})
	}
	return r
}

// of are files that are always the same.
func of(files ...string) func() [32]byte { return func() [32]byte { return contentOf(files) } }

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
		content := s.content()
		rests := content == s.last || s.whole
		s.last = content
		if rests && (!s.known || s.again || content != s.seen) {
			r.read(s, content)
		}
	}
	r.report()
}

// readAll reads everything, since somebody says that it is ready.
func (r *reloader) readAll() {
	for _, s := range r.sources {
		s.known = true // so that it is told
		s.last = s.content()
		r.read(s, s.last)
	}
	r.report()
}

// read takes a source over. It says so, but for the first time: then what was
// read when the service was started is read again, lest a change between the two
// go unseen. What has a fault is read again after it, since the fault may be that
// the two do not fit together; that it has the same one still is not said again.
func (r *reloader) read(s *source, content [32]byte) {
	first, again, before := !s.known, s.again && content == s.seen, fmt.Sprint(s.fault)
	s.known, s.again, s.seen = true, false, content
	var waits []string
	waits, s.fault = s.take()
	s.refused.Store(s.fault != nil)
	if again && fmt.Sprint(s.fault) == before {
		return
	}
	for _, other := range r.sources {
		other.again = other.again || other != s && other.fault != nil
	}
	switch {
	case s.fault != nil:
		r.log.Warn("not taken over: what was before stays in force", "what", s.name, "error", s.fault.Error())
	case len(waits) > 0:
		r.log.Warn("changed, and wants a restart", "what", strings.Join(waits, ", "))
	case !first && !s.tells:
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
	err := errors.Join(r.credentials.Overdue(r.now()), overdue(r.setup.crls, r.now()))
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
	r.setup.crls = lists
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
	r.setup.policy = rules
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
	if err != nil || slices.EqualFunc(chain, r.setup.chain, (*x509.Certificate).Equal) {
		return nil, err
	}
	next := &setup{config: r.setup.config, chain: chain}
	if next.next, err = next.Signing.loadNext(chain); err != nil {
		return nil, err
	}
	if err := next.holders(r.setup.policy); err != nil {
		return nil, err
	}
	return []string{"signing.certificate"}, nil
}

// compareConfig finds the keys of the configuration that were changed. Which
// files there are, what they are read for and all else is settled at the start,
// but for the next signing certificate, which [reloader.takeNext] then takes: unless
// the one that it is to follow, or the tokens, were changed with it, since what
// names them together means all of it together.
func (r *reloader) compareConfig() ([]string, error) {
	next, document, err := decode(r.setup.path)
	if err != nil {
		return nil, err
	}
	if err := document.Err(); err != nil {
		return nil, errors.Join(faultsOf(r.setup.path, err)...)
	}
	before, after := r.setup.config, next.config
	if around(before, after) {
		r.named = after.Signing.Next
		before.Signing.Next = r.named
	}
	return differing(reflect.ValueOf(before), reflect.ValueOf(after)), nil
}

// around tells whether two configurations agree in all that a next certificate
// hangs on.
func around(a, b config) bool {
	a.Signing.Next = b.Signing.Next
	return a.Signing == b.Signing && reflect.DeepEqual(a.Token, b.Token) && reflect.DeepEqual(a.Tokens, b.Tokens)
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
