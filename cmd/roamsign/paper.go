package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/myinvois"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
)

// submission is one run of submit.
type submission struct {
	*submitting
	*counter
	streams command.Streams
	report  *reporter
	roots   *x509.CertPool
	papers  map[uint64]*paper // by entry in the journal
	code    int
}

// paper is one document on its way into the journal.
type paper struct {
	name     string
	content  []byte // of standard input; a file is read again
	input    [sha256.Size]byte
	facts    xades.Facts
	taxpayer client.Taxpayer
	signed   bool
	entry    *myinvois.Entry // once it is in the journal
	note     string
}

// together is how many documents are written down together.
const together = 64

// take reads the documents, decides for whom each is submitted, and finds those
// that the journal knows. What cannot be submitted is reported.
func (r *submission) take(ctx context.Context, files []string) ([]*paper, error) {
	r.report = newReporter(r.streams, len(files), "submitting", "valid")
	if r.resume {
		return r.resumed()
	}
	var papers []*paper
	given := map[string]string{} // what may be submitted once, to its file
	for _, name := range files {
		p, err := r.one(ctx, name)
		if err == nil {
			err = once(given, p)
		}
		if err == nil {
			papers = append(papers, p)
			continue
		}
		r.refuse(name, err)
		if ctx.Err() != nil {
			return nil, ended(max(r.code, command.Failed))
		}
	}
	return papers, nil
}

// refuse reports a document that is not sent.
func (r *submission) refuse(name string, err error) {
	r.code = max(r.code, codeOf(err))
	r.report.complain(name, fmt.Errorf("not sent: %w", advised(err)))
	r.report.amiss("not sent", 1)
	r.report.step()
}

// once refuses what is named twice, in one run.
func once(given map[string]string, p *paper) error {
	tin, business := policy.TIN(p.taxpayer.TIN).Number(), ""
	if strings.HasPrefix(tin, "IG") {
		business = p.facts.BRN // a person may have several
	}
	keys := []string{
		fmt.Sprintf("%s %x", tin, p.input),
		strings.Join([]string{tin, business, p.facts.Type, p.facts.Number}, "\n"),
	}
	for _, key := range keys {
		if other, twice := given[key]; twice {
			return fmt.Errorf("%s is the same document, or has the same number", other)
		}
	}
	for _, key := range keys {
		given[key] = p.name
	}
	return nil
}

// one reads one document.
func (r *submission) one(ctx context.Context, name string) (*paper, error) {
	content, err := read(ctx, r.streams, name)
	if err != nil {
		return nil, err
	}
	p := &paper{name: name, input: sha256.Sum256(content)}
	if name == standard {
		p.content = content
	}
	if p.facts, err = xades.Inspect(content); err != nil {
		return nil, err
	}
	if err := r.represent(p); err != nil {
		return nil, err
	}
	if err := r.recall(p); err != nil || p.entry != nil {
		return p, err
	}
	_, err = xades.DigestAsSigned(content, xades.Options{
		SetVersion: r.opts.SetVersion, ReplaceSignature: r.opts.ReplaceSignature, KeepLiterals: r.opts.KeepLiterals,
	})
	if p.signed = errors.Is(err, xades.ErrSigned); p.signed {
		return p, nil
	}
	return p, err
}

// represent decides on whose behalf a document is submitted, and whether that may
// be done.
func (r *submission) represent(p *paper) error {
	tin, brn := r.tin, p.facts.BRN
	if tin == "" {
		tin = p.facts.TIN
		if _, err := policy.ParseTIN(tin); err != nil {
			tin = r.fallback
		}
	}
	if tin == "" {
		return fmt.Errorf("it names no valid TIN (%q): say on whose behalf with --tin", p.facts.TIN)
	}
	var err error
	if p.taxpayer, err = r.of(tin, brn); err != nil {
		return err
	}
	named := policy.TIN(p.taxpayer.TIN).Number()
	if p.facts.TIN != named && !r.force {
		return fmt.Errorf("it is issued by %q, and was to be submitted on behalf of %q", p.facts.TIN, p.taxpayer.TIN)
	}
	return r.may(p.taxpayer, policy.Submit, time.Now())
}

// recall finds a document in the journal. One whose number was submitted with
// other content is refused: it is the same invoice, by all the platform knows. One
// that was not sent yet gives way.
func (r *submission) recall(p *paper) error {
	known, err := r.journal.Find(p.taxpayer.TIN, p.input)
	if err != nil {
		return err
	}
	if known != nil && known.State != myinvois.Withdrawn && !(r.again && repeatable(known.State)) {
		r.adopt(p, known)
		return nil
	}
	if known != nil {
		if err := r.forewarn(p, *known); err != nil {
			return err
		}
	}
	other, err := r.journal.Numbered(p.taxpayer.TIN, p.facts.BRN, p.facts.Type, p.facts.Number)
	if err != nil || other == nil || r.force || other.State == myinvois.Signed || repeatable(other.State) {
		return err
	}
	return fmt.Errorf("number %s was submitted with other content (from %s): it is %s; --force submits this one as well", p.facts.Number, other.Name, told(*other))
}

// duplicateWindow is for how long LHDN refuses the same submission.
const duplicateWindow = 10 * time.Minute

// forewarn tells that submitting the very bytes anew may take a while. What is signed
// on the way has other bytes.
func (r *submission) forewarn(p *paper, known myinvois.Entry) error {
	if known.Hash != p.input {
		return nil
	}
	sent, err := r.journal.Sent(known)
	over := sent.Add(duplicateWindow)
	if err != nil || sent.IsZero() || !time.Now().Before(over) {
		return err
	}
	r.report.complain(p.name, fmt.Errorf("note: these very bytes were submitted at %s; LHDN refuses the same submission for ten minutes, so this may wait until %s; a corrected document need not, nor one that is given unsigned and signed anew",
		sent.Format(time.RFC3339), over.Format(time.RFC3339)))
	return nil
}

// repeatable tells whether a document may be submitted again.
func repeatable(s myinvois.State) bool {
	return s == myinvois.Rejected || s == myinvois.Invalid || s == myinvois.Cancelled || s == myinvois.Withdrawn
}

func (r *submission) adopt(p *paper, e *myinvois.Entry) {
	p.entry = e
	r.papers[e.ID] = p
}

// resumed are the documents that earlier runs have left.
func (r *submission) resumed() ([]*paper, error) {
	left, err := r.journal.Unfinished()
	if err != nil {
		return nil, err
	}
	left = slices.DeleteFunc(left, func(e myinvois.Entry) bool { return !concerns(r.tin, e) })
	r.report = newReporter(r.streams, len(left), "submitting", "valid")
	var papers []*paper
	for _, e := range left {
		p := &paper{name: filepath.Base(e.Name), signed: true}
		if p.taxpayer, err = r.of(e.Taxpayer, ""); err == nil {
			err = r.may(p.taxpayer, policy.Submit, time.Now())
		}
		if err != nil {
			r.refuse(p.name, err)
			continue
		}
		r.adopt(p, &e)
		papers = append(papers, p)
	}
	return papers, nil
}

// prepare signs what is unsigned, verifies all, and writes down what may be sent.
// An error is the journal's.
func (r *submission) prepare(ctx context.Context, papers []*paper) error {
	var unsigned, signed []*paper
	for _, p := range papers {
		switch {
		case p.entry != nil && p.entry.State == myinvois.Signed:
			if err := r.rejudge(p); err != nil {
				return err
			}
		case p.entry != nil:
		case p.signed:
			signed = append(signed, p)
		default:
			unsigned = append(unsigned, p)
		}
	}
	ready := &pile{submission: r}
	for _, p := range signed {
		content, err := r.reread(ctx, p)
		if err != nil {
			r.refuse(p.name, err)
			continue
		}
		if err := ready.put(p, content, ""); err != nil {
			return err
		}
	}
	done := 0
	for s, err := range r.signer.SignAll(ctx, r.unsigned(ctx, unsigned)) {
		p := unsigned[done]
		done++
		if err == nil {
			if err := ready.put(p, s.Document, fmt.Sprintf("entry %d", s.LogIndex)); err != nil {
				return err
			}
			continue
		}
		if why := pointless(ctx, err); why != nil {
			r.report.complain("", fmt.Errorf("%d documents are not signed, and not sent: %w", len(unsigned)-done+1, why))
			r.report.amiss("not sent", len(unsigned)-done+1)
			r.code = max(r.code, command.Failed)
			break
		}
		r.refuse(p.name, err)
	}
	return ready.flush()
}

// rejudge judges a document that an earlier run wrote down and did not send: it may
// have grown too old since.
func (r *submission) rejudge(p *paper) error {
	content, err := r.journal.Content(p.entry.ID)
	if err != nil {
		return err
	}
	if p.facts, err = xades.Inspect(content); err == nil {
		err = r.judge(p, content)
	}
	if err != nil {
		p.entry = nil
		r.refuse(p.name, err)
	}
	return nil
}

// unsigned reads the documents to sign, one at a time. The request of each is
// named for its content, so that signing it anew after an interruption counts as
// one on record.
func (r *submission) unsigned(ctx context.Context, papers []*paper) iter.Seq2[client.Document, error] {
	return func(yield func(client.Document, error) bool) {
		for _, p := range papers {
			content, err := r.reread(ctx, p)
			opts := r.opts
			opts.RequestID = fmt.Sprintf("submit-%x", p.input[:20])
			opts.AllowMismatch = r.force
			if !yield(client.Document{TIN: p.taxpayer.TIN, Content: content, Options: opts}, err) {
				return
			}
		}
	}
}

// reread reads a document a second time, so that not all are held at once.
func (r *submission) reread(ctx context.Context, p *paper) ([]byte, error) {
	if p.content != nil {
		return p.content, nil
	}
	content, err := read(ctx, r.streams, p.name)
	if err == nil && sha256.Sum256(content) != p.input {
		err = errors.New("it was changed while it was being read: run this again")
	}
	return content, err
}

// pile gathers documents that may be sent, and writes them down together.
type pile struct {
	*submission
	papers []*paper
	unsent []myinvois.Unsent
}

// put judges a signed document, and adds it to the pile if it may be sent.
func (l *pile) put(p *paper, content []byte, note string) error {
	if err := l.judge(p, content); err != nil {
		l.refuse(p.name, err)
		return nil
	}
	if err := l.keep(p, content); err != nil {
		l.refuse(p.name, err)
		return nil
	}
	name, err := filepath.Abs(p.name)
	if err != nil || p.name == standard {
		name = p.name
	}
	format, err := xades.Detect(content)
	if err != nil {
		return err
	}
	p.note = note
	l.papers = append(l.papers, p)
	l.unsent = append(l.unsent, myinvois.Unsent{
		Name: name, Taxpayer: p.taxpayer.TIN, Business: p.facts.BRN, Number: p.facts.Number, Type: p.facts.Type,
		Format: myinvois.Format(format.String()), Issued: issuedAt(p.facts), Input: p.input, Content: content,
	})
	if len(l.unsent) < together {
		return nil
	}
	return l.flush()
}

func (l *pile) flush() error {
	if len(l.unsent) == 0 {
		return nil
	}
	entries, err := l.journal.Add(l.unsent)
	if err != nil {
		return err
	}
	for i := range entries {
		l.adopt(l.papers[i], &entries[i])
	}
	l.papers, l.unsent = nil, nil
	return nil
}

// keep writes a document as it is sent where --out says.
func (l *pile) keep(p *paper, content []byte) error {
	if l.out == "" {
		return nil
	}
	return write(l.streams, task{p.name, signedName(p.name, l.out)}, content)
}
